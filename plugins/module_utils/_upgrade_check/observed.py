# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shared input of all checks, observed once before the first of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import EtcdClusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.space import Amount
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.crds import Definition, StoredObjects
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import UpgradePath
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    split_group_version,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import Releases


@dataclass(frozen=True)
class ObservedCluster:
    """``server``: the address that users have; ``servers``: each API server that can be asked individually.

    ``scanned``: what etcd holds; None if it was not read. ``amounts``: what a migration will have to write to each etcd.
    ``in_doubt``: resources that this etcd doesn't hold completely, so they are judged as if it had not been read. ``uncounted``: others of
    which nobody knows whether it has all.
    ``show_messages``: whether servers' messages may be shown.
    """

    server: ApiServer
    servers: tuple[ApiServer, ...]
    seen: Observation
    path: UpgradePath
    served: Mapping[str, ServedResource]
    state: State
    new_crds: tuple[Definition, ...] = ()
    etcd: EtcdClusters | None = None
    scanned: Stored | None = None
    amounts: Mapping[str, Amount] = field(default_factory=dict)
    in_doubt: Mapping[str, ServedResource] = field(default_factory=dict)
    uncounted: frozenset[str] = frozenset()
    releases: Releases = field(default_factory=Releases)
    show_messages: bool = False

    @property
    def unasked(self) -> tuple[str, ...]:
        """The API servers that can't be asked now, by URL, and those that exist at an unknown address."""
        found = tuple(report.url for report in self.seen.reports if not report.usable)
        if self.seen.evidence is not None:
            return (*found, "others behind the same address")
        return (*found, "others that are not listed") if self.seen.problems else found

    def held(self, crd: str) -> StoredObjects | None:
        """Objects of a custom resource in etcd; None if etcd was not read.

        If no API server serves the resource, which keys are its objects is unknown.
        """
        if self.scanned is None:
            return None
        found: dict[str, int] = {}
        hidden = 0
        for version, number in self.scanned.versions(crd).items():
            if version is None:
                hidden += number
                continue
            short = split_group_version(version)[1]
            found[short] = found.get(short, 0) + number
        complete = crd in self.served and crd not in self.in_doubt and crd not in self.uncounted
        return StoredObjects(found, hidden, complete)
