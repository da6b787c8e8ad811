# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the target can read what is stored, according to etcd if it was read, else to the record. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, Tally, Variant
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Finding, count, listed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import UpgradePath
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    decode_hash,
    split_group_version,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import Releases, number_of


@dataclass(frozen=True)
class StoredVersion:
    """One version that objects of a resource are stored in, and who can read it.

    ``objects`` is None if only the record says that there may be some. ``source`` is ``etcd``,
    ``record`` (baseline and migrations) or ``hash`` (what the API servers write now).
    """

    resource: str
    kind: str | None
    version: str | None
    objects: int | None
    bytes: int | None
    source: str
    built_in: bool
    safe_up_to: str | None
    cannot: str | None
    samples: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "resource": self.resource,
            "version": self.version,
            "objects": self.objects,
            "bytes": self.bytes,
            "source": self.source,
            "safe_up_to": self.safe_up_to,
            "readable": None if self.version is None or not self.built_in else self.cannot is None,
        }


@dataclass
class WhatIsStored:
    """``unknown``: sentences about unknown facts. ``possible``: by resource, versions that some of its objects may be stored in.

    ``reported``: resources of which ``unknown`` already says that the target may not read them.
    """

    versions: list[StoredVersion] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    possible: dict[str, StoredKinds] = field(default_factory=dict)
    reported: set[str] = field(default_factory=set)

    def add(self, other: WhatIsStored) -> None:
        self.versions += other.versions
        self.unknown += other.unknown
        self.possible.update(other.possible)
        self.reported |= other.reported


@dataclass(frozen=True)
class StoredKinds:
    """Versions of one kind, such as ``autoscaling/v2beta2``. ``why``: why it is unknown which of them are stored, in a clause."""

    kind: str
    versions: tuple[str, ...]
    why: str


def stored_in_etcd(
    stored: Stored, served: Mapping[str, ServedResource], releases: Releases, upgrade_path: UpgradePath
) -> WhatIsStored:
    """The content of etcd for resources that are or will be served.

    Objects whose version is hidden by encryption are fine if every version of their kind can be read.
    """
    whole = WhatIsStored()
    found, unknown = whole.versions, whole.unknown
    for name, variants in sorted(stored.resources.items()):
        if name not in served and releases.storage_version(name, releases.nearest(upgrade_path.target)) is None:
            continue
        hidden = 0
        for (version, kind), tally in _by_version(name, variants, served).items():
            if version is not None:
                found.append(_stored_version(name, kind, version, "etcd", releases, upgrade_path, tally))
                continue
            found.append(StoredVersion(name, kind, None, tally.objects, tally.bytes, "etcd", False, None, None))
            hidden += tally.objects
        kind = served[name].kind if name in served else None
        group = name.partition(".")[2]
        unreadable = [] if kind is None else _unreadable(group, kind, releases, upgrade_path)
        if hidden and kind is not None:
            whole.possible[name] = _possible(group, kind, releases, upgrade_path, "are encrypted or damaged")
        if hidden and unreadable:
            whole.reported.add(name)
            unknown.append(
                f"The version of {count(hidden, 'object')} of {name} can't be seen in etcd, as they are encrypted or "
                f"damaged; whether some are stored as {listed(unreadable)}, which {upgrade_path.target} can't read, is unknown."
            )
    return whole


def stored_on_record(
    served: Mapping[str, ServedResource],
    state: State,
    releases: Releases,
    upgrade_path: UpgradePath,
    groups: tuple[str, ...],
    counts: Mapping[str, int | None],
) -> WhatIsStored:
    """The same without etcd: what follows from the record and the API servers' hashes, and what doesn't.

    There is no doubt about a resource if LIST found no objects of it (``counts``). A baseline says what API servers wrote at that moment,
    not what was stored long before; only a complete migration on record rules older versions out.
    """
    whole = WhatIsStored()
    found, unknown, unrecorded = whole.versions, whole.unknown, []
    for name, resource in sorted(served.items()):
        persisted = state.of(name).persisted
        migrated = persisted and state.of(name).migrated_at is not None
        if not migrated and counts.get(name) != 0:
            whole.possible[name] = _possible(
                resource.group, resource.kind, releases, upgrade_path, "have no complete migration on record"
            )
            may_hold = _unreadable(resource.group, resource.kind, releases, upgrade_path)
            if may_hold:
                unrecorded.append(f"{name} ({listed(may_hold)})")
                whole.reported.add(name)
        for digest in dict.fromkeys((*persisted, *resource.hashes)):
            version = decode_hash(digest, resource.group, resource.kind, resource.versions, groups)
            source = "record" if digest in persisted else "hash"
            if version is None:
                unknown.append(f"The storage version hash {digest} of {name} matches no known version.")
                continue
            found.append(_stored_version(name, resource.kind, version, source, releases, upgrade_path, None))
    if unrecorded:
        unknown.append(
            f"Whether objects are still stored in a version that {upgrade_path.target} can't read, as etcd doesn't show it and no "
            f"complete migration is on record: {listed(unrecorded, 10)}."
        )
    return whole


def evaluate_stored(
    held: Iterable[StoredVersion], upgrade_path: UpgradePath, counts: Mapping[str, int | None]
) -> list[Finding]:
    """Objects that the target (or a release on the way to it) can't read. ``counts``: objects that LIST found."""
    return [
        _cannot_read(version, upgrade_path)
        for version in held
        if version.built_in
        and version.cannot is not None
        and version.version is not None
        and (version.objects is not None or counts.get(version.resource) != 0)
    ]


