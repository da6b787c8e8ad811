# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The main road of storage_migrate.

Look at all API servers, make sure that they agree, plan, rewrite every object through them, look again,
and write down what is proven.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils import _crds
from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import (
    MERGE_PATCH,
    METADATA,
    METADATA_LIST,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._cluster import Cluster, open_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import (
    AlreadyRunningError,
    ApiError,
    BadInputError,
    EtcdError,
    MigrationIncompleteError,
    NotConvergedError,
    StateStoreError,
    StorageUpgradeError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Event, Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._lease import Lease
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.direct import (
    DirectEngine,
    Settings,
    describe_failure,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engine import Control, ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.from_etcd import (
    EtcdTruth,
    Left,
    open_truth,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.guard import Guard
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.lanes import Lanes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.ledger import Ledger
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import (
    Failure,
    Tally,
    Verdict,
    outcome_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import (
    Plan,
    Selection,
    Target,
    make_plan,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._options import (
    require_not_negative,
    require_positive,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._permissions import Need, require
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state_store import (
    DEFAULT,
    ConfigMapStore,
    StateStore,
    open_store,
    write_whole,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import (
    changed_since,
    group_version,
    split_group_version,
)

_SAVE_EVERY = 5.0
_TELL_EVERY = 1.0
_PASSES = 3
_FAILURES_RETURNED = 100
_FAILURES_IN_MESSAGE = 3


@dataclass
class Outcome:
    """Everything that a run did."""

    plan: Plan
    runs: dict[str, ResourceRun] = field(default_factory=dict)
    earlier: dict[str, Tally] = field(default_factory=dict)
    trimmed: list[_crds.Trimmed] = field(default_factory=list)
    proven: list[str] = field(default_factory=list)
    left: Left | None = None
    seconds: float = 0.0

    @property
    def total(self) -> Tally:
        tally = Tally()
        for name, run in self.runs.items():
            tally.add(run.tally)
            if name in self.earlier:
                tally.add(self.earlier[name])
        return tally

    @property
    def failures(self) -> list[Failure]:
        return [failure for run in self.runs.values() for failure in run.failures]


async def storage_migrate(params: Mapping[str, Any], check_mode: bool, report: Report) -> dict[str, Any]:
    """The module's result; raises the collection's errors, with the result so far where something was done."""
    _refuse_nonsense(params)
    started = time.monotonic()
    async with open_cluster(params) as cluster, open_truth(params) as truth:
        store = open_store(params.get("state_store"), cluster.entry)
        state, seen = await asyncio.gather(store.load(), cluster.observe())
        selection = Selection(
            params["select"], tuple(params.get("resources") or ()), tuple(params.get("exclude") or ())
        )
        if selection.resources:
            cluster = cluster.expecting(resources=selection.resources)
        _require_servers(seen)
        resources = _settled_first(seen)
        everything = make_plan(resources, state, replace(selection, select="all"), seen.other_groups)
        if params["require_convergence"]:
            _require_convergence(replace(seen, expectation=cluster.expectation))
        if truth is not None:
            await truth.read(seen, selection.resources)
        plan = _plan(resources, state, selection, seen, truth)
        if check_mode:
            return await _preview(cluster, plan)
        if not plan.targets and truth is None:
            return result_of(Outcome(plan), params)
        await require(cluster.entry, _needs(plan if truth is None else everything, store, params))
        outcome = Outcome(plan)
        async with _one_at_a_time(cluster, store, params) as lease:
            state = await store.load()
            if truth is not None:
                usable = [cluster.known_servers[one.url] for one in seen.reports if one.usable]
                await truth.probe(usable, [target.name for target in everything.targets])
            outcome.plan = plan = _plan(resources, state, selection, seen, truth)
            ledger = Ledger(store, state, selection)
            job = _Job(cluster, params, ledger, lease, report, outcome, truth)
            try:
                await job.run(seen, plan)
            finally:
                outcome.seconds = time.monotonic() - started
                outcome.proven = ledger.done
                await job.close()
    _write_failures(params.get("failures_file"), outcome.failures)
    result = result_of(outcome, params)
    if job.control.stopped is not None:
        stopped = job.control.stopped
        raise type(stopped)(**_with_result(stopped, result))
    if outcome.failures:
        raise MigrationIncompleteError(_failed_sentence(outcome), result)
    return result


class _Job:
    """One run: the passes, and the tasks beside them (guard, saving, progress, time limit, signals)."""

    def __init__(
        self,
        cluster: Cluster,
        params: Mapping[str, Any],
        ledger: Ledger,
        lease: Lease,
        report: Report,
        outcome: Outcome,
        truth: EtcdTruth | None,
    ) -> None:
        self.control = Control()
        self._truth = truth
        self._cluster = cluster
        self._params = params
        self._ledger = ledger
        self._lease = lease
        self._report = report
        self._outcome = outcome
        self._finished = False

    async def run(self, seen: Observation, plan: Plan) -> None:
        params = self._params
        lanes = Lanes([self._cluster.known_servers[one.url] for one in seen.reports if one.usable], params["workers"])
        guard = Guard(
            self._cluster,
            lanes,
            self.control,
            self._ledger,
            required=params["require_convergence"],
            report=self._report,
        )
        guard.start(seen)
        engine = DirectEngine(lanes, self._settings(seen))
        generations = await self._crd_generations(plan)
        beside = [
            asyncio.create_task(guard.watch()),
            asyncio.create_task(self._ledger.keep_saving(_SAVE_EVERY, self._saving_failed)),
            asyncio.create_task(self._tell()),
            asyncio.create_task(self._watch_lease()),
        ]
        try:
            with _signals(self.control), self._time_limit():
                await self._passes(engine, guard, lanes, list(plan.targets), generations)
                if self.control.stopped is None and params["trim_stored_versions"]:
                    await self._trim(generations)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def close(self) -> None:
        """Saves what is known, however the run ended."""
        total = self._outcome.total
        summary: dict[str, Any] = {}
        if total.rewritten and self._outcome.seconds:
            summary["rate"] = round(total.visited / self._outcome.seconds, 1)
        try:
            await self._ledger.save(finished=self._finished, summary=summary)
        except StorageUpgradeError as error:
            self.control.stop(error)

    async def _passes(
        self, engine: DirectEngine, guard: Guard, lanes: Lanes, targets: list[Target], generations: Mapping[str, int]
    ) -> None:
        """Migrates, and again what a change of the storage version in the meantime made necessary."""
        for last in [False] * (_PASSES - 1) + [True]:
            runs = [ResourceRun(target, engine.name) for target in targets]
            if self._truth is not None:
                for run in runs:
                    run.tally.rewritten += self._truth.rewritten.pop(run.target.name, 0)
            self._add(runs)
            self._ledger.begin(runs)
            await engine.migrate(runs, self.control)
            if self.control.stopped is not None:
                return
            try:
                seen = await guard.prove_the_end()
            except NotConvergedError as error:
                self.control.stop(
                    NotConvergedError(
                        "Everything was visited, but it does not count as migrated: " + error.message, error.result
                    )
                )
                return
            targets = await self._to_redo(seen, lanes, generations)
            if not targets and self._truth is not None:
                targets = await self._left_in_etcd(self._truth, seen, last)
                if self.control.stopped is not None:
                    return
            if not targets:
                self._finished = True
                return
            if last:
                names = ", ".join(target.name for target in targets)
                self.control.stop(
                    NotConvergedError(
                        f"The storage version of {names} kept changing during {_PASSES} passes; "
                        "wait until nobody edits these CRDs and run again."
                    )
                )
                return
            self._report(Event("notice", f"Once more: {', '.join(target.name for target in targets)}.", {}))

    async def _to_redo(self, seen: Observation, lanes: Lanes, generations: Mapping[str, int]) -> list[Target]:
        """Resources whose storage version changed during their pass, or whose writes came after their hash."""
        redo = []
        for run in self._outcome.runs.values():
            served = seen.resources.get(run.target.name)
            if served is None or served.hash is None or run.gone:
                continue
            if served.hash != run.target.hash:
                redo.append(self._anew(run, seen))
            elif run.complete and run.target.name in generations and not await self._verified(run, lanes):
                redo.append(self._anew(run, seen))
        return redo

    async def _left_in_etcd(self, truth: EtcdTruth, seen: Observation, last: bool) -> list[Target]:
        """What etcd still holds in an old form, but for objects that failed: those are told as failures."""
        try:
            left = self._outcome.left = await truth.left()
        except EtcdError as error:
            self.control.stop(
                EtcdError(f"Everything was visited, but etcd could not be read for the proof: {error.message}")
            )
            return []
        redo = []
        for name, run in self._outcome.runs.items():
            if not left.count.get(name) or name not in seen.resources:
                continue
            failed = {(one.namespace, one.name) for one in run.failures}
            objects = left.objects[name]
            if objects is not None:
                objects = tuple(one for one in objects if (one.namespace, one.name) not in failed)
                if not objects:
                    continue
            redo.append(replace(run.target, objects=objects, token=None, reason="left stale by another writer"))
        if last and redo:
            names = "; ".join(f"{left.count[one.name]} of {one.name}" for one in redo[:5])
            for target in redo:
                self._ledger.distrust(target.name)
            self.control.stop(
                MigrationIncompleteError(
                    f"After {_PASSES} passes etcd still holds stale objects: {names}. Some writer keeps storing them "
                    "in an old form; check that every API server was restarted with the present configuration, and "
                    "run again."
                )
            )
            return []
        return redo

    def _anew(self, run: ResourceRun, seen: Observation) -> Target:
        plan = make_plan(
            {run.target.name: seen.resources[run.target.name]},
            self._ledger.state.with_resource(
                run.target.name, replace(self._ledger.state.of(run.target.name), progress=None)
            ),
            Selection("all", (run.target.name,)),
            seen.other_groups,
        )
        return plan.targets[0]

    async def _verified(self, run: ResourceRun, lanes: Lanes) -> bool:
        """Patches a few objects again through every server: a rewrite means that the first one was stored stale.

        After a CRD's storage version changes, its hash can change before writes do (kubernetes/kubernetes#130235).
        """
        resource = run.target.resource
        fresh = True
        for key in run.sample:
            namespace = f"/namespaces/{key.namespace}" if key.namespace else ""
            path = f"{resource.path}{namespace}/{resource.plural}/{key.name}"
            for server in lanes.servers:
                try:
                    metadata = (await server.get(path, accept=METADATA))["metadata"]
                    body = json.dumps({"metadata": {"resourceVersion": metadata["resourceVersion"]}}).encode()
                    answer = await server.request("PATCH", path, accept=METADATA, content_type=MERGE_PATCH, body=body)
                except StorageUpgradeError:
                    continue
                if outcome_of(answer, metadata["resourceVersion"]).verdict is Verdict.REWRITTEN:
                    fresh = False
                    run.tally.rewritten += 1
        return fresh

    def _add(self, runs: Sequence[ResourceRun]) -> None:
        for run in runs:
            before = self._outcome.runs.get(run.target.name)
            if before is not None:
                tally = self._outcome.earlier.setdefault(run.target.name, Tally())
                tally.add(replace(before.tally, failed=0))
                run.started = before.started
            self._outcome.runs[run.target.name] = run

    async def _crd_generations(self, plan: Plan) -> dict[str, int]:
        """Generations of the CRDs among the targets, as they were before the first write."""
        if not any("." in target.resource.group for target in plan.targets):
            return {}
        names = {target.name for target in plan.targets}
        found = await _crds.generations(self._cluster.entry)
        return {name: generation for name, generation in found.items() if name in names}

    async def _trim(self, generations: Mapping[str, int]) -> None:
        for name in self._ledger.done:
            run = self._outcome.runs.get(name)
            if run is None or name not in generations or run.target.storage_version is None:
                continue
            _group, version = split_group_version(run.target.storage_version)
            trimmed = await _crds.trim(self._cluster.entry, name, generations[name], version)
            if trimmed is not None:
                self._outcome.trimmed.append(trimmed)

    def _settings(self, seen: Observation) -> Settings:
        params = self._params
        served = {
            group_version(resource.group, version)
            for one in seen.reports
            for resource in one.resources.values()
            for version in resource.versions
        }
        return Settings(
            page_size=params["page_size"],
            retries=params["retries"],
            max_rate=params["max_rate"],
            stop_on_error=params["on_error"] == "stop",
            conflicts_are_done=params["require_convergence"],
            served_versions=served if params["prune_managed_fields"] else None,
        )

    async def _tell(self) -> None:
        """Progress, once a second."""
        started = time.monotonic()
        while True:
            await asyncio.sleep(_TELL_EVERY)
            self._report(progress_event(list(self._outcome.runs.values()), time.monotonic() - started))

    async def _watch_lease(self) -> None:
        while not self._lease.lost:
            await asyncio.sleep(1.0)
        self.control.stop(
            AlreadyRunningError("Stopped: another run took over the Lease. Wait until it ends; it goes on from here.")
        )

    def _saving_failed(self, error: Exception) -> None:
        if isinstance(error, (StateStoreError, ApiError)) and not _is_passing(error):
            self.control.stop(error)

    @contextmanager
    def _time_limit(self) -> Iterator[None]:
        timeout = self._params.get("timeout")
        if not timeout:
            yield
            return
        sentence = f"Stopped after the {timeout:g} s that the option timeout allows; run again: it goes on from here."
        handle = asyncio.get_running_loop().call_later(
            timeout, lambda: self.control.stop(MigrationIncompleteError(sentence))
        )
        try:
            yield
        finally:
            handle.cancel()


def _is_passing(error: StorageUpgradeError) -> bool:
    return isinstance(error, ApiError) and (error.status >= 500 or error.status == 429)


@contextmanager
def _signals(control: Control) -> Iterator[None]:
    """SIGINT and SIGTERM stop the run in an orderly way."""
    loop = asyncio.get_running_loop()
    set_for = []

    def stopper(name: str) -> Callable[[], None]:
        return lambda: control.stop(
            MigrationIncompleteError(f"Interrupted by {name}; run again: it goes on from here.")
        )

    for one in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
            loop.add_signal_handler(one, stopper(one.name))
            set_for.append(one)
    try:
        yield
    finally:
        for one in set_for:
            loop.remove_signal_handler(one)


def progress_event(runs: Sequence[ResourceRun], seconds: float) -> Event:
    """Where a run stands: resources at work, objects done of the total known, rate, time left, failures."""
    done = sum(run.tally.visited for run in runs)
    total = sum(max(run.total or 0, run.tally.visited) for run in runs)
    failed = sum(len(run.failures) for run in runs)
    rate = done / seconds if seconds else 0.0
    left = (total - done) / rate if rate else None
    busy = [run.target.name for run in runs if run.started is not None and run.finished is None]
    text = (
        f"{done} of {total} objects, {rate:.0f}/s"
        + (f", {left:.0f} s left" if left is not None and total > done else "")
        + (f", {failed} failed" if failed else "")
        + (f" ({', '.join(busy[:3])}{' …' if len(busy) > 3 else ''})" if busy else "")
    )
    return Event(
        "progress",
        text,
        {"done": done, "total": total, "rate": round(rate, 1), "left": left, "failed": failed, "resources": busy},
    )


def _plan(
    resources: Mapping[str, Any], state: State, selection: Selection, seen: Observation, truth: EtcdTruth | None
) -> Plan:
    """The plan; where etcd was read, of what it holds."""
    changed = {change.resource for change in changed_since(resources, state.persisted)}
    stale = None if truth is None else truth.select(changed)
    return make_plan(resources, state, selection, seen.other_groups, stale)


def _refuse_nonsense(params: Mapping[str, Any]) -> None:
    require_positive(params, ["workers", "page_size", "retries", "timeout"])
    require_not_negative(params, ["max_rate"])
    if params["page_size"] > 10000:
        raise BadInputError("page_size must be at most 10000; larger pages strain the API servers.")
    failures_file = params.get("failures_file")
    if failures_file and Path(failures_file).expanduser().is_dir():
        raise BadInputError(f"failures_file {failures_file} is a directory; name a file.")


def _require_servers(seen: Observation) -> None:
    errors = [one for one in seen.reports if one.error is not None]
    if seen.reports and len(errors) == len(seen.reports):
        if all(one.forbidden for one in errors):
            raise ApiError(errors[0].error or "", status=403)
        raise NotConvergedError("No API server can be used: " + " ".join(str(one.error) for one in errors))


def _settled_first(seen: Observation) -> Mapping[str, Any]:
    """All stored resources, whatever the observation was limited to."""
    return replace(seen, expectation=replace(seen.expectation, resources=None)).resources


def _require_convergence(seen: Observation) -> None:
    if not seen.converged:
        raise NotConvergedError(
            f"Nothing was migrated, because the API servers don't agree: {seen.summary()}. "
            "A write could be stored in the old version. Finish the upgrade of all masters (storage_version_hashes "
            "with state=converged waits for it) and run again.",
            {"changed": False},
        )


def _needs(plan: Plan, store: StateStore, params: Mapping[str, Any]) -> list[Need]:
    """Everything that the run will do, as verbs on resources."""
    needs = [
        Need(verb, target.resource.group, target.resource.plural)
        for target in plan.targets
        for verb in ("list", "patch")
    ]
    namespace, name = _lease_place(store, params)
    needs += [Need(verb, "coordination.k8s.io", "leases", namespace) for verb in ("get", "create", "update")]
    if isinstance(store, ConfigMapStore):
        needs += [Need(verb, "", "configmaps", namespace) for verb in ("get", "create", "patch")]
    if params["trim_stored_versions"] and any("." in target.resource.group for target in plan.targets):
        crds = "customresourcedefinitions"
        needs += [Need(verb, "apiextensions.k8s.io", crds) for verb in ("get", "list")]
        needs += [Need("patch", "apiextensions.k8s.io", crds, subresource="status")]
    return needs


def _lease_place(store: StateStore, params: Mapping[str, Any]) -> tuple[str, str]:
    """(namespace, name) of the Lease: beside the ConfigMap, or in its default place."""
    if isinstance(store, ConfigMapStore):
        return store.namespace, store.name
    given = params.get("state_store") or {}
    return given.get("namespace") or DEFAULT["namespace"], given.get("name") or DEFAULT["name"]


def _one_at_a_time(cluster: Cluster, store: StateStore, params: Mapping[str, Any]) -> Lease:
    namespace, name = _lease_place(store, params)
    holder = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return Lease(cluster.entry, namespace, name, holder)


async def _preview(cluster: Cluster, plan: Plan) -> dict[str, Any]:
    """Check mode: how many objects would be visited; nothing is written."""

    async def count(target: Target) -> tuple[str, int | None]:
        if target.objects is not None:
            return target.name, len(target.objects)
        path = f"{target.resource.path}/{target.resource.plural}?limit=1"
        try:
            page = await cluster.entry.get(path, accept=METADATA_LIST)
        except StorageUpgradeError:
            return target.name, None
        left = (page.get("metadata") or {}).get("remainingItemCount") or 0
        return target.name, len(page.get("items") or ()) + int(left)

    counted = dict(await asyncio.gather(*(count(target) for target in plan.targets)))
    result = result_of(Outcome(plan), {})
    result["would_visit"] = sum(number or 0 for number in counted.values())
    result["resources"] = {
        target.name: {
            "would_visit": counted[target.name],
            "storage_version": target.storage_version,
            "reason": target.reason,
        }
        for target in plan.targets
    }
    return result


def _write_failures(path: str | None, failures: Sequence[Failure]) -> None:
    """All failures as JSON lines; an empty file where there are none."""
    if path:
        lines = "".join(json.dumps(failure.as_dict()) + "\n" for failure in failures)
        write_whole(Path(path).expanduser(), lines.encode())


def _with_result(error: StorageUpgradeError, result: dict[str, Any]) -> dict[str, Any]:
    """Arguments to raise an error once more, with the run's result added."""
    arguments: dict[str, Any] = {"message": error.message, "result": {**result, **_plain(error.result)}}
    if isinstance(error, ApiError):
        arguments.update(status=error.status, reason=error.reason)
    return arguments


def _plain(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if isinstance(value, (str, int, float, list, dict))}


def _failed_sentence(outcome: Outcome) -> str:
    total = outcome.total
    failures = outcome.failures
    shown = "; ".join(describe_failure(one) for one in failures[:_FAILURES_IN_MESSAGE])
    more = len(failures) - _FAILURES_IN_MESSAGE
    done = total.visited - total.failed
    return (
        f"{len(failures)} {'object' if len(failures) == 1 else 'objects or lists'} could not be rewritten, {done} are done: "
        f"{shown}{f'; and {more} more (see failures)' if more > 0 else ''}. "
        "Mend the causes and run again with select: changed, which visits only what is left."
    )


def result_of(outcome: Outcome, params: Mapping[str, Any]) -> dict[str, Any]:
    """The module's return values."""
    total = outcome.total
    failures = outcome.failures
    seconds = round(outcome.seconds, 3)
    return {
        "changed": bool(total.rewritten or total.pruned or outcome.trimmed),
        "rewritten": total.rewritten,
        "unchanged": total.unchanged,
        "conflicts": total.conflicts,
        "deleted": total.deleted,
        "pruned": total.pruned,
        # Ansible gives a meaning of its own to "failed" and "skipped" at the top of a result.
        "totals": {
            "rewritten": total.rewritten,
            "unchanged": total.unchanged,
            "conflicts": total.conflicts,
            "deleted": total.deleted,
            "failed": len(failures),
            "skipped": len(outcome.plan.skipped),
        },
        "skipped_resources": [{"resource": one.resource, "reason": one.reason} for one in outcome.plan.skipped],
        "resources": {
            name: _resource_result(run, outcome.earlier.get(name), name in outcome.proven)
            for name, run in sorted(outcome.runs.items())
        },
        "failures": [failure.as_dict() for failure in failures[:_FAILURES_RETURNED]],
        "trimmed": [{"crd": one.crd, "before": list(one.before), "after": list(one.after)} for one in outcome.trimmed],
        "proof": _proof(outcome),
        "resumed": any(target.resumed for target in outcome.plan.targets)
        or any("interrupted run" in one.reason for one in outcome.plan.skipped),
        "seconds": seconds,
        "rate": round(total.visited / seconds, 1) if seconds else 0.0,
    }


def _proof(outcome: Outcome) -> dict[str, Any] | None:
    """What etcd was seen to hold after the run; None where it was not read."""
    left = outcome.left
    if left is None:
        return None
    return {
        "revision": left.revision,
        "stale": sum(left.count.values()),
        "unprovable": sum(left.unprovable.values()),
        "resources": {
            name: {"stale": count, "reasons": left.reasons.get(name, [])} for name, count in sorted(left.count.items())
        },
    }


def _resource_result(run: ResourceRun, earlier: Tally | None, persisted: bool) -> dict[str, Any]:
    tally = Tally()
    tally.add(run.tally)
    if earlier is not None:
        tally.add(earlier)
    return {
        "rewritten": tally.rewritten,
        "unchanged": tally.unchanged,
        "conflicts": tally.conflicts,
        "deleted": tally.deleted,
        "failed": len(run.failures),
        "pruned": tally.pruned,
        "seconds": round(run.seconds, 3),
        "rate": round(tally.visited / run.seconds, 1) if run.seconds else 0.0,
        "storage_version": run.target.storage_version,
        "engine": run.engine,
        "persisted": persisted,
        "reason": run.target.reason,
    }
