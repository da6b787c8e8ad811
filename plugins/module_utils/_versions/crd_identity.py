# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The identity of a CustomResourceDefinition and of an edit of it. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any


@dataclass(frozen=True)
class CrdIdentity:
    """Which CRD, and which edit of its spec.

    ``generation`` changes with each edit, but does not identify a CRD: one that was deleted, recreated and edited
    equally often has the same. Their ``uid`` differs.
    """

    uid: str
    generation: int

    @classmethod
    def of(cls, crd: Mapping[str, Any]) -> CrdIdentity:
        """From a CRD, or just its metadata, as the API server returns it."""
        metadata = crd["metadata"]
        return cls(str(metadata.get("uid") or ""), int(metadata.get("generation") or 0))

    @classmethod
    def on_record(cls, record: Mapping[str, Any] | None) -> CrdIdentity | None:
        """From a record; None if it lacks the uid or the generation."""
        if not record or not record.get("uid") or record.get("generation") is None:
            return None
        return cls(str(record["uid"]), int(record["generation"]))

    def as_dict(self) -> dict[str, Any]:
        return {"uid": self.uid, "generation": self.generation}


@dataclass(frozen=True)
class CrdFacts:
    """What the metadata of a CRD says.

    ``deleting``: it is being deleted. ``quiet_since``: when its spec was last edited, or later; None if unknown.
    """

    identity: CrdIdentity
    resource_version: str
    deleting: bool = False
    quiet_since: datetime | None = None

    @classmethod
    def of(cls, crd: Mapping[str, Any]) -> CrdFacts:
        metadata = crd["metadata"]
        version = str(metadata.get("resourceVersion") or "")
        return cls(CrdIdentity.of(crd), version, bool(metadata.get("deletionTimestamp")), quiet_since(metadata))


def quiet_since(metadata: Mapping[str, Any]) -> datetime | None:
    """When the spec of a CRD was last edited, or later, according to its managedFields and its creation.

    The API server stamps a manager's entry with its clock whenever that manager changes a field, and
    spec.versions is one field, since it is an atomic list (k8s.io/apimachinery,
    pkg/util/managedfields/internal/managedfieldsupdater.go). So every change of the storage version leaves
    an entry that owns spec.versions and is at least that recent. If there is no such entry, because
    somebody removed managers, nothing is known.
    """
    entries = [entry for entry in metadata.get("managedFields") or () if entry.get("subresource") != "status"]
    if not any(_owns_versions(entry.get("fieldsV1")) for entry in entries):
        return None
    try:
        times = [_time(entry["time"]) for entry in entries]
        return max([*times, _time(metadata["creationTimestamp"])])
    except (KeyError, TypeError, ValueError):
        return None


def _owns_versions(fields: Any) -> bool:
    spec = fields.get("f:spec") if isinstance(fields, dict) else None
    return isinstance(spec, dict) and (not spec or "f:versions" in spec)


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class CrdLook:
    """All CRDs at one moment.

    ``facts``: by name; None if the user may not list CRDs, and ``refused`` says so.
    ``everywhere``: every API server had them in this edit or a later one.
    ``earliest``, ``latest``: the servers' own clocks then; None unless all are known.
    ``at``: our clock after the last answer, in seconds of time.monotonic().
    """

    facts: Mapping[str, CrdFacts] | None
    refused: str = ""
    everywhere: bool = False
    earliest: datetime | None = None
    latest: datetime | None = None
    at: float = field(default_factory=time.monotonic)

    def of(self, name: str) -> CrdFacts | None:
        return None if self.facts is None else self.facts.get(name)

    def identity(self, name: str) -> CrdIdentity | None:
        facts = self.of(name)
        return None if facts is None else facts.identity

    def is_custom(self, name: str, group: str, kind: str) -> bool:
        """Whether a CRD defines a resource; if CRDs are unknown, whether one may.

        Groups under k8s.io are mostly built in, so there a complete list of the CRDs decides.
        """
        if self.facts is not None and (name in self.facts or group.endswith(".k8s.io")):
            return name in self.facts
        if "." not in group:
            return False
        # Ansible compiles the module in each task, and few need this.
        from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import Releases

        return not Releases().is_built_in(group, kind)


NO_CRDS = CrdLook({})
