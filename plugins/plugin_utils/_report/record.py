# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The records of reports, as in the JSON beside the page. Pure.

A Record describes one upgrade to one release, or one rotation to one key, over all its runs. A Snapshot describes the state
at one moment. Times are in UTC, as in ``2026-11-24T12:00:01.000Z``, durations in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Union

from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import at_release
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.json_data import (
    LEFT_OUT,
    NAMED,
    UnreadableDataError,
    from_json,
)

FORMAT = 1
UPGRADE, ROTATION, CHECK, AUDIT = "upgrade", "key_rotation", "check", "audit"


# API servers


@dataclass
class Sampling:
    """The evidence for agreement by sampling; ``chance_missed`` is the chance that an API server was never reached."""

    connections: int | None = None
    told_apart: int | None = None
    servers: int | None = None
    chance_missed: float | None = None


@dataclass
class ObservedServer:
    """``version`` is the release that it runs as; ``binary`` is its own release if it emulates another one."""

    url: str
    name: str | None
    version: str | None
    ready: bool
    error: str | None
    binary: str | None = field(default=None, metadata=LEFT_OUT)

    def is_at(self, release: str | None) -> bool:
        """Whether it was ready at that release."""
        emulated = self.version if self.binary else None
        return self.ready and at_release(self.binary or self.version, release, emulated)


@dataclass
class RecordedObservation:
    """What all API servers said, from the ``first`` to the ``last`` observation; ``versions`` has storage versions that differ, by resource and URL."""

    first: str
    last: str
    servers: list[ObservedServer]
    converged: bool
    reasons: list[str] = field(default_factory=list)
    disagreeing: list[str] = field(default_factory=list)
    versions: dict[str, dict[str, str | None]] = field(default_factory=dict)
    # Only a complete result covers every resource; observations while waiting cover only disagreements.
    complete: bool = False
    sampling: Sampling | None = None
    # Why nobody knows whether other servers were alive; None if it is known.
    unchecked: str | None = field(default=None, metadata=LEFT_OUT)


# Masters and runs


@dataclass
class InventoryMaster:
    """A master's inventory name, and the host it is reached at."""

    name: str
    host: str


@dataclass
class Step:
    """The upgrade of one master, or one ``stage`` of a rotation on it: running, done, failed or "cut off" (interrupted).

    ``completed``: when the master was seen at the release after its step was interrupted.
    """

    master: str
    server: str | None
    from_release: str | None = field(metadata={NAMED: "from"})
    to_release: str | None = field(metadata={NAMED: "to"})
    started: str
    finished: str | None
    state: str
    stage: int | None = field(default=None, metadata=LEFT_OUT)
    completed: str | None = field(default=None, metadata=LEFT_OUT)


@dataclass
class RunFailure:
    """What stopped a run."""

    at: str
    host: str | None
    during: str | None
    message: str


@dataclass
class Run:
    """``status`` is running, succeeded, failed, unfinished or "cut off" (interrupted). ``process``: a digest that no other ansible-playbook has."""

    started: str
    updated: str
    finished: str | None
    status: str
    failures: list[RunFailure] = field(default_factory=list)
    process: str | None = field(default=None, metadata=LEFT_OUT)


@dataclass
class Proof:
    """``etcd``: it was read, and nothing in it was stale; ``one_at_a_time``: no two masters were upgraded at once, None if unknown."""

    at: str
    etcd: bool
    agreed: bool = True
    one_at_a_time: bool | None = None


# Migrations; a count is None if it is unknown


@dataclass
class MigratedResource:
    """``uncertain`` is None also if there are none."""

    rewritten: int | None
    unchanged: int | None
    conflicts: int | None
    deleted: int | None
    failed: int | None
    pruned: int | None
    seconds: float
    storage_version: str | None
    persisted: bool
    reason: str | None = None
    uncertain: int | None = field(default=None, metadata=LEFT_OUT)


@dataclass
class SkippedResource:
    resource: str | None
    reason: str | None


@dataclass
class FailedObject:
    """An object, or a whole list (without a name), that could not be rewritten; ``status`` is 0 without an answer."""

    resource: str | None
    namespace: str | None
    name: str | None
    reason: str | None
    message: str | None
    status: int


