# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API of Kubernetes' own storage version migrator, storagemigration.k8s.io. Pure except for one request.

Its controller lives in kube-controller-manager (k8s.io/kubernetes, pkg/controller/storageversionmigrator).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import ApiError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.controller import (
    PREFIX,
    MigrationStatus,
    Phase,
    conditions_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import EVENTS
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

GROUP = "storagemigration.k8s.io"
_NEWEST_FIRST = ("v1", "v1beta1", "v1alpha1")
# The garbage collector's watches feed the controller; it watches what can be deleted, and no events
# (k8s.io/kubernetes, pkg/controller/garbagecollector, DefaultIgnoredResources and GetDeletableResources).
_WATCHED = ("delete", "list", "watch")

_LEFT = re.compile(r"\b(\d+)/(\d+)(?: objects)? not yet migrated")
_ALL = re.compile(r"\b(\d+) objects verified migrated")


class InTree:
    """Implements Dialect for one version of the API."""

    name = "storage_version_migration"
    kind = "storageversionmigrations"
    group = GROUP
    title = "the storage-version-migrator-controller of kube-controller-manager"
    process = "kube-controller-manager"
    how_to_start = (
        "make sure that kube-controller-manager runs, is the leader and has storage-version-migrator-controller and "
        "garbage-collector-controller enabled (before 1.37 also --feature-gates=StorageVersionMigrator=true, "
        "before 1.35 InformerResourceVersion=true in addition)"
    )
    objects_per_second: float | None = None
    may_hang = False

    def __init__(self, version: str) -> None:
        self.version = version
        # Since 1.36 (migrationrunner.go); before 1.35 the API is v1alpha1, and v1beta1 doesn't tell 1.35 from 1.36.
        self.trims = version != "v1alpha1"
        self.collection = f"/apis/{GROUP}/{version}/{self.kind}"

    def object_name(self, resource: ServedResource) -> str:
        """Always the same: an ended run's object of that name can't be mistaken for this run's, as its uid differs."""
        return f"{PREFIX}-{resource.name}"

    def resource(self, resource: ServedResource) -> dict[str, str]:
        if self.version == "v1alpha1":
            return {"group": resource.group, "version": resource.request_version, "resource": resource.plural}
        return {"group": resource.group, "resource": resource.plural}

    def cannot(self, resource: ServedResource) -> str | None:
        """Why the controller could never migrate this resource; None if it can."""
        if resource.name in EVENTS:
            return "the garbage collector, whose watches the controller uses, does not watch events"
        missing = [verb for verb in _WATCHED if verb not in resource.verbs]
        if missing:
            return (
                "the garbage collector, whose watches the controller uses, does not watch resources "
                f"without {' and '.join(missing)}"
            )
        return None

    def progress(self, document: Mapping[str, Any]) -> MigrationStatus:
        conditions = conditions_of(document)
        running, succeeded, failed = (conditions.get(name) for name in ("Running", "Succeeded", "Failed"))
        message = next((condition[1] for condition in (failed, succeeded, running) if condition is not None), "")
        done, total = counts(running[1] if running else message)
        # After the end the controller still cleans up the CRD, and only then resets Running.
        settled = running is None or not running[0]
        if succeeded and succeeded[0]:
            return MigrationStatus(Phase.SUCCEEDED, done, total, settled=settled)
        if failed and failed[0]:
            return MigrationStatus(Phase.FAILED, done, total, message, settled)
        seen = running is not None or bool((document.get("status") or {}).get("resourceVersion"))
        return MigrationStatus(Phase.RUNNING if seen else Phase.PENDING, done, total, running[1] if running else "")


def counts(message: str) -> tuple[int | None, int | None]:
    """(objects done, total) from the controller's message; None if it doesn't say."""
    left = _LEFT.search(message)
    if left:
        return int(left[2]) - int(left[1]), int(left[2])
    every = _ALL.search(message)
    if every:
        return int(every[1]), int(every[1])
    return None, None


def newest(served: Collection[str]) -> str | None:
    """The newest served version of the API that we support."""
    return next((version for version in _NEWEST_FIRST if version in served), None)


async def served_version(server: ApiServer, group: str = GROUP) -> str | None:
    """The newest version of the API that a server serves; None if it serves none."""
    try:
        document = await server.get(f"/apis/{group}")
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    return newest({version.get("version", "") for version in document.get("versions") or ()})
