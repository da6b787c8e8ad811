# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a controller did to the objects of a resource: their metadata before and after, compared.

A controller says at most how many objects it visited. A rewrite changes nothing but an object's
resourceVersion, so two lists of metadata tell rewrites, writes of others, and objects left alone apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import METADATA_LIST, ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import Tally
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import ServedResource

_LIST_TIMEOUT = 60.0
_RESTARTS = 3

_Key = tuple[str, str]  # namespace (empty if it has none), name


@dataclass(frozen=True)
class Trace:
    """What is remembered of one object: enough to see that it changed, nothing of what it says."""

    uid: str
    resource_version: str
    rest: int


Snapshot = Mapping[_Key, Trace]


def traces(items: Iterable[Mapping[str, Any]]) -> Iterator[tuple[_Key, Trace]]:
    """Key and trace of each item of a PartialObjectMetadataList."""
    for item in items:
        metadata = dict(item["metadata"])
        version = str(metadata.pop("resourceVersion", ""))
        rest = hash(json.dumps(metadata, sort_keys=True))
        key = (str(metadata.get("namespace") or ""), str(metadata["name"]))
        yield key, Trace(str(metadata.get("uid") or ""), version, rest)


def compare(before: Snapshot, after: Snapshot) -> Tally:
    """What became of each object that was there before. New objects need no migration, so they don't count."""
    tally = Tally()
    for key, old in before.items():
        new = after.get(key)
        if new is None or new.uid != old.uid:
            tally.deleted += 1
        elif new.resource_version == old.resource_version:
            tally.unchanged += 1
        elif new.rest == old.rest:
            tally.rewritten += 1
        else:
            tally.conflicts += 1
    return tally


def some_keys(snapshot: Snapshot, number: int) -> list[ObjectKey]:
    """A few of the objects, to look at once more later."""
    return [ObjectKey(namespace or None, name) for (namespace, name), _number in zip(snapshot, range(number))]


async def snapshot(server: ApiServer, resource: ServedResource, page_size: int) -> Snapshot | None:
    """The metadata of all objects; None if they can't be listed (without permission, say)."""
    for _restart in range(_RESTARTS):
        found: dict[_Key, Trace] = {}
        token = ""
        try:
            while True:
                path = f"{resource.path}/{resource.plural}?limit={page_size}"
                path += f"&continue={quote(token, safe='')}" if token else ""
                answer = await server.request("GET", path, accept=METADATA_LIST, timeout=_LIST_TIMEOUT)
                if answer.status == 410:
                    break  # The list took longer than etcd keeps its revision: start over.
                if answer.status >= 400:
                    return None
                page = json.loads(answer.body)
                found.update(traces(page.get("items") or ()))
                token = (page.get("metadata") or {}).get("continue") or ""
                if not token:
                    return found
        except (StorageUpgradeError, ValueError, KeyError):
            return None
    return None
