# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the option ``engine`` and what the cluster offers to the engine that does the work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration import controllers
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.choice import (
    AUTO,
    DIRECT,
    IN_TREE,
    Choice,
    Offers,
    choose,
    only_direct,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.controllers import (
    ControllerEngine,
    Dialect,
    Manners,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.direct import DirectEngine
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.in_tree import InTree, served_version
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.kube_storage_version_migrator import (
    KubeStorageVersionMigrator,
    is_served,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.lanes import Lanes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Plan, Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._permissions import Need, are_allowed


@dataclass(frozen=True)
class Chosen:
    """The engine to use, why, and how its controller is spoken to (None: direct, there is none)."""

    choice: Choice
    dialect: Dialect | None = None

    @property
    def name(self) -> str:
        return self.choice.engine

    def whole(self, plan: Plan) -> Plan:
        """The plan as the engine can do it: a controller rewrites whole resources, so stale objects become theirs."""
        if self.dialect is None:
            return plan
        targets = [replace(one, objects=None) if one.objects and not one.resumed else one for one in plan.targets]
        return replace(plan, targets=tuple(targets))

    def needs(self, targets: Iterable[Target]) -> list[Need]:
        """What the user must be allowed so that the engine can do these resources."""
        if self.dialect is None:
            return direct_needs(targets)
        by_hand = [one for one in targets if one.objects is not None or self.dialect.cannot(one.resource) is not None]
        return controllers.needs(self.dialect) + direct_needs(by_hand)


def direct_needs(targets: Iterable[Target]) -> list[Need]:
    """To list and patch each resource."""
    return [
        Need(verb, target.resource.group, target.resource.plural) for target in targets for verb in ("list", "patch")
    ]


async def choose_engine(server: ApiServer, params: Mapping[str, Any], targets: Iterable[Target]) -> Chosen:
    """Asks the cluster as far as the decision takes it; raises BadInputError for an engine that isn't there."""
    asked, limit = params["engine"], only_direct(params)
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
    if choice.engine == DIRECT:
        return Chosen(choice)
    return Chosen(choice, InTree(in_tree or "v1") if choice.engine == IN_TREE else KubeStorageVersionMigrator())


def make_engine(
    chosen: Chosen,
    direct: DirectEngine,
    *,
    server: ApiServer,
    lanes: Lanes,
    params: Mapping[str, Any],
    report: Report,
) -> DirectEngine | ControllerEngine:
    """The engine itself; a controller's has the direct one beside it, for what the controller can't do."""
    if chosen.dialect is None:
        return direct

    async def may_finish(target: Target) -> bool:
        try:
            return await are_allowed(server, direct_needs([target]))
        except StorageUpgradeError:
            return False

    manners = Manners(
        patience=params["controller_timeout"],
        keep=params["keep_migrations"],
        fall_back=params["on_error"] == "continue",
        page_size=params["page_size"],
    )
    return ControllerEngine(chosen.dialect, lanes, direct, manners, may_finish, report)
