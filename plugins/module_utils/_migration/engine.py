# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contract between an engine and what is around it.

An engine rewrites the objects of some resources and writes down what became of each. It never
decides whether it may run: that is the Control's to say, which the guard moves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import Failure, Tally
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey, Target

T = TypeVar("T")

_SAMPLE = 5


@dataclass
class ResourceRun:
    """The migration of one resource.

    ``token`` is the continue token behind the last page of which every object is accounted for.
    ``total`` is an estimate (the list's remainingItemCount). ``gone``: the resource was removed meanwhile.
    ``reported``: objects that a controller says it has done; ``why_engine``: why another engine than the one
    asked for did it.
    ``generation``: for a custom resource whose CRD is to be trimmed, the edit of the CRD that this began with.
    ``verified``: whether writes are known to be in the version that discovery tells.
    """

    target: Target
    engine: str
    tally: Tally = field(default_factory=Tally)
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
    generation: int | None = None
    verified: bool = True

    @property
    def complete(self) -> bool:
        """Whether every object was visited without a failure."""
        return self.finished is not None and self.listed and not self.failures and not self.gone

    @property
    def done(self) -> int:
        """Objects done so far, counted or told by a controller."""
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
    """Lets writers write, holds them, or stops them for good. ``begun``: there are writers."""

    def __init__(self) -> None:
        self.begun = False
        self.stopped: StorageUpgradeError | None = None
        self.changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._held = False

    @property
    def writable(self) -> bool:
        return not self._held and self.stopped is None

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

    async def migrate(self, runs: list[ResourceRun], control: Control) -> None: ...
