# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checkpoint of a run: what is proven to be persisted, the progress of each resource, and saving both.

A resource counts as persisted only when all servers were seen to agree on its storage version at a
moment *after* its last object was rewritten, and none was seen to report another one since the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    StateConflictError,
    StorageUpgradeError,
    is_passing,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import seconds_text, utc_now
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.choice import DIRECT
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Selection, managers_as_dict
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import KnownCrd, State, merged
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import StateStore, written_by_others
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import (
    Observation,
    hashes_by_resource,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServerReport
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.processes import Processes

_FAILED_KEPT = 1000
_SAVE_TRIES = 5


class Checkpoint:
    """Owns the state that is saved; ``save`` may be called at any time and writes only what is new.

    ``state``: what is known so far, from earlier runs and this one.
    ``runs``: the result's runs by resource; only read here.
    ``saved``: what the store holds, if that is not ``state``.
    ``may_save``: awaited before each write; raises if the state now belongs to another run.
    ``processes``: the API servers' processes at the last observation; None before the first.
    """

    def __init__(
        self,
        store: StateStore,
        state: State,
        selection: Selection,
        runs: Mapping[str, ResourceRun],
        *,
        saved: State | None = None,
        may_save: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.state = state
        self.selection = selection
        self.processes: Processes | None = None
        self._store = store
        self._saved = state if saved is None else saved
        self._may_save = may_save
        self._runs = runs
        self._done: list[str] = []
        # Resources for which a server reported another hash than their run's, so that nothing proves them.
        self._foreign: set[str] = set()
        self._reported: dict[str, set[str]] = {}
        # Proven resources whose CRD is not trimmed: whether trimming was tried.
        self._untrimmed: dict[str, bool] = {}
        self._in_doubt: dict[str, str] = {}
        self._doubts: list[str] = []
        self._lock = asyncio.Lock()

    def begin(self, names: Iterable[str]) -> None:
        """These resources are about to be migrated (again), so that nothing is proven of them."""
        for name in names:
            self._foreign.discard(name)
            run, reported = self._runs.get(name), self._reported.get(name)
            if run is not None and reported is not None and reported != {run.target.hash}:
                self._foreign.add(name)
            if name in self._done:
                self._done.remove(name)
            self._untrimmed.pop(name, None)
            self._in_doubt.pop(name, None)

    def observe(self, reports: Iterable[ServerReport]) -> None:
        """Notes what the servers report; a hash other than the one at the beginning of a run invalidates its proof."""
        reports = list(reports)
        self.state = self.state.observe(reports)
        self._reported = hashes_by_resource(reports)
        for name, hashes in self._reported.items():
            run = self._runs.get(name)
            if run is not None and hashes != {run.target.hash}:
                self._foreign.add(name)

    def sighted(self, crds: Mapping[str, KnownCrd]) -> None:
        """Notes which CRDs every API server was seen to have."""
        self.state = self.state.sighted(crds)

    def mark_persisted(self, seen: Observation, asked_at: float) -> list[str]:
        """Marks, and returns, the resources that this observation proves to be persisted.

        ``asked_at``: when the observation began, in seconds of time.monotonic().
        """
        if not seen.counts:
            return []
        proven = []
        for name, run in self._runs.items():
            served = seen.resources.get(name)
            if (
                name not in self._done
                and name not in self._foreign
                and name not in self._in_doubt
                and run.proven
                and (run.finished or 0.0) < asked_at
                and served is not None
                and served.hash == run.target.hash
            ):
                self.state = self.state.completed(name, run.target.hash, seconds_text(utc_now()), run.crd)
                self._done.append(name)
                proven.append(name)
                if run.trims:
                    self._untrimmed[name] = False
        return proven

    def revoke(self, name: str) -> None:
        """Withdraws a proof that etcd contradicts: the resource counts as never migrated."""
        self.state = self.state.with_resource(name, replace(self.state.of(name), persisted=()))
        if name in self._done:
            self._done.remove(name)
        self._untrimmed.pop(name, None)

    def doubt(self, why: str) -> None:
        """Withdraws everything done so far, by this run or by one that it resumes.

        An API server that nobody saw may have written in another version in the meantime.
        """
        self.state = self.state.doubted(why)
        self._doubts.append(why)
        for name, run in self._runs.items():
            # A controller's work is only noticed some time after it began. What names single objects was found before.
            found_before = run.target.resumed or run.target.objects is not None
            if run.started is not None or found_before or run.engine != DIRECT:
                self._in_doubt[name] = why
                if name in self._done:
                    self.revoke(name)

    def is_foreign(self, name: str) -> bool:
        """Whether a server reported another hash since its present run began, or just before."""
        return name in self._foreign

    @property
    def in_doubt(self) -> dict[str, str]:
        """Resources to visit again, and why."""
        return dict(self._in_doubt)

    @property
    def doubts(self) -> list[str]:
        """Each time that an unseen API server may have written since the run began: why, whatever was visited since."""
        return list(self._doubts)

    @property
    def done(self) -> list[str]:
        return list(self._done)

    def trimmed(self, name: str) -> None:
        """Nothing remains to be done for this custom resource; its CRD is trimmed, too."""
        self._untrimmed.pop(name, None)

    def not_trimmed(self, name: str) -> None:
        """Its CRD could not be trimmed, so the next run with select: changed visits all of it again."""
        self._untrimmed[name] = True

    async def save(self, *, finished: bool = False, summary: dict[str, Any] | None = None) -> None:
        """Writes the state if it differs from the last one written; others' writes are kept."""
        async with self._lock:
            for _try in range(_SAVE_TRIES):
                state = self._to_save(finished, summary)
                if state == self._saved:
                    return
                if self._may_save is not None:
                    await self._may_save()
                try:
                    await self._store.save(state)
                    self._saved = state
                    return
                except StateConflictError:
                    theirs = await self._store.load()
                    self.state = merged(self.state, theirs, self._saved, self._done, self._runs)
                    self._saved = theirs
            raise StateConflictError(written_by_others(self._store.where))

    def _to_save(self, finished: bool, summary: dict[str, Any] | None) -> State:
        state, managed = self.state, self.selection.managed_fields
        for name, run in self._runs.items():
            known = state.of(name)
            if name in self._in_doubt:
                state = state.with_resource(name, replace(known, progress={"doubt": self._in_doubt[name]}))
            elif name not in self._done:
                progress = _progress(run, known.persisted, foreign=name in self._foreign, managed_fields=managed)
                state = state.with_resource(name, replace(known, progress=progress))
            elif name in self._untrimmed:
                listed = not self._untrimmed[name]
                progress = _progress_of(
                    run, known.persisted, token=None, listed=listed, failed=[], managed_fields=managed
                )
                state = state.with_resource(name, replace(known, progress=progress))
        before = self.state.last_run or {}
        last_run = {
            "selection": self.selection.as_dict(),
            "done": sorted(set(self._done) - set(self._untrimmed)),
            "finished": finished,
            # Keep the last measured rate: a run that found everything current measures none.
            **({"rate": before["rate"]} if "rate" in before else {}),
            **(summary or {}),
        }
        processes = state.processes if self.processes is None else self.processes.as_dict()
        return replace(state, last_run=last_run, processes=processes)

    async def keep_saving(self, every: float, failed: Callable[[StorageUpgradeError], None]) -> None:
        """Saves at intervals until canceled; a permanent error is reported once and ends it."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.save()
            except StorageUpgradeError as error:
                if not is_passing(error):
                    failed(error)
                    return


def _progress(
    run: ResourceRun, persisted: tuple[str, ...], *, foreign: bool, managed_fields: str
) -> dict[str, Any] | None:
    """What the next run needs to resume from here; None if everything was done.

    ``foreign``: an API server reported another storage version meanwhile, so what was visited until then proves nothing.
    """
    if run.complete and run.etcd_agrees:
        return None
    names = [[failure.namespace, failure.name] for failure in run.failures if failure.name is not None]
    few = len(names) == len(run.failures) and len(names) <= _FAILED_KEPT
    listed = run.listed and run.finished is not None and run.unproven is None and run.etcd_agrees
    void = run.gone or foreign
    # A page with a failure counts as done, so its token would skip the failed objects.
    token = None if run.failures or void else run.token
    return _progress_of(
        run,
        persisted,
        token=token,
        listed=listed and few and not void,
        failed=names if few else [],
        managed_fields=managed_fields,
    )


def _progress_of(
    run: ResourceRun,
    persisted: tuple[str, ...],
    *,
    token: str | None,
    listed: bool,
    failed: list[Any],
    managed_fields: str,
) -> dict[str, Any]:
    progress: dict[str, Any] = {
        "hash": run.target.hash,
        "persisted": list(persisted),
        "token": token,
        "listed": listed,
        "failed": failed,
        **managers_as_dict(managed_fields),
    }
    if run.crd is not None:
        progress.update(run.crd.as_dict(), settled=run.settled)
    return progress
