# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module storage_version_hashes: observes, compares with the baseline, waits or records."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    ApiError,
    NotConvergedError,
    StateConflictError,
    StorageUpgradeError,
    UnreachableError,
    UnreachableKind,
    is_forbidden,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import (
    require_known,
    require_not_negative,
    require_positive,
    require_state_of_release,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import (
    millis_text,
    seconds_text,
    utc_now,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import Cluster, open_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.crds import (
    look_at_crds,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.discovery import is_down
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.named import names_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.options import ClusterOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.settling import sightings
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import KnownCrd, State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import (
    StateStore,
    StoreOptions,
    open_store,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.trust import still_trusted
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import (
    ConvergenceTimeoutError,
    Observation,
    WaitSettings,
    Watch,
    unchecked_words,
    wait_converged,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.diff import (
    diff_of,
    versions_on_record,
    versions_text,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    changed_since,
    resource_result,
    storage_version_of,
)

Answer = TypeVar("Answer")

# Until it has read the roles, an API server that has just started refuses every user whose permissions come from one.
STARTING = 30.0
_SAVE_TRIES = 5


@dataclass(frozen=True)
class VersionHashesOptions:
    """The options of storage_version_hashes.

    ``resources``: names to limit it to; empty for all stored resources.
    ``records``: whether to save the observation as the baseline.
    ``wait``: how to wait until all servers agree; None to ask only once.
    """

    cluster: ClusterOptions = ClusterOptions()
    store: StoreOptions = StoreOptions()
    resources: tuple[str, ...] = ()
    records: bool = False
    wait: WaitSettings | None = None

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> VersionHashesOptions:
        """From the module's parameters. Raises BadInputError."""
        require_positive(params, ["wait_interval"])
        require_not_negative(params, ["wait_timeout", "stable_for"])
        require_state_of_release(params, "expected_version")
        wait = WaitSettings(params["wait_timeout"], params["wait_interval"], params["stable_for"])
        return cls(
            cluster=ClusterOptions.from_params(params),
            store=StoreOptions.from_params(params),
            resources=tuple(params.get("resources") or ()),
            records=params["state"] == "recorded",
            wait=wait if params["state"] == "converged" else None,
        )


@names_cluster
async def version_hashes(options: VersionHashesOptions, check_mode: bool, report: Report) -> dict[str, Any]:
    """The module's result; raises the collection's errors."""
    wait = None if check_mode else options.wait
    async with open_cluster(options.cluster) as cluster:
        store = open_store(options.store, cluster.entry)
        first = await _once_started(lambda: _first_look(cluster, wait is not None), wait)
        if options.resources:
            require_known(options.resources, first.resources, "resources")
            cluster = cluster.expecting(resources=options.resources)
            first = replace(first, expectation=cluster.expectation)
        state = await _once_started(store.load, wait)
        if wait is not None:
            seen, result = await _converged(cluster, state, wait, report)
        else:
            seen, result = first, describe(first, state)
        if options.records:
            crds = await _seen_crds(cluster, seen)
            recorded = _recorded(state, seen).sighted(crds)
            result.update(changed=recorded is not state, diff=_diff(state, recorded, seen))
            if recorded is not state and not check_mode:
                await _save(store, recorded, seen, crds)
        return {**result, "cluster": {"uid": state.cluster}, "msg": _sentence(seen), "warnings": seen.reservations}


async def _converged(
    cluster: Cluster, state: State, wait: WaitSettings, report: Report
) -> tuple[Observation, dict[str, Any]]:
    """Waits until all API servers agree; returns that observation, and the module's result with its history."""
    watch = Watch(cluster.observe, now)
    try:
        seen = await wait_converged(watch.observe, wait, report)
    except ConvergenceTimeoutError as error:
        last = describe(error.observation, state)
        raise NotConvergedError(error.message, {**last, "history": history(watch)}) from error
    return seen, {**describe(seen, state), "history": history(watch)}


async def _first_look(cluster: Cluster, waits: bool) -> Observation:
    """An observation. Raises if no server can be asked at all, unless we wait for servers that may be starting."""
    seen = await cluster.observe()
    errors = [report for report in seen.reports if report.error is not None]
    if seen.reports and len(errors) == len(seen.reports):
        if all(report.forbidden for report in errors):
            raise ApiError(errors[0].error or "", status=403)
        if cluster.listed_by_user and not (waits and any(report.down for report in errors)):
            raise UnreachableError(
                "No API server can be asked: " + " ".join(str(report.error) for report in errors),
                kind=UnreachableKind.REFUSED if any(report.down for report in errors) else UnreachableKind.TLS,
            )
    return seen


async def _once_started(ask: Callable[[], Awaitable[Answer]], wait: WaitSettings | None) -> Answer:
    """An answer; retries start-up errors until the wait is over."""
    began = time.monotonic()
    while True:
        try:
            return await ask()
        except StorageUpgradeError as error:
            if wait is None or time.monotonic() - began >= _wait_for(error, wait):
                raise
            await asyncio.sleep(wait.interval)


def _wait_for(error: StorageUpgradeError, wait: WaitSettings) -> float:
    if is_forbidden(error):
        return min(wait.timeout, STARTING)
    return wait.timeout if is_down(error) else 0.0


async def _save(store: StateStore, recorded: State, seen: Observation, crds: Mapping[str, KnownCrd]) -> None:
    """Saves a baseline without losing the progress that a migration may be writing to the same record."""
    for last in [False] * (_SAVE_TRIES - 1) + [True]:
        try:
            await store.save(recorded)
            return
        except StateConflictError:
            if last:
                raise
            recorded = _recorded(await store.load(), seen).sighted(crds)


def _recorded(state: State, seen: Observation) -> State:
    """The state with a baseline taken now; the same object if that adds nothing."""
    versions = {name: storage_version_of(resource, seen.other_groups) for name, resource in seen.resources.items()}
    reports = [
        replace(report, resources={name: resource for name, resource in report.resources.items() if name in versions})
        for report in seen.reports
    ]
    complete = not seen.problems and all(report.usable for report in seen.reports)
    recorded = state.record(reports, versions, seconds_text(utc_now()), complete=complete)
    if state.recorded_at and recorded.resources == state.resources and recorded.versions == state.versions:
        return state
    return recorded


async def _seen_crds(cluster: Cluster, seen: Observation) -> dict[str, KnownCrd]:
    """The CRDs that every API server has in the current edit, so that a later migration need not wait for them (settling.py).

    CRDs that can't be read are left out; the migration will wait for them.
    """
    hashes = {
        name: resource.hash
        for name, resource in seen.resources.items()
        if "." in resource.group and resource.hash is not None
    }
    if not hashes or not seen.converged:
        return {}
    try:
        found = await look_at_crds(cluster.entry, (await cluster.servers()).servers, hashes)
    except StorageUpgradeError:
        return {}
    return sightings(found, hashes)


def describe(seen: Observation, state: State) -> dict[str, Any]:
    """The module's return values for one observation."""
    groups = seen.other_groups
    resources = seen.resources
    return {
        "changed": False,
        "observed_at": now(),
        **moment(seen),
        "resources": {name: resource_result(resource, groups) for name, resource in sorted(resources.items())},
        "changed_resources": [
            {
                "resource": change.resource,
                "before": versions_text(change.before, resources[change.resource], groups),
                "after": storage_version_of(resources[change.resource], groups) or change.after,
            }
            for change in changed_since(resources, still_trusted(state, seen)[0].persisted)
        ],
        "baseline_found": state.recorded_at is not None,
        "last_migrated_at": max(filter(None, (known.migrated_at for known in state.resources.values())), default=None),
    }


def _sentence(seen: Observation) -> str:
    if not seen.converged:
        return f"The API servers do not agree: {seen.summary()}."
    told = f"{seen.who} agree on the storage versions of {len(seen.resources)} resources"
    sampled = "" if seen.evidence is None else "; that is by sampling, which proves less than asking each"
    return f"{told}{sampled}.{unchecked_words(seen)}"


def moment(seen: Observation) -> dict[str, Any]:
    """What the servers report, and where they disagree."""
    return {
        "servers": [
            {
                "url": report.url,
                "name": report.name,
                "version": report.version,
                "emulated_version": report.emulated_version,
                "min_compatibility_version": report.min_compatibility_version,
                "ready": report.ready,
                "error": report.error,
            }
            for report in seen.reports
        ],
        "converged": seen.converged,
        "proven_by": seen.proven_by,
        "cross_checked": seen.cross_checked,
        "unchecked_reason": seen.cross.why_not,
        "unlisted_servers": [
            {"name": found.server.name, "url": found.url, "version": found.version} for found in seen.cross.unlisted
        ],
        "sampling": None if seen.evidence is None else seen.evidence.as_dict(),
        "reasons": seen.reasons(),
        "disagreements": [
            {
                "resource": disagreement.resource,
                "by_server": {
                    url: {
                        "hash": served.hash if served else None,
                        "storage_version": storage_version_of(served, seen.other_groups) if served else None,
                    }
                    for url, served in disagreement.by_server.items()
                },
            }
            for disagreement in seen.disagreements
        ],
    }


def history(watch: Watch) -> list[dict[str, Any]]:
    """The changes that a watch kept, as the return value ``history``."""
    return [{"observed_at": at, **moment(seen)} for at, seen in watch.changes]


def now() -> str:
    """The time in UTC, to the millisecond."""
    return millis_text(utc_now())


def _diff(before: State, after: State, seen: Observation) -> dict[str, str]:
    """What recording changes."""
    old = versions_on_record(seen.resources, before.persisted, seen.other_groups)
    new = versions_on_record(seen.resources, after.persisted, seen.other_groups)
    return diff_of("storage versions on record", "recorded now", ((name, old[name], new[name]) for name in new))
