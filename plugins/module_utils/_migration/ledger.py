# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The book of a run: what is proven to be persisted, how far each resource came, and saving both.

A resource counts as persisted only when all servers were seen to agree on its storage version at a
moment *after* its last object was rewritten, and none was seen to report another one since the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._convergence import Observation, hashes_by_resource
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import StorageUpgradeError, is_passing
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engine import ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Selection
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state_store import StateStore
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import ServerReport

_FAILED_KEPT = 1000


class Ledger:
    """Holds the state of the run; ``save`` may be called at any time and writes only what is new."""

    def __init__(self, store: StateStore, state: State, selection: Selection) -> None:
        self.state = state
        self._store = store
        self._saved = state
        self._selection = selection
        self._done: list[str] = []
        self._runs: dict[str, ResourceRun] = {}
        self._foreign: set[str] = set()
        self._untrimmed: dict[str, bool] = {}
        self._lock = asyncio.Lock()

    def begin(self, runs: Iterable[ResourceRun]) -> None:
        """Resources that are about to be migrated (again)."""
        for run in runs:
            self._runs[run.target.name] = run
            self._foreign.discard(run.target.name)
            if run.target.name in self._done:
                self._done.remove(run.target.name)
            self._untrimmed.pop(run.target.name, None)

    def observe(self, reports: Iterable[ServerReport]) -> None:
        """Takes down what the servers report; another hash than the run's own spoils its proof."""
        reports = list(reports)
        self.state = self.state.observe(reports)
        for name, hashes in hashes_by_resource(reports).items():
            run = self._runs.get(name)
            if run is not None and hashes != {run.target.hash}:
                self._foreign.add(name)

    def settle(self, seen: Observation, asked_at: float) -> list[str]:
        """Resources that this observation, begun at ``asked_at`` (monotonic), proves to be persisted."""
        if not seen.converged:
            return []
        proven = []
        for name, run in self._runs.items():
            served = seen.resources.get(name)
            if (
                name not in self._done
                and name not in self._foreign
                and run.complete
                and run.verified
                and (run.finished or 0.0) < asked_at
                and served is not None
                and served.hash == run.target.hash
            ):
                self.state = self.state.completed(name, run.target.hash, _now())
                self._done.append(name)
                proven.append(name)
                if run.generation is not None:
                    self._untrimmed[name] = False
        return proven

    def distrust(self, name: str) -> None:
        """Takes back a proof that etcd contradicts: the resource counts as never migrated."""
        self.state = self.state.with_resource(name, replace(self.state.of(name), persisted=()))
        if name in self._done:
            self._done.remove(name)
        self._untrimmed.pop(name, None)

    @property
    def done(self) -> list[str]:
        return list(self._done)

    def trimmed(self, name: str) -> None:
        """Nothing is left to do for this custom resource, not even at its CRD."""
        self._untrimmed.pop(name, None)

    def not_trimmed(self, name: str) -> None:
        """Its CRD could not be trimmed, so the next run that takes what is unfinished visits all of it again."""
        self._untrimmed[name] = True

    async def save(self, *, finished: bool = False, summary: dict[str, Any] | None = None) -> None:
        """Writes the state if it differs from what was written last."""
        async with self._lock:
            state = self.state
            for name, run in self._runs.items():
                known = state.of(name)
                if name not in self._done:
                    state = state.with_resource(name, replace(known, progress=_progress(run, known.persisted)))
                elif name in self._untrimmed:
                    listed = not self._untrimmed[name]
                    progress = _progress_of(run, known.persisted, token=None, listed=listed, failed=[])
                    state = state.with_resource(name, replace(known, progress=progress))
            before = self.state.last_run or {}
            last_run = {
                "selection": self._selection.as_dict(),
                "done": sorted(set(self._done) - set(self._untrimmed)),
                "finished": finished,
                # The rate last measured is kept: a run that found everything current measures none.
                **({"rate": before["rate"]} if "rate" in before else {}),
                **(summary or {}),
            }
            state = replace(state, last_run=last_run)
            if state != self._saved:
                await self._store.save(state)
                self._saved = state

    async def keep_saving(self, every: float, failed: Callable[[StorageUpgradeError], None]) -> None:
        """Saves from time to time until cancelled; a failure that won't pass is told once and ends it."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.save()
            except StorageUpgradeError as error:
                if not is_passing(error):
                    failed(error)
                    return


def _progress(run: ResourceRun, persisted: tuple[str, ...]) -> dict[str, Any] | None:
    """What the next run needs to go on from here; None if nothing was left undone."""
    listed = run.listed and run.finished is not None
    if listed and not run.failures:
        return None
    names = [[one.namespace, one.name] for one in run.failures if one.name is not None]
    few = len(names) == len(run.failures) and len(names) <= _FAILED_KEPT
    # A page with a failure counts as done, so its token would step over what failed.
    token = None if run.failures else run.token
    return _progress_of(run, persisted, token=token, listed=listed and few, failed=names if few else [])


def _progress_of(
    run: ResourceRun, persisted: tuple[str, ...], *, token: str | None, listed: bool, failed: list[Any]
) -> dict[str, Any]:
    progress: dict[str, Any] = {
        "hash": run.target.hash,
        "persisted": list(persisted),
        "token": token,
        "listed": listed,
        "failed": failed,
    }
    if run.generation is not None:
        progress["generation"] = run.generation
    return progress


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
