# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is remembered between runs: the baseline, what is persisted, how far a migration came. Pure.

For each resource ``persisted`` holds every storage version hash that objects in etcd may be stored
in. Whatever a server is seen to report is added; only a complete migration, during which no server
reported anything else, replaces them all by the one present hash. So neither a forgotten migration,
nor a second baseline taken in a mixed cluster, nor a rollback can make stale objects look current.
That is the rule of StorageState.status.persistedStorageVersionHashes (KEP-2339).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._convergence import hashes_by_resource
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import StateStoreError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import ServerReport

FORMAT_VERSION = 1


@dataclass(frozen=True)
class ResourceState:
    """``progress`` is what an unfinished migration left to go on from; None if there is none.

    ``before`` is the storage version (such as ``v1beta1``'s group version) at the last baseline, for display.
    """

    persisted: tuple[str, ...] = ()
    before: str | None = None
    migrated_at: str | None = None
    progress: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class State:
    """The whole record of one cluster. ``recorded_at`` (RFC 3339) is None where no baseline was taken."""

    recorded_at: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, ResourceState] = field(default_factory=dict)
    last_run: Mapping[str, Any] | None = None

    @property
    def known(self) -> bool:
        """Whether there is anything to compare with."""
        return self.recorded_at is not None or any(one.persisted for one in self.resources.values())

    @property
    def persisted(self) -> dict[str, tuple[str, ...]] | None:
        """Hashes by resource for changed_since(); None where nothing is known."""
        return {name: one.persisted for name, one in self.resources.items()} if self.known else None

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

    def record(self, reports: Iterable[ServerReport], storage_versions: Mapping[str, str | None], now: str) -> State:
        """The state after taking a baseline.

        At the first one, objects are taken to be stored as the servers report now: that is the claim
        a baseline makes. Later ones only add. A resource that appears after the first baseline stays
        without a record, so that it is migrated once.
        """
        reports = list(reports)
        seen = hashes_by_resource(reports)
        first = not self.known
        observed = self.observe(reports)
        resources = dict(observed.resources)
        for name, hashes in seen.items():
            known = resources.get(name, ResourceState())
            persisted = known.persisted or (tuple(sorted(hashes)) if first else ())
            resources[name] = replace(known, persisted=persisted, before=storage_versions.get(name) or known.before)
        versions = {report.url: report.version or "" for report in reports}
        return replace(observed, recorded_at=now, versions=versions, resources=resources)

    def completed(self, name: str, hashed: str, now: str) -> State:
        """The state after every object of a resource was rewritten as ``hashed``."""
        done = replace(self.of(name), persisted=(hashed,), migrated_at=now, progress=None)
        return self.with_resource(name, done)


def to_document(state: State) -> dict[str, Any]:
    """The state as JSON-able data with its format version."""
    resources = {}
    for name, one in sorted(state.resources.items()):
        entry: dict[str, Any] = {"persisted": list(one.persisted)}
        if one.before:
            entry["before"] = one.before
        if one.migrated_at:
            entry["migratedAt"] = one.migrated_at
        if one.progress is not None:
            entry["progress"] = dict(one.progress)
        resources[name] = entry
    return {
        "formatVersion": FORMAT_VERSION,
        "recordedAt": state.recorded_at,
        "versions": dict(state.versions),
        "resources": resources,
        "lastRun": dict(state.last_run) if state.last_run is not None else None,
    }


def from_document(document: Any, where: str) -> State:
    """The opposite; raises StateStoreError where the data is of a newer format or damaged."""
    if not isinstance(document, dict) or not isinstance(document.get("formatVersion"), int):
        raise StateStoreError(
            f"{where} holds no state of this collection; give another state_store, or delete it to start without a baseline."
        )
    if document["formatVersion"] > FORMAT_VERSION:
        raise StateStoreError(
            f"{where} was written in format {document['formatVersion']}, this release of kube_storage.upgrade knows "
            f"formats up to {FORMAT_VERSION}; use the newer release of the collection."
        )
    try:
        resources = {
            str(name): ResourceState(
                persisted=tuple(str(one) for one in entry.get("persisted") or ()),
                before=entry.get("before"),
                migrated_at=entry.get("migratedAt"),
                progress=entry.get("progress"),
            )
            for name, entry in (document.get("resources") or {}).items()
        }
        return State(
            recorded_at=document.get("recordedAt"),
            versions=dict(document.get("versions") or {}),
            resources=resources,
            last_run=document.get("lastRun"),
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise StateStoreError(f"{where} is damaged; restore it, or delete it to start without a baseline.") from error


def parse(text: str, where: str) -> State:
    """A State from stored text."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise StateStoreError(
            f"{where} is not valid JSON; restore it, or delete it to start without a baseline."
        ) from error
    return from_document(document, where)


def render(state: State) -> str:
    """Stored text from a State: one line a resource, so that it compares well."""
    return json.dumps(to_document(state), indent=1, sort_keys=True)