def _cannot_read(stored: StoredVersion, upgrade_path: UpgradePath) -> Finding:
    number = "Objects" if stored.objects is None else count(stored.objects, "object")
    are = "is" if stored.objects == 1 else "are"
    known = f"the last release that can is {stored.safe_up_to}" if stored.safe_up_to else "no release in the data can"
    what = {
        "etcd": f"{number} {are} stored as {stored.version}.",
        "record": f"{number} may be stored as {stored.version}, according to the record of storage versions.",
        "hash": f"{number} are stored as {stored.version} now, according to the API servers' hashes.",
    }[stored.source]
    if upgrade_path.back:
        why = f"{stored.cannot} is older and can't read {stored.version}; {known}."
        remediation = f"Stay at {upgrade_path.current}, or restore etcd from a snapshot taken under {stored.cannot}."
        return Finding("rollback", stored.resource, what, why, remediation, keys=stored.samples)
    why = (
        f"Kubernetes {stored.cannot} can't decode {stored.version}; {known}. Then LIST of {stored.resource} fails, and "
        "namespaces hang in Terminating."
    )
    return Finding("undecodable", stored.resource, what, why, _rewrite_first(stored.resource), keys=stored.samples)


def safe_up_to(stored: WhatIsStored, releases: Releases) -> tuple[str | None, list[str]]:
    """(the last release that is known to read everything, the resources that later ones can't read, or may not)."""
    limits = [
        (version.resource, version.safe_up_to)
        for version in stored.versions
        if version.built_in and version.version is not None
    ]
    limits += [
        (name, releases.safe_up_to(version, possible.kind))
        for name, possible in stored.possible.items()
        for version in possible.versions
    ]
    worst: str | None = releases.newest
    for _resource, last in limits:
        if last is None or (worst is not None and number_of(last) < number_of(worst)):
            worst = last
    return worst, sorted({resource for resource, last in limits if last != releases.newest})


def beyond_is_unknown(stored: WhatIsStored, releases: Releases) -> list[str]:
    """A sentence about resources that later releases may not be able to read, though nothing is known to be stored so."""
    known = {
        version.resource for version in stored.versions if version.built_in and version.safe_up_to != releases.newest
    }
    found: dict[str, list[str]] = {}
    for name, possible in sorted(stored.possible.items()):
        if possible.versions and name not in known | stored.reported:
            found.setdefault(possible.why, []).append(f"{name} ({listed(possible.versions)})")
    return [
        f"Whether releases after {safe_up_to(stored, releases)[0]} can read all that is stored, as objects of these resources {why} and may "
        f"be stored in older versions: {listed(names, 10)}."
        for why, names in found.items()
    ]


def _rewrite_first(resource: str) -> str:
    return (
        f"Rewrite them before the upgrade: storage_migrate with resources: [{resource}]. If the current API servers can't read "
        "them either, put back a release that can, or delete them."
    )


def uncounted_versions(
    names: Iterable[str], served: Mapping[str, ServedResource], releases: Releases, upgrade_path: UpgradePath
) -> dict[str, StoredKinds]:
    """What resources may be stored as of which nobody knows whether this etcd has all; by name."""
    return {
        name: _possible(served[name].group, served[name].kind, releases, upgrade_path, "could not be counted")
        for name in names
        if name in served
    }


def _possible(group: str, kind: str, releases: Releases, upgrade_path: UpgradePath, why: str) -> StoredKinds:
    """Versions that objects may be stored in, which the current release can read, but not every later one."""
    current = releases.nearest(upgrade_path.current)
    found = []
    for version in releases.versions(group, kind):
        readers = releases.readers(version, kind)
        if current in readers and readers[-1] != releases.newest:
            found.append(version)
    return StoredKinds(kind, tuple(found), why)


def _unreadable(group: str, kind: str, releases: Releases, upgrade_path: UpgradePath) -> list[str]:
    """Versions of a kind that objects could still be stored in, and that the target can't read."""
    found = []
    for version in releases.versions(group, kind):
        first = releases.readers(version, kind)[0]
        written_before = number_of(first) <= number_of(upgrade_path.current)
        if (
            written_before
            and releases.first_that_cannot(version, kind, upgrade_path.current, upgrade_path.target) is not None
        ):
            found.append(version)
    return found


def _by_version(
    name: str, variants: Mapping[Variant, Tally], served: Mapping[str, ServedResource]
) -> dict[tuple[str | None, str | None], Tally]:
    """Sums over encodings and encryption, as only the version matters here."""
    found: dict[tuple[str | None, str | None], Tally] = {}
    for variant, tally in variants.items():
        kind = tally.kind or (served[name].kind if name in served else None)
        total = found.setdefault((variant.version, kind), Tally(kind=kind, kept=None))
        total.objects += tally.objects
        total.bytes += tally.bytes
        total.samples = (total.samples + tally.samples)[:5]
    return found


def _stored_version(
    name: str,
    kind: str | None,
    version: str,
    source: str,
    releases: Releases,
    upgrade_path: UpgradePath,
    tally: Tally | None,
) -> StoredVersion:
    group, _version = split_group_version(version)
    built_in = kind is not None and releases.is_built_in(group, kind)
    return StoredVersion(
        name,
        kind,
        version,
        None if tally is None else tally.objects,
        None if tally is None else tally.bytes,
        source,
        built_in,
        releases.safe_up_to(version, kind) if built_in and kind is not None else None,
        releases.first_that_cannot(version, kind, upgrade_path.current, upgrade_path.target)
        if built_in and kind is not None
        else None,
        () if tally is None else tuple(tally.samples),
    )
