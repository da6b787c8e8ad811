# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether every resource can be listed now, and how many objects each has.

One object that can't be decoded or decrypted makes the LIST of its whole resource fail. Lists are read
to their end, in pages of metadata only: the first page alone says nothing of the others.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import (
    METADATA,
    METADATA_LIST,
    ApiServer,
    status_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._checks.finding import Finding, count, listed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import is_custom
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, Tally
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import ServedResource

_PAGE = 500
_PARALLEL = 4
_TRIES = 4
_GETS = 8
_PASSING = (429, 502, 503, 504)
# What API servers say of an object that they can't read (k8s.io/apiserver, pkg/storage/etcd3).
_KEY = re.compile(r'(?:key|object|path) \\?"(/[^"\\ ]+)\\?"')
_KIND = re.compile(r'no kind \\?"([A-Za-z]+)\\?" is registered for version \\?"([A-Za-z0-9./]+)\\?"')


@dataclass(frozen=True)
class Failure:
    """Why a resource can't be listed. Servers' messages may quote data, so only what is known in them is kept."""

    resource: ServedResource
    version: str
    status: int
    reason: str
    cause: str
    keys: tuple[str, ...] = ()
    more: bool = False


@dataclass
class Lists:
    """``counts`` by resource (None: unknown), one object of each as a sample, what failed, what may not be listed."""

    counts: dict[str, int | None] = field(default_factory=dict)
    samples: dict[str, ObjectKey] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)


async def list_all(server: ApiServer, served: Mapping[str, ServedResource]) -> Lists:
    """Lists everything that has the verb; custom resources in each served version, as that needs a conversion."""
    found = Lists()
    slots = asyncio.Semaphore(_PARALLEL)

    async def one(resource: ServedResource) -> None:
        async with slots:
            await _list(server, resource, found)

    await asyncio.gather(*(one(resource) for resource in served.values() if "list" in resource.verbs))
    found.failures.sort(key=lambda failure: failure.resource.name)
    found.forbidden.sort()
    return found


async def _list(server: ApiServer, resource: ServedResource, found: Lists) -> None:
    base = f"{resource.path}/{resource.plural}"
    number, token = 0, ""
    while True:
        answer = await _ask(server, f"{base}?limit={_PAGE}" + (f"&continue={quote(token)}" if token else ""))
        page = _document(answer)
        if answer is not None and answer.status == 410:
            token = str((page.get("metadata") or {}).get("continue") or "")
            if not token:
                number = 0
            continue
        if answer is None or answer.status != 200:
            if answer is not None and answer.status == 403 and resource.name not in found.forbidden:
                found.forbidden.append(resource.name)
            elif answer is None or answer.status != 404:
                found.failures.append(failure_of(resource, resource.versions[0], answer))
            found.counts[resource.name] = None
            return
        items = page.get("items") or []
        if items and resource.name not in found.samples:
            metadata = items[0]["metadata"]
            found.samples[resource.name] = ObjectKey(
                metadata.get("namespace"), metadata["name"], metadata.get("resourceVersion")
            )
        number += len(items)
        token = str((page.get("metadata") or {}).get("continue") or "")
        if not token:
            break
    found.counts[resource.name] = number
    if number and is_custom(resource.name):
        for version in resource.versions[1:]:
            answer = await _ask(server, f"/apis/{resource.group}/{version}/{resource.plural}?limit=1")
            if answer is None or answer.status not in (200, 403, 404):
                found.failures.append(failure_of(resource, version, answer))


async def _ask(server: ApiServer, path: str, accept: str = METADATA_LIST) -> Response | None:
    """The answer; None if none came. Overload is waited for."""
    answer = None
    for attempt in range(_TRIES):
        if attempt:
            await asyncio.sleep(0.25 * 2**attempt)
        try:
            answer = await server.request("GET", path, accept=accept, timeout=60)
        except UnreachableError:
            continue
        if answer.status not in _PASSING:
            break
    return answer


def _document(answer: Response | None) -> dict[str, Any]:
    try:
        document = json.loads(answer.body) if answer is not None else {}
    except ValueError:
        document = {}
    return document if isinstance(document, dict) else {}


