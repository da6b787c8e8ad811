# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each minor release on the way to a target: what changes there, what must be migrated before the next one, and what blocks it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.stored import StoredVersion
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import UpgradePath
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import Releases, number_of


@dataclass(frozen=True)
class Hop:
    """One minor release. ``migrate_first``: of the first one, resources with objects that it can't read unless they are migrated now.

    ``unreadable``: resources with objects that it can't read, even if all was migrated at the releases before it.
    ``must_migrate``: resources with objects that a later release on the way can't read unless they are migrated here.
    """

    release: str
    changes: dict[str, tuple[str, str]] = field(default_factory=dict)
    migrate_first: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    must_migrate: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "release": self.release,
            "changes": [{"resource": name, "from": old, "to": new} for name, (old, new) in self.changes.items()],
            "migrate_first": list(self.migrate_first),
            "unreadable": list(self.unreadable),
            "must_migrate": list(self.must_migrate),
        }


def hops(path: UpgradePath, releases: Releases, held: Iterable[StoredVersion]) -> list[Hop]:
    """Every minor after the current one up to the target; none if the target is older or another major release.

    ``held``: what is stored now. A release that the data don't know is represented by the nearest one.
    """
    (major, last), (now_major, now) = number_of(path.target), number_of(path.current)
    if major != now_major:
        return []
    minors = [f"{major}.{minor}" for minor in range(now + 1, last + 1)]
    stored: dict[str, set[str]] = {}
    kinds: dict[str, str] = {}
    for stored_version in held:
        if (
            stored_version.built_in
            and stored_version.version is not None
            and stored_version.kind is not None
            and stored_version.objects != 0
        ):
            stored.setdefault(stored_version.resource, set()).add(stored_version.version)
            kinds[stored_version.resource] = stored_version.kind
    found = []
    before = path.current
    for index, minor in enumerate(minors):
        changes, first, unreadable, must = {}, [], [], []
        for name, versions in sorted(stored.items()):
            old, new = (releases.storage_version(name, releases.nearest(release)) for release in (before, minor))
            if old is not None and new is not None and old != new:
                changes[name] = (old, new)
            if not _all_read(releases, versions, kinds[name], [minor]):
                if index or old is None or not _all_read(releases, [old], kinds[name], [minor]):
                    unreadable.append(name)
                    continue
                first.append(name)
                versions = {old}
            if not _all_read(releases, versions, kinds[name], minors[index + 1 :]):
                must.append(name)
            # The migration at this release leaves only what it writes.
            stored[name] = {new} if new is not None else versions
        found.append(Hop(minor, changes, tuple(first), tuple(unreadable), tuple(must)))
        before = minor
    return found


def _all_read(releases: Releases, versions: Iterable[str], kind: str, minors: Iterable[str]) -> bool:
    return all(releases.nearest(minor) in releases.readers(version, kind) for version in versions for minor in minors)
