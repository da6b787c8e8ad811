# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contract between an engine and its surroundings.

An engine rewrites the objects of some resources and reports the outcome of every object to the resource's run; only the
run counts. An engine never decides whether it may run: the Control does, which the guard sets.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.crds import Trimmed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import (
    Failure,
    Outcome,
    OutcomeCounts,
    Verdict,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey, Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.visits import Visits
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.crd_identity import CrdIdentity

T = TypeVar("T")

_SAMPLE = 5


@dataclass
class ResourceRun:
    """The migration of one resource.

    ``token`` is the continue token after the last page whose objects are all accounted for.
    ``total`` is an estimate (the list's remainingItemCount).
    ``gone``: a list or patch found that the resource is not served, so nothing is claimed about it: neither that objects
    were deleted nor that they are persisted. If it is served again at the end of a pass, it is visited again.
    ``visits``: the outcome of each object in this and earlier passes. ``failed_before``: the failures of the pass before.
    ``reported``: objects that a controller reports as done; ``why_engine``: why an engine other than the requested
    one did it.
    ``custom``: a CRD defines it; ``crd``: which one, and which edit of it, this began with (None if unknown).
    ``trims``: that CRD is to be trimmed at the end.
    ``verified``: whether writes are known to be in the version that discovery reports.
    ``unproven``: why it does not count as migrated although it was reported as done; None if it does.
    ``settled``: whether all writes in an older version must have ended when its list began.
    ``confirmed``: whether a check after the last object found the same CRD.
    ``etcd_agrees``: etcd, if it is read, was read after the last object and holds nothing stale of it but what failed.
    ``doubt``: why it does not count as persisted although every object was visited.
    """

    target: Target
    engine: str
    tally: OutcomeCounts = field(default_factory=OutcomeCounts)
    failures: list[Failure] = field(default_factory=list)
    token: str | None = None
    listed: bool = False
    total: int | None = None
    gone: bool = False
    started: float | None = None
    finished: float | None = None
    sample: list[ObjectKey] = field(default_factory=list)
    reported: int | None = None
    why_engine: str | None = None
    custom: bool = False
    crd: CrdIdentity | None = None
    trims: bool = False
    verified: bool = True
    settled: bool = True
    confirmed: bool = True
    etcd_agrees: bool = True
    doubt: str | None = None
    unproven: str | None = None
    visits: Visits = field(default_factory=Visits)
    failed_before: list[Failure] = field(default_factory=list)

    @property
    def known_failures(self) -> list[Failure]:
        """All failures; as long as this pass is not over, also those of the pass before that it has not settled yet."""
        if self.finished is not None:
            return self.failures
        known = {(failure.namespace, failure.name) for failure in self.failures}
        left = [failure for failure in self.failed_before if (failure.namespace, failure.name) not in known]
        return self.failures + [
            failure
            for failure in left
            if failure.name is None or self.visits.has_failed(failure.namespace, failure.name)
        ]

    @property
    def proven(self) -> bool:
        """Whether all that remains to be shown is that all API servers agree."""
        return self.complete and self.verified and self.settled and self.confirmed and self.etcd_agrees

    def record(self, key: ObjectKey, outcome: Outcome) -> None:
        """The final outcome of an object; one that would have to be tried again counts as failed."""
        verdict = outcome.verdict
        if verdict in (Verdict.FAILED, Verdict.RETRY):
            self.fail(key, outcome)
            return
        self.count(key, verdict)
        if verdict is Verdict.REWRITTEN:
            self.tally.moved += outcome.moved
            self.tally.pruned += outcome.pruned
        if verdict is not Verdict.DELETED:
            self.remember(key)

    def fail(self, key: ObjectKey | None, outcome: Outcome) -> None:
        """An object could not be rewritten; without a ``key``, the resource could not be listed."""
        if key is not None:
            self.count(key, Verdict.FAILED)
        namespace, name = (None, None) if key is None else (key.namespace, key.name)
        self.failures.append(
            Failure(self.target.name, namespace, name, outcome.status, outcome.reason, outcome.message)
        )

    def lose_count(self) -> None:
        """Somebody else wrote objects, and their number is unknown."""
        self.tally.unknown = 1

    def take_over(self, visit: ResourceRun) -> None:
        """Recounts objects that were counted and then visited, by the result of the visit; a rewrite stays one."""
        for key in visit.target.objects or ():
            verdict = visit.visits.of(key)
            rewritten = self.visits.of(key) is Verdict.REWRITTEN
            if verdict is not None and (not rewritten or verdict is Verdict.FAILED):
                self.recount(key, verdict)
        self.failures += visit.failures
        self.finished = time.monotonic()
        self.gone = self.gone or visit.gone

    def recount(self, key: ObjectKey, verdict: Verdict) -> None:
        """Counts an object by what is known now, instead of its last verdict in this run, or in addition if it has none."""
        known = self.visits.of(key)
        if known is verdict:
            return
        if known is not None:
            self.tally.count(known, -1)
        self.tally.count(verdict)
        self.visits.replace(key, verdict)

    def count(self, key: ObjectKey, verdict: Verdict) -> None:
        """Counts every object that is accounted for by name."""
        self.tally.count(verdict)
        self.visits.note(key, verdict)

    def goes_on_from(self, before: ResourceRun) -> None:
        """Keeps from an earlier pass which objects were visited, and the failures that this pass doesn't try again.

        A list that failed is tried again only by another list, not by visits of single objects.
        """
        self.started = before.started
        self.visits = before.visits
        self.visits.again()
        self.failed_before = before.known_failures
        if self.target.objects is None:
            return
        now = {(key.namespace, key.name) for key in self.target.objects}
        left = [failure for failure in before.failures if (failure.namespace, failure.name) not in now]
        self.failures += left
        self.tally.failed += sum(1 for failure in left if failure.name is not None)

    @property
    def complete(self) -> bool:
        """Whether every object was visited without a failure."""
        done = self.finished is not None and self.listed and not self.failures and not self.gone
        return done and self.unproven is None

    @property
    def done(self) -> int:
        """Objects done so far, counted here or reported by a controller."""
        return max(self.tally.visited, self.reported or 0)

    @property
    def seconds(self) -> float:
        if self.started is None:
            return 0.0
        return (self.finished or time.monotonic()) - self.started

    def remember(self, key: ObjectKey) -> None:
        """Keeps a few objects, to verify later that writes really are in the new version."""
        if len(self.sample) < _SAMPLE:
            self.sample.append(key)


class Control:
    """Lets writers write, holds them, or stops them permanently. ``begun``: there are writers.

    ``permits``: further conditions, such as the Lease. They depend on elapsed time, so a writer checks
    ``writable`` right before each write.
    """

    def __init__(self) -> None:
        self.begun = False
        self.stopped: StorageUpgradeError | None = None
        self.changed = asyncio.Event()
        self.permits: list[Callable[[], bool]] = []
        self._ended = asyncio.Event()
        self._held = False

    @property
    def writable(self) -> bool:
        return not self._held and self.stopped is None and all(permit() for permit in self.permits)

    def hold(self) -> None:
        self._held = True

    def release(self) -> None:
        if self._held:
            self._held = False
            self.changed.set()

    def stop(self, why: StorageUpgradeError) -> None:
        """The first reason counts."""
        if self.stopped is None:
            self.stopped = why
            self.changed.set()
            self._ended.set()

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """The work's result; raises the reason to stop as soon as there is one."""
        task, ended = asyncio.ensure_future(work), asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
            if self.stopped is not None:
                raise self.stopped
            return task.result()
        finally:
            ended.cancel()
            task.cancel()
            await asyncio.gather(task, ended, return_exceptions=True)


class Engine(Protocol):
    """Works on the runs until each is finished or the control says stop."""

    @property
    def name(self) -> str: ...

    async def begin(self, targets: Sequence[Target]) -> None:
        """Called once, before the first pass over these."""

    async def migrate(self, runs: list[ResourceRun], control: Control) -> None: ...

    async def end(self, proven: Sequence[Target]) -> list[Trimmed]:
        """Called once, after the last pass, with what is proven; returns the CRDs that the engine itself trimmed."""
