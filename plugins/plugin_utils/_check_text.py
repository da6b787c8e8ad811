# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Formats results of modules as lines and tables for the role and the playbook audit. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import count
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import short_version
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._table import table_lines

_CHANGES = ["resource", "from", "to", "objects", "bytes", "seconds"]
# What a migration of the present cluster resolves.
_MIGRATE_FIRST = ("undecodable", "unfinished_migration", "outstanding_migration", "crd_drops_stored_version")


def check_text(checked: Mapping[str, Any], width: int | None = None) -> list[str]:
    """Lines for the result of upgrade_check: a block for each finding, and a table of what changes."""
    return [
        _summary(checked),
        *_findings("BLOCKER", checked["blockers"]),
        *_findings("Concern", checked["concerns"]),
        *_unknown(checked["unknown"]),
        *_last_snapshot(checked.get("last_snapshot")),
        "",
        *_changes(checked["plan"]["changes"], width),
    ]


def _summary(checked: Mapping[str, Any]) -> str:
    source = "read from etcd" if checked["proven_from_etcd"] else "not read from etcd, or not completely"
    found = f"{count(len(checked['blockers']), 'blocker')}, {count(len(checked['concerns']), 'concern')}"
    readers = readable_up_to(checked["safe_up_to"], newest_release(checked))
    return (
        f"From {checked['current_version']} to {checked['target_version']}: {found}. What is stored was {source}; as far as is known, "
        f"{readers}."
    )


def newest_release(checked: Mapping[str, Any]) -> str | None:
    """The newest release that the data of the collection covers."""
    known: Sequence[str] = (checked.get("data") or {}).get("releases") or ()
    return known[-1] if known else None


def readable_up_to(safe_up_to: str | None, newest: str | None) -> str:
    """Which releases can read all that is stored; at the end of the data, that is no limit of what is stored."""
    if not safe_up_to:
        return "no known release can read all of it"
    if safe_up_to == newest:
        return f"{safe_up_to}, the newest release known to this version of the collection, can read all of it"
    return f"{safe_up_to} is the last release known to read all of it"


def _findings(kind: str, findings: Iterable[Mapping[str, Any]]) -> list[str]:
    lines = []
    for finding in findings:
        lines += ["", f"{kind} {finding['id']}", f"  {finding['what']}"]
        lines += [f"  Why: {finding['why']}"] if finding.get("why") else []
        lines += [f"  Remedy: {finding['remediation']}"]
        lines += _commands(kind, finding)
    return lines


def _commands(kind: str, finding: Mapping[str, Any]) -> list[str]:
    """Commands to copy, each in a line of its own."""
    lines = []
    if finding.get("check") in _MIGRATE_FIRST:
        options = json.dumps({"resources": [finding["resource"]]})
        lines = [
            "  To migrate it now:",
            f"    ansible localhost -m kube_storage.upgrade.storage_migrate -a '{options}'",
        ]
    if kind == "BLOCKER":
        option = json.dumps({"rolling_upgrade_ignore_blockers": [finding["id"]]})
        lines += ["  To upgrade despite it, add:", f"    -e '{option}'"]
    return lines


def _unknown(sentences: Sequence[str]) -> list[str]:
    return ["", "Unknown:", *(f"  {sentence}" for sentence in sentences)] if sentences else []


def _last_snapshot(taken: Mapping[str, Any] | None) -> list[str]:
    if not taken:
        return []
    return [
        "",
        f"The last snapshot of etcd was taken at {taken['taken_at']}, {_ago(taken['age'])} ago: {taken['path']}",
    ]


def _ago(seconds: int) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return count(seconds // size, unit)
    return count(seconds, "second")


def _changes(changes: Iterable[Mapping[str, Any]], width: int | None) -> list[str]:
    rows = [
        {**change, **{key: short_version(change[key] or "", change["resource"]) for key in ("from", "to")}}
        for change in changes
    ]
    if not rows:
        return ["No storage version will change."]
    return ["Storage versions that will change:", *table_lines(rows, _CHANGES, width)]


def stored_rows(resources: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each form in which objects of a resource are stored, from stored_versions_info's ``resources``; stale ones first."""
    rows = [
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
    return sorted(rows, key=lambda row: not row["stale"])
