# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine that has a controller in the cluster do the rewriting.

It creates one migration object for each resource, follows its status, counts the rewritten objects itself, and deletes the
migration object. The direct engine finishes what the controller can't do, or fails at, if the user may.

A controller's report proves nothing: both controllers mistake any 404 for a deleted object
(k8s.io/kubernetes, pkg/controller/storageversionmigrator/storageversionmigrator.go; kube-storage-version-migrator,
pkg/migrator/core.go). An object with a new resourceVersion was written while all servers agreed; the direct engine
visits all others. If the user may not do that, the resource does not count as migrated.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol, TypeVar

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    ApiError,
    EtcdFullError,
    MigrationIncompleteError,
    StorageUpgradeError,
    UnreachableError,
    UnreachableKind,
    is_passing,
    says_that_etcd_is_full,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event, Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.gathering import gather_limited
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import duration, some_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.redaction import redact
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer, WriteGate
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.crds import (
    StoredVersions,
    Trimmed,
    end_migrating,
    put_back_stored_versions,
    read_stored_versions,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import path_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.permissions import Need
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import Control, ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.direct import DirectEngine
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.endpoints import EndpointPool
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.snapshots import (
    Snapshot,
    compare,
    snapshot,
    some_keys,
    untouched,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import (
    MIGRATION_FAILED,
    Failure,
    Verdict,
    describe_failure,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey, Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

PREFIX = "kube-storage-upgrade"
LABEL, LABEL_VALUE = "app.kubernetes.io/managed-by", PREFIX

_LOOK_EVERY = 0.5
_SIDE_BY_SIDE = 8
_SAMPLE = 5
# After a CRD's migration the in-tree controller cleans up the CRD; older ones never report that.
_TIDIES_FOR = 15.0
_ANEW = 2
_TRIES = 3
_LOOK_SOON = 0.1
# How long an object that was deleted may be there because of finalizers.
_GONE_WITHIN = 10.0
# What takes the controller longer than this is told before it begins.
_WORTH_TELLING = 60.0
T = TypeVar("T")


class Phase(Enum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        return self in (Phase.SUCCEEDED, Phase.FAILED)


@dataclass(frozen=True)
class MigrationStatus:
    """The status of a migration object. ``settled``: the controller has nothing left to do after the end."""

    phase: Phase
    done: int | None = None
    total: int | None = None
    message: str = ""
    settled: bool = True

    def marks(self, document: Mapping[str, Any]) -> tuple[object, ...]:
        """Changes only if the controller makes progress; transient error messages don't count."""
        token = (document.get("spec") or {}).get("continueToken")
        return self.phase, self.done, self.total, self.settled, token


def conditions_of(document: Mapping[str, Any]) -> dict[str, tuple[bool, str]]:
    """By type of condition: whether it holds, and its message."""
    found = (document.get("status") or {}).get("conditions") or ()
    return {
        condition.get("type", ""): (condition.get("status") == "True", condition.get("message") or "")
        for condition in found
    }


class Dialect(Protocol):
    """One controller's API: what its migration objects are called, what is in them, and what their status means.

    ``name``: of the engine, as in the option ``engine``. ``title``: what messages call the controller.
    ``process``: what runs it.
    ``how_to_start``: what to do if nothing takes up a migration, as the rest of a sentence that says so.
    ``group``, ``version``: of its API. ``kind``: the plural of its migration objects, as in paths and permissions.
    ``collection``: their path.
    ``trims``: whether it also trims ``status.storedVersions`` of CRDs.
    ``objects_per_second``: its own limit; None if it has none. ``may_hang``: an object of an earlier run may keep it from
    taking up anything.
    """

    name: str
    title: str
    process: str
    how_to_start: str
    group: str
    version: str
    kind: str
    collection: str
    trims: bool
    objects_per_second: float | None
    may_hang: bool

    def object_name(self, resource: ServedResource) -> str:
        """The name of the migration object for a resource; the same for all attempts of a run."""

    def resource(self, resource: ServedResource) -> dict[str, str]:
        """``spec.resource`` of the migration object."""

    def cannot(self, resource: ServedResource) -> str | None:
        """Why the controller could never migrate this resource, so that the direct engine does it; None if it can."""

    def progress(self, document: Mapping[str, Any]) -> MigrationStatus:
        """What a migration object, as read from an API server, says about its migration; anybody's, not only this run's."""


@dataclass(frozen=True)
class ControllerSettings:
    """``stall_timeout``: seconds without any progress. ``fall_back``: have the direct engine finish what failed.

    ``say``: makes a controller's message safe to show.
    """

    stall_timeout: float = 300.0
    keep: bool = False
    fall_back: bool = True
    page_size: int = 500
    say: Callable[[str], str] = redact


@dataclass
class _ControllerMigration:
    """The migration of one resource by the controller.

    ``first``: the objects before its first attempt, to count with. ``before``: those before the present attempt, during which
    all API servers agreed. ``untouched``: objects whose resourceVersion did not change since ``before``.
    ``ended_at``: when its migration object was first seen to have succeeded or failed, as the controller says.
    ``uid``: that of its migration object. ``began``: the controller has taken it up, so it may have written objects.
    """

    run: ResourceRun
    name: str
    first: Snapshot | None = None
    before: Snapshot | None = None
    stored_versions: StoredVersions | None = None
    exists: bool = False
    attempts: int = 0
    progress: MigrationStatus = MigrationStatus(Phase.PENDING)
    ended_at: float | None = None
    uid: str | None = None
    began: bool = False
    untouched: tuple[ObjectKey, ...] = ()

    def begin_anew(self) -> None:
        """Forgets the attempt: what was written while API servers may have disagreed proves nothing."""
        self.before, self.attempts, self.ended_at = None, 0, None
        self.progress = MigrationStatus(Phase.PENDING)

    @property
    def resource(self) -> ServedResource:
        return self.run.target.resource


MayFinish = Callable[[Target], Awaitable[bool]]


class StorageRecord(Protocol):
    """The cluster's own record of the versions that objects may be stored in."""

    async def begun(self, targets: Iterable[Target]) -> None:
        """Before anything is written."""

    async def proven(self, targets: Iterable[Target]) -> None:
        """After the proof."""


@dataclass
class ControllerEngine:
    """Implements Engine.

    ``may_finish``: whether the user may list and patch a resource, so that the direct engine can do it.
    ``withdrawals``: whether migration objects may be deleted. A full etcd, which stops all other writes, accepts that; left there, they would
    have the controller fill it again as soon as somebody has freed space.
    ``record``: kept up to date if the cluster has one; None if it has none.
    """

    dialect: Dialect
    endpoints: EndpointPool
    direct: DirectEngine
    settings: ControllerSettings
    may_finish: MayFinish
    report: Report
    withdrawals: WriteGate = field(default_factory=WriteGate)
    record: StorageRecord | None = None
    trimmed: dict[str, Trimmed] = field(default_factory=dict)
    _control: Control = field(default_factory=Control)
    _marks: dict[str, tuple[object, ...]] = field(default_factory=dict)
    _alive: bool = False
    _moved_at: float = 0.0
    _told_duration: bool = False

    @property
    def name(self) -> str:
        return self.dialect.name

    async def begin(self, targets: Sequence[Target]) -> None:
        if self.record is not None:
            await self.record.begun(targets)

    async def end(self, proven: Sequence[Target]) -> list[Trimmed]:
        trimmed = await self._put_back_unproven({target.name for target in proven})
        if self.record is not None:
            await self.record.proven(proven)
        return trimmed

    async def migrate(self, runs: list[ResourceRun], control: Control) -> None:
        self._control = control
        migrations: list[_ControllerMigration] = []
        by_hand: list[ResourceRun] = []
        for run in runs:
            why = self._only_direct(run.target)
            if why is None:
                migrations.append(_ControllerMigration(run, self.dialect.object_name(run.target.resource)))
            else:
                self._hand_over(run, why)
                by_hand.append(run)
        if by_hand:
            await self.direct.migrate(by_hand, control)
        if migrations and control.stopped is None:
            await self._by_controller(migrations)

    def _only_direct(self, target: Target) -> str | None:
        if target.objects is not None:
            return "only some of its objects are to be visited, and the controller knows only whole resources"
        if self.direct.is_withheld(target.name):
            return "some of its objects would lose fields, and the controller would rewrite them anyway"
        return self.dialect.cannot(target.resource)

    def _hand_over(self, run: ResourceRun, why: str) -> None:
        run.engine, run.why_engine = self.direct.name, why

    # The controller's part

    async def _by_controller(self, migrations: list[_ControllerMigration]) -> None:
        try:
            await self._migrate_and_verify(migrations)
        finally:
            await self._look_after_crds(migrations)

    async def _migrate_and_verify(self, migrations: Sequence[_ControllerMigration]) -> None:
        failed: list[_ControllerMigration] = []
        self._moved_at = time.monotonic()
        try:
            await self._follow(migrations, failed)
        finally:
            # Failed ones are also kept if the user wants to see them; those that a controller might still take up are not.
            await self._withdraw(
                [migration for migration in migrations if not (self.settings.keep and migration.ended_at is not None)]
            )
        await self._verify([migration for migration in migrations if migration.progress.phase is Phase.SUCCEEDED])
        if failed and self._control.stopped is None:
            await self._finish(failed)
        for migration in migrations:
            if migration.run.finished is None and migration.began:
                migration.run.lose_count()  # Interrupted in the middle, and the controller may still go on.

    async def _follow(self, migrations: Sequence[_ControllerMigration], failed: list[_ControllerMigration]) -> None:
        """Until each migration has ended, or the run is stopped."""
        open_migrations = list(migrations)
        cleared = False
        while open_migrations and self._control.stopped is None:
            try:
                if not cleared:
                    await self._clear_leftovers(migrations)
                    cleared = True
                if self._control.writable:
                    await self._create([migration for migration in open_migrations if not migration.exists])
                    self._tell_duration(migrations)
                    await self._look(open_migrations)
                else:
                    # Servers disagree, or nobody watched them: nothing may be written until they are seen to agree again.
                    await self._withdraw(open_migrations)
                    for migration in open_migrations:
                        migration.begin_anew()
                    self._moved_at = time.monotonic()
                for migration in [migration for migration in open_migrations if self._has_ended(migration)]:
                    if migration.progress.phase is Phase.SUCCEEDED:
                        await self._close(migration)
                    elif await self._may_be_tried_anew(migration):
                        await self._withdraw([migration])
                        migration.progress = MigrationStatus(Phase.PENDING)
                        continue
                    else:
                        failed.append(migration)
                    open_migrations.remove(migration)
            except UnreachableError:
                pass  # Try again; if no server can be reached, the guard stops the run in time.
            except ApiError as error:
                if not is_passing(error):
                    self._control.stop(error)
                    return
            if open_migrations and time.monotonic() - self._moved_at > self.settings.stall_timeout:
                await self._give_up(open_migrations, failed)
                return
            await asyncio.sleep(_LOOK_EVERY)

    async def _create(self, migrations: Sequence[_ControllerMigration]) -> None:
        """Creates as many as possible; then raises the first error."""

        async def create(migration: _ControllerMigration) -> StorageUpgradeError | None:
            try:
                if self._control.writable:
                    await self._create_one(migration)
            except StorageUpgradeError as error:
                return error
            return None

        for error in await gather_limited(_SIDE_BY_SIDE, create, migrations):
            if error is not None:
                raise error

    def _tell_duration(self, migrations: Sequence[_ControllerMigration]) -> None:
        """How long a controller with a limit of its own will take, once."""
        rate = self.dialect.objects_per_second
        objects = sum(migration.run.total or 0 for migration in migrations)
        if self._told_duration or rate is None or objects / rate < _WORTH_TELLING:
            return
        self._told_duration = True
        self.report(
            Event(
                "notice",
                f"{self.dialect.title} rewrites at most about {rate:g} objects per second, because of its own limit, so {objects} objects take "
                f"at least {duration(objects / rate)}; engine: direct has no such limit.",
                {},
            )
        )

    async def _create_one(self, migration: _ControllerMigration) -> None:
        server = await self._server()
        if migration.attempts == 0:
            await self._look_before(server, migration)
        migration.exists = True  # Whether or not an answer arrives.
        migration.uid = None
        try:
            made = await server.json("POST", self.dialect.collection, body=self._document(migration))
            migration.uid = (made.get("metadata") or {}).get("uid")
        except ApiError as error:
            migration.exists = error.status == 409 and await self._is_ours(migration)
            if not migration.exists:
                raise
        migration.attempts += 1
        self._moved_at = time.monotonic()  # The time of a long list before it was ours, not the controller's.
        migration.progress, migration.ended_at = MigrationStatus(Phase.PENDING), None
        self._marks.pop(migration.name, None)

    async def _look_before(self, server: ApiServer, migration: _ControllerMigration) -> None:
        """The state of the objects and the CRD before the controller begins."""
        migration.before = await snapshot(server, migration.resource, self.settings.page_size)
        migration.first = migration.first or migration.before
        if "." in migration.resource.group and self.dialect.trims:
            found, known = await read_stored_versions(server, migration.resource.name), migration.stored_versions
            if known is None or (found is not None and found.uid != known.uid):
                migration.stored_versions = found  # Otherwise the controller may have trimmed it in an earlier attempt.
        if migration.before is not None:
            migration.run.total = len(migration.before)
            for key in some_keys(migration.before, _SAMPLE):
                migration.run.remember(key)

    async def _is_ours(self, migration: _ControllerMigration) -> bool:
        """Whether this run created the object of that name in an attempt whose answer was lost."""
        # Listed, since the user may not get it.
        metadata = (await self._list()).get(migration.name, {}).get("metadata") or {}
        ours = (metadata.get("labels") or {}).get(LABEL) == LABEL_VALUE and "deletionTimestamp" not in metadata
        migration.uid = metadata.get("uid") if ours else None
        return bool(ours)

    def _document(self, migration: _ControllerMigration) -> dict[str, Any]:
        return {
            "apiVersion": f"{self.dialect.group}/{self.dialect.version}",
            "kind": "StorageVersionMigration",
            "metadata": {"name": migration.name, "labels": {LABEL: LABEL_VALUE}},
            "spec": {"resource": self.dialect.resource(migration.resource)},
        }

    async def _look(self, migrations: Iterable[_ControllerMigration]) -> None:
        """Notes the status of all migrations, others' too: those show that the controller is working."""
        found = await self._list()
        for name, document in found.items():
            progress = self.dialect.progress(document)
            marks = progress.marks(document)
            if name in self._marks and self._marks[name] != marks:
                self._alive = True
                self._moved_at = time.monotonic()
            self._marks[name] = marks
        for migration in migrations:
            mine = found.get(migration.name)
            if mine is None:
                migration.exists = False  # Somebody else deleted it; create it again.
                if migration.attempts > _ANEW:
                    migration.progress = MigrationStatus(
                        Phase.FAILED, message="somebody keeps deleting its migration object"
                    )
                continue
            self._note(migration, mine)
            if says_that_etcd_is_full(migration.progress.message):
                raise EtcdFullError()
            run = migration.run
            if migration.progress.phase is not Phase.PENDING:
                self._alive = True
                run.started = run.started or time.monotonic()
            run.reported = migration.progress.done if migration.progress.done is not None else run.reported
            run.total = run.total if migration.before is not None else migration.progress.total
            if migration.progress.phase.final and migration.ended_at is None:
                migration.ended_at = self._moved_at = time.monotonic()

    def _note(self, migration: _ControllerMigration, document: Mapping[str, Any]) -> None:
        migration.uid = document["metadata"].get("uid")
        migration.progress = self.dialect.progress(document)
        migration.began = migration.began or migration.progress.phase is not Phase.PENDING

    def _has_ended(self, migration: _ControllerMigration) -> bool:
        progress = migration.progress
        if not progress.phase.final:
            return False
        tidied = progress.settled or migration.stored_versions is None
        return tidied or time.monotonic() - (migration.ended_at or 0.0) > _TIDIES_FOR

    async def _close(self, migration: _ControllerMigration) -> None:
        """Counts what was done to a resource that the controller reports as done."""
        run = migration.run
        after = None if migration.before is None else await self._snapshot(migration)
        if migration.before is None or after is None:
            run.lose_count()
            run.unproven = f"{_only_reported(self.dialect)}: its objects could not be listed"
        else:
            for key, verdict in compare(migration.first or migration.before, after):
                run.count(key, verdict)
            migration.untouched = untouched(migration.before, after)
            if migration.untouched:
                # The guard may look at any time, so it must never see this run complete before they were visited.
                run.unproven = f"{_only_reported(self.dialect)}: the run ended before its objects were visited"
        run.listed = True
        run.finished = time.monotonic()
        run.started = run.started or run.finished
        self._moved_at = run.finished
        if not self.settings.keep:
            await self._withdraw([migration])

    async def _snapshot(self, migration: _ControllerMigration) -> Snapshot | None:
        return await snapshot(await self._server(), migration.resource, self.settings.page_size)

    async def _recount(self, migration: _ControllerMigration) -> None:
        """Counts what the controller wrote of a resource that the direct engine has finished.

        Only now: a controller that was given up may have gone on meanwhile. From here on it finds everything current.
        """
        after = None if migration.first is None else await self._snapshot(migration)
        if migration.first is None or after is None:
            migration.run.lose_count()
            return
        for key, verdict in compare(migration.first, after):
            known = migration.run.visits.of(key)
            if verdict is Verdict.UNCHANGED or (verdict is Verdict.DELETED and known is not None):
                continue
            if known in (None, Verdict.UNCHANGED, Verdict.CONFLICT, verdict) or (
                known is Verdict.UNCERTAIN and verdict is Verdict.REWRITTEN
            ):
                migration.run.recount(key, verdict)

    async def _verify(self, migrations: Sequence[_ControllerMigration]) -> None:
        """Visits objects reported as done whose resourceVersion did not change: they are current, or were skipped."""
        visits: list[tuple[_ControllerMigration, ResourceRun]] = []
        for migration in migrations:
            if not migration.untouched:
                continue
            if await self.may_finish(migration.run.target):
                target = replace(migration.run.target, objects=migration.untouched, token=None)
                visits.append((migration, ResourceRun(target, self.direct.name)))
            else:
                migration.run.unproven = (
                    f"{_only_reported(self.dialect)}: {len(migration.untouched)} of its objects were not written, and the user "
                    "cannot list and patch them to check whether they are current"
                )
        if visits and self._control.stopped is None:
            await self.direct.migrate([visit for _migration, visit in visits], self._control)
        for migration, visit in visits:
            self._take_over(migration, visit)

    def _take_over(self, migration: _ControllerMigration, visit: ResourceRun) -> None:
        """Counts the visited objects by the result of the visit."""
        tally = visit.tally
        migration.run.take_over(visit)
        if visit.finished is not None:
            migration.run.unproven = None
        skipped = tally.rewritten + tally.failed
        if skipped:
            self.report(
                Event(
                    "notice",
                    f"{self.dialect.title} reported {migration.resource.name} as done, but had skipped {skipped} "
                    f"objects that were not current: {tally.rewritten} were rewritten by the direct engine, "
                    f"{tally.failed} could not be.",
                    {},
                )
            )

    async def _may_be_tried_anew(self, migration: _ControllerMigration) -> bool:
        """A failed migration is final, so it is created again, unless the direct engine can take over right away."""
        if migration.attempts >= _ANEW or not self.settings.fall_back or self._control.stopped is not None:
            return False
        return not await self.may_finish(migration.run.target)

    async def _give_up(self, migrations: Sequence[_ControllerMigration], failed: list[_ControllerMigration]) -> None:
        """There was no progress for too long."""
        waited = f"{self.settings.stall_timeout:g} s"
        if not self._alive and await self._direct_may_finish(migrations):
            why = (
                f"nothing took it up within {waited} (controller_timeout); to use it again, {self.dialect.how_to_start}"
            )
            for migration in migrations:
                migration.progress = MigrationStatus(Phase.FAILED, message=why)
                failed.append(migration)
            return
        if not self._alive:
            self._control.stop(
                MigrationIncompleteError(
                    f"No controller took up the {len(migrations)} {self.dialect.kind}.{self.dialect.group} within {waited} "
                    f"(controller_timeout); they were deleted again. To use {self.dialect.title}, "
                    f"{self.dialect.how_to_start}; or use engine: direct."
                )
            )
            return
        for migration in migrations:
            message = f"it made no progress for {waited} (controller_timeout)"
            if migration.progress.message:
                message += f"; its last message was: {migration.progress.message}"
            migration.progress = replace(migration.progress, message=message)
            failed.append(migration)

    async def _direct_may_finish(self, migrations: Sequence[_ControllerMigration]) -> bool:
        """Whether the controller may be stuck, and everything can be done without it."""
        if not self.dialect.may_hang or not self.settings.fall_back:
            return False
        for migration in migrations:
            if not await self.may_finish(migration.run.target):
                return False
        return True

    # Without the controller

    async def _finish(self, failed: Sequence[_ControllerMigration]) -> None:
        """Has the direct engine finish what the controller failed at, or finds out where it failed."""
        taken: list[_ControllerMigration] = []
        for migration in failed:
            why = self.settings.say(f"{self.dialect.title} failed at it: {migration.progress.message}")
            if says_that_etcd_is_full(migration.progress.message):
                self._control.stop(EtcdFullError())
            if self._control.stopped is not None:
                return
            allowed = await self.may_finish(migration.run.target)
            if self.settings.fall_back and allowed:
                self.report(Event("notice", f"The direct engine finishes {migration.resource.name}: {why}", {}))
                self._hand_over(migration.run, why)
                taken.append(migration)
                continue
            culprit = await self._find_culprit(migration) if allowed else None
            failure = culprit or Failure(migration.resource.name, None, None, 0, MIGRATION_FAILED, why)
            migration.run.failures.append(failure)
            migration.run.lose_count()
            migration.run.finished = time.monotonic()
            if not self.settings.fall_back:
                self._control.stop(
                    MigrationIncompleteError(
                        f"Stopped, as on_error=stop asks, since {self.dialect.title} failed: {describe_failure(failure)}. "
                        "Fix it and run again."
                    )
                )
        if taken:
            await self.direct.migrate([migration.run for migration in taken], self._control)
            for migration in taken:
                if migration.run.finished is not None:
                    await self._recount(migration)

    async def _find_culprit(self, migration: _ControllerMigration) -> Failure | None:
        """The first object whose rewrite is refused, found by dry runs; None if none is refused to us."""
        run = ResourceRun(replace(migration.run.target, token=None), self.direct.name)
        await self.direct.rehearsal().migrate([run], Control())
        return next(iter(run.failures), None)

    async def _look_after_crds(self, migrations: Iterable[_ControllerMigration]) -> None:
        """Follows up what the in-tree controller did to CRDs: reports what it trimmed, restores what it trimmed too early.

        Whether a complete migration counts is known only after the pass: see ``_put_back_unproven``.
        """
        for migration in migrations:
            if migration.stored_versions is None:
                continue
            name, before = migration.resource.name, migration.stored_versions
            try:
                server = await self._server()
                if not migration.progress.phase.final:
                    await end_migrating(server, name, before.uid)
                after = await read_stored_versions(server, name)
                if after is None or after.uid != before.uid or set(before.versions) <= set(after.versions):
                    continue
                known = self.trimmed.get(name)
                first = known.before if known is not None and known.uid == before.uid else before.versions
                # Whatever can't be restored now is tried again at the end.
                self.trimmed[name] = Trimmed(name, first, after.versions, before.uid)
                if not migration.run.complete:
                    await self._put_back(server, name, StoredVersions(before.uid, first))
                    del self.trimmed[name]
            except StorageUpgradeError as error:
                self.report(
                    Event("notice", f"What the controller did to the CRD {name} is unknown: {error.message}", {})
                )

    async def _put_back_unproven(self, proven: Collection[str]) -> list[Trimmed]:
        """Reports what the controller trimmed if the resources are ``proven``, and restores it for others."""
        for name in sorted(set(self.trimmed) - set(proven)):
            try:
                was = self.trimmed[name]
                await self._put_back(await self._server(), name, StoredVersions(was.uid, was.before))
            except StorageUpgradeError as error:
                before = ", ".join(self.trimmed[name].before)
                self.report(
                    Event(
                        "notice",
                        f"{self.dialect.title} trimmed storedVersions of {name}, which is not proven to be migrated, and "
                        f"they could not be restored: {error.message} Set its status.storedVersions to {before} again.",
                        {},
                    )
                )
        return [trimmed for name, trimmed in self.trimmed.items() if name in proven]

    async def _put_back(self, server: ApiServer, name: str, before: StoredVersions) -> None:
        if await put_back_stored_versions(server, name, before):
            self.report(
                Event(
                    "notice",
                    f"storedVersions of {name} were trimmed although its migration is not proven; they were restored.",
                    {},
                )
            )

    # The migration objects

    async def _server(self) -> ApiServer:
        """A usable server, even after the stop; waits while there is none (the guard gives up in time)."""
        while True:
            endpoint = self.endpoints.least_loaded()
            if endpoint is not None:
                return endpoint.server
            if self._control.stopped is not None:
                raise UnreachableError("No API server can be used.", kind=UnreachableKind.REFUSED)
            await asyncio.sleep(_LOOK_EVERY)

    async def _list(self) -> dict[str, dict[str, Any]]:
        """All migrations by name."""
        found: dict[str, dict[str, Any]] = {}
        answer = await (await self._server()).get(self.dialect.collection)
        for item in answer.get("items") or ():
            found[item["metadata"]["name"]] = item
        return found

    async def _clear_leftovers(self, migrations: Sequence[_ControllerMigration]) -> None:
        """Deletes the migrations of an earlier run, which say nothing about what is stored now.

        No other run can be using them, as this one holds the Lease. Those kept on purpose stay, unless their
        resource is migrated again.
        """
        ours = [self.dialect.resource(migration.resource) for migration in migrations]
        names = []
        for name, document in (await self._list()).items():
            labels = document["metadata"].get("labels") or {}
            if labels.get(LABEL) != LABEL_VALUE:
                continue
            resource = (document.get("spec") or {}).get("resource") or {}
            if _same(resource, ours) or not self.dialect.progress(document).phase.final:
                names.append(name)
        for error in (await self._remove(dict.fromkeys(names))).values():
            raise error

    async def _withdraw(self, migrations: Iterable[_ControllerMigration]) -> None:
        """Deletes these migration objects and waits until they are gone; notes if the controller took one up before."""
        by_name = {migration.name: migration for migration in migrations if migration.exists}
        held = not self._control.writable

        def note(name: str, document: Mapping[str, Any]) -> None:
            by_name[name].began = by_name[name].began or self.dialect.progress(document).phase is not Phase.PENDING

        left = await self._remove({name: migration.uid for name, migration in by_name.items()}, note)
        for name, error in left.items():
            by_name[name].began = True
            self.report(
                Event(
                    "notice",
                    f"The {self.dialect.kind}.{self.dialect.group} {name} could not be deleted: {error.message} "
                    "Delete it, or leave it to the next run.",
                    {},
                )
            )
        if held:
            self._tell_what_goes_on([by_name[name] for name in by_name if name not in left])
        for migration in by_name.values():
            migration.exists = False

    def _tell_what_goes_on(self, withdrawn: Iterable[_ControllerMigration]) -> None:
        """Neither controller looks at a migration object again before it has gone through the whole resource."""
        names = [
            migration.resource.name for migration in withdrawn if migration.began and not migration.progress.phase.final
        ]
        if names:
            self.report(
                Event(
                    "notice",
                    f"The migration of {some_of(names)} was withdrawn, but {self.dialect.title} had begun it and may still write the "
                    f"rest of its objects. To prevent that, restart {self.dialect.process}.",
                    {},
                )
            )

    async def _remove(
        self,
        uids: Mapping[str, str | None],
        note: Callable[[str, Mapping[str, Any]], None] = lambda name, document: None,
    ) -> dict[str, StorageUpgradeError]:
        """Deletes objects by name and uid (None: whichever it is) and waits until they are gone; returns what failed.

        Each is deleted only in the very state that ``note`` was told, so a controller can't take it up in between: it writes
        the status of a migration before the first object.
        """
        waiting, failed = dict(uids), dict[str, StorageUpgradeError]()
        deadline = time.monotonic() + _GONE_WITHIN
        while waiting:
            try:
                found = await self._persistently(self._list)
            except StorageUpgradeError as error:
                return {**failed, **dict.fromkeys(waiting, error)}
            for name, uid in list(waiting.items()):
                metadata = found[name]["metadata"] if name in found else {}
                if not metadata or uid not in (None, metadata.get("uid")):
                    del waiting[name]
                    continue
                waiting[name] = metadata.get("uid")
                note(name, found[name])
                try:
                    await self._persistently(lambda: self._delete(metadata))  # noqa: B023
                except StorageUpgradeError as error:
                    failed[name] = error
                    del waiting[name]
            if waiting and time.monotonic() > deadline:
                late = StorageUpgradeError(
                    f"it is still there after {_GONE_WITHIN:g} s, which its finalizers may show."
                )
                return {**failed, **dict.fromkeys(waiting, late)}
            if waiting:
                await asyncio.sleep(_LOOK_SOON)
        return failed

    async def _delete(self, metadata: Mapping[str, Any]) -> None:
        """Deletes an object unless it has changed since, or is on its way already."""
        if metadata.get("deletionTimestamp"):
            return
        same = {name: metadata[name] for name in ("uid", "resourceVersion") if name in metadata}
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": same}
        try:
            server = (await self._server()).gated_by(self.withdrawals)
            await server.json("DELETE", self._path(str(metadata["name"])), body=options)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def _persistently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Through any server: one that does not answer is taken out before the next try."""
        for attempt in range(1, _TRIES + 1):
            try:
                return await ask()
            except (ApiError, UnreachableError) as error:
                if attempt == _TRIES or not is_passing(error):
                    raise
            await asyncio.sleep(_LOOK_EVERY)
        raise AssertionError("unreachable")

    def _path(self, name: str) -> str:
        return path_of(f"/apis/{self.dialect.group}/{self.dialect.version}", self.dialect.kind, name=name)


def _same(resource: Mapping[str, str], ours: Collection[Mapping[str, str]]) -> bool:
    """Whether it is one of these resources, whatever its version."""
    return any(
        (resource.get("group") or "", resource.get("resource")) == (own.get("group") or "", own.get("resource"))
        for own in ours
    )


def _only_reported(dialect: Dialect) -> str:
    return f"only {dialect.title} reports it as done"


def needs(dialect: Dialect) -> list[Need]:
    """Permissions for the migration objects; the controller has its own for the objects that it rewrites."""
    return [Need(verb, dialect.group, dialect.kind) for verb in ("list", "create", "delete")]
