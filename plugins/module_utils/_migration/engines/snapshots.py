# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a controller did to the objects of a resource, from a comparison of their metadata before and after.

A controller says at most how many objects it visited. A rewrite changes nothing but an object's resourceVersion, so
comparing two lists of metadata distinguishes rewrites, others' writes, and objects left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import collection_path, pages
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import Verdict
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

_Key = tuple[str, str]  # namespace (empty if it has none), name


@dataclass(frozen=True)
class Trace:
    """What is remembered of one object: enough to notice a change, and none of its data."""

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


def compare(before: Snapshot, after: Snapshot) -> Iterator[tuple[ObjectKey, Verdict]]:
    """What became of each object that existed before. New objects need no migration, so they don't count."""
    for (namespace, name), old in before.items():
        yield ObjectKey(namespace or None, name), _verdict(old, after.get((namespace, name)))


def _verdict(old: Trace, new: Trace | None) -> Verdict:
    if new is None or new.uid != old.uid:
        return Verdict.DELETED
    if new.resource_version == old.resource_version:
        return Verdict.UNCHANGED
    return Verdict.REWRITTEN if new.rest == old.rest else Verdict.CONFLICT


def untouched(before: Snapshot, after: Snapshot) -> tuple[ObjectKey, ...]:
    """The objects that nobody wrote in between."""
    return tuple(
        ObjectKey(namespace or None, name, old.resource_version)
        for (namespace, name), old in before.items()
        if (new := after.get((namespace, name))) is not None
        and (new.uid, new.resource_version) == (old.uid, old.resource_version)
    )


def some_keys(snapshot: Snapshot, number: int) -> list[ObjectKey]:
    """A few of the objects, to be checked again later."""
    return [ObjectKey(namespace or None, name) for (namespace, name), _number in zip(snapshot, range(number))]


async def snapshot(server: ApiServer, resource: ServedResource, page_size: int) -> Snapshot | None:
    """The metadata of all objects; None if they can't be listed (for instance without permission)."""
    found: dict[_Key, Trace] = {}
    try:
        async for page in pages(server, collection_path(resource), limit=page_size):
            if page.from_start:
                found.clear()
            found.update(traces(page.items))
    except (StorageUpgradeError, KeyError):
        return None
    return found