@dataclass
class TrimmedCrd:
    crd: str | None
    before: list[str]
    after: list[str]


@dataclass
class ProgressSample:
    """By resource, how many objects were visited and rewritten at a number of seconds after the start."""

    seconds: float
    resources: dict[str, tuple[int, int]]


@dataclass
class EtcdSizes:
    """The size of etcd's database before and after a migration, in bytes; ``reclaimable`` is what a defragmentation would free."""

    before: int
    after: int
    reclaimable: int | None


@dataclass
class Migration:
    started: str
    finished: str
    ok: bool
    message: str | None
    seconds: float
    rate: float
    resumed: bool
    totals: dict[str, int | None] = field(default_factory=dict)
    resources: dict[str, MigratedResource] = field(default_factory=dict)
    skipped: list[SkippedResource] = field(default_factory=list)
    failures: list[FailedObject] = field(default_factory=list)
    trimmed: list[TrimmedCrd] = field(default_factory=list)
    samples: list[ProgressSample] = field(default_factory=list)
    etcd_sizes: EtcdSizes | None = field(default=None, metadata=LEFT_OUT)


# etcd


@dataclass
class StoredVariant:
    """Objects of one resource that are stored in the same way; ``stale`` has the reasons."""

    version: str | None
    encoding: str | None
    provider: str | None
    key: str | None
    objects: int
    stale: list[str] = field(default_factory=list)


@dataclass
class StoredResource:
    objects: int
    stale: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    unprovable: int = 0
    expected: str | None = None
    stored: list[StoredVariant] = field(default_factory=list)


@dataclass
class UnknownPrefix:
    """Keys that belong to no known resource."""

    prefix: str | None
    objects: int


@dataclass
class EtcdDatabase:
    """The database of one etcd, in bytes, by one of its members; ``quota`` is None if etcd doesn't report it."""

    endpoint: str | None
    size: int
    in_use: int | None = None
    quota: int | None = None


@dataclass
class EtcdContents:
    """What etcd held at one revision."""

    at: str
    revision: int
    consistent: bool
    totals: dict[str, int]
    problems: list[str] = field(default_factory=list)
    unprovable: dict[str, dict[str, int]] = field(default_factory=dict)
    resources: dict[str, StoredResource] = field(default_factory=dict)
    unknown: list[UnknownPrefix] | None = field(default=None, metadata=LEFT_OUT)
    databases: list[EtcdDatabase] | None = field(default=None, metadata=LEFT_OUT)

    def total(self, name: str) -> int:
        return self.totals.get(name, 0)


@dataclass
class StoredSides:
    before: EtcdContents | None = None
    after: EtcdContents | None = None


# Whole records


@dataclass
class RotationNames:
    """Names only, never a key; ``old``: provider and name of each key to drop."""

    key: str | None
    provider: str | None = None
    resources: list[str] | None = None
    drop_old: bool | None = None
    old: list[list[str]] = field(default_factory=list)


@dataclass(kw_only=True)
class Record:
    """An upgrade, a migration alone (without ``version``) or a rotation; ``status`` is that of the last of its runs.

    ``uid``: that of the namespace kube-system, which no other cluster has; None if unknown.
    """

    format: int = FORMAT
    kind: str = UPGRADE
    cluster: str | None = field(default=None, metadata=LEFT_OUT)
    uid: str | None = field(default=None, metadata=LEFT_OUT)
    version: str | None
    rotation: RotationNames | None = None
    status: str
    started: str
    updated: str
    masters: list[InventoryMaster] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    observations: list[RecordedObservation] = field(default_factory=list)
    storage_versions_before: dict[str, str | None] = field(default_factory=dict)
    migrations: list[Migration] = field(default_factory=list)
    stored: StoredSides = field(default_factory=StoredSides)
    proof: Proof | None = None

    @property
    def last_observation(self) -> RecordedObservation | None:
        return self.observations[-1] if self.observations else None

    def masters_through(self, stage: int) -> int:
        """How many masters have completed a stage of a rotation."""
        done = {step.master for step in self.steps if step.stage == stage and step.state == "done"}
        return sum(master.name in done for master in self.masters)

    @property
    def all_stages_done(self) -> bool:
        """Whether every master has completed every stage of a rotation; the last one only if the old keys are dropped."""
        last_stage = 3 if self.rotation and self.rotation.drop_old else 2
        return bool(self.masters) and all(
            self.masters_through(stage) == len(self.masters) for stage in range(1, last_stage + 1)
        )


