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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any


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
    """``v1`` for ``apps/v1`` of ``deployments.apps``: the group is named by the resource already."""
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

    Tried in order: the versions given (those served, and for a CRD all that it names), the usual
    version names of the group, and the same in other groups (events, and resources that moved).
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

    ``hashes`` has one entry, unless the served versions of the resource don't agree (a CRD whose
    storage version is changing at this moment). ``verbs`` and ``namespaced`` are those of the first
    served version, which requests should use.
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

    @property
    def path(self) -> str:
        """The URL path of the group version to use, without a trailing slash."""
        version = self.versions[0]
        return f"/apis/{self.group}/{version}" if self.group else f"/api/{version}"


@dataclass(frozen=True)
class ServerReport:
    """What one API server said of itself at one moment.

    ``error`` is None if it said everything; ``forbidden``: the error is about the user's credentials;
    ``down``: nobody answers there, which passes where a server is just starting.
    """

    url: str
    name: str
    version: str | None = None
    emulated_version: str | None = None
    ready: bool = False
    error: str | None = None
    forbidden: bool = False
    down: bool = False
    resources: Mapping[str, ServedResource] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        return self.ready and self.error is None

    @property
    def effective_version(self) -> str | None:
        """The release whose storage versions it uses."""
        return self.emulated_version or self.version


@dataclass(frozen=True)
class Disagreement:
    """One resource and what each server (by URL) reports for it; None: not served there."""

    resource: str
    by_server: Mapping[str, ServedResource | None]


@dataclass(frozen=True)
class Change:
    """One resource whose storage version differs from the one on record; hashes, None if not on record."""

    resource: str
    before: tuple[str, ...]
    after: str | None


def group_names(reports: Iterable[ServerReport]) -> tuple[str, ...]:
    """All API groups that some server serves stored resources of; candidates for decode_hash."""
    return tuple(sorted({one.group for report in reports for one in report.resources.values()}))


def storage_version_of(resource: ServedResource, other_groups: tuple[str, ...]) -> str | None:
    """The resource's storage version such as ``apps/v1``; None if unknown or not settled."""
    if resource.hash is None:
        return None
    return decode_hash(resource.hash, resource.group, resource.kind, resource.versions, other_groups)


def disagreements(reports: Sequence[ServerReport], names: Iterable[str] | None = None) -> list[Disagreement]:
    """Resources for which the usable servers don't all report one and the same hash.

    A resource missing on one server is not agreement. Servers without an answer are no part of
    this; ``is_converged`` refuses them by itself.
    """
    usable = [report for report in reports if report.usable]
    wanted = set(names) if names is not None else {name for report in usable for name in report.resources}
    found = []
    for name in sorted(wanted):
        by_server = {report.url: report.resources.get(name) for report in usable}
        hashes = {one.hashes if one is not None else None for one in by_server.values()}
        if len(hashes) > 1 or any(one is not None and one.hash is None for one in by_server.values()):
            found.append(Disagreement(name, by_server))
    return found


def version_matches(report: ServerReport, expected: str) -> bool:
    """Whether a server is at a release given as ``1.37`` or ``v1.37.2``; where it emulates one, that one counts."""
    wanted = expected.strip().lstrip("v").split(".")
    actual = report.effective_version
    if actual is None:
        return False
    have = actual.lstrip("v").split("-")[0].split("+")[0].split(".")
    if report.emulated_version and len(wanted) > 2:
        # An emulated version has no patch level: the minor must be the emulated one, the patch the binary's.
        binary = (report.version or "").lstrip("v").split("-")[0].split("+")[0].split(".")
        return have[:2] == wanted[:2] and (binary[:2] != wanted[:2] or binary[: len(wanted)] == wanted)
    return have[: len(wanted)] == wanted


def changed_since(
    resources: Mapping[str, ServedResource], persisted: Mapping[str, Sequence[str]] | None
) -> list[Change]:
    """Resources of which etcd may hold objects in another storage version than the present one.

    ``persisted`` maps a resource to the hashes that its objects may be stored in (None: there is no
    record at all, so every resource counts). The rule is that of StorageState's
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
