# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The first phase of a run: reads the API servers' reports, the record and the CRDs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clock import boottime
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import ApiError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import some_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import Cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.crds import (
    crds_with_older_versions,
    look_at_crds,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.conditions import require_servers
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.options import MigrateOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import (
    Plan,
    Selection,
    make_plan,
    unfinished,
    unserved,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import StateStore
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.trust import still_trusted, unseen_since
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import (
    Observation,
    once_nobody_dies,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.crd_identity import CrdLook
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

if TYPE_CHECKING:
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.stale_objects import StaleObjects


@dataclass(frozen=True)
class Observed:
    """What a run knows before it plans.

    ``seen``: the API servers; ``asked_at``: when they were asked, in seconds of ``boottime()``.
    ``resources``: all that they store, whatever the run is limited to.
    ``state``: the record of earlier runs, as far as it still counts.
    ``crds``: the CRDs; ``older``: the storedVersions of those that name more than the storage version.
    ``doubts``: sentences for the user about what could not be read.
    ``managed``: resources with field managers to be moved or dropped, if ``select: stale`` looked for them.
    """

    seen: Observation
    resources: Mapping[str, ServedResource]
    state: State
    crds: CrdLook
    older: Mapping[str, tuple[str, ...]]
    doubts: tuple[str, ...] = ()
    asked_at: float = field(default_factory=boottime)
    managed: frozenset[str] = frozenset()

    def plan(self, selection: Selection, stale_objects: StaleObjects | None = None) -> Plan:
        """What to migrate; if etcd was read, according to its content. Raises BadInputError."""
        stale = None
        if stale_objects is not None:
            unseen = bool(unseen_since(self.state, self.seen))
            stale = stale_objects.select(
                unfinished(self.resources, self.state, self.crds) | set(self.older), unseen=unseen
            )
        plan = make_plan(self.resources, self.state, selection, self.seen.other_groups, stale, self.crds, self.older)
        if stale_objects is None or not self.managed:
            return plan
        targets = (replace(target, reason=stale_objects.reason(target.name)) for target in plan.targets)
        return replace(plan, targets=tuple(targets))

    def everything(self, selection: Selection) -> Plan:
        """The plan if nothing were known of what is stored. Raises BadInputError."""
        return make_plan(self.resources, self.state, replace(selection, select="all"), self.seen.other_groups)


async def observe(cluster: Cluster, store: StateStore, options: MigrateOptions, report: Report) -> Observed:
    """Raises if no API server can be used, or the record can't be read."""
    state, (asked_at, seen) = await asyncio.gather(store.load(), once_nobody_dies(cluster.observe, report))
    require_servers(seen)
    state, _why = still_trusted(state, seen)
    resources = replace(seen, expectation=replace(seen.expectation, resources=None)).resources
    crds = await look_at_crds(cluster.entry)
    older, doubts = await _older_versions(cluster.entry, resources, state, crds, options)
    missing = unserved(resources, options.selection, crds)
    if missing:
        doubts.append(
            f"No API server serves {some_of(missing)}, although the CRD exists, so nothing is known about the objects. See the "
            "conditions and the served versions of the CRD, and run again when it is served, or name it in exclude."
        )
    return Observed(seen, resources, state, crds, older, tuple(doubts), asked_at)


async def _older_versions(
    server: ApiServer,
    resources: Mapping[str, ServedResource],
    state: State,
    crds: CrdLook,
    options: MigrateOptions,
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """CRDs whose storedVersions know more than the record, and sentences about those that may not be read.

    Covers only what the record alone would leave out. If storedVersions is not trimmed, it can't help
    either, so a migration on record under exactly the same edit of the CRD counts.
    """
    names = _left_out_by_record(resources, state, crds, options.selection)
    if not names:
        return {}, []
    try:
        if crds.facts is None:
            raise ApiError(crds.refused, status=403)
        older = await crds_with_older_versions(server, names)
    except ApiError as error:
        if error.status != 403:
            raise
        return {}, [
            f"Only the state store shows whether objects of {some_of(names)} are stored in an older version, since "
            f"status.storedVersions of the CRD can't be read: {error.message}"
        ]
    if not options.trim_stored_versions:
        older = {name: versions for name, versions in older.items() if not _is_migrated(name, state, crds)}
    return older, []


def _left_out_by_record(
    resources: Mapping[str, ServedResource], state: State, crds: CrdLook, selection: Selection
) -> list[str]:
    """Custom resources that a plan would leave out because of what is on record."""
    if selection.select == "all":
        return []
    taken = unfinished(resources, state, crds) | set(selection.exclude)
    asked = [name for name in selection.resources or resources if name in resources and name not in taken]
    return [name for name in asked if crds.is_custom(name, resources[name].group, resources[name].kind)]


def _is_migrated(name: str, state: State, crds: CrdLook) -> bool:
    present = crds.identity(name)
    return present is not None and state.is_migrated(name, present)
