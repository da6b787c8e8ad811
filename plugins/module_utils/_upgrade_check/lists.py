# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether every resource can be listed now, and how many objects each has.

One object that can't be decoded or decrypted makes the LIST of its whole resource fail. Lists are read
to the last page, metadata only: the first page says nothing about the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.gathering import gather_limited
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import is_custom
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.kms_keys import is_kms_failure
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, Tally
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.retry import (
    PASSING,
    PATIENT,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import (
    METADATA,
    METADATA_LIST,
    ApiServer,
    status_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import (
    ListFailedError,
    collection_path,
    object_path,
    pages,
    path_of,
    with_query,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.applied import last_applied_as
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.crds import readd_version
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Finding, count, listed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

_PARALLEL = 4
_GETS = 8
NOT_IN_CRD = "which the CRD no longer has"
KMS_FAILS = "the KMS plugin does not answer, or refuses to decrypt an object"
WEBHOOK_FAILS = "its conversion webhook does not answer or fails"
# As while etcd elects a leader: it says nothing about an object.
UNCLEAR = "the API server answers with"
NO_KIND = "the API server knows no"
_STAND_STILL = "Controllers that watch it stop working, and namespaces hang in Terminating."
# How API servers report an object that they can't read (k8s.io/apiserver, pkg/storage/etcd3).
_KEY = re.compile(r'(?:key|object|path) \\?"(/[^"\\ ]+)\\?"')
# apiextensions-apiserver, pkg/apiserver/conversion/converter.go.
_LOST_VERSION = re.compile(r"(?:convert CR (?:from|to) an|list index \d+ has) invalid group/version: ([A-Za-z0-9./-]+)")
_KIND = re.compile(r'no kind \\?"([A-Za-z]+)\\?" is registered for version \\?"([A-Za-z0-9./]+)\\?"')


@dataclass(frozen=True)
class ListFailure:
    """Why a resource can't be listed. Servers' messages may quote data, so only known parts of them are kept."""

    resource: ServedResource
    version: str
    status: int
    reason: str
    cause: str
    keys: tuple[str, ...] = ()
    more: bool = False


@dataclass
class Lists:
    """``counts`` by resource (None if unknown), one object of each as a sample, what failed, what may not be listed.

    ``vanished``: the API server answered 404, as for resources that it doesn't serve.
    ``namespaces``: by resource and namespace, how many objects, and one of them. ``namespace_names``: those that
    exist; None if not all could be listed. ``managed``: by resource, how many objects have field managers at which
    group version; ``applied``: how many kubectl applied last as which one.
    """

    counts: dict[str, int | None] = field(default_factory=dict)
    samples: dict[str, ObjectKey] = field(default_factory=dict)
    failures: list[ListFailure] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    namespaces: dict[str, dict[str, tuple[int, ObjectKey]]] = field(default_factory=dict)
    namespace_names: frozenset[str] | None = None
    managed: dict[str, dict[str, int]] = field(default_factory=dict)
    applied: dict[str, dict[str, int]] = field(default_factory=dict)


async def list_all(server: ApiServer, served: Mapping[str, ServedResource]) -> Lists:
    """Lists everything that can be listed, and custom resources in each served version, as that needs a conversion."""
    found = Lists()
    listable = [resource for resource in served.values() if "list" in resource.verbs]
    await gather_limited(_PARALLEL, lambda resource: _list(server, resource, found), listable)
    found.failures.sort(key=lambda failure: failure.resource.name)
    found.forbidden.sort()
    found.vanished.sort()
    return found


@dataclass
class _Listed:
    """The contents of the pages of one list so far."""

    number: int = 0
    namespaces: dict[str, tuple[int, ObjectKey]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    sample: ObjectKey | None = None
    managed: dict[str, int] = field(default_factory=dict)
    applied: dict[str, int] = field(default_factory=dict)

    def take(self, metadata: Mapping[str, Any]) -> None:
        key = ObjectKey(metadata.get("namespace"), metadata["name"], metadata.get("resourceVersion"))
        self.number += 1
        for version in {str(entry.get("apiVersion") or "") for entry in metadata.get("managedFields") or ()}:
            self.managed[version] = self.managed.get(version, 0) + 1
        applied = last_applied_as(metadata)
        if applied is not None:
            self.applied[applied] = self.applied.get(applied, 0) + 1
        self.sample = self.sample or key
        if key.namespace is None:
            self.names.add(key.name)
            return
        before, first = self.namespaces.get(key.namespace, (0, key))
        self.namespaces[key.namespace] = (before + 1, first)


async def _list(server: ApiServer, resource: ServedResource, found: Lists) -> None:
    listed = _Listed()
    try:
        async for page in pages(server, collection_path(resource), retry=PATIENT):
            if page.from_start:
                listed = _Listed()
            for item in page.items:
                listed.take(item["metadata"])
    except (ListFailedError, UnreachableError) as error:
        _note_failure(resource, error.answer if isinstance(error, ListFailedError) else None, found)
        return
    found.counts[resource.name] = listed.number
    if listed.sample is not None:
        found.samples[resource.name] = listed.sample
    found.managed[resource.name] = listed.managed
    found.applied[resource.name] = listed.applied
    if listed.namespaces:
        found.namespaces[resource.name] = listed.namespaces
    if resource.name == "namespaces":
        found.namespace_names = frozenset(listed.names)
    if listed.number and is_custom(resource.name):
        await _list_other_versions(server, resource, found)


def _note_failure(resource: ServedResource, answer: Response | None, found: Lists) -> None:
    found.counts[resource.name] = None
    if answer is not None and answer.status == 403:
        found.forbidden.append(resource.name)
    elif answer is not None and answer.status == 404:
        found.vanished.append(resource.name)
    else:
        found.failures.append(failure_of(resource, resource.request_version, answer))


async def _list_other_versions(server: ApiServer, resource: ServedResource, found: Lists) -> None:
    """Has the API server convert an object to each of the versions that requests don't use."""
    for version in resource.versions:
        if version == resource.request_version:
            continue
        path = path_of(f"/apis/{resource.group}/{version}", resource.plural)
        answer = await _ask(server, with_query(path, limit=1), METADATA_LIST)
        if answer is None or answer.status not in (200, 403, 404):
            found.failures.append(failure_of(resource, version, answer))


async def _ask(server: ApiServer, path: str, accept: str) -> Response | None:
    """The answer; None if there is none."""
    try:
        return await server.request("GET", path, accept=accept, timeout=60, retry=PATIENT)
    except UnreachableError:
        return None


def failure_of(resource: ServedResource, version: str, answer: Response | None) -> ListFailure:
    """The known parts of an error answer: the keys and the cause, but no word that could be data."""
    if answer is None:
        return ListFailure(resource, version, 0, "", "no API server answered")
    reason, message, details = status_of(answer)
    causes = [cause for cause in details.get("causes") or () if isinstance(cause, dict)]
    keys = [str(cause["field"]) for cause in causes if str(cause.get("field") or "").startswith("/")]
    texts = [message, *(str(cause.get("message") or "") for cause in causes)]
    for text in texts:
        keys += [key for key in _KEY.findall(text) if key.count("/") > 1]
    whole = " ".join(texts)
    more = "too many errors" in whole.lower()
    return ListFailure(
        resource, version, answer.status, reason, _cause(whole, answer.status), tuple(dict.fromkeys(keys)), more
    )


def _cause(text: str, status: int) -> str:
    kind = _KIND.search(text)
    if kind:
        return f"{NO_KIND} {kind[1]} of version {kind[2]}"
    lost = _LOST_VERSION.search(text)
    if lost:
        return f"an object is stored as {lost[1]}, {NOT_IN_CRD}"
    if is_kms_failure(text):
        return KMS_FAILS
    lower = text.lower()
    if "conversion webhook" in lower:
        return WEBHOOK_FAILS
    if "no matching prefix" in lower or "transform" in lower or "decrypt" in lower or "authentication failed" in lower:
        return "an object can't be decrypted with the keys that the API server has"
    if "decod" in lower or "unmarshal" in lower or "proto" in lower or "couldn't get version" in lower:
        return "an object is damaged or of an unknown form"
    return f"{UNCLEAR} {status}"


async def find_keys(server: ApiServer, failure: ListFailure, stored: Stored) -> tuple[str, ...]:
    """The keys in etcd of the objects that can't be read, found by asking for each object that the scan kept."""
    where = places(stored.resources.get(failure.resource.name, {}).values(), failure.resource)

    async def is_bad(place: tuple[str | None, str]) -> bool:
        answer = await _ask(server, object_path(failure.resource, *place), METADATA)
        return answer is not None and answer.status >= 500

    asked = await gather_limited(_GETS, is_bad, where)
    return tuple(sorted(key for key, bad in zip(where.values(), asked) if bad))


def places(tallies: Iterable[Tally], resource: ServedResource) -> dict[tuple[str | None, str], str]:
    """Etcd's keys by (namespace, name); if a variant has more objects than were kept, those of its samples."""
    found: dict[tuple[str | None, str], str] = {}
    for tally in tallies:
        head = ""
        for key in tally.samples:
            head, *rest = key.rsplit("/", 2 if resource.namespaced else 1)
            found[(rest[0], rest[1]) if resource.namespaced else (None, rest[0])] = key
        for kept in tally.kept or ():
            found[kept.namespace, kept.name] = "/".join(part for part in (head, kept.namespace, kept.name) if part)
    return found


@dataclass(frozen=True)
class Reach:
    """Which other servers can read the objects that make a LIST fail.

    ``readers``: by resource, API servers that read the objects; ``unasked``: API servers that could not be asked.
    ``etcd_read``: whether the objects' keys were looked up in etcd.
    """

    etcd_read: bool
    readers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unasked: Sequence[str] = ()


def evaluate_lists(
    failures: Iterable[ListFailure], found_keys: Mapping[str, Sequence[str]], reach: Reach
) -> list[Finding]:
    """``found_keys``: in etcd, by resource, of the objects that can't be read."""
    findings = []
    for failure in failures:
        name = failure.resource.name
        keys = tuple(dict.fromkeys((*failure.keys, *found_keys.get(name, ()))))
        shown = f" at version {failure.version}" if failure.version != failure.resource.request_version else ""
        what = f"LIST of {name}{shown} fails: {failure.cause}."
        if keys:
            what += f" {count(len(keys), 'object')}{' or more' if failure.more else ''}: {listed(keys)}."
        findings.append(Finding("list_fails", name, what, _STAND_STILL, _remediation(failure, keys, reach), keys=keys))
    return findings


def _remediation(failure: ListFailure, keys: Sequence[str], reach: Reach) -> str:
    name = failure.resource.name
    if NOT_IN_CRD in failure.cause:
        return readd_version(name)
    if WEBHOOK_FAILS in failure.cause:
        return "Repair the CRD's conversion webhook."
    if KMS_FAILS in failure.cause:
        return bring_back_kms("")
    if failure.status == 0 or failure.status in PASSING:
        return "Bring the API servers back and check again."
    if reach.readers.get(name):
        return (
            f"Give every API server the encryption configuration of {listed(reach.readers[name])}, which can read them. "
            "Delete nothing: the objects are not damaged."
        )
    if not keys:
        return "Check the API server's log" + (
            "." if reach.etcd_read else ", or give the option etcd: then the objects are named."
        )
    return f"{_restore(reach)} {_the_rest(name)}"


def bring_back_kms(where: str) -> str:
    """``where``: of which servers, with a space before it; empty if that is unknown."""
    return (
        f"Bring the KMS plugin{where} back, with access to every key that it has used, including old ones, and check again. Delete "
        "nothing: the objects are not damaged."
    )


def _restore(reach: Reach) -> str:
    """What to do about objects that none of the asked servers can read."""
    back = "Put back the encryption key or the release that can read it and rewrite it"
    if reach.unasked:
        return (
            f"{back}. Delete nothing until every API server was asked: {listed(reach.unasked)} could not be, and may be able "
            "to read it."
        )
    return f"{back}; else restore it from a backup, or remove it by the unsafe delete described in this module's notes."


def _the_rest(name: str) -> str:
    return (
        f"Until then storage_migrate with select: stale and resources: [{name}] migrates all other objects, as it takes them "
        "from etcd instead of a list."
    )
