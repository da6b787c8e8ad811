# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the migration after the upgrade will have to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import EVENTS
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.crds import Definition
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import UpgradePath
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    group_version,
    storage_version_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import Releases


def plan_requests(
    served: Mapping[str, ServedResource],
    groups: tuple[str, ...],
    upgrade_path: UpgradePath,
    releases: Releases,
    new_crds: Iterable[Definition],
    counts: Mapping[str, int | None],
    sizes: Mapping[str, int] | None,
    rate: float | None,
    *,
    emulated: bool = False,
) -> dict[str, Any]:
    """The storage versions that change, and how much work that is. ``counts`` by LIST or etcd, ``sizes`` by etcd.

    ``all`` is the work for select: all, which visits everything, although most of it is current.
    """
    changes = changing(served, groups, upgrade_path, releases, new_crds, emulated=emulated)
    every = [name for name in served if name not in EVENTS]
    changed = list(changes)
    return {
        "changes": [
            {"resource": name, "from": now, "to": later, **_work([name], counts, sizes, rate)}
            for name, (now, later) in changes.items()
        ],
        "rate": rate,
        "changed": _work(changed, counts, sizes, rate),
        "all": _work(every, counts, sizes, rate),
    }


def changing(
    served: Mapping[str, ServedResource],
    groups: tuple[str, ...],
    upgrade_path: UpgradePath,
    releases: Releases,
    new_crds: Iterable[Definition],
    *,
    emulated: bool = False,
) -> dict[str, tuple[str, str]]:
    """The storage versions of now and after the upgrade, by resource, where they differ."""
    target = releases.nearest(upgrade_path.target)
    coming = {crd.name: crd for crd in new_crds}
    changes = {}
    for name, resource in sorted(served.items()):
        now = storage_version_of(resource, groups)
        later = releases.storage_version(name, target, emulated=emulated)
        if name in coming and coming[name].storage is not None:
            later = group_version(resource.group, str(coming[name].storage))
        if now is None or later is None or now == later or name in EVENTS[1:]:
            continue
        changes[name] = (now, later)
    return changes


def _work(
    names: Iterable[str], counts: Mapping[str, int | None], sizes: Mapping[str, int] | None, rate: float | None
) -> dict[str, Any]:
    """Objects, bytes and seconds; None is unknown."""
    names = list(names)
    known = [counts.get(name) for name in names]
    objects = None if any(number is None for number in known) else sum(number or 0 for number in known)
    return {
        "objects": objects,
        "bytes": None if sizes is None else sum(sizes.get(name, 0) for name in names),
        "seconds": None if not rate or objects is None else round(objects / rate, 1),
    }
