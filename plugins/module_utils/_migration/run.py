# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The phases of storage_migrate, in order.

Observe all API servers and make sure that they agree; plan; migrate every object through them; verify, after which
some resources may have to be migrated again; trim CRDs; record what is proven.

A run::

    observe --> plan --> (Lease) --> migrate --> verify --> trim --> record
       |          |                     ^           |
       |          |                     +-----------+  at most three passes: a CRD was edited, an API server was
       |          |                        again       restarted, etcd still holds stale objects
       |          +--> nothing to do, or check mode: the end; more than etcd has room for: refused
       +--> servers disagree: refused

    Once there is a Lease, whatever stops a run (a signal, the time limit, a lost Lease, servers that no longer agree,
    too little room in etcd) leads to record, so that the next run can resume.

One resource::

    planned --> visited --> verified --> proven --> trimmed (of a CRD)
       |           |           |           |
       |           |           |           +--> revoked: etcd or an unseen restart contradicts it; planned again
       |           |           +--> planned again: its hash or its CRD changed meanwhile
       |           +--> failed: objects are named, and the next run visits those
       |           +--> gone: no longer served, nothing is claimed about it
       +--> skipped, with a reason

Who owns which state: the result (result.py) owns the runs of resources and all counts, the checkpoint (checkpoint.py) what
is proven and saved, the control (engines/base.py) whether writing may continue, and the guard (guard.py) what was observed
of the API servers. All of them are in one RunContext (context.py); background tasks are in background.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clock import boottime
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    AlreadyRunningError,
    ApiError,
    EtcdError,
    EtcdFullError,
    MigrationIncompleteError,
    NotConvergedError,
    StateStoreError,
    StorageUpgradeError,
    UnreachableError,
    is_passing,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event, Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.niceness import give_way
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import some_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.space import Amount, Fit, Outlook
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import WriteGate
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import Cluster, open_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.lease import Lease
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.named import names_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.permissions import require
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.priority import find_priority
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.background import in_background
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.checkpoint import Checkpoint
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.conditions import (
    needs,
    one_at_a_time,
    require_convergence,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.context import RunContext
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.custom_resources import CustomResources
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import Control
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.choice import (
    Chosen,
    choose_engine,
    direct_needs,
    impact_note,
    make_engine,
    waits_for_nothing,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.direct import (
    DirectEngine,
    Settings,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.endpoints import EndpointPool
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.pace import (
    EXEMPT,
    NORMAL,
    PaceKept,
    impact_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.guard import Guard
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.interrupt import interruptible
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.managed_fields import KEEP
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.managers import may_drop_managers
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.managers_left import (
    ManagersLeft,
    find_managers_left,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.observe import Observed, observe
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.options import MigrateOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.passes import Passes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.preview import preview
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.result import (
    MigrationResult,
    as_return_values,
    done_sentence,
    failed_sentence,
    with_result,
    write_failures,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.space import (
    Look,
    Space,
    find_space,
    nothing_known,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.trim import trim
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import (
    StateStore,
    open_store,
    require_writable,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.trust import (
    reservations,
    still_trusted,
    unseen_since,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import (
    Observation,
    once_nobody_dies,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.diff import versions_on_record
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import group_version
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.processes import other_processes, restarted

if TYPE_CHECKING:
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.stale_objects import StaleObjects

_PROBE_MAY_TAKE = 20.0
_PRIORITY_FOR = 5.0
_SAVE_AGAIN_AFTER = (1.0, 3.0, 10.0)


@names_cluster
async def storage_migrate(options: MigrateOptions, check_mode: bool, report: Report) -> dict[str, Any]:
    """The module's result; raises the collection's errors, with the result so far if something was done."""
    give_way(impact_of(options.impact).niceness)
    control = Control()
    with interruptible(control):
        return await _Migration(options, report, control).run(check_mode)


class _Migration:
    """One call of the module. Use ``run`` once."""

    def __init__(self, options: MigrateOptions, report: Report, control: Control) -> None:
        self._options = options
        self._report = report
        self._control = control
        self._started = time.monotonic()

    async def run(self, check_mode: bool) -> dict[str, Any]:
        options = self._options
        async with AsyncExitStack() as opened:
            cluster = await opened.enter_async_context(open_cluster(options.cluster))
            stale_objects = await opened.enter_async_context(_open_stale_objects(options))
            store = open_store(options.store, cluster.entry)
            observed = await self._observe(cluster, store, stale_objects)
            result, chosen = await self._plan(cluster, observed, stale_objects)
            space = await self._require_space(cluster, observed, result, chosen, stale_objects, opened)
            if check_mode:
                return await preview(cluster, result)
            if result.plan.targets or stale_objects is not None:
                await self._require_permission(cluster, observed, result, chosen)
                async with one_at_a_time(cluster, options.store) as lease:
                    cluster.writes.why_not = lambda: _why_not_write(self._control, lease)
                    with _counting_the_probe(stale_objects, self._control):
                        if stale_objects is not None:
                            observed = await self._observe_again(cluster, observed)
                            observed = await self._probe(cluster, observed, stale_objects)
                        context = await self._begin(
                            cluster, store, lease, observed, result, chosen, stale_objects, space
                        )
                    try:
                        await _work(context, observed)
                    finally:
                        await self._record(context)
                    await space.end()
                self._write_failures(result)
            else:
                result.seconds = time.monotonic() - self._started
        return _told(result, self._control)

    async def _observe(self, cluster: Cluster, store: StateStore, stale_objects: StaleObjects | None) -> Observed:
        """Reads servers, the record, CRDs and, if wanted, etcd. Raises if servers must agree and don't."""
        options = self._options
        observed = await observe(cluster, store, options, self._report)
        observed.everything(options.selection)  # First refuse names that no server stores.
        if options.require_convergence:
            require_convergence(self._asked_for(observed.seen))
        if stale_objects is not None:
            servers, resources = cluster.writers(observed.seen), options.selection.resources
            await stale_objects.read(cluster.entry, servers, observed.seen, resources, self._report)
            await stale_objects.withhold(cluster.entry, options.drop_unknown_fields, self._report)
            if options.managed_fields != KEEP:
                names = [target.name for target in observed.everything(options.selection).targets]
                served = _served_versions(observed.seen)
                doubts = await stale_objects.look_at_managers(cluster.entry, options.managed_fields, names, served)
                managed = frozenset(stale_objects.managed)
                observed = replace(observed, managed=managed, doubts=(*observed.doubts, *doubts))
        return observed

    def _asked_for(self, seen: Observation) -> Observation:
        """Limited to the resources that the user named; disagreement about others does not matter."""
        return replace(seen, expectation=replace(seen.expectation, resources=self._options.selection.resources or None))

    async def _plan(
        self, cluster: Cluster, observed: Observed, stale_objects: StaleObjects | None
    ) -> tuple[MigrationResult, Chosen]:
        """What to migrate and which engine does it, in a result that has no runs yet."""
        plan = observed.plan(self._options.selection, stale_objects)
        chosen = await choose_engine(cluster.entry, self._options, plan.targets)
        doubts = list(observed.doubts)
        if self._options.selection.select == "changed":
            doubts += unseen_since(observed.state, observed.seen)
        recorded = versions_on_record(observed.resources, observed.state.persisted, observed.seen.other_groups)
        result = MigrationResult(plan, engine=chosen.choice, recorded=recorded, agreement=observed.seen, doubts=doubts)
        return result, chosen

    async def _require_space(
        self,
        cluster: Cluster,
        observed: Observed,
        result: MigrationResult,
        chosen: Chosen,
        stale_objects: StaleObjects | None,
        opened: AsyncExitStack,
    ) -> Space:
        """What is known of etcd's space; raises before the first write if what is to be rewritten can't fit."""
        options = self._options
        names = [target.name for target in result.plan.targets]
        look, why = None, None
        amounts: Mapping[str, Amount] = {}
        if stale_objects is not None:
            look, amounts = stale_objects.members_look(), stale_objects.amounts(names)
        elif options.etcd is not None and names:
            look, why = await _look_at_etcd(options, cluster, observed.seen, opened)
        if not names and stale_objects is None:
            return nothing_known()
        space = await find_space(
            cluster.entry, look, quota=options.etcd_quota, patience=options.compaction_timeout, why_not_etcd=why
        )
        result.space = space
        seen = await _evaluate_space(space, amounts, chosen)
        if seen.fit is Fit.PACED:
            self._report(Event("notice", f"{seen.why} {waits_for_nothing(chosen) or seen.remedy}", {}))
        elif space.unknown is not None and seen.fit is Fit.UNKNOWN:
            self._report(Event("notice", space.unknown, {}))
        return space

    async def _require_permission(
        self, cluster: Cluster, observed: Observed, result: MigrationResult, chosen: Chosen
    ) -> None:
        for path in (self._options.store.path, self._options.failures_file):
            if path is not None:
                require_writable(path)
        await require(cluster.entry, needs(result.plan, chosen, self._options))
        if self._options.selection.select == "stale":
            # A patch of one object of each resource shows how the servers write it.
            await require(cluster.entry, direct_needs(observed.everything(self._options.selection).targets))

    async def _observe_again(self, cluster: Cluster, observed: Observed) -> Observed:
        """The API servers after etcd was read, which may have taken minutes; raises if the scan no longer holds."""
        asked_at, seen = await once_nobody_dies(cluster.observe, self._report)
        if not self._options.require_convergence:
            return replace(observed, seen=seen, asked_at=asked_at)
        new = other_processes(observed.seen.processes, seen.processes)
        if new:
            raise NotConvergedError(
                f"Nothing was migrated, because {restarted(new)} while etcd was read. Run again.", {"changed": False}
            )
        require_convergence(self._asked_for(seen))
        before, now = self._asked_for(observed.seen).resources, self._asked_for(seen).resources
        changed = [name for name, resource in before.items() if name in now and now[name].hash != resource.hash]
        if changed:
            raise NotConvergedError(
                f"Nothing was migrated, because the storage version of {some_of(changed)} changed while etcd was read. "
                "Run again.",
                {"changed": False},
            )
        return replace(observed, seen=seen, asked_at=asked_at)

    async def _probe(self, cluster: Cluster, observed: Observed, stale_objects: StaleObjects) -> Observed:
        """Asks the servers how they write, and looks at them again if that took long, as where a key is being rotated."""
        names = [target.name for target in observed.everything(self._options.selection).targets]
        await stale_objects.probe(cluster.writers(observed.seen), names)
        if boottime() - observed.asked_at < _PROBE_MAY_TAKE:
            return observed
        return await self._observe_again(cluster, observed)

    def _write_failures(self, result: MigrationResult) -> None:
        try:
            write_failures(self._options.failures_file, result.failures)
        except StateStoreError as error:
            self._control.stop(error)  # It carries the result, which has the counts.

    async def _begin(
        self,
        cluster: Cluster,
        store: StateStore,
        lease: Lease,
        observed: Observed,
        result: MigrationResult,
        chosen: Chosen,
        stale_objects: StaleObjects | None,
        space: Space,
    ) -> RunContext:
        """Plans again from the record, now that no other run can write."""
        options, seen = self._options, observed.seen
        saved = await store.load()
        state, why = still_trusted(saved, seen)
        result.doubts += reservations(why, seen)
        result.plan = chosen.whole(replace(observed, state=state).plan(options.selection, stale_objects))
        checkpoint = Checkpoint(store, state, options.selection, result.runs, saved=saved, may_save=lease.confirm)
        if stale_objects is not None:
            for name in filter(stale_objects.is_contradicted, seen.resources):
                checkpoint.revoke(name)
            # How servers encrypt is known only now.
            names = [target.name for target in result.plan.targets]
            await _evaluate_space(space, stale_objects.amounts(names), chosen)
        self._control.begun = True
        return RunContext(
            options=options,
            cluster=cluster.expecting(resources=options.selection.resources or None),
            chosen=chosen,
            control=self._control,
            checkpoint=checkpoint,
            result=result,
            lease=lease,
            report=self._report,
            space=space,
            stale_objects=stale_objects,
            begun=self._started,
            deadline=time.monotonic() + options.timeout if options.timeout else None,
        )

    async def _record(self, context: RunContext) -> None:
        """Saves what is known, however the run ended."""
        result = context.result
        result.seconds = time.monotonic() - self._started
        result.proven = context.checkpoint.done
        for wait in (*_SAVE_AGAIN_AFTER, None):
            try:
                await context.checkpoint.save(finished=result.finished, summary=_summary(result))
                return
            except AlreadyRunningError as error:
                context.control.stop(error)  # By now another run owns the record, so leave it alone.
                return
            except StorageUpgradeError as error:
                if wait is None or not is_passing(error) or isinstance(context.control.stopped, EtcdFullError):
                    context.control.stop(_unrecorded(error, context.control))
                    return
                await asyncio.sleep(wait)


async def _work(context: RunContext, observed: Observed) -> None:
    """Migrates, verifies and trims; ends when everything possible is done, or the control says stop."""
    seen = observed.seen
    options = context.options
    endpoints = EndpointPool(context.cluster.writers(seen), options.workers, options.impact)
    context.result.pace = endpoints.pace_kept
    endpoints.pace.note = impact_note(context.chosen)
    if endpoints.pace.note is not None and options.impact != NORMAL:
        context.report(Event("notice", endpoints.pace.note, {}))
    guard = Guard(context, endpoints)
    guard.start(seen, observed.asked_at)
    context.lease.others = lambda: endpoints.servers
    context.control.permits += [lambda: context.lease.valid, lambda: guard.fresh, lambda: context.space.may_write]
    engine = make_engine(
        context.chosen,
        DirectEngine(endpoints, _direct_settings(context, seen, endpoints)),
        server=context.cluster.entry,
        endpoints=endpoints,
        options=options,
        report=context.report,
        withdrawals=WriteGate(context.lease.why_not),
    )
    passes = Passes(context, engine, guard, CustomResources(context))
    async with in_background(context, guard):
        try:
            await passes.run(context.result.plan.targets)
            await guard.refresh()
            if context.control.stopped is None:
                await trim(context, guard)
            await _look_for_managers(context)
            _stop_if_in_doubt(context)
        except StorageUpgradeError as error:
            context.control.stop(error)
    await _say_priority(context, endpoints.pace)


async def _evaluate_space(space: Space, amounts: Mapping[str, Amount], chosen: Chosen) -> Outlook:
    """Whether what is to be rewritten fits into etcd; raises like ``Space.evaluate``, also if the engine would have to wait.

    Without a scan, nothing but the size of etcd is known, of which the migration may have to rewrite little.
    """
    seen = await space.evaluate(amounts)
    why = waits_for_nothing(chosen)
    if seen.fit is Fit.PACED and why is not None and amounts:
        raise space.refusal(f"Nothing was migrated, because it might fill etcd. {why} {seen.why}")
    return seen


async def _say_priority(context: RunContext, pace: PaceKept) -> None:
    """Which priority level the API servers gave the writes; said once if that let them pass everybody else's."""
    if pace.classified is None or context.control.stopped is not None:
        return
    with suppress(asyncio.TimeoutError):
        pace.priority = await asyncio.wait_for(find_priority(context.cluster.entry, pace.classified), _PRIORITY_FOR)
    if pace.priority.exempt:
        context.report(Event("notice", EXEMPT, {}))


async def _look_for_managers(context: RunContext) -> None:
    result = context.result
    custom = {name: run.target.resource for name, run in result.runs.items() if run.custom and not run.gone}
    mode = context.options.managed_fields
    if context.control.stopped is not None:
        result.managers_left = [
            ManagersLeft(crd.crd, None, "They were not listed, as the run was stopped; run again.")
            for crd in result.trimmed
        ]
        return
    result.managers_left = await find_managers_left(context.cluster.entry, mode, custom, result.trimmed)


def _direct_settings(context: RunContext, seen: Observation, endpoints: EndpointPool) -> Settings:
    options = context.options
    return Settings(
        page_size=endpoints.page_size(options.page_size),
        retries=options.retries,
        max_rate=options.max_rate,
        stop_on_error=options.stop_on_error,
        conflicts_are_done=options.require_convergence,
        served_versions=_served_versions(seen),
        managed_fields=options.managed_fields,
        withheld={} if context.stale_objects is None else context.stale_objects.withheld,
        managers_at_risk=may_drop_managers(report.version for report in seen.reports if report.usable),
        last=options.store.own_objects,
        begun=context.begun,
        say=context.cluster.entry.say,
    )


def _served_versions(seen: Observation) -> dict[str, set[str]]:
    """The group versions in which each resource is served by some API server."""
    served: dict[str, set[str]] = {}
    for report in seen.reports:
        for name, resource in report.resources.items():
            versions = {group_version(resource.group, version) for version in resource.versions}
            served.setdefault(name, set()).update(versions)
    return served


def _stop_if_in_doubt(context: RunContext) -> None:
    """The last check of the API servers, after all passes, may have found that one was replaced."""
    result = context.result
    for name, why in sorted(context.checkpoint.in_doubt.items()):
        if name in result.agreement.resources and not result.runs[name].gone:
            context.control.stop(
                NotConvergedError(f"Stopped: {why}, so not everything visited counts as migrated. Run again.")
            )
    unanswered = context.checkpoint.doubts[result.answered_doubts :]
    if context.stale_objects is not None and unanswered:
        context.control.stop(
            NotConvergedError(f"Stopped: {unanswered[-1]} after etcd was read, so nothing is proven. Run again.")
        )


def _summary(result: MigrationResult) -> dict[str, Any]:
    """What is recorded about this run in addition to the proof; a rate only if objects were rewritten."""
    total = result.total
    return {"rate": round(total.visited / result.seconds, 1)} if total.rewritten and result.seconds else {}


def _unrecorded(error: StorageUpgradeError, control: Control) -> StorageUpgradeError:
    if isinstance(error, EtcdFullError) or isinstance(control.stopped, EtcdFullError):
        return error
    return StateStoreError(
        f"What the run did could not be recorded: {error.message} Run again; "
        "objects that are already current cost one request each."
    )


def _told(result: MigrationResult, control: Control) -> dict[str, Any]:
    """The module's return values; raises what stopped the run, or that objects failed."""
    returned = as_return_values(result)
    if control.stopped is not None:
        raise with_result(_with_failures(control.stopped, result), returned)
    if result.failures:
        raise MigrationIncompleteError(failed_sentence(result), returned)
    return {**returned, "msg": done_sentence(result), "warnings": result.reservations}


def _with_failures(stopped: StorageUpgradeError, result: MigrationResult) -> StorageUpgradeError:
    """A record that can't be written must not hide that objects failed."""
    if isinstance(stopped, StateStoreError) and result.failures:
        return StateStoreError(f"{stopped.message} In addition, {failed_sentence(result)}", stopped.result)
    return stopped


def _why_not_write(control: Control, lease: Lease) -> str | None:
    """Why no request that writes may be sent now; once etcd is full, none is sent until somebody has freed space.

    An engine's migration objects may still be deleted then (``withdrawals``).
    """
    return control.stopped.message if isinstance(control.stopped, EtcdFullError) else lease.why_not()


@contextmanager
def _counting_the_probe(stale_objects: StaleObjects | None, control: Control) -> Iterator[None]:
    """An error, or an interruption, says that something changed if a server wrote when it was asked how it writes."""
    try:
        yield
    except BaseException as error:
        ending = control.stopped if isinstance(error, asyncio.CancelledError) else error
        if stale_objects is not None and stale_objects.wrote and isinstance(ending, StorageUpgradeError):
            ending.result["changed"] = True
        raise


def _open_stale_objects(options: MigrateOptions) -> AbstractAsyncContextManager[StaleObjects | None]:
    """What etcd holds, if the user asked for that."""
    if options.selection.select != "stale":
        return nullcontext()
    # Ansible compiles the module in each task; what reads etcd is a quarter of it.
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.stale_objects import (
        open_stale_objects,
    )

    return open_stale_objects(options)


async def _look_at_etcd(
    options: MigrateOptions, cluster: Cluster, seen: Observation, opened: AsyncExitStack
) -> tuple[Look | None, str | None]:
    """How to look at the etcd that the user named, or why that can't be done; it must be the API servers' own."""
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.identity import require_own_etcd
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.opening import open_clusters
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.space import members_look

    etcd = await opened.enter_async_context(open_clusters(options.etcd))
    try:
        await require_own_etcd(etcd, cluster.entry, seen.resources)
    except (EtcdError, ApiError, UnreachableError) as error:
        return None, error.message
    return members_look(etcd, sorted(seen.resources)), None
