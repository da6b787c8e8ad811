# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state between runs: the baseline, what is persisted, and the progress of a migration. Pure.

For each resource ``persisted`` has every storage version hash that objects in etcd may be stored
in. Every hash that a server reports is added. Only a complete migration, during which no server
reported anything else, replaces them all with the current hash. So a forgotten migration, a second
baseline in a mixed cluster, or a rollback can't make stale objects look current.
This is the rule of StorageState.status.persistedStorageVersionHashes (KEP-2339).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import StateStoreError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import hashes_by_resource
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.crd_identity import CrdIdentity
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServerReport

FORMAT_VERSION = 1


@dataclass(frozen=True)
class KnownCrd:
    """A CRD as every API server was seen to have it.

    ``identity``: which edit of which CRD. ``hash``: its storage version hash then.
    ``seen_at``: when all servers were first seen to have it (RFC 3339, by their own clocks).
    ``migrated``: all its objects were proven to be stored with that hash under this edit.
    """

    identity: CrdIdentity
    hash: str
    seen_at: str
    migrated: bool = False

    def as_dict(self) -> dict[str, Any]:
        migrated = {"migrated": True} if self.migrated else {}
        return {**self.identity.as_dict(), "hash": self.hash, "seenAt": self.seen_at, **migrated}

    @classmethod
    def of(cls, record: Mapping[str, Any] | None) -> KnownCrd | None:
        """The opposite of as_dict; None if the record names no CRD."""
        identity = CrdIdentity.on_record(record)
        if record is None or identity is None:
            return None
        return cls(
            identity, str(record.get("hash") or ""), str(record.get("seenAt") or ""), record.get("migrated") is True
        )


@dataclass(frozen=True)
class ResourceState:
    """What is on record about one resource.

    ``persisted``: every storage version hash that its objects may be stored in; empty: unknown.
    ``before``: its storage version at the last baseline, such as ``apps/v1beta1``; for display.
    ``migrated_at``: when its last complete migration ended (RFC 3339, UTC); None if never.
    ``progress``: where an unfinished migration stopped; None if there is none.
    ``crd``: the CRD of a custom resource as it was last seen.
    """

    persisted: tuple[str, ...] = ()
    before: str | None = None
    migrated_at: str | None = None
    progress: Mapping[str, Any] | None = None
    crd: KnownCrd | None = None


