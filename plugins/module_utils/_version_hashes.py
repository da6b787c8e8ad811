# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What module storage_version_hashes does: look, compare with the baseline, wait or record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, TypeVar

from ansible_collections.kube_storage.upgrade.plugins.module_utils._cluster import Cluster, open_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._convergence import (
    Observation,
    Patience,
    Watch,
    wait_converged,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._diff import (
    diff_of,
    versions_on_record,
    versions_text,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._discovery import is_down
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import (
    ApiError,
    NotConvergedError,
    StorageUpgradeError,
    UnreachableError,
    is_forbidden,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._options import (
    require_known,
    require_not_negative,
    require_positive,
    require_release,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state_store import open_store
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import (
    changed_since,
    resource_result,
    storage_version_of,
)

Answer = TypeVar("Answer")

# Until it has read the roles, an API server that was just started refuses everybody who has his rights from one.
STARTING = 30.0


async def version_hashes(params: Mapping[str, Any], check_mode: bool, report: Report) -> dict[str, Any]:
    """The module's result; raises the collection's errors."""
    require_positive(params, ["wait_interval"])
    require_not_negative(params, ["wait_timeout", "stable_for"])
    require_release(params, "expected_version")
    async with open_cluster(params) as cluster:
        store = open_store(params.get("state_store"), cluster.entry)
        patience = None
        if params["state"] == "converged" and not check_mode:
            patience = Patience(params["wait_timeout"], params["wait_interval"], params["stable_for"])
        first = await _once_started(lambda: _first_look(cluster, patience is not None), patience)
        if params.get("resources"):
            require_known(params["resources"], first.resources, "resources")
            cluster = cluster.expecting(resources=tuple(params["resources"]))
            first = replace(first, expectation=cluster.expectation)
        state = await _once_started(store.load, patience)
        watch = None
        if patience is not None:
            watch = Watch(cluster.observe, now)
            try:
                seen = await wait_converged(watch.observe, patience, report)
            except NotConvergedError as error:
                last = describe(error.result["observation"], state)
                raise NotConvergedError(error.message, {**last, "history": history(watch)}) from error
        else:
            seen = first
        result = describe(seen, state)
        if watch is not None:
            result["history"] = history(watch)
        if params["state"] == "recorded":
            recorded = _recorded(state, seen)
            result.update(changed=recorded is not state, diff=_diff(state, recorded, seen))
            if recorded is not state and not check_mode:
                await store.save(recorded)
        return {**result, "msg": _sentence(seen), "warnings": seen.reservations}


async def _first_look(cluster: Cluster, waits: bool) -> Observation:
    """An observation; raises where no server can be asked at all, unless we wait for servers that may be starting."""
    seen = await cluster.observe()
    errors = [one for one in seen.reports if one.error is not None]
    if seen.reports and len(errors) == len(seen.reports):
        if all(one.forbidden for one in errors):
            raise ApiError(errors[0].error or "", status=403)
        if cluster.listed_by_user and not (waits and any(one.down for one in errors)):
            raise UnreachableError(
                "No API server can be asked: " + " ".join(str(one.error) for one in errors),
                kind="refused" if any(one.down for one in errors) else "tls",
            )
    return seen


async def _once_started(ask: Callable[[], Awaitable[Answer]], patience: Patience | None) -> Answer:
    """An answer; with patience, what passes where a server is just starting is waited for."""
    began = time.monotonic()
    while True:
        try:
            return await ask()
        except StorageUpgradeError as error:
            if patience is None or time.monotonic() - began >= _patience_with(error, patience):
                raise
            await asyncio.sleep(patience.interval)


def _patience_with(error: StorageUpgradeError, patience: Patience) -> float:
    if is_forbidden(error):
        return min(patience.timeout, STARTING)
    return patience.timeout if is_down(error) else 0.0


def _recorded(state: State, seen: Observation) -> State:
    """The state with a baseline taken now, or the very same object if that adds nothing."""
    versions = {name: storage_version_of(one, seen.other_groups) for name, one in seen.resources.items()}
    reports = [
        replace(report, resources={name: one for name, one in report.resources.items() if name in versions})
        for report in seen.reports
    ]
    recorded = state.record(reports, versions, datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"))
    if state.recorded_at and recorded.resources == state.resources and recorded.versions == state.versions:
        return state
    return recorded


def describe(seen: Observation, state: State) -> dict[str, Any]:
    """The module's return values for one observation."""
    groups = seen.other_groups
    resources = seen.resources
    return {
        "changed": False,
        "observed_at": now(),
        **moment(seen),
        "resources": {name: resource_result(one, groups) for name, one in sorted(resources.items())},
        "changed_resources": [
            {
                "resource": change.resource,
                "before": versions_text(change.before, resources[change.resource], groups),
                "after": storage_version_of(resources[change.resource], groups) or change.after,
            }
            for change in changed_since(resources, state.persisted)
        ],
        "baseline_found": state.recorded_at is not None,
    }


def _sentence(seen: Observation) -> str:
    if not seen.converged:
        return f"The API servers do not agree: {seen.summary()}."
    told = f"{seen.who} agree on the storage versions of {len(seen.resources)} resources"
    return f"{told}{'' if seen.evidence is None else '; that is by sampling, which proves less than asking each'}."


def moment(seen: Observation) -> dict[str, Any]:
    """What the servers said of themselves, and where they disagree."""
    return {
        "servers": [
            {
                "url": report.url,
                "name": report.name,
                "version": report.version,
                "emulated_version": report.emulated_version,
                "ready": report.ready,
                "error": report.error,
            }
            for report in seen.reports
        ],
        "converged": seen.converged,
        "proven_by": seen.proven_by,
        "sampling": None if seen.evidence is None else seen.evidence.as_dict(),
        "reasons": seen.reasons(),
        "disagreements": [
            {
                "resource": one.resource,
                "by_server": {
                    url: {
                        "hash": served.hash if served else None,
                        "storage_version": storage_version_of(served, seen.other_groups) if served else None,
                    }
                    for url, served in one.by_server.items()
                },
            }
            for one in seen.disagreements
        ],
    }


def history(watch: Watch) -> list[dict[str, Any]]:
    """What a watch kept, as the return value ``history``."""
    return [{"observed_at": at, **moment(seen)} for at, seen in watch.changes]


def now() -> str:
    """The time in UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _diff(before: State, after: State, seen: Observation) -> dict[str, str]:
    """What recording changes."""
    old = versions_on_record(seen.resources, before.persisted, seen.other_groups)
    new = versions_on_record(seen.resources, after.persisted, seen.other_groups)
    return diff_of("storage versions on record", "recorded now", ((name, old[name], new[name]) for name in new))
