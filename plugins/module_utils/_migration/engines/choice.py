# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Chooses the engine from the option ``engine`` and what the cluster offers, and creates it.

``choose`` makes the decision, and is pure; the rest asks the cluster and creates the chosen engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    BadInputError,
    StorageUpgradeError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer, WriteGate
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.permissions import Need, are_allowed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines import controller as controllers
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.controller import (
    ControllerEngine,
    ControllerSettings,
    Dialect,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.direct import DirectEngine
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.endpoints import EndpointPool
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.in_tree import (
    InTree,
    served_version,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.migrator import (
    KubeStorageVersionMigrator,
    StorageStates,
    is_served,
    storage_state_needs,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.managed_fields import KEEP
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.options import MigrateOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Plan, Target

DIRECT = "direct"
IN_TREE = "storage_version_migration"
MIGRATOR = "kube_storage_version_migrator"
AUTO = "auto"


@dataclass(frozen=True)
class Offers:
    """What the cluster offers and the user may use.

    ``in_tree`` is the newest version of storagemigration.k8s.io that is served, None if there is none.
    """

    may_direct: bool
    in_tree: str | None
    may_in_tree: bool
    migrator: bool
    may_migrator: bool


@dataclass(frozen=True)
class Choice:
    engine: str
    reason: str


def choose(asked: str, offers: Offers, only_direct: str | None) -> Choice:
    """The engine to use.

    ``auto`` uses direct if the user may list and patch what is to be migrated: it counts exactly,
    names what is refused, writes through all servers at once, and resumes where it stopped. A
    controller is better only for a user without those permissions: the in-tree one if its API is v1 or
    v1beta1 (an alpha API must be requested), else kube-storage-version-migrator.
    ``only_direct`` names a requested option that only direct supports.
    """
    if asked != AUTO:
        _refuse_what_is_not_there(asked, offers, only_direct)
        return Choice(asked, "asked for")
    if only_direct is not None:
        return Choice(DIRECT, f"only direct supports {only_direct}")
    if offers.may_direct:
        return Choice(DIRECT, "the user can list and patch everything to be migrated")
    without = "the user cannot list and patch everything to be migrated, but can "
    if offers.in_tree in ("v1", "v1beta1") and offers.may_in_tree:
        return Choice(IN_TREE, f"{without}create storageversionmigrations of storagemigration.k8s.io/{offers.in_tree}")
    if offers.migrator and offers.may_migrator:
        return Choice(MIGRATOR, f"{without}create storageversionmigrations of migration.k8s.io")
    return Choice(DIRECT, "no controller can be used instead")


def _refuse_what_is_not_there(asked: str, offers: Offers, only_direct: str | None) -> None:
    if asked == DIRECT:
        return
    if only_direct is not None:
        raise BadInputError(f"engine: {asked} does not support {only_direct}; use engine: direct for that.")
    if asked == IN_TREE and offers.in_tree is None:
        raise BadInputError(
            "The cluster does not serve storagemigration.k8s.io, so engine: storage_version_migration can't be used. It is "
            "on by default since Kubernetes 1.37; before, kube-apiserver needs "
            "--runtime-config=storagemigration.k8s.io/v1beta1=true (before 1.35: v1alpha1), and both kube-apiserver and "
            "kube-controller-manager need --feature-gates=StorageVersionMigrator=true (before 1.35, the latter also "
            "InformerResourceVersion=true). Or use engine: direct."
        )
    if asked == MIGRATOR and not offers.migrator:
        raise BadInputError(
            "The cluster does not serve migration.k8s.io/v1alpha1, so engine: kube_storage_version_migrator can't be used. "
            "Install kube-storage-version-migrator with its CRDs, or use engine: direct."
        )


def only_direct(options: MigrateOptions) -> str | None:
    """The requested options that no controller supports."""
    if options.managed_fields != KEEP:
        return f"managed_fields: {options.managed_fields}"
    if options.max_rate:
        return "max_rate"
    return None


@dataclass(frozen=True)
class Chosen:
    """The engine to use, why, and the API of its controller.

    ``dialect``: None means that the engine is direct, here, in ``impact_note``, ``waits_for_nothing`` and ``make_engine``. So another
    engine without a controller is refused until these know it.
    """

    choice: Choice
    dialect: Dialect | None = None

    def __post_init__(self) -> None:
        if (self.dialect is None) != (self.name == DIRECT):
            raise ValueError(f"{self.name} must have a dialect unless it is {DIRECT}, which has none")

    @property
    def name(self) -> str:
        return self.choice.engine

    @property
    def trims_by_itself(self) -> bool:
        """Whether the controller may trim CRDs, so that the user needs no permission for it."""
        return self.dialect is not None and self.dialect.trims

    def whole(self, plan: Plan) -> Plan:
        """The plan as the engine can execute it: a controller rewrites whole resources, so it gets all objects of stale ones."""
        if self.dialect is None:
            return plan
        targets = [
            replace(target, objects=None) if target.objects and not target.resumed else target
            for target in plan.targets
        ]
        return replace(plan, targets=tuple(targets))

    def needs(self, targets: Iterable[Target]) -> list[Need]:
        """The permissions that the user needs for the engine to migrate these resources."""
        if self.dialect is None:
            return direct_needs(targets)
        by_hand = [
            target
            for target in targets
            if target.objects is not None or self.dialect.cannot(target.resource) is not None
        ]
        records = storage_state_needs() if self.name == MIGRATOR else []
        return controllers.needs(self.dialect) + records + direct_needs(by_hand)


def impact_note(chosen: Chosen) -> str | None:
    """What the option impact has no effect on, as a sentence; None if it applies to everything."""
    if chosen.dialect is None:
        return None
    return (
        f"impact applies only to what this module rewrites itself; with engine: {chosen.name} the controller has its own pace, which "
        "can't be set for one migration."
    )


def waits_for_nothing(chosen: Chosen) -> str | None:
    """Why the engine can't wait for etcd's compaction in the middle of a resource, and what to do; None if it can."""
    if chosen.dialect is None:
        return None
    return (
        f"With engine: {chosen.name} the controller can't be made to wait for compaction. Use engine: direct, which waits, and needs "
        "permission to list and patch; or defragment the members (etcdctl defrag) or raise --quota-backend-bytes, "
        "and run again."
    )


def direct_needs(targets: Iterable[Target]) -> list[Need]:
    """To list and patch each resource."""
    return [
        Need(verb, target.resource.group, target.resource.plural) for target in targets for verb in ("list", "patch")
    ]


async def choose_engine(server: ApiServer, options: MigrateOptions, targets: Iterable[Target]) -> Chosen:
    """Asks the cluster what the decision needs; raises BadInputError for an engine that isn't available."""
    asked, limit = options.engine, only_direct(options)
    if asked == DIRECT:
        return Chosen(Choice(DIRECT, "asked for"))
    in_tree, migrator = await asyncio.gather(served_version(server), is_served(server))
    may_direct = may_in_tree = may_migrator = False
    if asked == AUTO:
        may_direct, may_in_tree, may_migrator = await asyncio.gather(
            are_allowed(server, direct_needs(targets)),
            are_allowed(server, controllers.needs(InTree(in_tree or "v1"))),
            are_allowed(server, controllers.needs(KubeStorageVersionMigrator())),
        )
    choice = choose(asked, Offers(may_direct, in_tree, may_in_tree, migrator, may_migrator), limit)
    return Chosen(choice, dialect_of(choice.engine, in_tree))


def dialect_of(engine: str, in_tree: str | None) -> Dialect | None:
    """The API of an engine's controller, None for direct. ``in_tree``: the version of the in-tree API, as in Offers."""
    if engine == DIRECT:
        return None
    if engine == IN_TREE:
        return InTree(in_tree or "v1")
    if engine == MIGRATOR:
        return KubeStorageVersionMigrator()
    raise ValueError(f"choice.py has no engine {engine}")


def make_engine(
    chosen: Chosen,
    direct: DirectEngine,
    *,
    server: ApiServer,
    endpoints: EndpointPool,
    options: MigrateOptions,
    report: Report,
    withdrawals: WriteGate,
) -> DirectEngine | ControllerEngine:
    """The engine itself; one with a controller also has the direct engine, for what the controller can't do.

    ``withdrawals``: whether migration objects may be deleted.
    """
    if chosen.dialect is None:
        return direct

    async def may_finish(target: Target) -> bool:
        try:
            return await are_allowed(server, direct_needs([target]))
        except StorageUpgradeError:
            return False

    settings = ControllerSettings(
        stall_timeout=options.controller_timeout,
        keep=options.keep_migrations,
        fall_back=not options.stop_on_error,
        page_size=options.page_size,
        say=server.say,
    )
    record = StorageStates(server) if chosen.name == MIGRATOR else None
    return ControllerEngine(chosen.dialect, endpoints, direct, settings, may_finish, report, withdrawals, record)
