# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine that rewrites objects itself, with lists of metadata and one no-op patch for each object.

The patch makes the API server read, re-encode and, only if the stored bytes are stale, write the object. It touches no
field and no managedFields, and the object's data never leaves the server.

It has its own scheduling rather than the retries of ApiServer: after a failed try, another object gets the slot.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Optional

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    EtcdFullError,
    MigrationIncompleteError,
    StorageUpgradeError,
    UnreachableError,
    UnreachableKind,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.redaction import redact
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import is_custom
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.retry import (
    REPEATABLE,
    Attempts,
    Failed,
    backoff,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import METADATA, METADATA_LIST
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.crds import Trimmed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import (
    ListFailedError,
    Patch,
    collection_path,
    dry_run,
    managed_fields_patch,
    no_op_patch,
    object_path,
    pages_by,
    patch_once,
    with_query,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.priority import classified
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import Control, ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.concurrency import Rate
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.endpoints import (
    Endpoint,
    EndpointPool,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.lost_answers import (
    Sent,
    was_carried_out,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.pace import Held
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.paging import PageSize
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.managed_fields import (
    KEEP,
    NO_FATE,
    REWRITE,
    Fate,
    Rules,
    read_rules,
    rules_for,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.managers import (
    DROPPED_AFTER_ALL,
    FIELD_MANAGERS,
    KEPT_AFTER_ALL,
    Entries,
    is_doubtful,
    lost_entries,
    refuses_dry_runs,
    why_lost,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import (
    FIELDS_DROPPED,
    NAMESPACE_MISSING,
    About,
    Outcome,
    Verdict,
    describe_failure,
    error_outcome,
    outcome_of,
    transport_outcome,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey, Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource, group_version

Withheld = Mapping[str, Mapping[tuple[Optional[str], str], str]]

_PATCH_TIMEOUT = 40.0
_LIST_TIMEOUT = 60.0
_LIST_TRIES = 6
_FEW_TRIES = 3
# How many resources are worked on in parallel, so that a large or slow one leaves room for the others.
_SIDE_BY_SIDE = 16


@dataclass(frozen=True)
class Settings:
    """``retries``: tries for one object. ``conflicts_are_done``: all servers had converged before the list.

    ``served_versions``: the group versions that each resource is served in, for comparison with managedFields.
    ``managed_fields``: what happens to field managers (KEEP, REWRITE, PRUNE).
    ``managers_at_risk``: a server in use may drop managers that it can't convert, so patches are tried first.
    ``rehearsal``: patches are dry runs, which go through admission but write nothing.
    ``withheld``: by resource and (namespace, name), objects that must not be written, and the reason as a sentence.
    ``last``: by resource, (namespace, name) of the run's own record and Lease, which it keeps writing: they come last.
    ``say``: makes a server's message safe to show.
    ``begun``: when the run began, before it read any object, in seconds of time.monotonic().
    """

    page_size: int = 500
    retries: int = 10
    max_rate: float = 0.0
    stop_on_error: bool = False
    conflicts_are_done: bool = True
    served_versions: Mapping[str, Collection[str]] = field(default_factory=dict)
    managed_fields: str = KEEP
    managers_at_risk: bool = False
    rehearsal: bool = False
    withheld: Withheld = field(default_factory=dict)
    last: Mapping[str, Collection[tuple[Optional[str], str]]] = field(default_factory=dict)
    say: Callable[[str], str] = redact
    begun: float = field(default_factory=time.monotonic)


# With these, no request reached a server, so they don't count as tries.
_NEVER_SENT = (UnreachableKind.REFUSED, UnreachableKind.DNS, UnreachableKind.HELD)


class _NoAnswerError(Exception):
    """No server answered a list."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


@dataclass(slots=True, eq=False)
class _Batch:
    """Objects of one list page that are not accounted for yet."""

    token_after: str | None
    open: int


_NO_BATCH = _Batch(None, 0)


@dataclass(slots=True)
class _Item:
    """``batch``: set when it is fed. ``wanted``: the managedFields that it should have, None to leave them. ``doubtful``: entries to be tried first.

    ``before``: the entries that it has, if the answer to the patch shows what became of them.
    ``sent``: the first patch whose answer was lost, so that it may have been carried out; None if there was none.
    ``promised``: what that patch does to the managers.
    """

    key: ObjectKey
    batch: _Batch = _NO_BATCH
    tries: int = 0
    wanted: list[Any] | None = None
    doubtful: Entries = None
    before: Entries = None
    sent: Sent | None = None
    promised: Fate = NO_FATE


@dataclass
class _Work:
    """A resource in progress: objects that wait, objects in flight, batches not yet closed.

    ``last``: objects that wait for all others. ``through``: only those are left.
    """

    run: ResourceRun
    rules: Rules
    queue: deque[_Item] = field(default_factory=deque)
    batches: deque[_Batch] = field(default_factory=deque)
    in_flight: int = 0
    has_space: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    all_fed: bool = False
    last: list[_Item] = field(default_factory=list)
    through: bool = False


class DirectEngine:
    """Implements Engine."""

    name = "direct"

    def __init__(self, endpoints: EndpointPool, settings: Settings) -> None:
        self._endpoints = endpoints
        self._settings = settings
        self._rate = Rate(settings.max_rate)
        # The next page is asked for while half of one is still to be done: that hides the time it takes, and of
        # each resource in progress no more than one and a half pages are in memory.
        self._enough = settings.page_size // 2
        self._served_anywhere = frozenset().union(*settings.served_versions.values())
        self._active: deque[_Work] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._control: Control = Control()
        self._moved = asyncio.Event()
        self._broken: BaseException | None = None
        # Resources of which more is left than what comes last.
        self._not_through = 0
        # Objects whose patch may have been carried out, until that is known; by the identity of the item.
        self._unanswered_for: dict[int, tuple[_Work, _Item]] = {}

    def rehearsal(self) -> DirectEngine:
        """One that writes nothing and stops at the first object that is refused."""
        return DirectEngine(self._endpoints, replace(self._settings, rehearsal=True, stop_on_error=True))

    async def begin(self, targets: Sequence[Target]) -> None:
        """Nothing to do."""

    async def end(self, proven: Sequence[Target]) -> list[Trimmed]:
        """This engine trims no CRDs."""
        return []

    async def migrate(self, runs: list[ResourceRun], control: Control) -> None:
        self._control = control
        waiting = deque(runs)
        self._not_through = len(runs)
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
        for work, item in self._unanswered_for.values():
            work.run.count(item.key, Verdict.UNCERTAIN)
        self._unanswered_for.clear()

    async def _follow_control(self) -> None:
        """Ends when the control says stop; pumps when it lets writers continue."""
        while self._control.stopped is None:
            await self._control.changed.wait()
            self._control.changed.clear()
            self._moved.set()
            self._pump()

    # One resource

    async def _resource(self, run: ResourceRun) -> None:
        run.started = run.started or time.monotonic()
        work = _Work(run, await self._rules(run.target.resource))
        self._active.append(work)
        try:
            if run.target.objects is not None:
                self._feed(work, [self._named(key) for key in run.target.objects], None)
                run.total = len(run.target.objects)
                run.listed = True
            else:
                await self._list(work)
            work.all_fed = True
            self._close_batches(work)
            await work.done.wait()
            run.finished = time.monotonic()
            run.visits.set_aside()
        finally:
            self._active.remove(work)

    async def _rules(self, resource: ServedResource) -> Rules:
        settings, own = self._settings, self._settings.served_versions.get(resource.name, ())
        if settings.managed_fields != REWRITE:
            return rules_for(settings.managed_fields, resource, own, self._served_anywhere, None)
        endpoint = await self._endpoint_for_list()
        return await read_rules(endpoint.server, settings.managed_fields, resource, own, self._served_anywhere)

    async def _list(self, work: _Work) -> None:
        """Feeds page after page; ends when everything was listed, or the list failed permanently."""
        run, size, begun = work.run, PageSize(self._settings.page_size), False
        ask, path = partial(self._get_page, work, size), collection_path(run.target.resource)
        try:
            async for page in pages_by(ask, path, limit=None, token=run.target.token):
                if begun and page.from_start:
                    run.visits.again()  # Visited objects will come again.
                begun = True
                items = [self._listed(work, item) for item in page.items]
                size.answered(len(items))
                run.total = max(run.total or 0, run.tally.visited + _waiting(work) + len(items) + page.left)
                self._feed(work, items, page.token)
                del page, items  # Up to sixteen lists wait for the next one.
            run.listed = True
        except ListFailedError as error:
            if error.status < 400:
                self._fail(work, None, Outcome(Verdict.FAILED, error.status, error.reason, "it is not a list"))
            elif not run.gone:
                self._fail(work, None, error_outcome(error.answer, say=self._settings.say))
        except _NoAnswerError as error:
            self._fail(work, None, error.outcome)

    async def _get_page(self, work: _Work, size: PageSize, path: str) -> Response:
        """One page as soon as there is space for it, or the error after all tries; raises _NoAnswerError.

        Waits as long as an overloaded server asks, as every other request does.
        """
        while len(work.queue) > self._enough:
            work.has_space.clear()
            await work.has_space.wait()
        tries, overload = 0, Attempts(REPEATABLE)
        while True:
            endpoint = await self._endpoint_for_list()
            self._endpoints.start(endpoint)
            tries += 1
            began, page = time.monotonic(), with_query(path, limit=size.size)
            try:
                answer = await endpoint.server.request_once("GET", page, accept=METADATA_LIST, timeout=_LIST_TIMEOUT)
            except UnreachableError as error:
                self._endpoints.failed(endpoint, error, time.monotonic())
                outcome = self._unanswered(error)
                if error.kind is UnreachableKind.TIMEOUT:
                    size.too_slow()
                if error.kind in _NEVER_SENT:
                    tries -= 1
            except BaseException:
                self._endpoints.answered(endpoint)
                raise
            else:
                self._endpoints.answered(endpoint)
                if answer.status < 400 or answer.status in (400, 410):
                    size.took = time.monotonic() - began
                    return answer
                outcome = error_outcome(answer, say=self._settings.say)
                if answer.status == 504:
                    size.too_slow()
                if outcome.overloaded:
                    self._endpoints.overloaded(endpoint, outcome.wait, time.monotonic())
                    pause = overload.pause_if_asked(Failed(answer.status, outcome.wait))
                    if pause is not None:
                        tries -= 1
                        await asyncio.sleep(pause)
                        continue
                if outcome.verdict is not Verdict.RETRY or tries >= (_FEW_TRIES if outcome.few_tries else _LIST_TRIES):
                    if outcome.unproven:
                        work.run.gone = await self._is_not_served(work, endpoint)
                    return answer
            if tries >= _LIST_TRIES:
                raise _NoAnswerError(outcome)
            await asyncio.sleep(backoff(max(tries, 1), outcome.wait, random.random()))

    async def _endpoint_for_list(self) -> Endpoint:
        """A server for a list, once there is one and the control lets writers continue."""
        while True:
            endpoint = self._endpoints.least_loaded() if self._control.writable else None
            if endpoint is not None:
                return endpoint
            self._moved.clear()
            await self._moved.wait()

    def _listed(self, work: _Work, item: dict[str, Any]) -> _Item:
        metadata = item["metadata"]
        namespace = metadata.get("namespace")
        # Objects of one namespace share its name.
        found = _Item(ObjectKey(namespace and sys.intern(namespace), metadata["name"], metadata["resourceVersion"]))
        resource, entries = work.run.target.resource, metadata.get("managedFields")
        found.wanted = work.rules.wanted(entries)
        if found.wanted is not None or work.rules.are_at_risk(entries):
            found.before = entries
        if self._settings.managers_at_risk and not self._settings.rehearsal:
            left = entries if found.wanted is None else found.wanted
            version = group_version(resource.group, resource.request_version)
            if is_doubtful(left, version, custom=is_custom(resource.name)):
                found.doubtful = left
        return found

    def _named(self, key: ObjectKey) -> _Item:
        """An object known only by name; its managers are unknown until it is read."""
        settings = self._settings
        needs_managers = settings.managed_fields != KEEP or (settings.managers_at_risk and not settings.rehearsal)
        return _Item(replace(key, resource_version=None) if needs_managers else key)

    def is_withheld(self, resource: str) -> bool:
        """Whether some of its objects must not be written."""
        return bool(self._settings.withheld.get(resource))

    def _without_withheld(self, work: _Work, items: list[_Item]) -> list[_Item]:
        """The objects that may be written; the others are failures."""
        withheld = self._settings.withheld.get(work.run.target.name)
        if not withheld:
            return items
        kept = []
        for item in items:
            why = withheld.get((item.key.namespace, item.key.name))
            if why is None:
                kept.append(item)
            else:
                self._fail(work, item.key, Outcome(Verdict.FAILED, 0, FIELDS_DROPPED, why))
        return kept

    def _feed(self, work: _Work, items: list[_Item], token_after: str | None) -> None:
        """Queues the objects of a page; ``token_after`` is saved once all of them are accounted for."""
        items = self._without_withheld(work, items)
        batch = _Batch(token_after, len(items))
        for item in items:
            item.batch = batch
        work.batches.append(batch)
        work.queue.extend(self._without_last(work, items))
        self._close_batches(work)
        self._pump()

    def _without_last(self, work: _Work, items: list[_Item]) -> list[_Item]:
        """The objects to be visited now; the others wait, but their batch stays open, so a resumed run lists them again."""
        last = self._settings.last.get(work.run.target.name)
        if not last:
            return items
        now: list[_Item] = []
        for item in items:
            (work.last if (item.key.namespace, item.key.name) in last else now).append(item)
        return now

    def _close_batches(self, work: _Work) -> None:
        while work.batches and work.batches[0].open == 0:
            work.run.token = work.batches.popleft().token_after
        if not work.batches and work.all_fed:
            work.done.set()
        if work.all_fed and not work.through and _waiting(work) == len(work.last):
            work.through = True
            self._not_through -= 1
            if self._not_through == 0:
                self._visit_last()

    def _visit_last(self) -> None:
        """Nothing is left but the run's own record and Lease."""
        for work in self._active:
            work.queue.extend(work.last)
            work.last.clear()
        self._pump()

    # One object

    def _pump(self) -> None:
        """Starts as many requests as pace, rate and fairness allow; called whenever one of them changed."""
        endpoints, pace = self._endpoints, self._endpoints.pace
        now = time.monotonic()
        while self._control.writable:
            endpoint = endpoints.pick(now)
            if endpoint is None:
                pace.hold(endpoints.why_held(now) if self._has_queued() else None, now)
                self._wake_after(endpoints.delay(now))
                return
            work = self._next_work()
            if work is None:
                pace.hold(None, now)
                return
            delay = self._rate.delay(now)
            if delay > 0:
                pace.hold(Held.MAX_RATE, now)
                self._wake_after(delay)
                return
            item = work.queue.popleft()
            if not work.has_space.is_set() and len(work.queue) <= self._enough:
                work.has_space.set()
            self._rate.started(now)
            endpoints.start_write(endpoint, now)
            work.in_flight += 1
            task = asyncio.create_task(self._visit(work, item, endpoint, now))
            self._tasks.add(task)
            task.add_done_callback(self._visited)
        pace.hold(Held.NOT_WRITABLE if self._has_queued() else None, now)

    def _has_queued(self) -> bool:
        return any(work.queue for work in self._active)

    def _wake_after(self, seconds: float | None) -> None:
        """Pumps again then, or sooner if it is to do so already."""
        if seconds is None:
            return
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._timer_fired)

    def _visited(self, task: asyncio.Task[None]) -> None:
        """A visit ended. An unexpected error would leave its object unaccounted for, so it stops the run."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and self._broken is None:
            self._broken = error
            self._control.stop(MigrationIncompleteError("Stopped by an internal error."))

    def _timer_fired(self) -> None:
        self._timer = None
        self._pump()

    def _next_work(self) -> _Work | None:
        """The next resource in turn that has something to do and less than its share in flight."""
        busy = sum(1 for work in self._active if work.queue or work.in_flight) or 1
        share = max(1, self._endpoints.slots // busy)
        for _turn in range(len(self._active)):
            work = self._active[0]
            self._active.rotate(-1)
            if work.queue and work.in_flight < share:
                return work
        return None

    async def _visit(self, work: _Work, item: _Item, endpoint: Endpoint, began: float) -> None:
        try:
            if not self._control.writable:  # It was when this visit was planned.
                raise UnreachableError("Writes are held.", kind=UnreachableKind.HELD)
            if item.key.resource_version is None:
                answer = await self._read_again(work, item, endpoint)
            else:
                answer = await self._patch(work, item, endpoint)
            if answer.unproven:
                answer = await self._what_404_means(work, item, endpoint, answer)
            if self._needs_an_author(item, answer):
                answer = await self._with_author(work, item, endpoint, answer)
        except UnreachableError as error:
            self._endpoints.failed_write(endpoint, error, time.monotonic())
            outcome = self._unanswered(error)
            if error.kind in _NEVER_SENT:
                item.tries -= 1
        else:
            now = time.monotonic()
            self._endpoints.answered_write(endpoint, began, now)
            outcome = answer
            if outcome.overloaded:
                self._endpoints.overloaded(endpoint, outcome.wait, now)
        work.in_flight -= 1
        self._record(work, item, outcome)
        self._pump()

    def _unanswered(self, error: UnreachableError) -> Outcome:
        """There was no answer. If this process can't open a single connection, other requests won't succeed either."""
        if error.kind is UnreachableKind.EXHAUSTED:
            self._control.stop(error)
        return transport_outcome(error)

    async def _patch(self, work: _Work, item: _Item, endpoint: Endpoint) -> Outcome:
        version, wanted = item.key.resource_version or "", item.wanted
        patch = no_op_patch(version) if wanted is None else managed_fields_patch(version, wanted)
        if item.doubtful or self._settings.rehearsal:
            tried = await self._try_out(work, item, endpoint, patch)
            if tried is not None:
                return tried
        answer, outcome = await self._write(work, item, endpoint, patch)
        if self._endpoints.pace.classified is None:
            self._endpoints.pace.classified = classified(answer.headers)
        if item.doubtful and outcome.verdict is Verdict.REWRITTEN and self._lost(work, item, answer):
            work.run.visits.wrote = True
            return Outcome(Verdict.FAILED, 0, FIELD_MANAGERS, DROPPED_AFTER_ALL)
        return self._with_managers(work, item, answer, outcome)

    async def _try_out(self, work: _Work, item: _Item, endpoint: Endpoint, patch: Patch) -> Outcome | None:
        """The outcome of a dry run if nothing may be written after it; None if the object may be patched."""
        trial = await patch_once(endpoint.server, dry_run(_path(work, item)), patch, timeout=_PATCH_TIMEOUT)
        tried = self._outcome(work, item, trial)
        refusal = self._refusal(work, item, trial, tried) if item.doubtful else None
        return tried if refusal is None and self._settings.rehearsal else refusal

    def _refusal(self, work: _Work, item: _Item, trial: Response, tried: Outcome) -> Outcome | None:
        """Why an object with entries at risk is not patched; None if it may be."""
        unserved = work.rules.unserved(item.doubtful)
        if refuses_dry_runs(trial):
            return Outcome(Verdict.FAILED, 0, FIELD_MANAGERS, why_lost(unserved)) if unserved else None
        if tried.verdict not in (Verdict.REWRITTEN, Verdict.UNCHANGED):
            return tried
        lost = self._lost(work, item, trial)
        return Outcome(Verdict.FAILED, 0, FIELD_MANAGERS, why_lost(unserved)) if lost else None

    def _with_managers(self, work: _Work, item: _Item, answer: Response, outcome: Outcome) -> Outcome:
        """The outcome with what the answer shows of the field managers."""
        if item.before is None or outcome.verdict not in (Verdict.REWRITTEN, Verdict.UNCHANGED):
            return outcome
        try:
            fate = work.rules.fate(item.before, item.wanted, answer)
        except ValueError:
            return Outcome(Verdict.RETRY, answer.status, "UnexpectedAnswer", "the answer is not an object")
        if fate.ignored:
            # Since 1.37 an API server that can't convert an entry puts back those that the object had.
            work.run.visits.wrote = work.run.visits.wrote or outcome.verdict is Verdict.REWRITTEN
            return Outcome(Verdict.FAILED, 0, FIELD_MANAGERS, KEPT_AFTER_ALL)
        return replace(outcome, moved=fate.moved, pruned=fate.pruned)

    def _lost(self, work: _Work, item: _Item, answer: Response) -> bool:
        dead = work.rules.dead(item.doubtful)
        return lost_entries(item.doubtful, answer, dead=dead, fields=item.wanted is None)

    def _outcome(self, work: _Work, item: _Item, answer: Response) -> Outcome:
        return outcome_of(answer, item.key.resource_version or "", _about(work, item), self._settings.say)

    async def _write(self, work: _Work, item: _Item, endpoint: Endpoint, patch: Patch) -> tuple[Response, Outcome]:
        """Sends the patch; until an answer says what became of it, that is noted as unknown."""
        first = item.sent is None
        if first:
            item.sent = Sent(item.key.resource_version or "", item.wanted)
            item.promised = work.rules.promised(item.before, item.wanted)
            self._unanswered_for[id(item)] = (work, item)
        perhaps_done = True
        try:
            answer = await patch_once(endpoint.server, _path(work, item), patch, timeout=_PATCH_TIMEOUT)
            outcome = self._outcome(work, item, answer)
            perhaps_done = outcome.perhaps_done
            return answer, outcome
        except UnreachableError as error:
            perhaps_done = transport_outcome(error).perhaps_done
            raise
        finally:
            if first and not perhaps_done:
                item.sent = None
                del self._unanswered_for[id(item)]

    def _needs_an_author(self, item: _Item, outcome: Outcome) -> bool:
        """Whether the object is current, but was written since the answer to a patch was lost."""
        if item.sent is None:
            return False
        moved = item.sent.resource_version != item.key.resource_version
        conflict = outcome.verdict is Verdict.CONFLICT and self._is_done(item)
        return conflict or (moved and outcome.verdict is Verdict.UNCHANGED)

    def _is_done(self, item: _Item) -> bool:
        """Whether a conflict means that the object is current.

        While servers disagree, another's write may be in the old version; and it leaves managers as they are.
        """
        return self._settings.conflicts_are_done and item.wanted is None

    async def _with_author(self, work: _Work, item: _Item, endpoint: Endpoint, outcome: Outcome) -> Outcome:
        resource = work.run.target.resource
        own = item.sent is not None and await was_carried_out(
            endpoint.server,
            resource,
            item.key,
            item.sent,
            begun=self._settings.begun,
            served=self._settings.served_versions.get(resource.name, ()),
        )
        if not own:
            return replace(outcome, verdict=Verdict.UNCERTAIN)
        fate = item.promised
        return replace(outcome, verdict=Verdict.REWRITTEN, moved=fate.moved, pruned=fate.pruned)

    async def _read_again(self, work: _Work, item: _Item, endpoint: Endpoint) -> Outcome:
        """Reads the current resourceVersion of an object that is known only by name, to patch it next."""
        answer = await self._get(work, item, endpoint)
        if answer.status >= 400:
            return error_outcome(answer, _about(work, item), self._settings.say)
        try:
            fresh = self._listed(work, json.loads(answer.body))
        except (ValueError, KeyError, TypeError):
            return Outcome(Verdict.RETRY, answer.status, "UnexpectedAnswer", "the answer is not an object")
        item.key, item.wanted, item.doubtful, item.before = fresh.key, fresh.wanted, fresh.doubtful, fresh.before
        item.tries -= 1
        return Outcome(Verdict.RETRY, wait=0.0)

    async def _get(self, work: _Work, item: _Item, endpoint: Endpoint) -> Response:
        return await endpoint.server.request_once("GET", _path(work, item), accept=METADATA, timeout=_PATCH_TIMEOUT)

    async def _what_404_means(self, work: _Work, item: _Item, endpoint: Endpoint, outcome: Outcome) -> Outcome:
        """Asks the same server for the object itself: it counts as deleted only if the server says so about *this* object."""
        answer = await self._get(work, item, endpoint)
        about = _about(work, item)
        if answer.status == 404 and error_outcome(answer, about).verdict is Verdict.DELETED:
            return error_outcome(answer, about)
        final = item.tries + 1 >= self._allowed(outcome)
        if final and outcome.reason == NAMESPACE_MISSING:
            return replace(outcome, verdict=Verdict.FAILED)
        if final and answer.status == 404 and await self._is_not_served(work, endpoint):
            return replace(outcome, not_served=True)
        return outcome

    async def _is_not_served(self, work: _Work, endpoint: Endpoint) -> bool:
        """Whether the server's own discovery says that there is no such resource; False where it says nothing."""
        if work.run.gone:
            return True
        resource = work.run.target.resource
        version = group_version(resource.group, resource.request_version)
        try:
            if resource.group:
                groups = await endpoint.server.get("/apis")
                if groups.get("kind") != "APIGroupList":
                    return False
                served = {entry["groupVersion"] for group in groups["groups"] for entry in group["versions"]}
                if version not in served:
                    return True
            resources = await endpoint.server.get(resource.path)
            return resources.get("kind") == "APIResourceList" and all(
                listed["name"] != resource.plural for listed in resources["resources"]
            )
        except (StorageUpgradeError, KeyError, TypeError):
            return False

    def _allowed(self, outcome: Outcome) -> int:
        return min(_FEW_TRIES, self._settings.retries) if outcome.few_tries else self._settings.retries

    def _record(self, work: _Work, item: _Item, outcome: Outcome) -> None:
        verdict = outcome.verdict
        if outcome.full:
            # The object is unchanged; it stays unaccounted for, so that the next run visits it.
            self._control.stop(EtcdFullError())
            return
        if verdict is Verdict.CONFLICT and not self._is_done(item):
            item.key = ObjectKey(item.key.namespace, item.key.name)
            verdict = Verdict.RETRY
        if verdict is Verdict.RETRY and not outcome.not_served:
            item.tries += 1
            if item.tries < self._allowed(outcome):
                delay = backoff(max(item.tries, 1), outcome.wait, random.random()) if outcome.status != 200 else 0.0
                asyncio.get_running_loop().call_later(delay, self._requeue, work, item)
                return
            self._fail(work, item.key, outcome)
        elif outcome.not_served:
            work.run.gone = True
        elif verdict is Verdict.FAILED:
            self._fail(work, item.key, outcome)
        else:
            work.run.record(item.key, outcome)
        if item.sent is not None:
            self._unanswered_for.pop(id(item), None)
            if verdict is not Verdict.UNCHANGED:
                work.run.visits.wrote = True  # Whatever became of the object, it may have been rewritten before.
        item.batch.open -= 1
        self._close_batches(work)

    def _requeue(self, work: _Work, item: _Item) -> None:
        work.queue.append(item)
        self._pump()

    def _fail(self, work: _Work, key: ObjectKey | None, outcome: Outcome) -> None:
        work.run.fail(key, outcome)
        if self._settings.stop_on_error:
            self._control.stop(
                MigrationIncompleteError(
                    f"Stopped at the first object that could not be rewritten, as on_error=stop asks: "
                    f"{describe_failure(work.run.failures[-1])}. Fix it and run again to resume."
                )
            )


def _path(work: _Work, item: _Item) -> str:
    return object_path(work.run.target.resource, item.key.namespace, item.key.name)


def _about(work: _Work, item: _Item) -> About:
    resource = work.run.target.resource
    return About(resource.group, resource.plural, item.key.namespace, item.key.name)


def _waiting(work: _Work) -> int:
    return sum(batch.open for batch in work.batches)
