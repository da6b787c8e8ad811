# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine that has a controller in the cluster do the rewriting.

It makes one migration object for each resource, follows what the controller says of it, counts by
itself what was rewritten, and takes the object away again. What the controller can't do, or fails at,
is finished by the direct engine where that is allowed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol

from ansible_collections.kube_storage.upgrade.plugins.module_utils import _crds
from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import (
    ApiError,
    MigrationIncompleteError,
    StorageUpgradeError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Event, Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.before_after import (
    Snapshot,
    compare,
    snapshot,
    some_keys,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.direct import DirectEngine
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engine import Control, ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.lanes import Lanes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import (
    MIGRATION_FAILED,
    Failure,
    Tally,
    describe_failure,
    redact,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._permissions import Need
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import ServedResource

PREFIX = "kube-storage-upgrade"
LABEL, LABEL_VALUE = "app.kubernetes.io/managed-by", PREFIX

_LOOK_EVERY = 0.5
_SIDE_BY_SIDE = 8
_SAMPLE = 5
# After the end of a CRD's migration the in-tree controller tidies up the CRD; older ones never say that they did.
_TIDIES_FOR = 15.0
_ANEW = 2


class Phase(Enum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        return self in (Phase.SUCCEEDED, Phase.FAILED)


@dataclass(frozen=True)
class Progress:
    """What a migration object says. ``settled``: the controller has nothing left to do after the end."""

    phase: Phase
    done: int | None = None
    total: int | None = None
    message: str = ""
    settled: bool = True

    def marks(self, document: Mapping[str, Any]) -> tuple[object, ...]:
        """What moves only if the controller gets on; messages of errors that come and go don't count."""
        token = (document.get("spec") or {}).get("continueToken")
        return self.phase, self.done, self.total, self.settled, token


def conditions_of(document: Mapping[str, Any]) -> dict[str, tuple[bool, str]]:
    """By type of condition: whether it holds, and its message."""
    found = (document.get("status") or {}).get("conditions") or ()
    return {one.get("type", ""): (one.get("status") == "True", one.get("message") or "") for one in found}


class Dialect(Protocol):
    """What differs between the controllers."""

    name: str
    title: str
    how_to_start: str
    group: str
    version: str
    kind: str
    collection: str
    trims: bool

    def object_name(self, resource: ServedResource) -> str: ...

    def resource(self, resource: ServedResource) -> dict[str, str]: ...

    def cannot(self, resource: ServedResource) -> str | None: ...

    def progress(self, document: Mapping[str, Any]) -> Progress: ...


@dataclass(frozen=True)
class Manners:
    """``patience``: seconds without any progress. ``fall_back``: finish by the direct engine what failed."""

    patience: float = 300.0
    keep: bool = False
    fall_back: bool = True
    page_size: int = 500


@dataclass
class _Piece:
    """The migration of one resource by the controller."""

    run: ResourceRun
    name: str
    before: Snapshot | None = None
    stored_versions: tuple[str, ...] | None = None
    exists: bool = False
    attempts: int = 0
    progress: Progress = Progress(Phase.PENDING)
    ended_at: float | None = None
    rewritten: int | None = None

    @property
    def resource(self) -> ServedResource:
        return self.run.target.resource


MayFinish = Callable[[Target], Awaitable[bool]]


@dataclass
class ControllerEngine:
    """Implements Engine. ``may_finish`` says whether the direct engine would be allowed to do a resource."""

    dialect: Dialect
    lanes: Lanes
    direct: DirectEngine
    manners: Manners
    may_finish: MayFinish
    report: Report
    trimmed: list[_crds.Trimmed] = field(default_factory=list)
    _control: Control = field(default_factory=Control)
    _marks: dict[str, tuple[object, ...]] = field(default_factory=dict)
    _alive: bool = False
    _moved_at: float = 0.0

    @property
    def name(self) -> str:
        return self.dialect.name

    async def migrate(self, runs: list[ResourceRun], control: Control) -> None:
        self._control = control
        pieces: list[_Piece] = []
        by_hand: list[ResourceRun] = []
        for run in runs:
            why = self._only_direct(run.target)
            if why is None:
                pieces.append(_Piece(run, self.dialect.object_name(run.target.resource)))
            else:
                self._hand_over(run, why)
                by_hand.append(run)
        if by_hand:
            await self.direct.migrate(by_hand, control)
        if pieces and control.stopped is None:
            await self._by_controller(pieces)

    def _only_direct(self, target: Target) -> str | None:
        if target.objects is not None:
            return "only some of its objects are to be visited, and the controller knows only whole resources"
        return self.dialect.cannot(target.resource)

    def _hand_over(self, run: ResourceRun, why: str) -> None:
        run.engine, run.why_engine = self.direct.name, why

    # The controller's part

    async def _by_controller(self, pieces: list[_Piece]) -> None:
        failed: list[_Piece] = []
        self._moved_at = time.monotonic()
        try:
            await self._follow(pieces, failed)
        finally:
            # Also what failed is kept if the user wants to look at it; what was cut off is not.
            await self._withdraw([piece for piece in pieces if not (self.manners.keep and piece.progress.phase.final)])
        if failed and self._control.stopped is None:
            await self._finish(failed)
        for piece in pieces:
            if piece.run.finished is None and piece.progress.phase is not Phase.PENDING:
                piece.run.tally.unknown = 1  # Cut off in the middle: who knows what was rewritten.
        await self._look_after_crds(pieces)

    async def _follow(self, pieces: Sequence[_Piece], failed: list[_Piece]) -> None:
        """Until each migration has ended, or the run is stopped."""
        open_pieces = list(pieces)
        cleared = False
        while open_pieces and self._control.stopped is None:
            try:
                if not cleared:
                    await self._clear_leftovers(pieces)
                    cleared = True
                if self._control.writable:
                    await self._create([piece for piece in open_pieces if not piece.exists])
                    await self._look(open_pieces)
                else:
                    # Servers disagree: nothing may be written until they agree again.
                    await self._withdraw(open_pieces)
                    self._moved_at = time.monotonic()
                for piece in [one for one in open_pieces if self._has_ended(one)]:
                    if piece.progress.phase is Phase.SUCCEEDED:
                        await self._close(piece)
                    elif await self._may_be_tried_anew(piece):
                        await self._withdraw([piece])
                        piece.progress = Progress(Phase.PENDING)
                        continue
                    else:
                        failed.append(piece)
                    open_pieces.remove(piece)
            except UnreachableError:
                pass  # Tried again; if no server can be reached, the guard stops the run in time.
            except ApiError as error:
                if error.status < 500 and error.status != 429:
                    self._control.stop(error)
                    return
            if open_pieces and time.monotonic() - self._moved_at > self.manners.patience:
                self._give_up(open_pieces, failed)
                return
            await asyncio.sleep(_LOOK_EVERY)

    async def _create(self, pieces: Sequence[_Piece]) -> None:
        slots = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def create(piece: _Piece) -> None:
            async with slots:
                if not self._control.writable:
                    return
                server = await self._server()
                if piece.attempts == 0:
                    piece.before = await snapshot(server, piece.resource, self.manners.page_size)
                    if "." in piece.resource.group and self.dialect.trims:
                        piece.stored_versions = await _crds.stored_versions(server, piece.resource.name)
                    if piece.before is not None:
                        piece.run.total = len(piece.before)
                        for key in some_keys(piece.before, _SAMPLE):
                            piece.run.remember(key)
                piece.exists = True  # Whether an answer comes or not.
                try:
                    await server.json("POST", self.dialect.collection, body=self._document(piece))
                except ApiError as error:
                    piece.exists = error.status == 409 and await self._is_ours(server, piece)
                    if not piece.exists:
                        raise
                piece.attempts += 1
                self._moved_at = time.monotonic()  # A long list before it was our time, not the controller's.
                piece.progress, piece.ended_at = Progress(Phase.PENDING), None
                self._marks.pop(piece.name, None)

        answers = await asyncio.gather(*(create(piece) for piece in pieces), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    async def _is_ours(self, server: ApiServer, piece: _Piece) -> bool:
        """Whether the object of that name was made by an attempt of this run whose answer got lost."""
        document = await server.get(f"{self.dialect.collection}/{piece.name}")
        return bool((document["metadata"].get("labels") or {}).get(LABEL) == LABEL_VALUE)

    def _document(self, piece: _Piece) -> dict[str, Any]:
        return {
            "apiVersion": f"{self.dialect.group}/{self.dialect.version}",
            "kind": "StorageVersionMigration",
            "metadata": {"name": piece.name, "labels": {LABEL: LABEL_VALUE}},
            "spec": {"resource": self.dialect.resource(piece.resource)},
        }

    async def _look(self, pieces: Iterable[_Piece]) -> None:
        """Takes down what the controller says of all migrations, others' too: those show that it is at work."""
        found = await self._list()
        for name, document in found.items():
            progress = self.dialect.progress(document)
            marks = progress.marks(document)
            if name in self._marks and self._marks[name] != marks:
                self._alive = True
                self._moved_at = time.monotonic()
            self._marks[name] = marks
        for piece in pieces:
            mine = found.get(piece.name)
            if mine is None:
                piece.exists = False  # Deleted by somebody else; it is made again.
                if piece.attempts > _ANEW:
                    piece.progress = Progress(Phase.FAILED, message="somebody keeps deleting its migration")
                continue
            piece.progress = self.dialect.progress(mine)
            run = piece.run
            if piece.progress.phase is not Phase.PENDING:
                self._alive = True
                run.started = run.started or time.monotonic()
            run.reported = piece.progress.done if piece.progress.done is not None else run.reported
            run.total = run.total if piece.before is not None else piece.progress.total
            if piece.progress.phase.final and piece.ended_at is None:
                piece.ended_at = self._moved_at = time.monotonic()

    def _has_ended(self, piece: _Piece) -> bool:
        progress = piece.progress
        if not progress.phase.final:
            return False
        tidied = progress.settled or piece.stored_versions is None
        return tidied or time.monotonic() - (piece.ended_at or 0.0) > _TIDIES_FOR

    async def _close(self, piece: _Piece) -> None:
        """Counts what was done to a resource that is."""
        run = piece.run
        run.tally.add(await self._count(piece) or Tally(unknown=1))
        run.listed = True
        run.finished = time.monotonic()
        run.started = run.started or run.finished
        self._moved_at = run.finished
        if not self.manners.keep:
            await self._withdraw([piece])

    async def _count(self, piece: _Piece) -> Tally | None:
        """What became of the objects since the beginning; None if they can't be listed."""
        if piece.before is None:
            return None
        after = await snapshot(await self._server(), piece.resource, self.manners.page_size)
        return None if after is None else compare(piece.before, after)

    async def _may_be_tried_anew(self, piece: _Piece) -> bool:
        """A failed migration is final, so it is made anew, unless the direct engine can take over right away."""
        if piece.attempts >= _ANEW or not self.manners.fall_back or self._control.stopped is not None:
            return False
        return not await self.may_finish(piece.run.target)

    def _give_up(self, pieces: Sequence[_Piece], failed: list[_Piece]) -> None:
        """Nothing moved for too long."""
        waited = f"{self.manners.patience:g} s"
        if not self._alive:
            self._control.stop(
                MigrationIncompleteError(
                    f"No controller took up the {len(pieces)} {self.dialect.kind}.{self.dialect.group} within {waited} "
                    f"(controller_timeout); they were deleted again. To use {self.dialect.title}, "
                    f"{self.dialect.how_to_start}; or use engine: direct."
                )
            )
            return
        for piece in pieces:
            message = f"it made no progress for {waited} (controller_timeout)"
            if piece.progress.message:
                message += f", the last it said was: {piece.progress.message}"
            piece.progress = replace(piece.progress, message=message)
            failed.append(piece)

    # What is left to our own means

    async def _finish(self, failed: Sequence[_Piece]) -> None:
        """Finishes by the direct engine what the controller failed at; else finds out what it failed at."""
        taken: list[_Piece] = []
        for piece in failed:
            why = redact(f"{self.dialect.title} failed at it: {piece.progress.message}")
            if self._control.stopped is not None:
                return
            allowed = await self.may_finish(piece.run.target)
            if self.manners.fall_back and allowed:
                self.report(Event("notice", f"{piece.resource.name} is finished by the direct engine; {why}", {}))
                self._hand_over(piece.run, why)
                counted = await self._count(piece)
                piece.rewritten = None if counted is None else counted.rewritten
                taken.append(piece)
                continue
            culprit = await self._find_culprit(piece) if allowed else None
            failure = culprit or Failure(piece.resource.name, None, None, 0, MIGRATION_FAILED, why)
            piece.run.failures.append(failure)
            piece.run.tally.unknown = 1
            piece.run.finished = time.monotonic()
            if not self.manners.fall_back:
                self._control.stop(
                    MigrationIncompleteError(
                        f"Stopped, as on_error=stop asks, since {self.dialect.title} failed: {describe_failure(failure)}. "
                        "Mend it and run again."
                    )
                )
        if taken:
            await self.direct.migrate([piece.run for piece in taken], self._control)
            for piece in taken:
                _credit(piece.run.tally, piece.rewritten)

    async def _find_culprit(self, piece: _Piece) -> Failure | None:
        """The first object whose rewrite is refused, found by dry runs; None if none is refused to us."""
        run = ResourceRun(replace(piece.run.target, token=None), self.direct.name)
        await self.direct.rehearsal().migrate([run], Control())
        return next(iter(run.failures), None)

    async def _look_after_crds(self, pieces: Iterable[_Piece]) -> None:
        """What the in-tree controller did to CRDs: trimmed is told, trimmed too early is put back, locks are ended."""
        for piece in pieces:
            if piece.stored_versions is None:
                continue
            name, before = piece.resource.name, piece.stored_versions
            try:
                server = await self._server()
                if not piece.progress.phase.final:
                    await _crds.end_migrating(server, name)
                after = await _crds.stored_versions(server, name)
                if after is None or after == before or not set(after) < set(before):
                    continue
                if piece.run.complete:
                    self.trimmed.append(_crds.Trimmed(name, before, after))
                elif await _crds.put_back(server, name, before):
                    self.report(
                        Event(
                            "notice",
                            f"storedVersions of {name} were trimmed though its migration failed; they were put back.",
                            {},
                        )
                    )
            except StorageUpgradeError as error:
                self.report(Event("notice", f"The CRD {name} could not be looked after: {error.message}", {}))

    # The migration objects

    async def _server(self) -> ApiServer:
        """A server in use; waits while there is none (the guard gives up in time)."""
        while True:
            lane = self.lanes.least_loaded()
            if lane is not None:
                return lane.server
            if self._control.stopped is not None:
                raise UnreachableError("No API server can be used.", kind="refused")
            await asyncio.sleep(_LOOK_EVERY)

    async def _list(self) -> dict[str, dict[str, Any]]:
        """All migrations by name."""
        found: dict[str, dict[str, Any]] = {}
        answer = await (await self._server()).get(self.dialect.collection)
        for item in answer.get("items") or ():
            found[item["metadata"]["name"]] = item
        return found

    async def _clear_leftovers(self, pieces: Sequence[_Piece]) -> None:
        """Deletes what an ended run of ours left: it says nothing of what is stored now.

        Another run can't be using it, as the Lease is ours. What was kept on purpose stays, unless its
        resource is migrated anew.
        """
        ours = [self.dialect.resource(piece.resource) for piece in pieces]
        names = []
        for name, document in (await self._list()).items():
            labels = document["metadata"].get("labels") or {}
            if labels.get(LABEL) != LABEL_VALUE:
                continue
            resource = (document.get("spec") or {}).get("resource") or {}
            if _same(resource, ours) or not self.dialect.progress(document).phase.final:
                names.append(name)
        for name in names:
            await self._delete(name)

    async def _withdraw(self, pieces: Iterable[_Piece]) -> None:
        """Deletes the migrations of these pieces."""
        for piece in pieces:
            if not piece.exists:
                continue
            try:
                await self._delete(piece.name)
            except StorageUpgradeError as error:
                self.report(
                    Event(
                        "notice",
                        f"The {self.dialect.kind}.{self.dialect.group} {piece.name} could not be deleted: "
                        f"{error.message} Delete it, or leave it to the next run.",
                        {},
                    )
                )
            piece.exists = False

    async def _delete(self, name: str) -> None:
        for last in (False, False, True):
            try:
                await (await self._delete_server()).json("DELETE", f"{self.dialect.collection}/{name}")
                return
            except ApiError as error:
                if error.status == 404:
                    return
                if last or (error.status < 500 and error.status != 429):
                    raise
            except UnreachableError:
                if last:
                    raise
            await asyncio.sleep(_LOOK_EVERY)

    async def _delete_server(self) -> ApiServer:
        """Also after the stop, when no lane may be in use."""
        lane = self.lanes.least_loaded()
        return lane.server if lane is not None else await self._server()


def _same(resource: Mapping[str, str], ours: Collection[Mapping[str, str]]) -> bool:
    """Whether it is one of these resources, whatever its version."""
    return any(
        (resource.get("group") or "", resource.get("resource")) == (one.get("group") or "", one.get("resource"))
        for one in ours
    )


def _credit(tally: Tally, rewritten: int | None) -> None:
    """Adds to what the direct engine counted, which found them current, the objects that the controller had rewritten."""
    if rewritten is None:
        tally.unknown = 1
        return
    tally.unchanged -= min(rewritten, tally.unchanged)
    tally.rewritten += rewritten


def needs(dialect: Dialect) -> list[Need]:
    """What the migration objects themselves take; the objects that are rewritten are the controller's to be allowed."""
    return [Need(verb, dialect.group, dialect.kind) for verb in ("list", "create", "delete")]
