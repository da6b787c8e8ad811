# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How Kubernetes' own storage version migrator is spoken to: storagemigration.k8s.io. Pure but for one question.

Its controller lives in kube-controller-manager (k8s.io/kubernetes, pkg/controller/storageversionmigrator).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import ApiError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.controllers import (
    PREFIX,
    Phase,
    Progress,
    conditions_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import EVENTS
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import ServedResource

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
    how_to_start = (
        "see that kube-controller-manager runs, leads and has storage-version-migrator-controller and "
        "garbage-collector-controller enabled (before 1.37 also --feature-gates=StorageVersionMigrator=true)"
    )
    trims = True

    def __init__(self, version: str) -> None:
        self.version = version
        self.collection = f"/apis/{GROUP}/{version}/{self.kind}"

    def object_name(self, resource: ServedResource) -> str:
        """Always the same: what an ended run left under it can't be taken for this run's, as its uid differs."""
        return f"{PREFIX}-{resource.name}"

    def resource(self, resource: ServedResource) -> dict[str, str]:
        if self.version == "v1alpha1":
            return {"group": resource.group, "version": resource.versions[0], "resource": resource.plural}
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

    def progress(self, document: Mapping[str, Any]) -> Progress:
        conditions = conditions_of(document)
        running, succeeded, failed = (conditions.get(name) for name in ("Running", "Succeeded", "Failed"))
        message = next((one[1] for one in (failed, succeeded, running) if one is not None), "")
        done, total = counts(running[1] if running else message)
        # After the end the controller still tidies up the CRD, and then takes Running back.
        settled = running is None or not running[0]
        if succeeded and succeeded[0]:
            return Progress(Phase.SUCCEEDED, done, total, settled=settled)
        if failed and failed[0]:
            return Progress(Phase.FAILED, done, total, message, settled)
        seen = running is not None or bool((document.get("status") or {}).get("resourceVersion"))
        return Progress(Phase.RUNNING if seen else Phase.PENDING, done, total, running[1] if running else "")


def counts(message: str) -> tuple[int | None, int | None]:
    """(objects done, objects in all) as the controller words it; None where it doesn't say."""
    left = _LEFT.search(message)
    if left:
        return int(left[2]) - int(left[1]), int(left[2])
    every = _ALL.search(message)
    if every:
        return int(every[1]), int(every[1])
    return None, None


def newest(served: Collection[str]) -> str | None:
    """The newest version of the API among those served that we can speak."""
    return next((version for version in _NEWEST_FIRST if version in served), None)


async def served_version(server: ApiServer, group: str = GROUP) -> str | None:
    """The newest version of the API that a server serves; None if it serves none."""
    try:
        document = await server.get(f"/apis/{group}")
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    return newest({one.get("version", "") for one in document.get("versions") or ()})
