# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Formats results of modules as lines and tables for the role and the playbook audit. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import short_version
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._table import table_lines

_WIDTH = 140
_FINDINGS = {"Name": "id", "What": "what", "How to fix it": "remediation"}
_CHANGES = ["resource", "from", "to", "objects", "bytes", "seconds"]


def check_text(checked: Mapping[str, Any]) -> list[str]:
    """Lines for the result of upgrade_check."""
    blockers, concerns = checked["blockers"], checked["concerns"]
    unknown, changes = checked["unknown"], checked["plan"]["changes"]
    return [
        _summary(checked),
        *(["Blockers:", *table_lines(blockers, _FINDINGS, _WIDTH)] if blockers else []),
        *(["Concerns:", *table_lines(concerns, _FINDINGS, _WIDTH)] if concerns else []),
        *(["Unknown:", *unknown] if unknown else []),
        *_changes(changes),
    ]


def _summary(checked: Mapping[str, Any]) -> str:
    source = "read from etcd" if checked["proven_from_etcd"] else "not read from etcd"
    return (
        f"From {checked['current_version']} to {checked['target_version']}: "
        f"{len(checked['blockers'])} blockers, {len(checked['concerns'])} concerns. What is stored was {source}; "
        f"as far as is known, {checked['safe_up_to'] or 'no release'} is the last release that can read all of it."
    )


def _changes(changes: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = [
        {**change, **{key: short_version(change[key] or "", change["resource"]) for key in ("from", "to")}}
        for change in changes
    ]
    if not rows:
        return ["No storage version will change."]
    return ["Storage versions that will change:", *table_lines(rows, _CHANGES, _WIDTH)]


def stored_rows(resources: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each form in which objects of a resource are stored, from stored_versions_info's ``resources``."""
    return [
        {
            "resource": name,
            "version": short_version(variant["version"] or "not visible", name),
            "encoding": variant["encoding"],
            "encryption": " ".join(part for part in (variant["provider"], variant["key"]) if part),
            "objects": variant["objects"],
            "bytes": variant["bytes"],
            "stale": variant["stale"],
        }
        for name, found in resources.items()
        for variant in found["stored"]
    ]
