# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage versions: hashes and what they mean, what servers report, whether they agree, what changed.

Pure: no I/O. The hash is defined in k8s.io/apiserver, pkg/endpoints/discovery/storageversionhash.go.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple


def storage_version_hash(group: str, version: str, kind: str) -> str:
    """base64(sha256("<group>/<version>/<Kind>")[:8]); the core group is the empty string."""
    digest = hashlib.sha256(f"{group}/{version}/{kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def group_version(group: str, version: str) -> str:
    """``apps/v1``, or ``v1`` for the core group."""
    return f"{group}/{version}" if group else version


def split_group_version(text: str) -> tuple[str, str]:
    """The opposite of group_version."""
    group, _slash, version = text.rpartition("/")
    return group, version


def short_version(version: str, resource: str) -> str:
    """``v1`` for ``apps/v1`` of ``deployments.apps``: the resource already names the group."""
    group, name = split_group_version(version)
    return name if group == resource.partition(".")[2] else version


def resource_name(plural: str, group: str) -> str:
    """How users write a resource: ``secrets``, ``deployments.apps``."""
    return f"{plural}.{group}" if group else plural


def _usual_versions() -> list[str]:
    """Version names that Kubernetes and most CRDs use."""
    names = [f"v{major}" for major in range(1, 5)]
    for major, stage, minor in itertools.product(range(1, 4), ("alpha", "beta"), range(1, 8)):
        names.append(f"v{major}{stage}{minor}")
    return names


@lru_cache(maxsize=4096)
def decode_hash(
    wanted: str, group: str, kind: str, versions: tuple[str, ...], other_groups: tuple[str, ...]
) -> str | None:
    """The group version that a hash stands for, or None if no candidate fits.

    Tried in order: the given versions (those served, and for a CRD all that it names), the usual
    version names in the group, and the same in other groups (events, and resources that moved).
    The storage version need not be served: customresourcedefinitions are stored as v1beta1 in 1.37.
    """
    for version in itertools.chain(versions, _usual_versions()):
        if storage_version_hash(group, version, kind) == wanted:
            return group_version(group, version)
    for other in other_groups:
        for version in _usual_versions():
            if storage_version_hash(other, version, kind) == wanted:
                return group_version(other, version)
    return None


@dataclass(frozen=True)
class ServedResource:
    """One stored resource as one API server serves it.

    ``hashes`` has one entry, unless the served versions of the resource disagree (the storage version of a CRD
    is just changing). ``verbs`` and ``namespaced`` are those of the first served version, which requests should use.
    """

    name: str
    group: str
    plural: str
    kind: str
    namespaced: bool
    verbs: frozenset[str]
    versions: tuple[str, ...]
    hashes: tuple[str, ...]

    @property
    def hash(self) -> str | None:
        """The storage version hash, or None while the served versions disagree about it."""
        return self.hashes[0] if len(self.hashes) == 1 else None

    @cached_property
    def request_version(self) -> str:
        """The version that requests use: the storage version if it is served, else the first one.

        An API server decodes an object to the version of the request and encodes it to the storage version. If a
        CRD's versions have different schemas, each conversion drops the fields that its version does not know
        (apiextensions-apiserver, customresource_handler.go, crdConversionRESTOptionsGetter), so requests avoid conversion.
        """
        for version in self.versions:
            if storage_version_hash(self.group, version, self.kind) == self.hash:
                return version
        return self.versions[0]

    @cached_property
    def path(self) -> str:
        """The URL path of the group version to use, without a trailing slash."""
        version = self.request_version
        return f"/apis/{self.group}/{version}" if self.group else f"/api/{version}"


@dataclass(frozen=True)
class ServerReport:
    """What one API server reported at one moment.

    ``error``: why it could not be asked; None if it answered everything. ``forbidden``: because of the user's credentials.
    ``down``: because nothing answers there, which is temporary if the server is just starting.
    ``hidden``: custom resources that are missing in ``resources``, as only their CRDs say how they are stored, and the user may not get these.
    ``min_compatibility_version``: the oldest minor for which it still writes everything readably; None if it doesn't report it.
    """

    url: str
    name: str
    version: str | None = None
    emulated_version: str | None = None
    min_compatibility_version: str | None = None
    ready: bool = False
    error: str | None = None
    forbidden: bool = False
    down: bool = False
    resources: Mapping[str, ServedResource] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        return self.ready and self.error is None

    @property
    def effective_version(self) -> str | None:
        """The release whose storage versions it uses."""
        return self.emulated_version or self.version


@dataclass(frozen=True)
class Disagreement:
    """One resource and what each server (by URL) reports for it; None if it isn't served there."""

    resource: str
    by_server: Mapping[str, ServedResource | None]


@dataclass(frozen=True)
class Change:
    """One resource whose storage version differs from the one on record; hashes, None if not on record."""

    resource: str
    before: tuple[str, ...]
    after: str | None


def group_names(reports: Iterable[ServerReport]) -> tuple[str, ...]:
    """All API groups with stored resources on some server; candidates for decode_hash."""
    return tuple(sorted({resource.group for report in reports for resource in report.resources.values()}))


def storage_version_of(resource: ServedResource, other_groups: tuple[str, ...]) -> str | None:
    """The resource's storage version such as ``apps/v1``; None if unknown or changing."""
    if resource.hash is None:
        return None
    return decode_hash(resource.hash, resource.group, resource.kind, resource.versions, other_groups)


def disagreements(reports: Sequence[ServerReport], names: Iterable[str] | None = None) -> list[Disagreement]:
    """Resources for which the usable servers don't all report the same hash.

    A resource that one server lacks counts as a disagreement. Servers that did not answer are left out here;
    Observation.server_reasons names them.
    """
    usable = [report for report in reports if report.usable]
    wanted = set(names) if names is not None else {name for report in usable for name in report.resources}
    found = []
    for name in sorted(wanted):
        by_server = {report.url: report.resources.get(name) for report in usable}
        hashes = {served.hashes if served is not None else None for served in by_server.values()}
        if len(hashes) > 1 or any(served is not None and served.hash is None for served in by_server.values()):
            found.append(Disagreement(name, by_server))
    return found


def version_matches(report: ServerReport, expected: str) -> bool:
    """Whether a server is at a release given as ``1.37`` or ``v1.37.2``; see at_release."""
    return at_release(report.version, expected, report.emulated_version)


def at_release(version: str | None, release: str | None, emulated_version: str | None = None) -> bool:
    """Whether a server that reports ``version`` is at ``release``: the only place that decides it.

    ``release`` is a minor (``1.37``) or a patch release (``v1.37.2``). A distribution's suffix (``+rke2r1``,
    ``-eks-1a2b3c``) counts only if ``release`` has it, too. A pre-release such as ``1.37.0-rc.1`` is
    at 1.37, but not at 1.37.0. If a server emulates a minor, that is its release; its patch level is then unknown.
    ``1.37 emulating 1.36`` is only a server whose own release is 1.37 and that emulates 1.36; ``1.36 itself`` only one whose own
    release is 1.36.
    """
    if not version or not release:
        return False
    release, emulating, itself = split_release(release)
    if emulating or itself:
        have_now = _parse_release(emulated_version or version).numbers[:2]
        as_wanted = _parse_release(emulating or release).numbers[:2]
        return have_now == as_wanted and at_release(version, release)
    have, wanted = _parse_release(version), _parse_release(release)
    if emulated_version:
        emulated = _parse_release(emulated_version).numbers[:2]
        if emulated != wanted.numbers[:2]:
            return False
        if emulated != have.numbers[:2]:
            return True
    if len(wanted.numbers) < 3:
        return have.numbers[: len(wanted.numbers)] == wanted.numbers
    return (
        have.numbers == wanted.numbers
        and have.pre_release == wanted.pre_release
        and (not wanted.build or have.build == wanted.build)
    )


def split_release(text: str) -> tuple[str, str, bool]:
    """(release, the one that it must emulate or "", whether it must be the server's own) of what ``at_release`` accepts."""
    release, _word, emulating = text.strip().partition(" emulating ")
    plain = release.removesuffix(" itself")
    return plain.strip(), emulating.strip(), plain != release


class _Release(NamedTuple):
    """``1.37.0-rc.1+k3s1`` is ("1", "37", "0"), "rc.1" and "+k3s1"; a suffix such as ``-eks-1a2b3c`` is a build's name."""

    numbers: tuple[str, ...]
    pre_release: str
    build: str


def _parse_release(text: str) -> _Release:
    numbers, suffix = re.fullmatch(r"v?([0-9.]*)(.*)", text.strip(), re.DOTALL).groups()  # type: ignore[union-attr]
    found = re.match(r"-((?:alpha|beta|rc)\b[^+]*)", suffix)
    pre_release = found[1] if found else ""
    return _Release(tuple(numbers.split(".")), pre_release, suffix[found.end() :] if found else suffix)


def changed_since(
    resources: Mapping[str, ServedResource], persisted: Mapping[str, Sequence[str]] | None
) -> list[Change]:
    """Resources for which etcd may hold objects in a storage version other than the current one.

    ``persisted`` maps a resource to the hashes that its objects may be stored in (None if there is no
    record at all, so every resource counts). This is the rule of StorageState's
    persistedStorageVersionHashes in kube-storage-version-migrator (KEP-2339).
    """
    changes = []
    for name, resource in sorted(resources.items()):
        known = tuple((persisted or {}).get(name, ()))
        if resource.hash is None or known != (resource.hash,):
            changes.append(Change(name, known, resource.hash))
    return changes


def by_server_text(disagreement: Disagreement, other_groups: tuple[str, ...]) -> str:
    """``name: v1 on https://…11, v1beta1 on https://…12, https://…13``."""
    urls_by_state: dict[str, list[str]] = {}
    for url, resource in disagreement.by_server.items():
        if resource is None:
            state = "not served"
        elif resource.hash is None:
            state = "not settled"
        else:
            known = storage_version_of(resource, other_groups)
            group, version = split_group_version(known) if known else ("", f"unknown version (hash {resource.hash})")
            state = version if not known or group == resource.group else (known or version)
        urls_by_state.setdefault(state, []).append(url)
    parts = [f"{state} on {', '.join(urls)}" for state, urls in sorted(urls_by_state.items())]
    return f"{disagreement.resource}: {', '.join(parts)}"


def resource_result(resource: ServedResource, other_groups: tuple[str, ...]) -> dict[str, Any]:
    """A resource as modules return it."""
    return {
        "kind": resource.kind,
        "hash": resource.hash,
        "storage_version": storage_version_of(resource, other_groups),
        "served_versions": [group_version(resource.group, version) for version in resource.versions],
    }
