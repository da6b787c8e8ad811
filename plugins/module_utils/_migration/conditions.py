# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must hold before a run may write: sensible options, servers that agree, permission, no other run."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._cluster import Cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import (
    ApiError,
    BadInputError,
    NotConvergedError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._lease import Lease
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.choice import IN_TREE, MIGRATOR
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines import Chosen
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.kube_storage_version_migrator import (
    storage_state_needs,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Plan
from ansible_collections.kube_storage.upgrade.plugins.module_utils._options import (
    require_not_negative,
    require_positive,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._permissions import Need
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state_store import (
    DEFAULT,
    ConfigMapStore,
    StateStore,
)


def refuse_nonsense(params: Mapping[str, Any]) -> None:
    require_positive(params, ["workers", "page_size", "retries", "timeout", "controller_timeout"])
    require_not_negative(params, ["max_rate", "etcd_max_rate"])
    if params["page_size"] > 10000:
        raise BadInputError("page_size must be at most 10000; larger pages strain the API servers.")
    failures_file = params.get("failures_file")
    if failures_file and Path(failures_file).expanduser().is_dir():
        raise BadInputError(f"failures_file {failures_file} is a directory; name a file.")


def require_servers(seen: Observation) -> None:
    errors = [one for one in seen.reports if one.error is not None]
    if seen.reports and len(errors) == len(seen.reports):
        if all(one.forbidden for one in errors):
            raise ApiError(errors[0].error or "", status=403)
        raise NotConvergedError(
            "No API server can be used: " + " ".join([*map(str, (one.error for one in errors)), *seen.problems])
        )


def require_convergence(seen: Observation) -> None:
    if not seen.converged:
        raise NotConvergedError(
            f"Nothing was migrated, because the API servers don't agree: {seen.summary()}. "
            "A write could be stored in the old version. Finish the upgrade of all masters (storage_version_hashes "
            "with state=converged waits for it) and run again.",
            {"changed": False},
        )


def needs(plan: Plan, chosen: Chosen, store: StateStore, params: Mapping[str, Any]) -> list[Need]:
    """Everything that the run will do, as verbs on resources."""
    needs = chosen.needs(plan.targets)
    namespace, name = _lease_place(store, params)
    leases, group = "leases", "coordination.k8s.io"
    needs += [Need(verb, group, leases, namespace, name=name) for verb in ("get", "update")]
    needs.append(Need("create", group, leases, namespace))
    if isinstance(store, ConfigMapStore):
        needs += [Need(verb, "", "configmaps", namespace, name=name) for verb in ("get", "patch")]
        needs.append(Need("create", "", "configmaps", namespace))
    if chosen.name == MIGRATOR:
        needs += storage_state_needs()
    # The in-tree controller trims by itself.
    trims = params["trim_stored_versions"] and chosen.name != IN_TREE
    if trims and any("." in target.resource.group for target in plan.targets):
        crds = "customresourcedefinitions"
        needs += [Need(verb, "apiextensions.k8s.io", crds) for verb in ("get", "list")]
        needs += [Need("patch", "apiextensions.k8s.io", crds, subresource="status")]
    return needs


def _lease_place(store: StateStore, params: Mapping[str, Any]) -> tuple[str, str]:
    """(namespace, name) of the Lease: beside the ConfigMap, or in its default place."""
    if isinstance(store, ConfigMapStore):
        return store.namespace, store.name
    given = params.get("state_store") or {}
    return given.get("namespace") or DEFAULT["namespace"], given.get("name") or DEFAULT["name"]


def one_at_a_time(cluster: Cluster, store: StateStore, params: Mapping[str, Any]) -> Lease:
    namespace, name = _lease_place(store, params)
    holder = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return Lease(cluster.entry, namespace, name, holder)
