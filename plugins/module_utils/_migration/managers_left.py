# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""After a run: which custom resources still have field managers at versions that may go, by a list of metadata.

The list comes last, so it is true whichever engine did the work, and for objects that this run didn't visit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.gathering import gather_limited
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.crds import (
    Trimmed,
    crd_storage_version,
    has_conversion_webhook,
    require_crd,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import collection_path, pages
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.managed_fields import (
    REWRITE,
    how_to_move,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    split_group_version,
)

_LISTED_AT_ONCE = 4


@dataclass(frozen=True)
class ManagersLeft:
    """``objects``: how many have entries at ``versions`` (objects at each, without the group); None if they can't be listed."""

    resource: str
    objects: int | None
    remediation: str
    versions: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "resource": self.resource,
            "objects": self.objects,
            "versions": dict(sorted(self.versions.items())),
            "remediation": self.remediation,
        }

    @property
    def sentence(self) -> str:
        if self.objects is None:
            what = f"Whether objects of {self.resource} still have field managers at older versions is unknown"
        else:
            single = self.objects == 1
            what = (
                f"{self.objects} {'object' if single else 'objects'} of {self.resource} still {'has' if single else 'have'} field "
                f"managers at {', '.join(sorted(self.versions))}"
            )
        return f"{what}. {self.remediation}"


async def find_managers_left(
    server: ApiServer, mode: str, resources: Mapping[str, ServedResource], trimmed: Sequence[Trimmed]
) -> list[ManagersLeft]:
    """``resources``: the custom resources of the run, by name. Raises nothing: what can't be listed is said to be unknown."""
    gone = {crd.crd: set(crd.before) - set(crd.after) for crd in trimmed if crd.crd in resources}
    names = sorted(resources if mode == REWRITE else gone)
    found = await gather_limited(
        _LISTED_AT_ONCE, lambda name: _look(server, mode, resources[name], gone.get(name, set())), names
    )
    return [left for left in found if left is not None]


async def _look(server: ApiServer, mode: str, resource: ServedResource, trimmed: set[str]) -> ManagersLeft | None:
    try:
        crd = await require_crd(server, resource.name)
    except StorageUpgradeError:
        crd = None
    webhook = None if crd is None else has_conversion_webhook(crd)
    storage = None if crd is None else crd_storage_version(crd)
    all_others = mode == REWRITE and webhook is not False
    if not all_others and not trimmed:
        return None

    def may_go(version: str) -> bool:
        return version in trimmed or (all_others and version != storage)

    try:
        objects, versions = await _count(server, resource, may_go)
    except StorageUpgradeError as error:
        return ManagersLeft(resource.name, None, f"They could not be listed: {error.message}")
    remediation = how_to_move(resource.name, storage, sorted(versions), webhook)
    return ManagersLeft(resource.name, objects, remediation, versions) if objects else None


async def _count(
    server: ApiServer, resource: ServedResource, may_go: Callable[[str], bool]
) -> tuple[int, dict[str, int]]:
    """How many objects have entries at versions of the group that may go, altogether and at each of them."""
    objects, versions = 0, Counter[str]()
    async for page in pages(server, collection_path(resource)):
        if page.from_start:
            objects, versions = 0, Counter()
        for item in page.items:
            entries = item["metadata"].get("managedFields") or ()
            at = {split_group_version(str(entry.get("apiVersion") or "")) for entry in entries}
            found = {version for group, version in at if group == resource.group and may_go(version)}
            objects += bool(found)
            versions.update(found)
    return objects, dict(versions)
