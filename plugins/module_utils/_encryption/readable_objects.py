# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The work of module readable_objects_info: has each API server read each object from etcd.

A LIST may come from a server's memory (k8s.io/apiserver, pkg/storage/cacher/delegator), with objects that were decrypted
with keys dropped since. A GET without resourceVersion is always read from etcd and decrypted on the spot (CacheDelegator.Get in
cacher/delegator.go). So lists give the names, and GETs the proof.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    ApiError,
    BadInputError,
    UnreachableError,
    UnreachableKind,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import require_positive
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.retry import RetryPolicy
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import (
    METADATA,
    ApiServer,
    status_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import open_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.discovery import report_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.named import names_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import (
    collection_path,
    object_path,
    pages,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.options import ClusterOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

_TIMEOUT = 60.0
# Any failure to answer is retried, since an object that isn't read counts as unreadable.
_RETRY = RetryPolicy(tries=5, first=0.5, unreachable=tuple(UnreachableKind))
_SAMPLES = 5
# This many unreadable objects are enough to know that a server lacks a key.
_ENOUGH = 20
# k8s.io/apiserver, pkg/storage/errors.go: the object that made a list fail.
_KEY = re.compile(r"Key: \S*?([^/\s,;]+/[^/\s,;]+)(?:[,;\s]|$)")


@dataclass
class Reading:
    """What one server could read of one resource. ``objects``: how many it lists; None if that failed."""

    objects: int | None = None
    read: int = 0
    gone: int = 0
    unreadable: int = 0
    samples: list[str] = field(default_factory=list)
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "objects": self.objects,
            "read": self.read,
            "gone": self.gone,
            "unreadable": self.unreadable,
            "samples": self.samples,
            "error": self.error,
        }


@dataclass(frozen=True)
class ReadableObjectsOptions:
    """The options of readable_objects_info.

    ``revision``: of etcd, at which to list; None for the current one. ``workers``: requests in flight to each API server.
    """

    cluster: ClusterOptions
    resources: tuple[str, ...]
    revision: int | None = None
    workers: int = 8

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> ReadableObjectsOptions:
        """From the module's parameters. Raises BadInputError."""
        require_positive(params, ["workers"])
        if not params["resources"]:
            raise BadInputError("resources is empty; name those that are to be read.")
        cluster = ClusterOptions.from_params(params)
        return cls(cluster, tuple(params["resources"]), params.get("revision"), params["workers"])


@names_cluster
async def readable_objects(options: ReadableObjectsOptions, check_mode: bool, report: Report) -> dict[str, Any]:
    """The module's result; raises the collection's errors."""
    async with open_cluster(options.cluster) as cluster:
        listed = await cluster.servers()
        rows = await asyncio.gather(
            *(_ask(server, options.resources, options.revision, options.workers) for server in listed.servers)
        )
    problems = list(listed.problems)
    readable = bool(rows) and not problems and all(row["readable"] for row in rows)
    return {
        "msg": _sentence(rows, problems),
        "servers": rows,
        "readable": readable,
        "revision": options.revision,
        "problems": problems,
    }


async def _ask(server: ApiServer, resources: Sequence[str], revision: int | None, workers: int) -> dict[str, Any]:
    row: dict[str, Any] = {"url": server.url, "name": server.name, "readable": False, "error": None, "resources": {}}
    seen = await report_of(server, groups={name.partition(".")[2] for name in resources})
    if seen.error is not None or not seen.ready:
        return {**row, "error": seen.error or f"{server.url} is not ready."}
    found: dict[str, Reading] = {}
    for name in resources:
        served = seen.resources.get(name)
        if served is None:
            found[name] = Reading(error=f"{server.url} does not serve {name}.")
        else:
            found[name] = await _read_all(server, served, revision, workers)
    row["resources"] = {name: reading.as_dict() for name, reading in found.items()}
    return {**row, "readable": all(reading.error is None for reading in found.values())}


async def _read_all(server: ApiServer, resource: ServedResource, revision: int | None, workers: int) -> Reading:
    """Lists one resource completely, and gets each object of it."""
    found = Reading()
    try:
        names = await _list(server, resource, revision)
    except (ApiError, UnreachableError) as error:
        found.error = _why(error, "its list")
        return found
    found.objects = len(names)
    waiting = iter(names)

    async def worker() -> None:
        for namespace, name in waiting:
            if found.unreadable >= _ENOUGH:
                return
            await _get(server, resource, namespace, name, found)

    await asyncio.gather(*(worker() for _worker in range(min(workers, len(names)))))
    return found


async def _list(server: ApiServer, resource: ServedResource, revision: int | None) -> list[tuple[str | None, str]]:
    """(namespace, name) of each object, at exactly the given revision if there is one."""
    names: list[tuple[str | None, str]] = []
    async for page in pages(server, collection_path(resource), revision=revision, timeout=_TIMEOUT, retry=_RETRY):
        if page.from_start:
            names.clear()
        names += [(item["metadata"].get("namespace"), item["metadata"]["name"]) for item in page.items]
    return names


async def _get(server: ApiServer, resource: ServedResource, namespace: str | None, name: str, found: Reading) -> None:
    path = object_path(resource, namespace, name)
    try:
        answer = await server.request("GET", path, accept=METADATA, timeout=_TIMEOUT, retry=_RETRY)
        if answer.status == 404 and _is_gone(answer, resource, name):
            found.gone += 1
            return
        server.document(answer, "GET", path)
    except (ApiError, UnreachableError) as error:
        found.unreadable += 1
        if found.error is None:
            found.error = _why(error, f"{namespace}/{name}" if namespace else name)
        if len(found.samples) < _SAMPLES:
            found.samples.append(f"{namespace}/{name}" if namespace else name)
        return
    found.read += 1


def _why(error: ApiError | UnreachableError, what: str) -> str:
    """A sentence with the object's name, but without the server's own words about storage, which quote keys of etcd."""
    if not isinstance(error, ApiError) or error.status < 500:
        return error.message
    key = _KEY.search(error.message)
    because = f", because of {key[1]}" if key and key[1] != what else ""
    return f"{what} was answered with {error.status}{because}."


def _is_gone(answer: Response, resource: ServedResource, name: str) -> bool:
    """Whether the answer says that exactly this object does not exist."""
    reason, _message, details = status_of(answer)
    return (
        reason == "NotFound"
        and details.get("name") == name
        and details.get("kind") == resource.plural
        and (details.get("group") or "") == resource.group
    )


def _sentence(rows: list[dict[str, Any]], problems: list[str]) -> str:
    """Each server, and what it could read."""
    parts = []
    for row in rows:
        wrong = [f"{name}: {reading['error']}" for name, reading in row["resources"].items() if reading["error"]]
        if row["error"]:
            parts.append(f"{row['name']} could not be asked ({row['error'].rstrip('.')})")
        elif wrong:
            parts.append(f"{row['name']} can't read all of {len(wrong)} resources ({wrong[0].rstrip('.')})")
        else:
            number = sum(reading["read"] for reading in row["resources"].values())
            parts.append(f"{row['name']} reads all {number} objects")
    return "; ".join([*parts, *(problem.rstrip(".") for problem in problems)]) + "."