def failure_of(resource: ServedResource, version: str, answer: Response | None) -> Failure:
    """What is known from an error answer: the keys and the cause, but no word that could be data."""
    if answer is None:
        return Failure(resource, version, 0, "", "no API server answered")
    reason, message, details = status_of(answer)
    causes = [one for one in details.get("causes") or () if isinstance(one, dict)]
    keys = [str(one["field"]) for one in causes if str(one.get("field") or "").startswith("/")]
    texts = [message, *(str(one.get("message") or "") for one in causes)]
    for text in texts:
        keys += [key for key in _KEY.findall(text) if key.count("/") > 1]
    whole = " ".join(texts)
    more = "too many errors" in whole.lower()
    return Failure(
        resource, version, answer.status, reason, _cause(whole, answer.status), tuple(dict.fromkeys(keys)), more
    )


def _cause(text: str, status: int) -> str:
    kind = _KIND.search(text)
    if kind:
        return f"the API server knows no {kind[1]} of version {kind[2]}"
    lower = text.lower()
    if "conversion webhook" in lower:
        return "its conversion webhook does not answer or fails"
    if "no matching prefix" in lower or "transform" in lower or "decrypt" in lower or "authentication failed" in lower:
        return "an object can't be decrypted with the keys that the API server has"
    if "decod" in lower or "unmarshal" in lower or "proto" in lower or "couldn't get version" in lower:
        return "an object is damaged or of an unknown form"
    return f"the API server answers with {status}"


async def find_keys(server: ApiServer, failure: Failure, stored: Stored) -> tuple[str, ...]:
    """The keys in etcd of the objects that can't be read: each that the scan kept is asked for by itself."""
    places = _places(stored.resources.get(failure.resource.name, {}).values(), failure.resource)
    slots = asyncio.Semaphore(_GETS)
    path = failure.resource.path

    async def bad(place: tuple[str | None, str]) -> str | None:
        namespace = f"/namespaces/{quote(place[0])}" if place[0] else ""
        async with slots:
            answer = await _ask(
                server, f"{path}{namespace}/{failure.resource.plural}/{quote(place[1])}", accept=METADATA
            )
        return places[place] if answer is not None and answer.status >= 500 else None

    asked = await asyncio.gather(*(bad(place) for place in places))
    return tuple(sorted(key for key in asked if key is not None))


def _places(tallies: Iterable[Tally], resource: ServedResource) -> dict[tuple[str | None, str], str]:
    """Keys by (namespace, name); of a variant with more objects than were kept, those of its samples."""
    places: dict[tuple[str | None, str], str] = {}
    for tally in tallies:
        head = ""
        for key in tally.samples:
            head, *rest = key.rsplit("/", 2 if resource.namespaced else 1)
            places[(rest[0], rest[1]) if resource.namespaced else (None, rest[0])] = key
        for one in tally.kept or ():
            places[one.namespace, one.name] = "/".join(part for part in (head, one.namespace, one.name) if part)
    return places


def judge(failures: Iterable[Failure], found_keys: Mapping[str, tuple[str, ...]], *, etcd_read: bool) -> list[Finding]:
    """``found_keys`` by resource, where etcd was asked."""
    findings = []
    for one in failures:
        name = one.resource.name
        keys = tuple(dict.fromkeys((*one.keys, *found_keys.get(name, ()))))
        shown = f" at version {one.version}" if one.version != one.resource.versions[0] else ""
        what = f"LIST of {name}{shown} fails: {one.cause}."
        if keys:
            what += f" {count(len(keys), 'object')}{' or more' if one.more else ''}: {listed(keys)}."
        if "conversion webhook" in one.cause:
            mend = "Bring the conversion webhook of the CRD back."
        elif one.status == 0 or one.status in _PASSING:
            mend = "Bring the API servers back and check again."
        elif keys:
            mend = (
                "Put back the encryption key or the release that can read it and rewrite it; else restore it from a "
                "backup, or remove it by the unsafe delete described in this module's notes."
            )
        else:
            mend = "Look into the API server's log" + (
                "." if etcd_read else ", or give the option etcd: then the objects are named."
            )
        findings.append(
            Finding(
                "list_fails",
                name,
                what,
                "Controllers that watch it stand still, namespaces hang in Terminating, and none of its objects can be migrated.",
                mend,
                keys=keys,
            )
        )
    return findings
