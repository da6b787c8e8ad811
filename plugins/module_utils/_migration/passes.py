# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Migrate and verify, in at most three passes: after a check of all servers, objects may have to be visited again."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    EtcdError,
    MigrationIncompleteError,
    NotConvergedError,
    StorageUpgradeError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.gathering import gather_limited
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import some_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.context import RunContext
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.custom_resources import CustomResources
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import (
    Engine,
    ResourceRun,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.guard import Guard
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import Verdict
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import (
    Selection,
    Target,
    make_plan,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.verify import stored_as_served
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation

if TYPE_CHECKING:
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.stale_objects import (
        Left,
        StaleObjects,
    )

_PASSES = 3
_VERIFIED_AT_ONCE = 8


class Passes:
    """Runs the engine over the targets until nothing remains to be visited again."""

    def __init__(self, context: RunContext, engine: Engine, guard: Guard, custom: CustomResources) -> None:
        self._cluster = context.cluster
        self._engine = engine
        self._guard = guard
        self._control = context.control
        self._checkpoint = context.checkpoint
        self._result = context.result
        self._space = context.space
        self._stale_objects = context.stale_objects
        self._may_drop = context.options.drop_unknown_fields
        self._custom = custom
        self._report = context.report
        # What an unseen API server may have written, and etcd is to show.
        self._left_to_etcd: set[str] = set()
        # How many of the checkpoint's doubts came before the servers were last asked how they write.
        self._asked_after = 0
        self._skipped_as_done = {skipped.resource for skipped in context.result.plan.skipped if skipped.done_before}

    async def run(self, targets: Sequence[Target]) -> None:
        """Migrates, and repeats whatever a change in the meantime made necessary; sets the result's ``finished``."""
        await self._engine.begin(targets)
        try:
            await self._custom.look(targets)
            for last in [False] * (_PASSES - 1) + [True]:
                await self._migrate(self._begin(targets))
                targets = await self._to_visit_again(last)
                if not targets:
                    break
            self._result.finished = not targets and self._control.stopped is None
            await self._guard.refresh()
        finally:
            self._result.trimmed += await self._engine.end(self._proven_targets())

    def _proven_targets(self) -> list[Target]:
        runs = self._result.runs
        return [runs[name].target for name in self._checkpoint.done if name in runs]

    async def _to_visit_again(self, last: bool) -> list[Target]:
        """What the next pass has to visit, ready for it; empty if all is proven, or if the run was stopped, as by the ``last`` pass."""
        if self._control.stopped is not None:
            return []
        targets = [target for target, _why in await self._verify(last)]
        for target in targets:
            self._checkpoint.revoke(target.name)
        if self._control.stopped is not None or not targets:
            return []
        names = [target.name for target in targets]
        await self._space.watch()
        if self._stale_objects is not None:
            await self._stale_objects.withhold(self._cluster.entry, self._may_drop, self._report, names)
        await self._prepare([target for target in targets if target.name not in self._result.runs])
        self._report(Event("notice", f"Migrating again: {', '.join(names)}.", {}))
        return targets

    async def _prepare(self, new: Sequence[Target]) -> None:
        """What was done for the other targets before the first pass, for those that it did not have."""
        if new:
            await self._engine.begin(new)
            await self._custom.look([*(run.target for run in self._result.runs.values()), *new])

    def _begin(self, targets: Sequence[Target]) -> list[ResourceRun]:
        """The runs of a pass."""
        runs = [self._custom.begin(target, self._engine.name) for target in targets]
        if self._stale_objects is not None:
            for run in runs:
                self._credit_the_probe(run, self._stale_objects)
                run.etcd_agrees = False  # Until it was read again.
        self._result.begin(runs)
        self._checkpoint.begin(run.target.name for run in runs)
        return runs

    async def _verify(self, last: bool) -> list[tuple[Target, str]]:
        """Checks all API servers, and etcd if it is read, for what must be visited again, and why.

        Stops the run if nothing can be proven, or if something must be visited again after the last pass.
        """
        asked_at = time.monotonic()
        try:
            seen = await self._control.unless_stopped(self._guard.prove_the_end())
        except NotConvergedError as error:
            self._control.stop(
                NotConvergedError("Everything was visited, but it does not count as migrated: " + error.message)
            )
            return []
        self._result.agreement = seen
        redo = await self._look_again(seen, asked_at, last)
        if last and redo and self._control.stopped is None:
            doubts = sorted({*self._checkpoint.in_doubt.values()})
            self._control.stop(NotConvergedError(_never_settled(doubts) if doubts else _never_finished(redo)))
        return redo

    def _credit_the_probe(self, run: ResourceRun, stale_objects: StaleObjects) -> None:
        """Counts the objects that a server rewrote when it was asked how it writes; a list may return them again."""
        for found, verdict in (
            (stale_objects.uncertain, Verdict.UNCERTAIN),
            (stale_objects.rewritten, Verdict.REWRITTEN),
        ):
            for key in found.pop(run.target.name, ()):
                run.visits.again()
                run.count(key, verdict)

    async def _migrate(self, runs: Sequence[ResourceRun]) -> None:
        """Runs that must wait come last, so that waiting costs as little as possible."""
        waiting = [run for run in runs if not self._custom.may_begin(run)]
        await self._engine.migrate([run for run in runs if run not in waiting], self._control)
        if waiting and self._control.stopped is None:
            await self._custom.wait(waiting)
            if self._control.stopped is None:
                await self._engine.migrate(waiting, self._control)

    async def _look_again(self, seen: Observation, asked_at: float, last: bool) -> list[tuple[Target, str]]:
        """What must be visited again, and why; the rest counts as persisted if it is proven."""
        try:
            await self._control.unless_stopped(self._custom.confirm(self._result.runs.values()))
        except StorageUpgradeError as error:
            self._checkpoint.mark_persisted(seen, asked_at)
            self._control.stop(
                MigrationIncompleteError(
                    f"Everything was visited, but no custom resource counts as migrated, because CRDs could not be read: "
                    f"{error.message}"
                )
            )
            return []
        await self._verify_custom(seen)
        redo = self._to_redo(seen)
        if self._stale_objects is not None:
            redo += await self._left_in_etcd(self._stale_objects, seen, {target.name for target, _why in redo}, last)
        redo += self._in_doubt(seen, {target.name for target, _why in redo})
        self._checkpoint.mark_persisted(seen, asked_at)
        return redo

    def _to_redo(self, seen: Observation) -> list[tuple[Target, str]]:
        """Resources that changed during their pass, or were written in another version than their hash says, and why."""
        redo = []
        for run in self._result.runs.values():
            served = seen.resources.get(run.target.name)
            if served is None or served.hash is None:
                continue  # Nothing is claimed about resources that no server serves.
            why = self._custom.moved(run)
            if served.hash != run.target.hash:
                why = "changed its storage version"
            elif run.gone:
                why = "was briefly not served"
            elif why is None and run.complete and not run.verified:
                why = "was written in another version than discovery reports, or could not be checked"
            elif why is None and run.complete and seen.converged and self._checkpoint.is_foreign(run.target.name):
                why = "had another storage version on an API server for a while"
            target = None if why is None else self._again(run, seen)
            if why is not None and target is not None:
                redo.append((target, why))
        return redo

    def _in_doubt(self, seen: Observation, known: Collection[str]) -> list[tuple[Target, str]]:
        """What an unseen API server may have invalidated after the visit, except what is ``known`` to be visited again.

        That includes what an interrupted run before this one had finished.
        """
        redo: list[tuple[Target, str]] = []
        for name, why in self._checkpoint.in_doubt.items():
            if name not in known and name in seen.resources:
                run = self._result.runs[name]
                again = self._again(run, seen)
                if again is None:
                    continue
                target = replace(again, reason=why)
                if run.target.objects is not None and self._etcd_shows(name):
                    self._left_to_etcd.add(name)
                    target = replace(target, objects=())
                redo.append((target, why))
        state = self._checkpoint.state
        names = {name for name in self._skipped_as_done if (state.of(name).progress or {}).get("doubt")}
        names = {name for name in names if name not in self._result.runs and name in seen.resources}
        if names:
            resources = {name: seen.resources[name] for name in names}
            plan = make_plan(resources, state, Selection(), seen.other_groups)
            redo += [(target, target.reason) for target in plan.targets]
        return redo

    def _etcd_shows(self, name: str) -> bool:
        """Whether etcd, when it is read again, will show every object of a resource that is stale in its version."""
        left = self._result.left
        return left is not None and not left.unprovable.get(name)

    async def _verify_custom(self, seen: Observation) -> None:
        """Checks how custom resources are written if their storage version may have changed just before their pass."""
        servers = self._cluster.writers(seen)

        async def verify(run: ResourceRun) -> None:
            if (
                run.crd is not None
                and self._checkpoint.state.is_migrated(run.target.name, run.crd)
                and not run.visits.wrote
                and self._checkpoint.state.of(run.target.name).persisted == (run.target.hash,)
            ):
                run.verified = True
                return
            withheld = {} if self._stale_objects is None else self._stale_objects.withheld.get(run.target.name, {})
            run.verified = await stored_as_served(run, servers, withheld)

        # Under another edit of the CRD a patch may drop other fields than those that were looked for.
        doubtful = [
            run
            for run in self._result.runs.values()
            if run.complete and not run.verified and self._custom.moved(run) is None
        ]
        await gather_limited(_VERIFIED_AT_ONCE, verify, doubtful)

    async def _left_in_etcd(
        self, stale_objects: StaleObjects, seen: Observation, known: Collection[str], last: bool
    ) -> list[tuple[Target, str]]:
        """What etcd still holds in an old form, except objects that failed, which are reported as failures.

        Leaves out what is ``known`` to be visited again anyway.
        """
        self._report(Event("notice", "Everything was visited; reading etcd again for the proof."))
        self._result.answered_doubts = len(self._checkpoint.doubts)
        why: StorageUpgradeError | None = None
        try:
            left = self._result.left = await self._control.unless_stopped(self._read_etcd(stale_objects, seen))
        except StorageUpgradeError as error:
            why = error
        for run in self._result.runs.values():
            self._credit_the_probe(run, stale_objects)
        if why is not None:
            self._control.stop(_unproven(why, changed=stale_objects.wrote))
            return []
        redo = [again for run in self._result.runs.values() if (again := self._is_left(run, left)) is not None]
        redo = [(target, why) for target, why in redo if target.name in seen.resources and target.name not in known]
        redo += self._appeared(seen, left, {*stale_objects.rewritten, *stale_objects.uncertain})
        stale = [target.name for target, _why in redo if left.count.get(target.name)]
        if last and stale:
            names = "; ".join(f"{left.count[name]} of {name}" for name in stale[:5])
            self._control.stop(
                MigrationIncompleteError(
                    f"After {_PASSES} passes etcd still holds stale objects: {names}. Some writer keeps storing them "
                    "in an old form: check that every API server was restarted with the current configuration, and "
                    "run again."
                )
            )
        return redo

    async def _read_etcd(self, stale_objects: StaleObjects, seen: Observation) -> Left:
        """First asks the servers how they write now: one that was restarted may have other flags, or one has loaded other keys."""
        servers, doubts = self._cluster.writers(seen), self._result.answered_doubts
        edited = {name for name, run in self._result.runs.items() if self._custom.moved(run) is not None}
        replaced = doubts > self._asked_after
        stale_objects.follow(seen, servers)
        if replaced:
            names = sorted(stale_objects.probed - edited)
            await stale_objects.withhold(self._cluster.entry, self._may_drop, self._report, names)
        await stale_objects.probe_again(servers, replaced=replaced, edited=edited)
        self._asked_after = doubts
        return await stale_objects.left()

    def _is_left(self, run: ResourceRun, left: Left) -> tuple[Target, str] | None:
        """What etcd still holds of a resource in an old form, or doesn't show although the run relied on it; None if nothing."""
        name, objects = run.target.name, None
        run.etcd_agrees = False
        if left.count.get(name):
            failed = {(failure.namespace, failure.name) for failure in run.failures}
            objects = left.objects[name]
            if objects is not None:
                objects = tuple(key for key in objects if (key.namespace, key.name) not in failed)
            if objects == ():
                run.etcd_agrees = True
                return None
            if left.hides_more(name):
                objects = None
            target = replace(run.target, objects=objects, token=None, reason="left stale by another writer")
            return target, "was left stale in etcd"
        hidden = name in left.uncounted or (name in self._left_to_etcd and left.unprovable.get(name, 0) > 0)
        if run.target.objects is not None and hidden and run.complete:
            target = replace(run.target, objects=None, token=None, reason="etcd does not show all of its objects")
            return target, "could not be read completely from etcd"
        run.etcd_agrees = True
        return None

    def _appeared(self, seen: Observation, left: Left, rewritten: Collection[str]) -> list[tuple[Target, str]]:
        """Resources without a run, as etcd held nothing stale of them before the first pass, that need one now.

        Etcd holds stale objects of them by now, an unseen API server may have written some whose version it hides, or the servers
        have ``rewritten`` some to show how they write, which are to be counted.
        """
        doubt = next(reversed(self._checkpoint.doubts), None)
        hidden = {name: doubt for name, number in left.unprovable.items() if number and doubt is not None}
        why = {**dict.fromkeys(rewritten, "was rewritten to find out how the API servers write"), **hidden}
        why.update({name: "became stale in etcd during the run" for name, number in left.count.items() if number})
        resources = {
            name: seen.resources[name] for name in why if name in seen.resources and name not in self._result.runs
        }
        if not resources:
            return []
        asked = self._checkpoint.selection
        named = tuple(name for name in asked.resources if name in resources)
        excluded = tuple(name for name in asked.exclude if name in resources)
        plan = make_plan(resources, State(), Selection("all", named, excluded), seen.other_groups)
        found = []
        for target in plan.targets:
            shown = left.count.get(target.name) and not left.hides_more(target.name)
            whole = target.name in hidden or left.count.get(target.name)
            objects = left.objects[target.name] if shown else None if whole else ()
            reason = str(why[target.name])
            found.append((replace(target, objects=objects, reason=reason), reason))
        return found

    def _again(self, run: ResourceRun, seen: Observation) -> Target | None:
        """The whole resource again; None if it can't be migrated now (it is being deleted, so that it can't be patched)."""
        plan = make_plan(
            {run.target.name: seen.resources[run.target.name]},
            replace(
                self._checkpoint.state.with_resource(
                    run.target.name, replace(self._checkpoint.state.of(run.target.name), progress=None)
                ),
                last_run=None,
            ),
            Selection("all", (run.target.name,)),
            seen.other_groups,
        )
        return next(iter(plan.targets), None)


def _unproven(error: StorageUpgradeError, *, changed: bool) -> StorageUpgradeError:
    """After the last visit, etcd could not be read, or the servers write differently by now. ``changed``: to find that out, some wrote."""
    if isinstance(error, EtcdError):
        error = EtcdError(f"Everything was visited, but etcd could not be read for the proof: {error.message}")
    elif isinstance(error, NotConvergedError):
        error = NotConvergedError(f"Everything was visited, but it does not count as migrated: {error.message}")
    if changed:
        error.result["changed"] = True
    return error


def _never_finished(redo: Sequence[tuple[Target, str]]) -> str:
    names = some_of([f"{target.name} {why}" for target, why in redo])
    return (
        f"After {_PASSES} passes objects still have to be visited again, because meanwhile {names}. "
        "Wait until nobody edits these CRDs and every API server serves them, and run again."
    )


def _never_settled(doubts: Sequence[str]) -> str:
    return (
        f"Everything was visited {_PASSES} times, but still does not count as migrated: {'; '.join(doubts)}. Make sure that the API "
        "servers and this machine stay up, and run again."
    )