@dataclass
class SeenServer:
    """An API server in a snapshot; ``version`` is that of its binary."""

    url: str | None
    name: str | None
    version: str | None
    emulated_version: str | None
    error: str | None
    ready: bool


@dataclass
class ChangedResource:
    resource: str
    before: str | None
    after: str | None


@dataclass
class ReportedFinding:
    id: str | None
    check: str | None
    resource: str | None
    what: str | None
    why: str | None
    remediation: str | None = None
    ignored: bool = False


@dataclass
class PlannedChange:
    """A storage version that an upgrade changes; unknown values are None."""

    resource: str
    from_version: str | None = field(metadata={NAMED: "from"})
    to_version: str | None = field(metadata={NAMED: "to"})
    objects: float | None = None
    bytes: float | None = None
    seconds: float | None = None


@dataclass
class PlannedTotal:
    objects: float | None = None
    bytes: float | None = None
    seconds: float | None = None


@dataclass
class ReadableVersion:
    """A stored version, and whether the target can read it; None if the CRD decides, or if that is unknown."""

    resource: str
    version: str | None
    source: str | None
    safe_up_to: str | None
    objects: float | None = None
    readable: bool | None = None


@dataclass
class Check:
    current_version: str | None
    target_version: str | None
    safe_up_to: str | None
    proven_from_etcd: bool
    blockers: list[ReportedFinding] = field(default_factory=list)
    concerns: list[ReportedFinding] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    changes: list[PlannedChange] = field(default_factory=list)
    all: PlannedTotal = field(default_factory=PlannedTotal)
    stored: list[ReadableVersion] = field(default_factory=list)
    newest: str | None = None
    # CRDs whose status.storedVersions name more than the storage version; None if that was not looked at.
    untrimmed: list[str] | None = field(default=None, metadata=LEFT_OUT)


@dataclass
class FleetTask:
    """What a run over a fleet does with each cluster: ``purpose`` is audit, check or migrate, ``version`` the release it checks for."""

    purpose: str
    version: str | None = None


@dataclass(kw_only=True)
class Snapshot:
    """A check or an audit; ``status`` is failed if it could not be completed. ``check_mode``: of a run that changed nothing.

    ``fleet``: what the run over a fleet did that found this; None for others.
    ``uid``: that of the namespace kube-system, which no other cluster has. ``error``: the kind of the first failure, as modules return it.
    ``migrated_at``, ``snapshot_at``: when the last migration ended, and the newest snapshot of etcd was taken. Each is None if unknown.
    """

    format: int = FORMAT
    kind: str
    check_mode: bool | None = field(default=None, metadata=LEFT_OUT)
    fleet: FleetTask | None = field(default=None, metadata=LEFT_OUT)
    cluster: str | None = field(default=None, metadata=LEFT_OUT)
    uid: str | None = field(default=None, metadata=LEFT_OUT)
    version: str | None
    started: str
    updated: str
    failures: list[str] = field(default_factory=list)
    error: str | None = field(default=None, metadata=LEFT_OUT)
    servers: list[SeenServer] = field(default_factory=list)
    converged: bool | None
    sampling: Sampling | None = None
    unchecked: str | None = field(default=None, metadata=LEFT_OUT)
    reasons: list[str] = field(default_factory=list)
    baseline_found: bool = False
    changed: list[ChangedResource] = field(default_factory=list)
    check: Check | None = None
    stored: EtcdContents | None = None
    migrated_at: str | None = field(default=None, metadata=LEFT_OUT)
    snapshot_at: str | None = field(default=None, metadata=LEFT_OUT)
    status: str


AnyRecord = Union[Record, Snapshot]


def read_record(found: Any) -> AnyRecord:
    """The record in a JSON text. Raises UnreadableDataError if it doesn't have this format."""
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UnreadableDataError("not a record of this format")
    kind = found.get("kind", UPGRADE)
    if kind in (CHECK, AUDIT):
        return from_json(Snapshot, found)
    if kind in (UPGRADE, ROTATION):
        return from_json(Record, found)
    raise UnreadableDataError("a record of an unknown kind")
