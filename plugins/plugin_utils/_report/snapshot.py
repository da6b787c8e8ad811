# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a check or an audit: the state at one moment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clean_text import cleaned
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._masters import is_ready
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import (
    ChangedResource,
    Check,
    EtcdContents,
    FleetTask,
    PlannedChange,
    PlannedTotal,
    ReadableVersion,
    ReportedFinding,
    SeenServer,
    Snapshot,
    UnknownPrefix,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.results import (
    Result,
    bounded,
    databases_of,
    failed_among,
    failure_messages,
    named_texts,
    sampling_of,
    stored_of,
    texts,
    unchecked_of,
    was_told,
)


def snapshot(kind: str, news: Mapping[str, Any], now: str) -> Snapshot:
    """The findings of one run of the playbook ``kind``; ``status`` is failed if there are none, or if they block."""
    news = cleaned(news)
    results = [result for result in news.get("observed") or () if was_told(result) and "servers" in result]
    seen: Result = results[-1] if results else {}
    checked, stored = news.get("checked") or {}, news.get("stored") or {}
    ignored = {str(name) for name in news.get("ignored") or ()}
    observed, outcomes = (list(map(_with_its_failure, news.get(name) or ())) for name in ("observed", "outcomes"))
    others = [_with_its_failure(checked), _with_its_failure(stored)]
    failures = failure_messages([*outcomes, *observed, *others])
    return Snapshot(
        kind=kind,
        check_mode=True if news.get("check_mode") else None,
        fleet=None if news.get("check_mode") else _fleet_task(news.get("fleet") or {}),
        cluster=bounded(news.get("cluster_name") or None),
        uid=bounded((seen.get("cluster") or {}).get("uid")),
        version=bounded(news.get("version")),
        started=bounded(seen.get("observed_at")) or now,
        updated=now,
        failures=failures,
        error=next((_kind_of(result) for result in failed_among([*observed, *outcomes, *others])), None),
        servers=[_server(server) for server in seen.get("servers") or ()],
        converged=bool(seen["converged"]) if "converged" in seen else None,
        sampling=sampling_of(seen.get("sampling")),
        unchecked=unchecked_of(seen),
        reasons=texts(seen.get("reasons")),
        baseline_found=bool(seen.get("baseline_found")),
        changed=[
            ChangedResource(str(changed["resource"]), **named_texts(changed, "before", "after"))
            for changed in seen.get("changed_resources") or ()
        ],
        check=_check(checked, ignored) if was_told(checked) and "blockers" in checked else None,
        stored=_stored(stored, now) if was_told(stored) and "totals" in stored else None,
        migrated_at=bounded(seen.get("last_migrated_at")),
        snapshot_at=bounded(news.get("snapshot_at") or None),
        status="failed" if failures else "succeeded",
    )


def _fleet_task(task: Mapping[str, Any]) -> FleetTask | None:
    return FleetTask(str(task["purpose"]), bounded(task.get("version") or None)) if task else None


def _with_its_failure(result: Any) -> Any:
    """Also with ``failed_when: false``, a module's result says that it failed."""
    if isinstance(result, Mapping) and result.get("error"):
        return {**result, "failed": True}
    return result


def _kind_of(failed: Result) -> str:
    """The kind of a failure; "other" for a task that is none of this collection's modules."""
    return "unreachable" if failed.get("unreachable") else bounded(failed.get("error")) or "other"


def _server(server: Result) -> SeenServer:
    told = named_texts(server, "url", "name", "version", "emulated_version", "error")
    return SeenServer(**told, ready=is_ready(server))


def _check(result: Result, ignored: set[str]) -> Check:
    plan: Result = result.get("plan") or {}
    return Check(
        **named_texts(result, "current_version", "target_version", "safe_up_to"),
        proven_from_etcd=bool(result.get("proven_from_etcd")),
        blockers=[_finding(blocker, ignored) for blocker in result.get("blockers") or ()],
        concerns=[_finding(concern, ignored) for concern in result.get("concerns") or ()],
        unknown=texts(result.get("unknown")),
        changes=[
            PlannedChange(
                str(change["resource"]),
                bounded(change.get("from")),
                bounded(change.get("to")),
                **_numbers(change, "objects", "bytes", "seconds"),
            )
            for change in plan.get("changes") or ()
        ],
        all=PlannedTotal(**_numbers(plan.get("all") or {}, "objects", "bytes", "seconds")),
        stored=[
            ReadableVersion(
                str(stored["resource"]),
                version=bounded(stored.get("version")),
                source=bounded(stored.get("source")),
                safe_up_to=bounded(stored.get("safe_up_to")),
                objects=_numbers(stored, "objects")["objects"],
                readable=stored.get("readable"),
            )
            for stored in result.get("stored") or ()
        ],
        newest=bounded(((result.get("data") or {}).get("releases") or [None])[-1]),
        untrimmed=texts(plan["trims"]) if plan.get("trims") is not None else None,
    )


def _finding(finding: Result, ignored: set[str]) -> ReportedFinding:
    told = named_texts(finding, "id", "check", "resource", "what", "why", "remediation")
    return ReportedFinding(**told, ignored=bool({told["id"], told["check"]} & ignored))


def _numbers(result: Result, *names: str) -> dict[str, float | None]:
    return {name: None if result.get(name) is None else float(result[name]) for name in names}


def _stored(result: Result, now: str) -> EtcdContents:
    """The content of etcd; for keys that belong to no known resource, where they are and how many."""
    stored = stored_of(result, now)
    stored.unknown = [
        UnknownPrefix(bounded(found.get("prefix")), int(found.get("objects") or 0))
        for found in result.get("unknown") or ()
    ]
    stored.databases = databases_of(result)
    return stored
