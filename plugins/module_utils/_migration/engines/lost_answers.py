# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose write it was, if the answer to a patch got lost and the object has another resourceVersion since.

The object's metadata before and after show it: a patch of ours changes nothing but resourceVersion and the managers
that it drops, while a write that changes anything else also changes managedFields, at least the time of its manager
(k8s.io/apimachinery, pkg/util/managedfields/internal/fieldmanager.go). Where that can't be relied on, it is unknown.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import ApiError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import parse_time
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import METADATA, ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import server_time
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import (
    object_path,
    pages,
    path_of,
    with_query,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

# managedFields have times in whole seconds: a write in the same second as the one before may leave no trace.
_WHOLE_SECONDS = timedelta(seconds=2)


@dataclass(frozen=True)
class Sent:
    """A patch that may have been carried out: of an object at ``resource_version``; ``managed_fields``: those it sets, None if none."""

    resource_version: str
    managed_fields: list[Any] | None = None


async def was_carried_out(
    server: ApiServer, resource: ServedResource, key: ObjectKey, sent: Sent, *, begun: float, served: Collection[str]
) -> bool:
    """Whether it is certain that the patch was carried out, and that nothing else has changed the object since.

    ``begun``: when the run began, before which no object was read, in seconds of time.monotonic().
    ``served``: the group versions in which managers can be updated.
    Raises UnreachableError if no server answers.
    """
    try:
        before = await _as_it_was(server, resource, key, sent.resource_version)
        answer = await server.request("GET", object_path(resource, key.namespace, key.name), accept=METADATA)
        now = server.document(answer, "GET", key.name)["metadata"]
    except (ApiError, KeyError, ValueError):
        return False
    if before is None or "Date" not in answer.headers:
        return False
    began = server_time(answer.headers) - timedelta(seconds=time.monotonic() - begun)
    return is_traced(before, began, served) and is_as_sent(before, now, sent)


async def _as_it_was(
    server: ApiServer, resource: ServedResource, key: ObjectKey, resource_version: str
) -> Mapping[str, Any] | None:
    """The object's metadata at an older resourceVersion, which etcd has for five minutes by default; None if it has not."""
    name = "".join(f"\\{letter}" if letter in "\\,=" else letter for letter in key.name)
    path = with_query(
        path_of(resource.path, resource.plural, namespace=key.namespace), fieldSelector=f"metadata.name={name}"
    )
    async for page in pages(server, path, revision=int(resource_version)):
        for item in page.items:
            metadata: Mapping[str, Any] = item["metadata"]
            if metadata.get("name") == key.name and metadata.get("resourceVersion") == resource_version:
                return metadata
    return None


def is_traced(before: Mapping[str, Any], began: datetime, served: Collection[str]) -> bool:
    """Whether a write that changed anything after ``began`` would have changed the object's managedFields. Pure.

    Not if it has none, if one can't be updated because its version is not served, or if the last one is too recent.
    """
    entries = before.get("managedFields") or []
    times = [parse_time(entry.get("time")) for entry in entries]
    known = [moment for moment in times if moment is not None]
    if not known or len(known) != len(entries) or any(entry.get("apiVersion") not in served for entry in entries):
        return False
    return max(known) + _WHOLE_SECONDS <= began


def is_as_sent(before: Mapping[str, Any], now: Mapping[str, Any], sent: Sent) -> bool:
    """Whether just the patch can explain how the metadata changed. Pure."""
    expected = {**before, "resourceVersion": now.get("resourceVersion")}
    if sent.managed_fields is not None:
        expected["managedFields"] = [entry for entry in sent.managed_fields if entry]
    if before.get("resourceVersion") == now.get("resourceVersion"):
        return False
    return _comparable(expected) == _comparable(now)


def _comparable(metadata: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in metadata.items() if value}, sort_keys=True)