@dataclass(frozen=True)
class State:
    """The whole record of one cluster.

    ``recorded_at``: when the last baseline was taken (RFC 3339, UTC); None if never.
    ``versions``: the release of each API server at that baseline, by URL.
    ``resources``: by name. ``last_run``: what the last migration did.
    ``processes``: the API servers' processes at the end of the last run (_versions/processes.py).
    ``cluster``: the uid of its namespace kube-system; None if unknown.
    """

    recorded_at: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, ResourceState] = field(default_factory=dict)
    last_run: Mapping[str, Any] | None = None
    processes: Mapping[str, Any] | None = None
    cluster: str | None = None

    @property
    def known(self) -> bool:
        """Whether anything is on record to compare with."""
        return self.recorded_at is not None or any(known.persisted for known in self.resources.values())

    @property
    def persisted(self) -> dict[str, tuple[str, ...]] | None:
        """Hashes by resource for changed_since(); None if nothing is known."""
        return {name: known.persisted for name, known in self.resources.items()} if self.known else None

    @property
    def unfinished(self) -> bool:
        """Whether an interrupted run, or one with failures, left something to resume."""
        last = self.last_run or {}
        progress = (known.progress for known in self.resources.values() if known.progress is not None)
        return any("doubt" not in left for left in progress) or bool(not last.get("finished") and last.get("done"))

    def of(self, name: str) -> ResourceState:
        return self.resources.get(name, ResourceState())

    def with_resource(self, name: str, state: ResourceState) -> State:
        return replace(self, resources={**self.resources, name: state})

    def observe(self, reports: Iterable[ServerReport]) -> State:
        """Adds every hash seen to resources on record. A resource not on record stays unknown."""
        resources = dict(self.resources)
        for name, hashes in hashes_by_resource(reports).items():
            known = resources.get(name)
            if known is not None and known.persisted and not hashes <= set(known.persisted):
                resources[name] = replace(
                    known, persisted=tuple([*known.persisted, *sorted(hashes - set(known.persisted))])
                )
        return replace(self, resources=resources)

    def record(
        self,
        reports: Iterable[ServerReport],
        storage_versions: Mapping[str, str | None],
        now: str,
        *,
        complete: bool = True,
    ) -> State:
        """The state after taking a baseline.

        The first one assumes that objects are stored as the servers report now. Later ones only add
        hashes. A resource that appears after the first baseline gets no record, so that it is migrated once. After a
        migration that proved nothing, even the first assumes nothing; nor does one that is not ``complete``, as a server that
        could not be asked may store objects in another version.
        """
        reports = list(reports)
        seen = hashes_by_resource(reports)
        first = complete and not self.known and self.last_run is None
        observed = self.observe(reports)
        resources = dict(observed.resources)
        for name, hashes in seen.items():
            known = resources.get(name, ResourceState())
            persisted = known.persisted or (tuple(sorted(hashes)) if first else ())
            resources[name] = replace(known, persisted=persisted, before=storage_versions.get(name) or known.before)
        versions = {report.url: report.version or "" for report in reports}
        return replace(observed, recorded_at=now, versions=versions, resources=resources)

    def doubted(self, why: str) -> State:
        """The state after an unseen API server may have written; ``why`` is the sentence that says so.

        Then the work of an unfinished run proves nothing: its progress is dropped, and its completed resources count as
        unknown, so that the next run visits them again. Those that a finished run completed stay, as in StorageState
        (KEP-2339).
        """
        last = dict(self.last_run or {})
        names = {name for name, known in self.resources.items() if known.progress is not None}
        if not last.get("finished"):
            names |= {str(name) for name in last.get("done") or ()}
            last = {**last, "done": []} if last else last
        resources = dict(self.resources)
        for name in names:
            known = self.of(name)
            persisted = known.persisted if len(known.persisted) > 1 else ()
            crd = None if known.crd is None else replace(known.crd, migrated=False)
            resources[name] = replace(known, persisted=persisted, progress={"doubt": why}, crd=crd)
        return replace(self, resources=resources, last_run=last or self.last_run)

    def completed(self, name: str, hashed: str, now: str, crd: CrdIdentity | None = None) -> State:
        """The state after every object of a resource was rewritten as ``hashed``; ``crd``: the CRD of a custom one."""
        known = self.of(name)
        if crd is not None and known.crd is not None:
            same = known.crd.identity == crd and known.crd.hash == hashed
            known = replace(known, crd=replace(known.crd, migrated=same))
        return self.with_resource(name, replace(known, persisted=(hashed,), migrated_at=now, progress=None))

    def sighted(self, crds: Mapping[str, KnownCrd]) -> State:
        """The state after observing CRDs; if a CRD has not changed, the time when it was first seen is kept."""
        resources = dict(self.resources)
        for name, crd in crds.items():
            known = self.of(name)
            before = known.crd
            if before is None or (before.identity, before.hash) != (crd.identity, crd.hash):
                resources[name] = replace(known, crd=crd)
        return self if resources == dict(self.resources) else replace(self, resources=resources)

    def is_migrated(self, name: str, crd: CrdIdentity) -> bool:
        """Whether all objects of a custom resource are on record as migrated under exactly this edit of this CRD."""
        known = self.of(name)
        return (
            known.crd is not None
            and known.crd.migrated
            and known.crd.identity == crd
            and known.persisted == (known.crd.hash,)
        )


def merged(ours: State, theirs: State, base: State, completed: Collection[str], own: Collection[str]) -> State:
    """What a run writes if the record has changed: its own state on top of what others wrote since ``base``.

    ``completed``: resources that this run has proven to be persisted; ``own``: all that it works on. No observation is
    lost: hashes that others added are kept beside ours, and those that others withdrew count as unknown. The newer
    baseline is kept, and our own record of this run.
    """
    names = {*ours.resources, *theirs.resources}
    resources = {}
    for name in sorted(names):
        mine, other, before = ours.of(name), theirs.of(name), base.of(name)
        resources[name] = ResourceState(
            persisted=_persisted(mine.persisted, other.persisted, before.persisted, name in completed),
            before=other.before if other.before != before.before else mine.before,
            migrated_at=max(filter(None, (mine.migrated_at, other.migrated_at)), default=None),
            progress=mine.progress if name in own else other.progress,
            crd=mine.crd if name in own else other.crd or mine.crd,
        )
    newer = theirs if (theirs.recorded_at or "") > (ours.recorded_at or "") else ours
    return replace(ours, recorded_at=newer.recorded_at, versions=newer.versions, resources=resources)


