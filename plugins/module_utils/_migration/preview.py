# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check mode: what a run would visit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.gathering import gather_limited
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import some_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import METADATA_LIST
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import Cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import collection_path, with_query
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.result import (
    MigrationResult,
    as_return_values,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.diff import diff_of

# A cluster may have thousands of resources.
COUNTED_AT_ONCE = 8


async def preview(cluster: Cluster, result: MigrationResult) -> dict[str, Any]:
    """Check mode: how many objects would be visited; nothing is written."""
    plan, recorded = result.plan, result.recorded

    async def count(target: Target) -> int | None:
        return await count_objects(cluster, target)

    numbers = await gather_limited(COUNTED_AT_ONCE, count, plan.targets)
    counted = {target.name: number for target, number in zip(plan.targets, numbers)}
    returned = as_return_values(result)
    unknown = sorted(name for name, number in counted.items() if number is None)
    known = sum(number or 0 for number in counted.values())
    returned["would_visit"] = None if unknown else known
    returned["msg"] = _sentence(known, len(counted), unknown)
    returned["resources"] = {
        target.name: {
            "would_visit": counted[target.name],
            "storage_version": target.storage_version,
            "reason": target.reason,
        }
        for target in plan.targets
    }
    returned["diff"] = diff_of(
        "on record",
        "would be stored",
        (
            (
                target.name,
                recorded.get(target.name),
                f"{target.storage_version} ({_number(counted[target.name])} to visit)",
            )
            for target in plan.targets
            if counted[target.name] != 0 and (target.objects or recorded.get(target.name) != target.storage_version)
        ),
    )
    return returned


def _number(counted: int | None) -> str:
    return "an unknown number" if counted is None else str(counted)


def _sentence(known: int, resources: int, unknown: Sequence[str]) -> str:
    """``unknown``: names of resources that could not be listed."""
    if not unknown:
        return f"{known} objects of {resources} resources would be visited; nothing was written."
    return (
        f"At least {known} objects of {resources} resources would be visited; the exact number is unknown, because {some_of(unknown)} "
        "could not be listed. Nothing was written."
    )


async def count_objects(cluster: Cluster, target: Target) -> int | None:
    """How many objects a target has; None if the list doesn't say."""
    if target.objects is not None:
        return len(target.objects)
    try:
        page = await cluster.entry.get(with_query(collection_path(target.resource), limit=1), accept=METADATA_LIST)
    except StorageUpgradeError:
        return None
    left = (page.get("metadata") or {}).get("remainingItemCount") or 0
    return len(page.get("items") or ()) + int(left)
