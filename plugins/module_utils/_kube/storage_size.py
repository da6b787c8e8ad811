# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The size of etcd's database, according to the metrics of an API server.

It asks a member of each of its etcds when it is asked (k8s.io/apiserver, pkg/storage/etcd3/metrics: apiserver_storage_size_bytes;
until 1.27 apiserver_storage_db_total_size_in_bytes). How much of it is used is not among the metrics.
"""

from __future__ import annotations

import re

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer

_NAMES = ("apiserver_storage_size_bytes", "apiserver_storage_db_total_size_in_bytes")
# Servers that don't know the filter answer with everything.
_PATH = "/metrics?" + "&".join(f"name[]={name}" for name in _NAMES)
_SIZE = re.compile(rf'^(?:{"|".join(_NAMES)})\{{(?:storage_cluster_id|endpoint)="([^"]*)"\}} (\S+)', re.MULTILINE)


async def storage_sizes(server: ApiServer) -> dict[str, int] | None:
    """Bytes by the server's name for each etcd (``etcd-0``); None if the user may not read metrics, or they lack it."""
    try:
        answer = await server.request("GET", _PATH, accept="text/plain")
    except UnreachableError:
        return None
    return parse_sizes(answer.body.decode(errors="replace")) or None if answer.status == 200 else None


def parse_sizes(text: str) -> dict[str, int]:
    """From the text of the metrics; what is no number is left out. Pure."""
    found = {}
    for name, value in _SIZE.findall(text):
        try:
            size = int(float(value))
        except (ValueError, OverflowError):
            continue
        if size > 0:
            found[name] = size
    return found
