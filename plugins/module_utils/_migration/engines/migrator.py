# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API of kube-storage-version-migrator (part of OpenShift, installed by others): migration.k8s.io/v1alpha1."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import ApiError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import seconds_text, utc_now
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import MERGE_PATCH, ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import path_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.permissions import Need
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.controller import (
    PREFIX,
    MigrationStatus,
    Phase,
    conditions_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

GROUP = "migration.k8s.io"
VERSION = "v1alpha1"
_BASE = f"/apis/{GROUP}/{VERSION}"
_STATES = f"{_BASE}/storagestates"
_UNKNOWN = "Unknown"
_TRIES = 4


class KubeStorageVersionMigrator:
    """Implements Dialect."""

    name = "kube_storage_version_migrator"
    kind = "storageversionmigrations"
    group = GROUP
    version = VERSION
    collection = f"{_BASE}/{kind}"
    title = "kube-storage-version-migrator"
    process = "its Deployment migrator"
    how_to_start = (
        "make sure that its Deployment migrator runs and may use migration.k8s.io, and restart it if its log shows that it is "
        "still stuck on an object of an earlier migration, as it retries a refused one forever, 40 times a second, even when the migration is "
        "deleted"
    )
    trims = False
    # Its own limit of requests (--kube-api-qps=40), each of which writes an object; measured 41.
    objects_per_second: float | None = 40.0
    may_hang = True

    def __init__(self) -> None:
        self._run = format(int(time.time()), "x")

    def object_name(self, resource: ServedResource) -> str:
        """Ends with the run's time.

        The migrator works by name: if it is still stuck on an object of an ended run, it would write its
        continue token, and finally Succeeded, into a new migration of the same name.
        """
        return f"{PREFIX}-{resource.name}-{self._run}"

    def resource(self, resource: ServedResource) -> dict[str, str]:
        return {"group": resource.group, "version": resource.request_version, "resource": resource.plural}

    def cannot(self, resource: ServedResource) -> str | None:
        """Why the migrator could never migrate this resource; None if it can."""
        return None if "update" in resource.verbs else "the migrator writes by update, which this resource lacks"

    def progress(self, document: Mapping[str, Any]) -> MigrationStatus:
        """The migrator counts nothing; its continue token moves after each page of 500 objects."""
        conditions = conditions_of(document)
        for name, phase in (("Succeeded", Phase.SUCCEEDED), ("Failed", Phase.FAILED), ("Running", Phase.RUNNING)):
            holds, message = conditions.get(name, (False, ""))
            if holds:
                return MigrationStatus(phase, message=message)
        return MigrationStatus(Phase.PENDING)


async def is_served(server: ApiServer) -> bool:
    """Whether the cluster has its API."""
    answer = await server.request("GET", _BASE)
    return answer.status == 200


class StorageStates:
    """Keeps the migrator's StorageState objects up to date: the versions that objects may still be stored in.

    Its trigger does the same if it runs; if it doesn't (as on OpenShift), nothing else would.
    """

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    async def begun(self, targets: Iterable[Target]) -> None:
        """Before anything is written: from now on the current version may be stored, too."""
        for target in targets:
            await self._write(target, done=False)

    async def proven(self, targets: Iterable[Target]) -> None:
        """After the proof: only the current version is stored."""
        for target in targets:
            await self._write(target, done=True)

    async def _write(self, target: Target, *, done: bool) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                state = await self._read(target)
                status = next_status(state.get("status") or {}, target.hash, done=done)
                if status is not None:
                    body = {"metadata": {"resourceVersion": state["metadata"]["resourceVersion"]}, "status": status}
                    path = path_of(_BASE, "storagestates", name=target.name, subresource="status")
                    await self._server.json("PATCH", path, content_type=MERGE_PATCH, body=body)
                return
            except ApiError as error:
                if error.status == 404:
                    return  # No StorageStates in this cluster.
                if error.status != 409 or attempt == _TRIES:
                    raise

    async def _read(self, target: Target) -> dict[str, Any]:
        try:
            return await self._server.get(path_of(_BASE, "storagestates", name=target.name))
        except ApiError as error:
            if error.status != 404:
                raise
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "StorageState",
            "metadata": {"name": target.name},
            "spec": {"resource": {"group": target.resource.group, "resource": target.resource.plural}},
        }
        return await self._server.json("POST", _STATES, body=body)


def storage_state_needs() -> list[Need]:
    """Permissions for keeping StorageStates."""
    return [
        *(Need(verb, GROUP, "storagestates") for verb in ("get", "create")),
        Need("patch", GROUP, "storagestates", subresource="status"),
    ]


def next_status(status: Mapping[str, Any], storage_hash: str, *, done: bool) -> dict[str, Any] | None:
    """What a StorageState's status should be; None if that is what it is."""
    before = [str(known) for known in status.get("persistedStorageVersionHashes") or ()]
    if done:
        persisted = [storage_hash]
    else:
        persisted = before or [_UNKNOWN]
        if storage_hash not in persisted and _UNKNOWN not in persisted:
            persisted = [*persisted, storage_hash]
    if persisted == before and status.get("currentStorageVersionHash") == storage_hash:
        return None
    return {
        "currentStorageVersionHash": storage_hash,
        "persistedStorageVersionHashes": persisted,
        "lastHeartbeatTime": seconds_text(utc_now()),
    }
