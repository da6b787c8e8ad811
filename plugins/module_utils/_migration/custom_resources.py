# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The CRDs behind a run, read before its lists and after them. For its list to count, a resource may have to wait (settling.py)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    MigrationIncompleteError,
    StorageUpgradeError,
    is_passing,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import duration, some_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.crds import (
    look_at_crds,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.context import RunContext
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.result import Wait
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.settling import Settling, sightings
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.crd_identity import NO_CRDS, CrdLook

# An operator may edit its CRD while we wait; we give up on one that never stops.
_ROUNDS = 3
_ASK_AGAIN_AFTER, _ASK_AGAIN_FOR = 2.0, 30.0
_LOOK_AGAIN_AFTER = (1.0, 3.0)


class CustomResources:
    """What is known about the CRDs of a run, and how long their lists must wait."""

    def __init__(self, context: RunContext) -> None:
        self._cluster = context.cluster
        self._settling = Settling(context.options.request_timeout)
        self._control = context.control
        self._checkpoint = context.checkpoint
        self._result = context.result
        self._trims = context.options.trim_stored_versions
        self._controller_trims = context.chosen.trims_by_itself
        self._deadline = context.deadline
        self._report = context.report
        self._seen: CrdLook = NO_CRDS

    async def look(self, targets: Collection[Target]) -> None:
        """Reads the CRDs of these, and checks that every API server has their current state. Raises ApiError."""
        candidates = {target.name: target.hash for target in targets if "." in target.resource.group}
        if not candidates:
            return
        servers = (await self._cluster.servers()).servers
        seen = await look_at_crds(self._cluster.entry, servers, candidates)
        if not replace(self._result.agreement, expectation=self._cluster.expectation).converged:
            seen = replace(seen, everywhere=False)  # A server may be missing among those that were asked.
        self._seen = seen
        self._settling.take(seen, candidates, self._checkpoint.state)
        self._checkpoint.sighted(sightings(seen, candidates))

    def begin(self, target: Target, engine: str) -> ResourceRun:
        """The run of a target. It repeats what an earlier run did to another CRD, before an edit, or too early."""
        resource = target.resource
        if not self._seen.is_custom(target.name, resource.group, resource.kind):
            return ResourceRun(target, engine)
        run = ResourceRun(target, engine, custom=True, verified=False, settled=False, confirmed=False)
        self._bind(run)
        return run

    def _bind(self, run: ResourceRun) -> None:
        """Binds the run to the CRD as it was last seen; nothing was listed yet."""
        name, target = run.target.name, run.target
        run.crd = self._seen.identity(name)
        run.trims = self._trims and run.crd is not None
        if target.resumed and not (target.settled and run.crd is not None and target.crd == run.crd):
            run.target = replace(target, objects=None, token=None, resumed=False)
        left = self._left(run)
        run.settled = run.crd is not None and left == 0.0
        if self._seen.facts is None:
            run.doubt = f"CRDs can't be read: {self._seen.refused}"
        elif run.crd is None:
            run.doubt = "its CRD was gone"
        elif left is None:
            run.doubt = "not every API server could be asked whether it has the current CRD"
        elif not run.settled:
            run.doubt = "it kept being edited while its list waited; run again when nobody edits it"
        else:
            run.doubt = None

    def _left(self, run: ResourceRun) -> float | None:
        return self._settling.left(run.target.name, run.target.hash, time.monotonic())

    def may_begin(self, run: ResourceRun) -> bool:
        """Whether there is nothing to wait for: it isn't a custom resource, it is settled, or its list can't count anyway."""
        if run.settled:
            return True
        return self._seen.facts is None and not self._controller_trims

    async def wait(self, runs: Sequence[ResourceRun]) -> None:
        """Waits until the lists of these may begin, or gives up; each run's ``settled`` says which."""
        asked_since = time.monotonic()
        rounds = 0
        while True:
            left = [self._left(run) for run in runs]
            longest = max((seconds for seconds in left if seconds is not None), default=0.0)
            if longest > 0:
                if rounds == _ROUNDS:
                    return
                rounds += 1
                await self._sit_out(runs, longest)
            elif None in left:
                if time.monotonic() - asked_since > _ASK_AGAIN_FOR:
                    return
                await self._sleep(_ASK_AGAIN_AFTER)
            if self._control.stopped is not None:
                return
            await self.look([run.target for run in runs])
            for run in runs:
                self._bind(run)
            if all(self._left(run) == 0.0 for run in runs):
                return

    async def _sit_out(self, runs: Sequence[ResourceRun], seconds: float) -> None:
        names = [run.target.name for run in runs]
        what = some_of(names)
        if self._deadline is not None and time.monotonic() + seconds > self._deadline:
            self._control.stop(
                MigrationIncompleteError(
                    f"Stopped: a write that began before the last edit of the CRD may still be stored in the old version of "
                    f"{what} for another {duration(seconds)}, which is longer than the option timeout allows. Its CRD was not "
                    "trimmed. Run again to resume."
                )
            )
            return
        self._result.wait = Wait(time.monotonic() + seconds, what)
        self._report(
            Event(
                "waiting",
                f"Waiting {duration(seconds)} before {what} can be listed: until then a write that began before the last "
                "edit of the CRD may still be stored in the old version (see request_timeout).",
                {"resources": names, "seconds_left": round(seconds, 1)},
            )
        )
        await self._sleep(seconds)
        self._result.wait = None

    async def _sleep(self, seconds: float) -> None:
        """Sleeps, but no longer than until the run is stopped."""
        try:
            await self._control.unless_stopped(asyncio.sleep(seconds))
        except StorageUpgradeError:
            return

    async def confirm(self, runs: Collection[ResourceRun]) -> None:
        """Checks that each CRD is still the same edit of the same CRD as when the list began. Raises StorageUpgradeError."""
        for wait in (*_LOOK_AGAIN_AFTER, None):
            try:
                await self.look([run.target for run in runs])
                break
            except StorageUpgradeError as error:
                if wait is None or not is_passing(error):
                    raise
                await asyncio.sleep(wait)
        for run in runs:
            facts = self._seen.of(run.target.name)
            if run.custom:
                run.confirmed = facts is not None and not facts.deleting and facts.identity == run.crd
                if run.crd is not None and not run.confirmed:
                    run.doubt = "its CRD is being deleted, or is gone"

    def moved(self, run: ResourceRun) -> str | None:
        """Why the last observation makes another visit necessary; None if it doesn't."""
        facts = self._seen.of(run.target.name)
        if facts is None or facts.deleting:
            return None  # Nothing is claimed about it, and nothing can be done about it.
        if facts.identity != run.crd:
            is_new = run.crd is None or run.crd.uid != facts.identity.uid
            return "was recreated" if is_new else "was edited"
        if run.complete and not run.settled and self._left(run) is not None:
            return "was edited"
        return None
