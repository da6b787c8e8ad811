# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The passes of a run: rewrite everything, look at all servers again, redo what that look made necessary."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ansible_collections.kube_storage.upgrade.plugins.module_utils._convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import (
    EtcdError,
    MigrationIncompleteError,
    NotConvergedError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Event, Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.account import Account
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engine import Control, Engine, ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.guard import Guard
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.lanes import Lanes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.ledger import Ledger
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import Tally
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Selection, Target, make_plan
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.verify import stored_as_served

if TYPE_CHECKING:
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.from_etcd import EtcdTruth

_PASSES = 3
_VERIFIED_AT_ONCE = 8


class Passes:
    """``generations``: the CRDs among the targets, and which edit of each the run began with; None: not asked."""

    def __init__(
        self,
        *,
        engine: Engine,
        guard: Guard,
        lanes: Lanes,
        control: Control,
        ledger: Ledger,
        account: Account,
        truth: EtcdTruth | None,
        generations: Mapping[str, int] | None,
        report: Report,
    ) -> None:
        self._engine = engine
        self._guard = guard
        self._lanes = lanes
        self._control = control
        self._ledger = ledger
        self._account = account
        self._truth = truth
        self._generations = generations
        self._report = report

    async def run(self, targets: list[Target]) -> bool:
        """Migrates, and again what a change in the meantime made necessary; whether nothing is left to redo."""
        for last in [False] * (_PASSES - 1) + [True]:
            runs = [self._begun(target) for target in targets]
            if self._truth is not None:
                for run in runs:
                    run.tally.rewritten += self._truth.rewritten.pop(run.target.name, 0)
            self._add(runs)
            self._ledger.begin(runs)
            await self._engine.migrate(runs, self._control)
            if self._control.stopped is not None:
                return False
            asked_at = time.monotonic()
            try:
                seen = await self._control.unless_stopped(self._guard.prove_the_end())
            except NotConvergedError as error:
                self._control.stop(
                    NotConvergedError(
                        "Everything was visited, but it does not count as migrated: " + error.message, error.result
                    )
                )
                return False
            self._account.agreement = seen
            await self._verify()
            targets = self._to_redo(seen)
            self._ledger.settle(seen, asked_at)
            if not targets and self._truth is not None:
                targets = await self._left_in_etcd(self._truth, seen, last)
                if self._control.stopped is not None:
                    return False
            if not targets:
                return True
            if last:
                names = ", ".join(target.name for target in targets)
                self._control.stop(
                    NotConvergedError(
                        f"The storage version of {names} kept changing during {_PASSES} passes; "
                        "wait until nobody edits these CRDs and run again."
                    )
                )
                return False
            self._report(Event("notice", f"Once more: {', '.join(target.name for target in targets)}.", {}))
        return False

    def _begun(self, target: Target) -> ResourceRun:
        if self._generations is None:
            return ResourceRun(target, self._engine.name, verified="." not in target.resource.group)
        generation = self._generations.get(target.name)
        if generation is None:
            return ResourceRun(target, self._engine.name)
        if target.resumed and target.generation != generation:
            # What an earlier run did before that edit of the CRD proves nothing any more.
            target = replace(target, objects=None, token=None, resumed=False)
        return ResourceRun(target, self._engine.name, generation=generation, verified=False)

    def _to_redo(self, seen: Observation) -> list[Target]:
        """Resources whose storage version changed during their pass, or whose writes came after their hash."""
        redo = []
        for run in self._account.runs.values():
            served = seen.resources.get(run.target.name)
            if served is None or served.hash is None or run.gone:
                continue
            if served.hash != run.target.hash:
                redo.append(self._anew(run, seen))
            elif run.complete and not run.verified:
                redo.append(self._anew(run, seen))
        return redo

    async def _verify(self) -> None:
        """Makes sure of the custom resources whose storage version may have changed just before their pass."""
        slots = asyncio.Semaphore(_VERIFIED_AT_ONCE)

        async def verify(run: ResourceRun) -> None:
            if self._ledger.state.of(run.target.name).persisted == (run.target.hash,) and not run.tally.rewritten:
                run.verified = True
                return
            async with slots:
                run.verified = await stored_as_served(run, self._lanes)

        await asyncio.gather(*(verify(run) for run in self._account.runs.values() if run.complete and not run.verified))

    async def _left_in_etcd(self, truth: EtcdTruth, seen: Observation, last: bool) -> list[Target]:
        """What etcd still holds in an old form, but for objects that failed: those are told as failures."""
        self._report(Event("notice", "All was visited; reading etcd once more for the proof."))
        try:
            left = self._account.left = await truth.left()
        except EtcdError as error:
            self._control.stop(
                EtcdError(f"Everything was visited, but etcd could not be read for the proof: {error.message}")
            )
            return []
        redo = []
        for name, run in self._account.runs.items():
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
            self._control.stop(
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

    def _add(self, runs: Sequence[ResourceRun]) -> None:
        for run in runs:
            before = self._account.runs.get(run.target.name)
            if before is not None:
                tally = self._account.earlier.setdefault(run.target.name, Tally())
                tally.add(replace(before.tally, failed=0))
                run.started = before.started
            self._account.runs[run.target.name] = run
