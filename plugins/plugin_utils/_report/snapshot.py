# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a check or an audit: how things stand at one moment. Pure.

As in record.py, only named fields of results are taken over, and no key of an object in etcd.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import (
    FORMAT,
    Record,
    bounded,
    sampling_record,
    stored_record,
    was_told,
)

CHECK, AUDIT = "check", "audit"


def snapshot(kind: str, news: Mapping[str, Any], now: str) -> Record:
    """What one run of the playbook ``kind`` found; ``status`` is failed where it could not be found, or blocks."""
    results = [one for one in news.get("observed") or () if was_told(one) and "servers" in one]
    seen = results[-1] if results else {}
    checked: Mapping[str, Any] = news.get("checked") or {}
    stored: Mapping[str, Any] = news.get("stored") or {}
    ignored = {str(one) for one in news.get("ignored") or ()}
    failures = _failures(news)
    record = {
        "format": FORMAT,
        "kind": kind,
        "version": news.get("version"),
        "started": bounded(seen.get("observed_at")) or now,
        "updated": now,
        "failures": failures,
        "servers": [_server(one) for one in seen.get("servers") or ()],
        "converged": bool(seen["converged"]) if "converged" in seen else None,
        "sampling": sampling_record(seen.get("sampling")),
        "reasons": [bounded(one) for one in seen.get("reasons") or ()],
        "baseline_found": bool(seen.get("baseline_found")),
        "changed": [_words(one, "resource", "before", "after") for one in seen.get("changed_resources") or ()],
        "check": _check(checked, ignored) if was_told(checked) and "blockers" in checked else None,
        "stored": _stored(stored, now) if was_told(stored) and "totals" in stored else None,
    }
    record["status"] = "failed" if failures else "succeeded"
    return record


def _failures(news: Mapping[str, Any]) -> list[str]:
    """What each failed task said, once."""
    results = [*(news.get("outcomes") or ()), *(news.get("observed") or ()), news.get("checked"), news.get("stored")]
    said = [
        bounded(one.get("msg")) or "A task failed; see the playbook's output."
        for one in results
        if isinstance(one, Mapping) and one.get("failed") and not one.get("skipped")
    ]
    return list(dict.fromkeys(said))


def _words(result: Mapping[str, Any], *names: str) -> dict[str, str | None]:
    return {name: bounded(result.get(name)) for name in names}


def _server(one: Mapping[str, Any]) -> Record:
    return {
        **_words(one, "url", "name", "version", "emulated_version", "error"),
        "ready": bool(one.get("ready")) and not one.get("error"),
    }


def _check(result: Mapping[str, Any], ignored: set[str]) -> Record:
    plan: Mapping[str, Any] = result.get("plan") or {}

    def findings(name: str) -> list[Record]:
        return [
            {
                **_words(one, "id", "check", "resource", "what", "why", "mend"),
                "ignored": bool({str(one.get("id")), str(one.get("check"))} & ignored),
            }
            for one in result.get(name) or ()
        ]

    return {
        **_words(result, "current_version", "target_version", "safe_up_to"),
        "blockers": findings("blockers"),
        "concerns": findings("concerns"),
        "unknown": [bounded(one) for one in result.get("unknown") or ()],
        "proven_from_etcd": bool(result.get("proven_from_etcd")),
        "changes": [
            {**_words(one, "resource", "from", "to"), **_numbers(one, "objects", "bytes", "seconds")}
            for one in plan.get("changes") or ()
        ],
        "all": _numbers(plan.get("all") or {}, "objects", "bytes", "seconds"),
        "stored": [
            {
                **_words(one, "resource", "version", "source", "safe_up_to"),
                **_numbers(one, "objects"),
                "readable": one.get("readable"),
            }
            for one in result.get("stored") or ()
        ],
        "newest": bounded(((result.get("data") or {}).get("releases") or [None])[-1]),
    }


def _numbers(result: Mapping[str, Any], *names: str) -> dict[str, float | None]:
    return {name: None if result.get(name) is None else float(result[name]) for name in names}


def _stored(result: Mapping[str, Any], now: str) -> Record:
    """What etcd holds; of keys that belong to no known resource, where they are and how many."""
    return {
        **stored_record(result, now),
        "unknown": [
            {"prefix": bounded(one.get("prefix")), "objects": int(one.get("objects") or 0)}
            for one in result.get("unknown") or ()
        ],
    }
