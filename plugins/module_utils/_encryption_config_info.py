# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What module encryption_config_info does: ask each API server which encryption configuration it has loaded.

Told by its metrics (k8s.io/apiserver, pkg/server/options/encryptionconfig/metrics): since 1.34 the hash of
the file that it loaded, before that only when it started and when it last loaded a changed file.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import ApiServer, api_error
from ansible_collections.kube_storage.upgrade.plugins.module_utils._cluster import open_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import ApiError, UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Report

_PREFIX = "apiserver_encryption_config_controller_"
_HASH = re.compile(rf'^{_PREFIX}last_config_info\{{[^}}]*\bhash="sha256:([0-9a-f]{{64}})"[^}}]*\}} 1', re.MULTILINE)
_RELOADED = re.compile(
    rf'^{_PREFIX}automatic_reload_last_timestamp_seconds\{{[^}}]*status="success"[^}}]*\}} (\S+)', re.MULTILINE
)
_STARTED = re.compile(r"^process_start_time_seconds (\S+)", re.MULTILINE)


async def encryption_config_info(params: Mapping[str, Any], check_mode: bool, report: Report) -> dict[str, Any]:
    """The module's result; raises the collection's errors."""
    async with open_cluster(params) as cluster:
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


def parse_metrics(text: str) -> dict[str, Any]:
    """What a server's metrics say of its encryption configuration; None for what they don't say."""
    digest = _HASH.search(text)
    started, reloaded = (_last(pattern, text) for pattern in (_STARTED, _RELOADED))
    return {"config_hash": digest[1] if digest else None, "started": started, "reloaded": reloaded}


def _last(pattern: re.Pattern[str], text: str) -> float | None:
    try:
        return max((float(one) for one in pattern.findall(text)), default=None)
    except ValueError:
        return None
