# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Kubernetes releases can decode and how they store, from the data that ships with the collection. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.kube_storage.upgrade.plugins.module_utils._data import lifecycles
from ansible_collections.kube_storage.upgrade.plugins.module_utils._data import releases as data
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    group_version,
    split_group_version,
)


def minor_of(release: str) -> str:
    """``1.37`` for ``v1.37.2``, ``1.37`` and ``1.37.0-rc.1``."""
    return ".".join(release.strip().lstrip("v").split("-")[0].split("+")[0].split(".")[:2])


def number_of(minor: str) -> tuple[int, int]:
    """For comparing releases."""
    major, _dot, number = minor_of(minor).partition(".")
    return int(major), int(number or 0)


@dataclass(frozen=True)
class Releases:
    """``releases`` are all minors in the data, oldest first."""

    releases: tuple[str, ...] = field(default_factory=lambda: tuple(sorted(data.RELEASES, key=number_of)))
    decodes: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: data.DECODES, repr=False)
    stores: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: data.STORES, repr=False)
    emulated: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: data.EMULATED, repr=False)
    removed: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: lifecycles.REMOVED, repr=False)

    @property
    def newest(self) -> str:
        return self.releases[-1]

    def nearest(self, minor: str) -> str:
        """The release in the data that represents a minor: itself, else the nearest known one."""
        older = [release for release in self.releases if number_of(release) <= number_of(minor)]
        return older[-1] if older else self.releases[0]

    def between(self, current: str, target: str) -> tuple[str, ...]:
        """Every release in the data that an upgrade from one to the other runs as, the target included."""
        passed = tuple(
            release for release in self.releases if number_of(current) < number_of(release) <= number_of(target)
        )
        goal = self.nearest(target)
        return passed if goal in passed else (*passed, goal)

    def is_built_in(self, group: str, kind: str) -> bool:
        """Whether some release in the data knows the kind; if not, a CRD or another server defines it."""
        return f"{group}/{kind}" in self.decodes

    def readers(self, version: str, kind: str) -> tuple[str, ...]:
        """The releases that can decode a stored version such as ``autoscaling/v2beta2``; empty if none can."""
        group, name = split_group_version(version)
        spans = self.decodes.get(f"{group}/{kind}", {}).get(name, "")
        return tuple(release for release in self.releases if within(release, spans))

    def safe_up_to(self, version: str, kind: str) -> str | None:
        """The last release in the data that can decode a stored version; None if none can."""
        readers = self.readers(version, kind)
        return readers[-1] if readers else None

    def first_that_cannot(self, version: str, kind: str, current: str, target: str) -> str | None:
        """The first release on the way to the target that can't decode a stored version; None if all can."""
        readers = self.readers(version, kind)
        return next((release for release in self.between(current, target) if release not in readers), None)

    def no_longer_served(self, version: str, kind: str, current: str, target: str) -> str | None:
        """The first release on the way to the target that doesn't serve a built-in version; None if all do, as far as is known.

        A release may still be able to decode what it doesn't serve.
        """
        group, name = split_group_version(version)
        if not self.is_built_in(group, kind):
            return None
        removed = self.removed.get(f"{group}/{kind}", {}).get(name)
        if removed is not None and number_of(current) < number_of(removed) <= number_of(target):
            return removed
        return self.first_that_cannot(version, kind, current, target)

    def versions(self, group: str, kind: str) -> tuple[str, ...]:
        """Every version of a kind that some release in the data can decode, such as ``autoscaling/v2beta2``."""
        return tuple(group_version(group, version) for version in self.decodes.get(f"{group}/{kind}", {}))

    def storage_version(self, resource: str, minor: str, *, emulated: bool = False) -> str | None:
        """What a release stores a resource as; None if it doesn't store it, or doesn't know it.

        ``emulated``: by a newer binary that emulates the release, which may differ.
        """
        if emulated and resource in self.emulated.get(minor, {}):
            return self.emulated[minor][resource]
        found = ""
        for since, version in sorted(self.stores.get(resource, {}).items(), key=lambda item: number_of(item[0])):
            if number_of(since) <= number_of(minor):
                found = version
        return found or None


def within(minor: str, spans: str) -> bool:
    """Whether a release is in ``1.29-1.31 1.33-1.33``."""
    for span in spans.split():
        first, _dash, last = span.partition("-")
        if number_of(first) <= number_of(minor) <= number_of(last or first):
            return True
    return False
