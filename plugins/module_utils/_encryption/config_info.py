# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The work of module encryption_config_info: asks each API server which encryption configuration it has loaded.

Its metrics show that (k8s.io/apiserver, pkg/server/options/encryptionconfig/metrics): since 1.34 the hash of
the loaded file, before that only when the server started and when it last loaded a changed file.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import ApiError, UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer, api_error
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import open_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.encryption_metrics import parse_metrics
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.named import names_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.options import ClusterOptions


@names_cluster
async def encryption_config_info(options: ClusterOptions, check_mode: bool, report: Report) -> dict[str, Any]:
    """The module's result; raises the collection's errors."""
    async with open_cluster(options) as cluster:
        listed = await cluster.servers()
        rows = await asyncio.gather(*(_ask(server) for server in listed.servers))
    return {"servers": rows, "problems": list(listed.problems)}


async def _ask(server: ApiServer) -> dict[str, Any]:
    row: dict[str, Any] = {"url": server.url, "name": server.name, "ready": False, "error": None}
    loaded: dict[str, Any] = dict.fromkeys(("config_hash", "started", "reloaded"))
    try:
        ready, metrics = await asyncio.gather(
            server.request("GET", "/readyz", accept="*/*"), server.request("GET", "/metrics", accept="text/plain")
        )
        row["ready"] = ready.status == 200
        if metrics.status >= 400:
            raise api_error(metrics, server.url, "GET", "/metrics")
        loaded = parse_metrics(metrics.body.decode(errors="replace"))
    except (ApiError, UnreachableError) as error:
        row["error"] = error.message
    return {**row, **loaded}
