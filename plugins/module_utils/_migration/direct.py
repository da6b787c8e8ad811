# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine that rewrites objects itself: lists of metadata, and one no-op patch for each object.

A merge patch of nothing but the resourceVersion makes the API server read, re-encode and, only if the
stored bytes are stale, write the object. It touches no field and no managedFields, and the object's
data never leaves the server.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import (
    JSON_PATCH,
    MERGE_PATCH,
    METADATA,
    METADATA_LIST,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import (
    MigrationIncompleteError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engine import Control, ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.lanes import Lane, Lanes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import (
    Failure,
    Outcome,
    Verdict,
    backoff,
    describe_failure,
    error_outcome,
    outcome_of,
    transport_outcome,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.pace import Rate
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import split_group_version

_PATCH_TIMEOUT = 40.0
_LIST_TIMEOUT = 60.0
_LIST_TRIES = 6
_FEW_TRIES = 3
# So many resources are worked on side by side: a large or slow one leaves room for the others.
_SIDE_BY_SIDE = 16


@dataclass(frozen=True)
class Settings:
    """``retries``: tries for one object. ``conflicts_are_done``: all servers had converged before the list.

    ``served_versions``: by resource, where managedFields entries of versions that are served no more are to be pruned.
    ``rehearsal``: patches are dry runs, which go through admission but write nothing.
    """

    page_size: int = 500
    retries: int = 10
    max_rate: float = 0.0
    stop_on_error: bool = False
    conflicts_are_done: bool = True
    served_versions: Mapping[str, Collection[str]] | None = None
    rehearsal: bool = False


@dataclass(slots=True)
class _Page:
    """Objects of one list page that are not accounted for yet."""

    token_after: str | None
    open: int


@dataclass(slots=True)
class _Item:
    key: ObjectKey
    page: _Page
    tries: int = 0
    managed_fields: list[Any] | None = None


@dataclass
class _Work:
    """A resource being worked on: what waits, what is in flight, pages not yet closed."""

    run: ResourceRun
    base: str
    queue: deque[_Item] = field(default_factory=deque)
    pages: deque[_Page] = field(default_factory=deque)
    in_flight: int = 0
    room: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    all_fed: bool = False


class DirectEngine:
    """Implements Engine."""

    name = "direct"

    def __init__(self, lanes: Lanes, settings: Settings) -> None:
        self._lanes = lanes
        self._settings = settings
        self._rate = Rate(settings.max_rate)
        # The next page is asked for while half of one is still to be done: that hides the time it takes, and of
        # each resource at work no more than one and a half pages are in memory.
        self._enough = settings.page_size // 2
        self._served_anywhere = frozenset().union(*(settings.served_versions or {}).values())
        self._active: deque[_Work] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._control: Control = Control()
        self._moved = asyncio.Event()
        self._broken: BaseException | None = None

    def rehearsal(self) -> DirectEngine:
        """One that writes nothing and stops at the first object that is refused."""
        return DirectEngine(self._lanes, replace(self._settings, rehearsal=True, stop_on_error=True))

    async def migrate(self, runs: list[ResourceRun], control: Control) -> None:
        self._control = control
        waiting = deque(runs)
        working: set[asyncio.Task[None]] = set()
        stop = asyncio.create_task(self._follow_control())
        try:
            while (waiting or working) and control.stopped is None:
                while waiting and len(working) < _SIDE_BY_SIDE:
                    working.add(asyncio.create_task(self._resource(waiting.popleft())))
                ended, working = await asyncio.wait({*working, stop}, return_when=asyncio.FIRST_COMPLETED)
                working.discard(stop)
                for task in ended - {stop}:
                    task.result()
        finally:
            stop.cancel()
            await self._abandon(working)
        if self._broken is not None:
            raise self._broken

    async def _abandon(self, working: set[asyncio.Task[None]]) -> None:
        """Lets requests in flight end, so that every write is counted; then drops the rest."""
        for task in working:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_PATCH_TIMEOUT)
        await asyncio.gather(*working, return_exceptions=True)
        self._active.clear()

    async def _follow_control(self) -> None:
        """Ends when the control says stop; pumps when it lets writers go on."""
        while self._control.stopped is None:
            await self._control.changed.wait()
            self._control.changed.clear()
            self._moved.set()
            self._pump()

    # One resource

    async def _resource(self, run: ResourceRun) -> None:
        run.started = run.started or time.monotonic()
        work = _Work(run, run.target.resource.path)
        self._active.append(work)
        try:
            if run.target.objects is not None:
                self._feed(work, [self._named(key) for key in run.target.objects], None)
                run.total = len(run.target.objects)
                run.listed = True
            else:
                await self._list(work)
            work.all_fed = True
            if work.pages:
                await work.done.wait()
            run.finished = time.monotonic()
        finally:
            self._active.remove(work)

    async def _list(self, work: _Work) -> None:
        """Feeds page after page; ends when all was listed, or the list failed for good."""
        run = work.run
        token = run.target.token
        path = f"{work.base}/{run.target.resource.plural}?limit={self._settings.page_size}"
        while True:
            answer = await self._get_page(work, path + (f"&continue={quote(token, safe='')}" if token else ""))
            if answer is None:
                return
            if answer.status == 410:
                # The server hands out a token that goes on at the same key in the present revision.
                token = _fresh_token(answer)
                continue
            if answer.status == 400 and token is not None and token == run.target.token:
                token = None  # A stored token of another API version: start over; what is current stays so.
                continue
            if answer.status == 404:
                run.gone = True
                return
            if answer.status >= 400:
                outcome = error_outcome(answer)
                self._fail(work, None, outcome)
                return
            page = _page_of(answer)
            if page is None:
                self._fail(work, None, Outcome(Verdict.FAILED, answer.status, "UnexpectedAnswer", "it is no list"))
                return
            token = self._feed_page(work, page)
            # An answer is some hundred kilobytes; up to sixteen lists wait here with theirs.
            del answer, page
            if token is None:
                run.listed = True
                return
            while len(work.queue) > self._enough:
                work.room.clear()
                await work.room.wait()

    async def _get_page(self, work: _Work, path: str) -> Response | None:
        """One page, or the error that is left after all tries; None if no answer came at all (noted as failure)."""
        tries = 0
        while True:
            lane = self._lanes.least_loaded() if self._control.writable else None
            if lane is None:
                self._moved.clear()
                await self._moved.wait()
                continue
            self._lanes.start(lane)
            tries += 1
            try:
                answer = await lane.server.request("GET", path, accept=METADATA_LIST, timeout=_LIST_TIMEOUT)
            except UnreachableError as error:
                self._lanes.failed(lane, error, time.monotonic())
                outcome = transport_outcome(error)
                if error.kind in ("refused", "dns"):
                    tries -= 1
            except BaseException:
                self._lanes.answered(lane, time.monotonic())
                raise
            else:
                self._lanes.answered(lane, time.monotonic())
                if answer.status < 400 or answer.status in (400, 404, 410):
                    return answer
                outcome = error_outcome(answer)
                if outcome.overloaded:
                    lane.limit.overloaded(time.monotonic())
                if outcome.verdict is not Verdict.RETRY or tries >= (_FEW_TRIES if outcome.few_tries else _LIST_TRIES):
                    return answer
            if tries >= _LIST_TRIES:
                self._fail(work, None, outcome)
                return None
            await asyncio.sleep(backoff(max(tries, 1), outcome.wait, random.random()))

    def _feed_page(self, work: _Work, page: dict[str, Any]) -> str | None:
        """Queues what a page lists; returns the token of the next one."""
        token = (page.get("metadata") or {}).get("continue") or None
        items = [self._listed(work, item) for item in page.get("items") or ()]
        left = (page.get("metadata") or {}).get("remainingItemCount")
        run = work.run
        run.total = max(run.total or 0, run.tally.visited + _waiting(work) + len(items) + int(left or 0))
        self._feed(work, items, token)
        return token

    def _listed(self, work: _Work, item: dict[str, Any]) -> _Item:
        metadata = item["metadata"]
        namespace = metadata.get("namespace")
        # Objects of one namespace share its name.
        key = ObjectKey(namespace and sys.intern(namespace), metadata["name"], metadata["resourceVersion"])
        found = _item(key)
        if self._settings.served_versions is not None:
            resource = work.run.target.resource
            own = self._settings.served_versions.get(resource.name, ())
            found.managed_fields = kept_managed_fields(
                metadata.get("managedFields"), resource.group, own, self._served_anywhere
            )
        return found

    def _named(self, key: ObjectKey) -> _Item:
        """An object known by name; its managers are known only after it was read."""
        return _item(key if self._settings.served_versions is None else replace(key, resource_version=None))

    def _feed(self, work: _Work, items: list[_Item], token_after: str | None) -> None:
        page = _Page(token_after, len(items))
        for item in items:
            item.page = page
        work.pages.append(page)
        work.queue.extend(items)
        self._close_pages(work)
        self._pump()

    def _close_pages(self, work: _Work) -> None:
        while work.pages and work.pages[0].open == 0:
            work.run.token = work.pages.popleft().token_after
        if not work.pages and work.all_fed:
            work.done.set()

    # One object

    def _pump(self) -> None:
        """Starts as many requests as pace, rate and fairness allow; called whenever one of them changed."""
        while self._control.writable:
            lane = self._lanes.pick()
            work = self._next_work() if lane is not None else None
            if lane is None or work is None:
                return
            now = time.monotonic()
            delay = self._rate.delay(now)
            if delay > 0:
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(delay, self._timer_fired)
                return
            item = work.queue.popleft()
            if not work.room.is_set() and len(work.queue) <= self._enough:
                work.room.set()
            self._rate.started(now)
            self._lanes.start(lane)
            work.in_flight += 1
            task = asyncio.create_task(self._visit(work, item, lane))
            self._tasks.add(task)
            task.add_done_callback(self._visited)

    def _visited(self, task: asyncio.Task[None]) -> None:
        """A visit ended; one that broke would leave its object unaccounted for, so it breaks the run."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and self._broken is None:
            self._broken = error
            self._control.stop(MigrationIncompleteError("Stopped by an error of this program."))

    def _timer_fired(self) -> None:
        self._timer = None
        self._pump()

    def _next_work(self) -> _Work | None:
        """The next resource in turn that has something to do and less than its share in flight."""
        busy = sum(1 for work in self._active if work.queue or work.in_flight) or 1
        share = max(1, self._lanes.slots // busy)
        for _turn in range(len(self._active)):
            work = self._active[0]
            self._active.rotate(-1)
            if work.queue and work.in_flight < share:
                return work
        return None

    async def _visit(self, work: _Work, item: _Item, lane: Lane) -> None:
        try:
            if item.key.resource_version is None:
                answer = await self._read_again(work, item, lane)
            else:
                answer = await self._patch(work, item, lane)
        except UnreachableError as error:
            self._lanes.failed(lane, error, time.monotonic())
            outcome = transport_outcome(error)
            if error.kind in ("refused", "dns"):
                item.tries -= 1  # It never reached a server: that is no try of this object.
        else:
            now = time.monotonic()
            self._lanes.answered(lane, now)
            outcome = answer
            if outcome.overloaded:
                lane.limit.overloaded(now)
        work.in_flight -= 1
        self._account(work, item, outcome)
        self._pump()

    async def _patch(self, work: _Work, item: _Item, lane: Lane) -> Outcome:
        version = item.key.resource_version or ""
        if item.managed_fields is None:
            body, content_type = b'{"metadata":{"resourceVersion":"%s"}}' % version.encode(), MERGE_PATCH
        else:
            body, content_type = _prune_patch(version, item.managed_fields), JSON_PATCH
        path = work.run.target.path_of(item.key) + ("?dryRun=All" if self._settings.rehearsal else "")
        answer = await lane.server.request(
            "PATCH", path, accept=METADATA, content_type=content_type, body=body, timeout=_PATCH_TIMEOUT
        )
        return outcome_of(answer, version)

    async def _read_again(self, work: _Work, item: _Item, lane: Lane) -> Outcome:
        """Learns the present resourceVersion of an object that is known by name only; to be patched next."""
        answer = await lane.server.request(
            "GET", work.run.target.path_of(item.key), accept=METADATA, timeout=_PATCH_TIMEOUT
        )
        if answer.status >= 400:
            return error_outcome(answer)
        fresh = self._listed(work, json.loads(answer.body))
        item.key, item.managed_fields = fresh.key, fresh.managed_fields
        item.tries -= 1
        return Outcome(Verdict.RETRY, wait=0.0)

    def _account(self, work: _Work, item: _Item, outcome: Outcome) -> None:
        run = work.run
        verdict = outcome.verdict
        if verdict is Verdict.CONFLICT and (not self._settings.conflicts_are_done or item.managed_fields is not None):
            # While servers disagree, another's write may be in the old version; and it leaves managers as they are.
            item.key = ObjectKey(item.key.namespace, item.key.name)
            verdict = Verdict.RETRY
        if verdict is Verdict.RETRY:
            item.tries += 1
            allowed = min(_FEW_TRIES, self._settings.retries) if outcome.few_tries else self._settings.retries
            if item.tries < allowed:
                delay = backoff(max(item.tries, 1), outcome.wait, random.random()) if outcome.status != 200 else 0.0
                asyncio.get_running_loop().call_later(delay, self._requeue, work, item)
                return
            if not outcome.not_served:
                self._fail(work, item.key, outcome)
            else:
                run.gone = True
                run.tally.count(Verdict.DELETED)
        elif verdict is Verdict.FAILED:
            self._fail(work, item.key, outcome)
        else:
            run.tally.count(verdict)
            if verdict is Verdict.REWRITTEN and item.managed_fields is not None:
                run.tally.pruned += 1
            if verdict is not Verdict.DELETED:
                run.remember(item.key)
        item.page.open -= 1
        self._close_pages(work)

    def _requeue(self, work: _Work, item: _Item) -> None:
        work.queue.append(item)
        self._pump()

    def _fail(self, work: _Work, key: ObjectKey | None, outcome: Outcome) -> None:
        run = work.run
        if key is not None:
            run.tally.count(Verdict.FAILED)
        run.failures.append(
            Failure(
                resource=run.target.name,
                namespace=key.namespace if key else None,
                name=key.name if key else None,
                status=outcome.status,
                reason=outcome.reason,
                message=outcome.message,
            )
        )
        if self._settings.stop_on_error:
            self._control.stop(
                MigrationIncompleteError(
                    f"Stopped at the first object that could not be rewritten, as on_error=stop asks: "
                    f"{describe_failure(run.failures[-1])}. Mend it and run again; the run goes on from here."
                )
            )


_NO_PAGE = _Page(None, 0)


def _item(key: ObjectKey) -> _Item:
    return _Item(key, _NO_PAGE)


def _waiting(work: _Work) -> int:
    return sum(page.open for page in work.pages)


def _page_of(answer: Response) -> dict[str, Any] | None:
    """A list page; None if the answer is something else (a page of some proxy)."""
    try:
        page = json.loads(answer.body)
    except ValueError:
        return None
    return page if isinstance(page, dict) and isinstance(page.get("metadata"), dict) else None


def _fresh_token(answer: Response) -> str | None:
    try:
        token = json.loads(answer.body)["metadata"]["continue"]
    except (ValueError, KeyError, TypeError):
        return None
    return str(token) if token else None


def kept_managed_fields(
    entries: list[dict[str, Any]] | None, group: str, own: Collection[str], anywhere: Collection[str]
) -> list[Any] | None:
    """The managedFields without entries of versions that are served no more; None if there is nothing to drop.

    ``own``: the group versions of this very resource, since another of its group may still be served in an old
    one; ``anywhere``: all that are served, which is what counts for entries of other groups.
    """

    def is_kept(entry: Mapping[str, Any]) -> bool:
        version = str(entry.get("apiVersion") or "")
        return version in own or (split_group_version(version)[0] != group and version in anywhere)

    kept = [entry for entry in entries or () if is_kept(entry)]
    if entries is None or len(kept) == len(entries):
        return None
    return kept or [{}]  # An empty entry is how all of them are reset (KEP-555).


def _prune_patch(resource_version: str, managed_fields: list[Any]) -> bytes:
    """Replaces managedFields, on condition that the object is still at that resourceVersion (else 409)."""
    return json.dumps(
        [
            {"op": "replace", "path": "/metadata/managedFields", "value": managed_fields},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version},
        ],
        separators=(",", ":"),
    ).encode()
