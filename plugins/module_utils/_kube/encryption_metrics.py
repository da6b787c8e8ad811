# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which encryption configuration an API server has loaded, according to its metrics.

See k8s.io/apiserver, pkg/server/options/encryptionconfig/metrics. Since 1.34 they have the hash of the loaded file;
before that only when the server started, and when it last loaded a changed file.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer

_PREFIX = "apiserver_encryption_config_controller_"
_HASH = re.compile(rf'^{_PREFIX}last_config_info\{{[^}}]*\bhash="sha256:([0-9a-f]{{64}})"[^}}]*\}} 1', re.MULTILINE)
_RELOADED = re.compile(
    rf'^{_PREFIX}automatic_reload_last_timestamp_seconds\{{[^}}]*status="success"[^}}]*\}} (\S+)', re.MULTILINE
)
_STARTED = re.compile(r"^process_start_time_seconds (\S+)", re.MULTILINE)


async def config_hashes(servers: Sequence[ApiServer]) -> dict[str, str | None]:
    """The hash of each server's configuration, by URL; None if it has none, or doesn't report it."""
    answers = await asyncio.gather(*map(_config_hash, servers))
    return {server.url: answer for server, answer in zip(servers, answers)}


async def _config_hash(server: ApiServer) -> str | None:
    try:
        answer = await server.request("GET", "/metrics", accept="text/plain")
    except UnreachableError:
        return None
    found = parse_metrics(answer.body.decode(errors="replace"))["config_hash"] if answer.status == 200 else None
    return None if found is None else str(found)


def parse_metrics(text: str) -> dict[str, Any]:
    """A server's encryption configuration from its metrics; None for anything that they don't have."""
    digest = _HASH.search(text)
    started, reloaded = (_last(pattern, text) for pattern in (_STARTED, _RELOADED))
    return {"config_hash": digest[1] if digest else None, "started": started, "reloaded": reloaded}


def _last(pattern: re.Pattern[str], text: str) -> float | None:
    try:
        return max((float(value) for value in pattern.findall(text)), default=None)
    except ValueError:
        return None
