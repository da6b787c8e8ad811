# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The background tasks of a run: saving, progress, counting ahead, the history, the Lease, etcd's space, the time limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    AlreadyRunningError,
    MigrationIncompleteError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.gathering import gather_limited
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import (
    Speed,
    duration,
    progress_event,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.space import Decision
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.context import RunContext
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import Control, ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.guard import Guard
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.preview import (
    COUNTED_AT_ONCE,
    count_objects,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.result import MigrationResult

_SAVE_EVERY = 5.0
_TELL_EVERY = 1.0
_COUNT_EVERY = 1.5
_LOOK_AT_LEASE_EVERY = 0.5
_NO_LEASE_FOR = 180.0
_IS_ANYTHING_TO_WRITE_EVERY = 0.5


@asynccontextmanager
async def in_background(context: RunContext, guard: Guard) -> AsyncIterator[None]:
    """Runs every side task until the block ends."""
    control = context.control
    works = (
        guard.watch(),
        context.checkpoint.keep_saving(_SAVE_EVERY, control.stop),
        _tell_progress(context),
        _count_ahead(context),
        _sample_history(context),
        _watch_lease(context),
        _watch_space(context),
        _stop_in_time(context),
    )
    async with _beside(control, *works):
        yield


@asynccontextmanager
async def _beside(control: Control, *works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs them alongside the block until it ends. If one breaks, the run must not continue without it."""

    async def guarded(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            control.stop(MigrationIncompleteError("Stopped by an internal error."))
            raise

    tasks = [asyncio.create_task(guarded(work)) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        endings = await asyncio.gather(*tasks, return_exceptions=True)
    for ending in endings:
        if isinstance(ending, Exception):
            raise ending


async def _tell_progress(context: RunContext) -> None:
    """Once a second."""
    speed = Speed()
    speed.at(time.monotonic(), 0)
    while True:
        await asyncio.sleep(_TELL_EVERY)
        rate = speed.at(time.monotonic(), _done(context.result))
        context.report(_progress(context.result, rate))


def _progress(result: MigrationResult, rate: float) -> Event:
    """All resources together, earlier passes included; names the resources that are being migrated."""
    runs = result.runs.values()
    event = progress_event(
        "objects",
        _done(result),
        _done(result) + sum(max(run.total or 0, run.done) - run.done for run in runs),
        rate,
        resources=[run.target.name for run in runs if run.started is not None and run.finished is None],
        failures=len(result.failures),
        uncertain=result.total.uncertain,
        total_is_known=all(run.total is not None or run.finished is not None for run in runs),
    )
    if result.space is not None and result.space.held is not None:
        return replace(event, message=f"{event.message}; writes wait for etcd's compaction: {result.space.held}")
    left = 0.0 if result.wait is None else result.wait.until - time.monotonic()
    if result.wait is None or left <= 0:
        return event
    return replace(event, message=f"{event.message}; {duration(left)} until {result.wait.what} can be listed")


def _done(result: MigrationResult) -> int:
    """Objects visited, or reported by a controller, in all passes."""
    earlier = sum(tally.visited for tally in result.earlier.values())
    return earlier + sum(run.done for run in result.runs.values())


async def _count_ahead(context: RunContext) -> None:
    """In a longer run, one more request is worthwhile for each total that no list has given yet."""

    asked: set[str] = set()

    async def count(run: ResourceRun) -> None:
        asked.add(run.target.name)  # If the list fails, its number stays unknown.
        number = await count_objects(context.cluster, run.target)
        if run.total is None:
            run.total = number

    while True:
        await asyncio.sleep(_COUNT_EVERY)
        unknown = [run for run in context.result.runs.values() if run.total is None and run.target.name not in asked]
        await gather_limited(COUNTED_AT_ONCE, count, unknown)


async def _sample_history(context: RunContext) -> None:
    """As often as the size of the history allows, and once at the end."""
    started = time.monotonic()
    try:
        while True:
            await asyncio.sleep(context.result.history.every)
            context.result.sample(time.monotonic() - started)
    finally:
        context.result.sample(time.monotonic() - started, last=True)


async def _watch_lease(context: RunContext) -> None:
    """Ends the run when its Lease is lost, and wakes writers when one that had expired is renewed."""
    lease, control = context.lease, context.control
    was_valid = True
    expired_for = 0.0  # Counted in checks, since a run that resumes from suspension needs time for a renewal.
    while not lease.lost:
        if lease.full is not None:
            control.stop(lease.full)
            return
        if lease.valid is not was_valid:
            was_valid, expired_for = lease.valid, 0.0
            control.changed.set()
            if not was_valid:
                why = f"the Lease {lease.where} was not renewed for {lease.unconfirmed_for:.0f} s"
                context.report(Event("notice", f"Writes are held: {why}.", {}))
        expired_for += 0.0 if was_valid else _LOOK_AT_LEASE_EVERY
        if expired_for > _NO_LEASE_FOR:
            control.stop(
                MigrationIncompleteError(
                    f"Stopped: the Lease {lease.where} could not be renewed for {_NO_LEASE_FOR:g} s. Make sure "
                    "that the API servers can be reached and that the user may still update it, and run again to resume."
                )
            )
            return
        await asyncio.sleep(_LOOK_AT_LEASE_EVERY)
    control.stop(AlreadyRunningError(lease.why_not() or ""))


async def _watch_space(context: RunContext) -> None:
    """Holds writes while etcd has too little room, until compaction has freed some, and stops before it is full."""
    space, control = context.space, context.control
    held_since: float | None = None
    while space.can_watch:
        if not space.watched:
            await asyncio.sleep(_IS_ANYTHING_TO_WRITE_EVERY)
            continue
        await asyncio.sleep(space.next_look)
        decision = await space.look()
        if decision is Decision.STOP:
            control.stop(space.why_stop())
            return
        if decision is Decision.HOLD and held_since is None:
            held_since = time.monotonic()
            what = "Writes are held: etcd needs space, which its next compaction frees"
            context.report(Event("notice", f"{what} ({space.held}).", {}))
        elif decision is Decision.WRITE:
            if held_since is not None:
                waited = duration(time.monotonic() - held_since)
                context.report(
                    Event("notice", f"Writes resume after {waited}: compaction has freed space in etcd.", {})
                )
                held_since = None
            control.changed.set()


async def _stop_in_time(context: RunContext) -> None:
    """The option timeout."""
    timeout = context.options.timeout
    if timeout:
        await asyncio.sleep(timeout)
        context.control.stop(
            MigrationIncompleteError(
                f"Stopped after the {timeout:g} s that the option timeout allows; run again to resume."
            )
        )
