# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which API server and which Node belong to a host of the inventory, and what state API servers are in. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clean_text import clean_line

Result = Mapping[str, Any]


def own_servers(servers: Iterable[Result], names: Iterable[str], url: str | None = None) -> list[Result]:
    """The API servers of a host: the one at ``url`` if that is given, else those named or addressed by one of ``names``.

    The caller must check that there is exactly one.
    """
    if url:
        return [server for server in servers if server["url"] == url.rstrip("/")]
    wanted = _folded(names)
    return [server for server in servers if wanted & _folded([server.get("name"), urlsplit(server["url"]).hostname])]


def own_nodes(nodes: Iterable[Result], names: Iterable[str], name: str | None = None) -> list[Result]:
    """The Nodes of a host: the one of this ``name`` if that is given, else those that have one of ``names`` as name or address."""
    if name:
        return [node for node in nodes if node["metadata"]["name"] == name]
    wanted = _folded(names)
    return [node for node in nodes if wanted & _folded(_names_of_node(node))]


def _names_of_node(node: Result) -> list[str]:
    addresses = (node.get("status") or {}).get("addresses") or ()
    return [node["metadata"]["name"], *(address["address"] for address in addresses)]


def _folded(names: Iterable[Any]) -> set[str]:
    return {str(name).lower() for name in names if name}


def is_ready(server: Result) -> bool:
    """Whether an API server, as storage_version_hashes returns it, is ready and said everything about itself."""
    return bool(server.get("ready")) and server.get("error") is None


def server_states(servers: Sequence[Result]) -> list[str]:
    """``https://10.0.0.11:6443 is ready at v1.37.2`` for each API server."""
    return [clean_line(f"{server['url']} {_state(server)}") for server in servers]


def _state(server: Result) -> str:
    if not is_ready(server):
        return "is down"
    return f"is ready at {server.get('emulated_version') or server.get('version')}"
