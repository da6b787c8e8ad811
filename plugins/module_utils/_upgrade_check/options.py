# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of upgrade_check as one typed value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import (
    require_positive,
    require_release,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.options import ClusterOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import StoreOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.crds import Definition
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.manifests import read_manifests


@dataclass(frozen=True)
class CheckOptions:
    """What the user asked for; each field is the module's option of that name, except for these:

    ``etcd_quota``: bytes, None if not given. ``target``: target_version. ``new_crds``: the CRDs in crd_manifests. ``etcd``: None if it is
    not read. ``engine``: of the migration.
    """

    target: str
    cluster: ClusterOptions = ClusterOptions()
    store: StoreOptions = StoreOptions()
    new_crds: tuple[Definition, ...] = ()
    etcd: Mapping[str, Any] | None = None
    etcd_quota: int | None = None
    etcd_snapshot_path: str | None = None
    show_server_messages: bool = False
    engine: str = "direct"

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> CheckOptions:
        """From the module's parameters. Raises BadInputError."""
        require_release(params, "target_version")
        require_positive(params, ["etcd_quota"])
        return cls(
            target=params["target_version"],
            cluster=ClusterOptions.from_params(params),
            store=StoreOptions.from_params(params),
            new_crds=tuple(read_manifests(params.get("crd_manifests") or ())),
            etcd=params.get("etcd"),
            etcd_quota=params.get("etcd_quota"),
            etcd_snapshot_path=params.get("etcd_snapshot_path"),
            show_server_messages=bool(params.get("show_server_messages")),
            engine=params.get("engine") or "direct",
        )
