# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the target can read what is stored: by etcd where it was read, else by what is on record. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._checks.finding import Finding, count, listed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, Tally, Variant
from ansible_collections.kube_storage.upgrade.plugins.module_utils._releases import Releases, number_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import (
    ServedResource,
    decode_hash,
    split_group_version,
)


@dataclass(frozen=True)
class Way:
    """From which release to which: minors such as ``1.36``. ``pending``: some API server is not there yet."""

    current: str
    target: str
    pending: bool = True

    @property
    def back(self) -> bool:
        """Whether the target is older than what the API servers run as now."""
        return number_of(self.target) < number_of(self.current)


@dataclass(frozen=True)
class Held:
    """One version that objects of a resource are stored in, and who can read it.

    ``objects`` is None where only the record says that there may be some. ``source`` is ``etcd``,
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


def held_in_etcd(
    stored: Stored, served: Mapping[str, ServedResource], releases: Releases, way: Way
) -> tuple[list[Held], list[str]]:
    """(what etcd holds of resources that are or will be served, sentences about what can't be told).

    Objects whose version is hidden by encryption are fine if every version of their kind can be read.
    """
    found, unknown = [], []
    for name, variants in sorted(stored.resources.items()):
        if name not in served and releases.storage_version(name, releases.nearest(way.target)) is None:
            continue
        hidden = 0
        for (version, kind), tally in _by_version(name, variants, served).items():
            if version is not None:
                found.append(_held(name, kind, version, "etcd", releases, way, tally))
                continue
            found.append(Held(name, kind, None, tally.objects, tally.bytes, "etcd", False, None, None))
            hidden += tally.objects
        kind = served[name].kind if name in served else None
        group = name.partition(".")[2]
        unreadable = [] if kind is None else _unreadable(group, kind, releases, way)
        if hidden and unreadable:
            unknown.append(
                f"The version of {count(hidden, 'object')} of {name} can't be seen in etcd, as they are encrypted or "
                f"damaged; whether some are stored as {listed(unreadable)}, which {way.target} can't read, is unknown."
            )
    return found, unknown


def held_on_record(
    served: Mapping[str, ServedResource],
    state: State,
    releases: Releases,
    way: Way,
    groups: tuple[str, ...],
    counts: Mapping[str, int | None],
) -> tuple[list[Held], list[str]]:
    """The same without etcd: what the record and the API servers' hashes say, and what they can't.

    Of a resource with no object by LIST (``counts``) nothing is in doubt.
    """
    found, unknown, unrecorded = [], [], []
    for name, resource in sorted(served.items()):
        persisted = state.of(name).persisted
        if not persisted and counts.get(name) != 0:
            may_hold = _unreadable(resource.group, resource.kind, releases, way)
            if may_hold:
                unrecorded.append(f"{name} ({listed(may_hold)})")
        for digest in dict.fromkeys((*persisted, *resource.hashes)):
            version = decode_hash(digest, resource.group, resource.kind, resource.versions, groups)
            source = "record" if digest in persisted else "hash"
            if version is None:
                unknown.append(f"The storage version hash {digest} of {name} stands for no version that is known.")
                continue
            found.append(_held(name, resource.kind, version, source, releases, way, None))
    if unrecorded:
        unknown.append(
            f"Without etcd, and with {'it' if len(unrecorded) == 1 else 'them'} not on record, nobody can tell whether "
            f"objects are still stored in a version that {way.target} can't read: {listed(unrecorded, 10)}."
        )
    return found, unknown


def judge(held: Iterable[Held], way: Way, counts: Mapping[str, int | None]) -> list[Finding]:
    """What the target (or a release on the way to it) can't read. ``counts``: objects that LIST found."""
    found = []
    for one in held:
        if not one.built_in or one.cannot is None or one.version is None:
            continue
        if one.objects is None and counts.get(one.resource) == 0:
            continue
        number = "Objects" if one.objects is None else count(one.objects, "object")
        are = "is" if one.objects == 1 else "are"
        known = f"the last release that can is {one.safe_up_to}" if one.safe_up_to else "no release in the data can"
        claim = {
            "etcd": f"{number} {are} stored as {one.version}.",
            "record": f"{number} may be stored as {one.version}, by the record of storage versions.",
            "hash": f"{number} are stored as {one.version} now, by the API servers' hashes.",
        }[one.source]
        if way.back:
            found.append(
                Finding(
                    "rollback",
                    one.resource,
                    claim,
                    f"{one.cannot} is older and can't read {one.version}; {known}.",
                    f"Stay at {way.current}, or restore etcd from a snapshot taken under {one.cannot}.",
                    keys=one.samples,
                )
            )
        else:
            found.append(
                Finding(
                    "undecodable",
                    one.resource,
                    claim,
                    f"Kubernetes {one.cannot} can't decode {one.version}; {known}. Then {one.resource} can't be listed "
                    "any more, and namespaces hang in Terminating.",
                    _rewrite_first(one.resource),
                    keys=one.samples,
                )
            )
    return found


def judge_rollback(way: Way) -> list[Finding]:
    """That a target is older is said in any case."""
    if not way.back:
        return []
    return [
        Finding(
            "rollback",
            "kube-apiserver",
            f"The target {way.target} is older than the API servers, which run as {way.current}.",
            "What is written meanwhile may be stored in versions that the older release can't read.",
            "Only go back if this check names nothing else, and restore etcd from a snapshot if it does.",
            blocks=False,
        )
    ]


def judge_steps(way: Way, releases: Releases) -> tuple[list[Finding], list[str]]:
    """More than one minor at once, and releases that the data doesn't know."""
    found, unknown = [], []
    steps = number_of(way.target)[1] - number_of(way.current)[1]
    if steps > 1:
        found.append(
            Finding(
                "skipped_minors",
                "kube-apiserver",
                f"From {way.current} to {way.target} are {steps} minor releases.",
                "API servers may differ by one minor release only, so an upgrade goes one by one.",
                "Upgrade to each minor in turn, and migrate after each.",
                blocks=False,
            )
        )
    if way.target not in releases.releases:
        unknown.append(
            f"What {way.target} can read is not in the data, which reaches from {releases.releases[0]} to "
            f"{releases.newest}; {releases.nearest(way.target)} stands for it. A newer release of the collection may know."
        )
    return found, unknown


def safe_up_to(held: Iterable[Held], releases: Releases) -> tuple[str | None, list[str]]:
    """(the last release that can read all of it, the resources that keep it from being a later one)."""
    worst: str | None = releases.newest
    limited: list[str] = []
    for one in held:
        if not one.built_in or one.version is None:
            continue
        if one.safe_up_to == releases.newest:
            continue
        if one.safe_up_to is None or (worst is not None and number_of(one.safe_up_to) < number_of(worst)):
            worst = one.safe_up_to
        limited.append(one.resource)
    return worst, sorted(dict.fromkeys(limited))


def _rewrite_first(resource: str) -> str:
    return (
        f"Rewrite them before the upgrade: storage_migrate with resources: [{resource}]. If the API servers can't read "
        "them any more either, put back a release that can, or delete them."
    )


def _unreadable(group: str, kind: str, releases: Releases, way: Way) -> list[str]:
    """Versions of a kind that objects could still be stored in, and that the target can't read."""
    found = []
    for version in releases.versions(group, kind):
        first = releases.readers(version, kind)[0]
        written_before = number_of(first) <= number_of(way.current)
        if written_before and releases.first_that_cannot(version, kind, way.current, way.target) is not None:
            found.append(version)
    return found


def _by_version(
    name: str, variants: Mapping[Variant, Tally], served: Mapping[str, ServedResource]
) -> dict[tuple[str | None, str | None], Tally]:
    """Sums over encodings and encryption, as only the version matters here."""
    found: dict[tuple[str | None, str | None], Tally] = {}
    for variant, tally in variants.items():
        kind = tally.kind or (served[name].kind if name in served else None)
        one = found.setdefault((variant.version, kind), Tally(kind=kind, kept=None))
        one.objects += tally.objects
        one.bytes += tally.bytes
        one.samples = (one.samples + tally.samples)[:5]
    return found


def _held(
    name: str, kind: str | None, version: str, source: str, releases: Releases, way: Way, tally: Tally | None
) -> Held:
    group, _version = split_group_version(version)
    built_in = kind is not None and releases.is_built_in(group, kind)
    return Held(
        name,
        kind,
        version,
        None if tally is None else tally.objects,
        None if tally is None else tally.bytes,
        source,
        built_in,
        releases.safe_up_to(version, kind) if built_in and kind is not None else None,
        releases.first_that_cannot(version, kind, way.current, way.target) if built_in and kind is not None else None,
        () if tally is None else tuple(tally.samples),
    )
