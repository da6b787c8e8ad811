# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names the cluster in every result, so that nobody has to guess whose it is about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.auth import describe
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.options import ClusterOptions

Options = TypeVar("Options")
Work = Callable[[Options, bool, Report], Awaitable[dict[str, Any]]]


def names_cluster(work: Work[Options]) -> Work[Options]:
    """Adds ``cluster`` to what a module's work returns or raises; null if no cluster is asked.

    What the work itself knows about the cluster, it returns under the same key.
    """

    @wraps(work)
    async def named(options: Options, check_mode: bool, report: Report) -> dict[str, Any]:
        cluster = options if isinstance(options, ClusterOptions) else getattr(options, "cluster", None)
        about = None if cluster is None else {"name": cluster.name, **describe(cluster.auth)}
        try:
            result = await work(options, check_mode, report)
            return {**result, "cluster": None if about is None else {**about, **(result.get("cluster") or {})}}
        except StorageUpgradeError as error:
            error.result.setdefault("cluster", about)
            raise

    return named
