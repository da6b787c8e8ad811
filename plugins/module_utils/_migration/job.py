# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run: the passes, and what goes on beside them (guard, saving, progress, the Lease, the time limit)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils import _crds
from ansible_collections.kube_storage.upgrade.plugins.module_utils._cluster import Cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import (
    AlreadyRunningError,
    ApiError,
    MigrationIncompleteError,
    StateStoreError,
    StorageUpgradeError,
    is_passing,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Event, Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._lease import Lease
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.account import Account
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.choice import IN_TREE, MIGRATOR
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.controllers import ControllerEngine
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.direct import DirectEngine, Settings
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engine import Control, ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines import Chosen, make_engine
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.guard import Guard
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.kube_storage_version_migrator import (
    StorageStates,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.lanes import Lanes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.ledger import Ledger
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.passes import Passes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Plan
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.preview import count_objects
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.progress import done_of, progress_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._progress import Speed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import (
    group_version,
)

if TYPE_CHECKING:
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.from_etcd import EtcdTruth

_SAVE_EVERY = 5.0
_TELL_EVERY = 1.0
_COUNT_EVERY = 1.5
_SAVE_AGAIN_AFTER = (1.0, 3.0, 10.0)
_TRIMMED_AT_ONCE = 8


class Job:
    """Use ``run`` once, then ``close``; what stopped it is in the control."""

    def __init__(
        self,
        cluster: Cluster,
        params: Mapping[str, Any],
        chosen: Chosen,
        ledger: Ledger,
        lease: Lease,
        report: Report,
        account: Account,
        truth: EtcdTruth | None,
        control: Control,
    ) -> None:
        self.control = control
        self._truth = truth
        self._cluster = cluster
        self._params = params
        self._chosen = chosen
        self._ledger = ledger
        self._lease = lease
        self._report = report
        self._account = account
        self._finished = False

    async def run(self, seen: Observation, plan: Plan) -> None:
        """Ends when all is done that can be done, or the control says stop."""
        required = self._params["require_convergence"]
        lanes = Lanes(self._cluster.writers(seen), self._params["workers"])
        guard = Guard(self._cluster, lanes, self.control, self._ledger, required=required, report=self._report)
        guard.start(seen)
        direct = DirectEngine(lanes, self._settings(seen))
        engine = make_engine(
            self._chosen, direct, server=self._cluster.entry, lanes=lanes, params=self._params, report=self._report
        )
        states = StorageStates(self._cluster.entry) if self._chosen.name == MIGRATOR else None
        passes = Passes(
            engine=engine,
            guard=guard,
            lanes=lanes,
            control=self.control,
            ledger=self._ledger,
            account=self._account,
            truth=self._truth,
            generations=await self._crd_generations(plan),
            report=self._report,
        )
        async with self._beside(
            guard.watch(),
            self._ledger.keep_saving(_SAVE_EVERY, self.control.stop),
            self._tell(),
            self._count_ahead(),
            self._sample(),
            self._watch_lease(),
        ):
            with self._time_limit():
                try:
                    if states is not None:
                        await states.begun(plan.targets)
                    self._finished = await passes.run(list(plan.targets))
                    if states is not None:
                        runs = self._account.runs
                        await states.proven(runs[name].target for name in self._ledger.done if name in runs)
                    if isinstance(engine, ControllerEngine):
                        self._account.trimmed += engine.trimmed
                    if self.control.stopped is None:
                        await self._trim()
                except StorageUpgradeError as error:
                    self.control.stop(error)

    async def close(self) -> None:
        """Saves what is known, however the run ended."""
        total = self._account.total
        summary: dict[str, Any] = {}
        if total.rewritten and self._account.seconds:
            summary["rate"] = round(total.visited / self._account.seconds, 1)
        for wait in (*_SAVE_AGAIN_AFTER, None):
            try:
                await self._ledger.save(finished=self._finished, summary=summary)
            except StorageUpgradeError as error:
                if wait is not None and is_passing(error):
                    await asyncio.sleep(wait)
                    continue
                self.control.stop(
                    StateStoreError(
                        f"What the run did could not be recorded: {error.message} Run again; "
                        "what is current already costs one request for each object."
                    )
                )
            return

    @asynccontextmanager
    async def _beside(self, *works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        """Runs them beside the block until it ends. If one breaks, the run must not go on without it."""

        async def guarded(work: Coroutine[Any, Any, None]) -> None:
            try:
                await work
            except Exception:
                self.control.stop(MigrationIncompleteError("Stopped by an error of this program."))
                raise

        tasks = [asyncio.create_task(guarded(work)) for work in works]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        broken = [one for one in ended if isinstance(one, Exception)]
        if broken:
            raise broken[0]

    async def _crd_generations(self, plan: Plan) -> dict[str, int] | None:
        """Generations of the CRDs that are to be trimmed, as they were before the first write."""
        custom = {target.name for target in plan.targets if "." in target.resource.group}
        if not self._params["trim_stored_versions"]:
            return None
        if not custom:
            return {}
        try:
            found = await _crds.generations(self._cluster.entry)
        except ApiError as error:
            if error.status == 403 and self._chosen.name == IN_TREE:
                return {}  # Its controller looks after CRDs by itself, so the user need not be allowed to.
            raise
        return {name: generation for name, generation in found.items() if name in custom}

    async def _trim(self) -> None:
        """Trims the CRDs of which every object is proven to be stored in the present version."""
        slots = asyncio.Semaphore(_TRIMMED_AT_ONCE)

        async def one(run: ResourceRun) -> None:
            name = run.target.name
            async with slots:
                done = await _crds.trim(self._cluster.entry, name, run.generation, run.target.hash)
            if isinstance(done, _crds.Untrimmed) and not (done.status == 403 and self._chosen.name == IN_TREE):
                self._ledger.not_trimmed(name)
                self._account.untrimmed.append(done)
                self._report(Event("notice", f"The CRD {name} was not trimmed: {done.reason}.", {}))
                return
            self._ledger.trimmed(name)
            if isinstance(done, _crds.Trimmed):
                self._account.trimmed.append(done)

        runs = [self._account.runs[name] for name in self._ledger.done if name in self._account.runs]
        await asyncio.gather(*(one(run) for run in runs if run.generation is not None))
        self._account.trimmed.sort(key=lambda one: one.crd)

    def _settings(self, seen: Observation) -> Settings:
        params = self._params
        served: dict[str, set[str]] = {}
        for one in seen.reports:
            for name, resource in one.resources.items():
                versions = {group_version(resource.group, version) for version in resource.versions}
                served.setdefault(name, set()).update(versions)
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
        speed = Speed()
        speed.at(started, 0)
        while True:
            await asyncio.sleep(_TELL_EVERY)
            now = time.monotonic()
            self._report(progress_of(self._account, speed.at(now, done_of(self._account))))

    async def _count_ahead(self) -> None:
        """A run that lasts is worth a question for the numbers that no list told yet."""
        while True:
            await asyncio.sleep(_COUNT_EVERY)
            await asyncio.gather(*(self._count(run) for run in self._account.runs.values() if run.total is None))

    async def _count(self, run: ResourceRun) -> None:
        number = await count_objects(self._cluster, run.target)
        if run.total is None:
            run.total = number or 0

    async def _sample(self) -> None:
        """Keeps the history, at the pace that its size allows."""
        started = time.monotonic()
        try:
            while True:
                await asyncio.sleep(self._account.history.every)
                self._account.sample(time.monotonic() - started)
        finally:
            self._account.sample(time.monotonic() - started)

    async def _watch_lease(self) -> None:
        while not self._lease.lost:
            await asyncio.sleep(1.0)
        self.control.stop(
            AlreadyRunningError("Stopped: another run took over the Lease. Wait until it ends; it goes on from here.")
        )

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
