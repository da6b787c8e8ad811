# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must hold before a run may write: servers that agree, permission, no other run."""

from __future__ import annotations

import os
import socket
import uuid

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    ApiError,
    NotConvergedError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import Cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.lease import Lease
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.permissions import Need
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.choice import Chosen
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.options import MigrateOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Plan
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import StoreOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation


def require_servers(seen: Observation) -> None:
    """Raises if no API server can be used at all."""
    errors = [report for report in seen.reports if report.error is not None]
    if seen.reports and len(errors) == len(seen.reports):
        if all(report.forbidden for report in errors):
            raise ApiError(errors[0].error or "", status=403)
        raise NotConvergedError(
            "No API server can be used: " + " ".join([*map(str, (report.error for report in errors)), *seen.problems])
        )


def require_convergence(seen: Observation) -> None:
    """Raises NotConvergedError if the API servers don't agree."""
    if not seen.converged:
        raise NotConvergedError(
            f"Nothing was migrated, because the API servers don't agree: {seen.summary()}. "
            "A write could be stored in the old version. Finish the upgrade of all masters (storage_version_hashes "
            "with state=converged waits for it) and run again.",
            {"changed": False},
        )


def needs(plan: Plan, chosen: Chosen, options: MigrateOptions) -> list[Need]:
    """All permissions that the user needs for this run."""
    needs = chosen.needs(plan.targets)
    namespace, name = options.store.namespace, options.store.name
    leases, group = "leases", "coordination.k8s.io"
    needs += [Need(verb, group, leases, namespace, name=name) for verb in ("get", "update")]
    needs.append(Need("create", group, leases, namespace))
    if options.store.path is None:
        needs += [Need(verb, "", "configmaps", namespace, name=name) for verb in ("get", "patch")]
        needs.append(Need("create", "", "configmaps", namespace))
    trims = options.trim_stored_versions and not chosen.trims_by_itself
    if trims and any("." in target.resource.group for target in plan.targets):
        crds = "customresourcedefinitions"
        needs += [Need(verb, "apiextensions.k8s.io", crds) for verb in ("get", "list")]
        needs += [Need("patch", "apiextensions.k8s.io", crds, subresource="status")]
    return needs


def one_at_a_time(cluster: Cluster, store: StoreOptions) -> Lease:
    """The Lease that lets one run at a time work on the state that this store holds."""
    holder = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return Lease(cluster.entry, store.namespace, store.name, holder)
