# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run: the passes, and the tasks beside them (guard, saving, progress, time limit, signals)."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils import _crds
from ansible_collections.kube_storage.upgrade.plugins.module_utils._cluster import Cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import (
    AlreadyRunningError,
    ApiError,
    MigrationIncompleteError,
    StateStoreError,
    StorageUpgradeError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._lease import Lease
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.account import Account
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.choice import IN_TREE, MIGRATOR
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.controllers import ControllerEngine
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.direct import DirectEngine, Settings
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engine import Control, ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines import Chosen, make_engine
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.from_etcd import EtcdTruth
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
    split_group_version,
)

_SAVE_EVERY = 5.0
_TELL_EVERY = 1.0
_COUNT_EVERY = 1.5


class Job:
    """Use ``run`` once, then ``close``; what stopped it is in ``control``."""

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
    ) -> None:
        self.control = Control()
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
        direct = DirectEngine(lanes, self._settings(seen))
        engine = make_engine(
            self._chosen, direct, server=self._cluster.entry, lanes=lanes, params=params, report=self._report
        )
        states = StorageStates(self._cluster.entry) if self._chosen.name == MIGRATOR else None
        generations = await self._crd_generations(plan)
        passes = Passes(
            engine=engine,
            guard=guard,
            lanes=lanes,
            control=self.control,
            ledger=self._ledger,
            account=self._account,
            truth=self._truth,
            generations=generations,
            report=self._report,
        )
        beside = [
            asyncio.create_task(guard.watch()),
            asyncio.create_task(self._ledger.keep_saving(_SAVE_EVERY, self._saving_failed)),
            asyncio.create_task(self._tell()),
            asyncio.create_task(self._count_ahead()),
            asyncio.create_task(self._sample()),
            asyncio.create_task(self._watch_lease()),
        ]
        try:
            with _signals(self.control), self._time_limit():
                if states is not None:
                    await states.begun(plan.targets)
                self._finished = await passes.run(list(plan.targets))
                if states is not None:
                    runs = self._account.runs
                    await states.proven(runs[name].target for name in self._ledger.done if name in runs)
                if isinstance(engine, ControllerEngine):
                    self._account.trimmed += engine.trimmed
                if self.control.stopped is None and params["trim_stored_versions"]:
                    await self._trim(generations)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def close(self) -> None:
        """Saves what is known, however the run ended."""
        total = self._account.total
        summary: dict[str, Any] = {}
        if total.rewritten and self._account.seconds:
            summary["rate"] = round(total.visited / self._account.seconds, 1)
        try:
            await self._ledger.save(finished=self._finished, summary=summary)
        except StorageUpgradeError as error:
            self.control.stop(error)

    async def _crd_generations(self, plan: Plan) -> dict[str, int]:
        """Generations of the CRDs among the targets, as they were before the first write."""
        if not any("." in target.resource.group for target in plan.targets):
            return {}
        names = {target.name for target in plan.targets}
        try:
            found = await _crds.generations(self._cluster.entry)
        except ApiError as error:
            if error.status == 403 and self._chosen.name == IN_TREE:
                return {}  # Its controller looks after CRDs by itself, so the user need not be allowed to.
            raise
        return {name: generation for name, generation in found.items() if name in names}

    async def _trim(self, generations: Mapping[str, int]) -> None:
        for name in self._ledger.done:
            run = self._account.runs.get(name)
            if run is None or name not in generations or run.target.storage_version is None:
                continue
            _group, version = split_group_version(run.target.storage_version)
            try:
                trimmed = await _crds.trim(self._cluster.entry, name, generations[name], version)
            except ApiError as error:
                if error.status == 403 and self._chosen.name == IN_TREE:
                    continue
                raise
            if trimmed is not None:
                self._account.trimmed.append(trimmed)

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
    """SIGINT, SIGTERM and SIGHUP (the end of an ssh session) stop the run in an orderly way."""
    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, Any] = {}

    def stopper(name: str) -> Callable[[], None]:
        return lambda: control.stop(
            MigrationIncompleteError(f"Interrupted by {name}; run again: it goes on from here.")
        )

    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
            handler = signal.getsignal(one)
            loop.add_signal_handler(one, stopper(one.name))
            before[one] = handler
    try:
        yield
    finally:
        for one, handler in before.items():
            loop.remove_signal_handler(one)
            signal.signal(one, handler)
