# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The work of module upgrade_turn: asks the API servers and renews the Lease of the roll, in one start of a module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import (
    require_not_negative,
    require_state_of_release,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.options import ClusterOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._rolling_upgrade.upgrade_lease import (
    UpgradeLeaseOptions,
    upgrade_lease,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import StoreOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.version_hashes import (
    VersionHashesOptions,
    version_hashes,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import WaitSettings

_EVERY = 2.0


@dataclass(frozen=True)
class UpgradeTurnOptions:
    """``all_servers``: how to ask every API server. ``awaited``: how to wait for one of them before that; None to wait for none."""

    all_servers: VersionHashesOptions
    awaited: VersionHashesOptions | None
    lease: UpgradeLeaseOptions

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> UpgradeTurnOptions:
        """From the module's parameters. Raises BadInputError."""
        require_not_negative(params, ["wait_timeout"])
        require_state_of_release(params, "expected_version")
        store = StoreOptions.from_params(params)
        every = ClusterOptions.from_params({**params, "expected_version": None})
        awaited = None
        if params.get("await_server"):
            only = {"servers": [params["await_server"]], "expected_servers": None, "ignored_servers": ["*"]}
            awaited_only = ClusterOptions.from_params({**params, **only, "sampling": None})
            awaited = VersionHashesOptions(awaited_only, store, wait=WaitSettings(params["wait_timeout"], _EVERY, 0.0))
        lease = UpgradeLeaseOptions.from_params({**params, "state": "held", "acquire": False, "take_over": None})
        return cls(VersionHashesOptions(every, store), awaited, lease)


async def upgrade_turn(options: UpgradeTurnOptions, check_mode: bool, report: Report) -> dict[str, Any]:
    """The module's result; raises the collection's errors. The Lease is written last, and not at all after an error."""
    waited: dict[str, Any] | None = None
    if options.awaited is not None and not check_mode:
        try:
            waited = await version_hashes(options.awaited, check_mode, report)
        except StorageUpgradeError as error:
            error.result = {**await _state_now(options, report), "waited": error.result}
            raise
    found = await version_hashes(options.all_servers, check_mode, report)
    try:
        lease = await upgrade_lease(_reachable(options.lease, found), check_mode, report)
    except StorageUpgradeError as error:
        error.result = {**found, "waited": waited, "lease": error.result}
        raise
    return {**found, "waited": waited, "lease": lease, "changed": lease["changed"]}


async def _state_now(options: UpgradeTurnOptions, report: Report) -> dict[str, Any]:
    """What all API servers say after one was waited for in vain; empty if they can't be asked."""
    try:
        return await version_hashes(options.all_servers, False, report)
    except StorageUpgradeError:
        return {}


def _reachable(lease: UpgradeLeaseOptions, found: Mapping[str, Any]) -> UpgradeLeaseOptions:
    """With the addresses that were just asked: the kubeconfig may point to the master that is being upgraded."""
    cluster = lease.cluster
    if cluster.urls is not None or cluster.sampling is not None:
        return lease
    urls = tuple(str(server["url"]) for server in found["servers"])
    return replace(lease, cluster=replace(cluster, urls=urls or None))