def _persisted(
    mine: tuple[str, ...], other: tuple[str, ...], before: tuple[str, ...], completed: bool
) -> tuple[str, ...]:
    added = tuple(hashed for hashed in other if hashed not in before and hashed not in mine)
    if completed:
        return mine + added
    if before and not (mine and other):
        return ()
    if not before and not (mine and other):
        return mine or other
    return tuple(dict.fromkeys([*mine, *other]))


def to_document(state: State) -> dict[str, Any]:
    """The state as JSON data with its format version."""
    resources = {}
    for name, known in sorted(state.resources.items()):
        entry: dict[str, Any] = {"persisted": list(known.persisted)}
        if known.before:
            entry["before"] = known.before
        if known.migrated_at:
            entry["migratedAt"] = known.migrated_at
        if known.progress is not None:
            entry["progress"] = dict(known.progress)
        if known.crd is not None:
            entry["crd"] = known.crd.as_dict()
        resources[name] = entry
    return {
        "formatVersion": FORMAT_VERSION,
        "cluster": state.cluster,
        "recordedAt": state.recorded_at,
        "versions": dict(state.versions),
        "resources": resources,
        "lastRun": dict(state.last_run) if state.last_run is not None else None,
        "processes": dict(state.processes) if state.processes is not None else None,
    }


def from_document(document: Any, where: str) -> State:
    """The opposite; raises StateStoreError if the data has a newer format or is damaged."""
    if not isinstance(document, dict) or not isinstance(document.get("formatVersion"), int):
        raise StateStoreError(
            f"{where} holds no state of this collection; set another state_store, or delete it to start without a baseline."
        )
    if document["formatVersion"] > FORMAT_VERSION:
        raise StateStoreError(
            f"{where} was written in format {document['formatVersion']}, and this release of kube_storage.upgrade "
            f"supports formats up to {FORMAT_VERSION}; use the newer release of the collection."
        )
    try:
        resources = _typed(document, "resources", dict) or {}
        return State(
            recorded_at=_typed(document, "recordedAt", str),
            versions={str(url): str(version) for url, version in (_typed(document, "versions", dict) or {}).items()},
            resources={str(name): _resource_state(entry) for name, entry in resources.items()},
            last_run=_last_run(_typed(document, "lastRun", dict)),
            processes=_processes(_typed(document, "processes", dict)),
            cluster=_typed(document, "cluster", str),
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise damaged(where, "a value has the wrong type") from error


def damaged(where: str, why: str) -> StateStoreError:
    """The sentence for a state that can't be read."""
    return StateStoreError(
        f"{where} is damaged ({why}): restore it, or delete it. Without it there is no baseline, so the next "
        "migration with select: changed rewrites every resource once."
    )


def _typed(document: Mapping[str, Any], key: str, kind: type) -> Any:
    """A value of this type, or None if there is none. Raises TypeError."""
    value = document.get(key)
    if value is not None and not isinstance(value, kind):
        raise TypeError(key)
    return value


def _resource_state(entry: Mapping[str, Any]) -> ResourceState:
    return ResourceState(
        persisted=tuple(map(str, _typed(entry, "persisted", list) or ())),
        before=_typed(entry, "before", str),
        migrated_at=_typed(entry, "migratedAt", str),
        progress=_progress(_typed(entry, "progress", dict)),
        crd=KnownCrd.of(_typed(entry, "crd", dict)),
    )


def _progress(progress: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if progress is not None:
        _typed(progress, "persisted", list)
        _typed(progress, "token", str)
        for namespace, name in _typed(progress, "failed", list) or ():
            if not isinstance(name, str) or not isinstance(namespace, (str, type(None))):
                raise TypeError("failed")
        CrdIdentity.on_record(progress)
    return progress


def _last_run(last_run: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if last_run is not None:
        if not all(isinstance(name, str) for name in _typed(last_run, "done", list) or ()):
            raise TypeError("done")
        _typed(last_run, "selection", dict)
    return last_run


def _processes(processes: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if processes is not None:
        for key in ("started", "holders", "versions"):
            _typed(processes, key, dict)
        _typed(processes, "at", str)
    return processes


def parse(text: str, where: str) -> State:
    """A State from stored text."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise damaged(where, "it isn't valid JSON") from error
    return from_document(document, where)


def render(state: State) -> str:
    """Stored text from a State, indented so that it can be compared line by line."""
    return json.dumps(to_document(state), indent=1, sort_keys=True)
