# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The objects that all parts of a run share, instead of constructors with nine arguments."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import Cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.lease import Lease
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.checkpoint import Checkpoint
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import Control
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.choice import Chosen
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.options import MigrateOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.result import MigrationResult
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.space import Space, nothing_known

if TYPE_CHECKING:
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.stale_objects import StaleObjects


@dataclass(frozen=True)
class RunContext:
    """One run that may write.

    ``cluster``: expects the resources that the user named.
    ``chosen``: the engine, and why that one.
    ``control``: lets engines write, holds them or stops them; the guard and the background tasks set it.
    ``checkpoint``: what is proven, and saving it.
    ``result``: owns the runs of all resources, and every count.
    ``lease``: keeps other runs away.
    ``stale_objects``: what etcd holds; None without ``select: stale``.
    ``space``: etcd's, and whether writes must wait for room in it.
    ``begun``: when the run began, in seconds of time.monotonic(). ``deadline``: when it must end, likewise; None if there is no limit.
    """

    options: MigrateOptions
    cluster: Cluster
    chosen: Chosen
    control: Control
    checkpoint: Checkpoint
    result: MigrationResult
    lease: Lease
    report: Report
    stale_objects: StaleObjects | None = None
    begun: float = field(default_factory=time.monotonic)
    space: Space = field(default_factory=nothing_known)
    deadline: float | None = None
