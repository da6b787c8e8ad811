# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which API server and which Node belong to a host of the inventory, and what state API servers are in. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.addresses import same_address, same_url
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clean_text import clean_line
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import at_release

Result = Mapping[str, Any]
_NO_SERVER = "No API server"
_KUBECONFIG = ", or use the kubeconfig of the cluster of these masters"


def own_servers(
    servers: Iterable[Result], names: Iterable[str], url: str | None = None, located: bool = False
) -> list[Result]:
    """The API servers of a host: the one at ``url`` if that is given, else those named or addressed by one of ``names``.

    ``located``: all addresses of the host are among its names, so one of its name at another address is that of another cluster.
    The caller must check that there is exactly one.
    """
    if url:
        return [server for server in servers if server["url"] == _spelled(url)]
    wanted = _folded(names)
    own = [server for server in servers if wanted & _folded([server.get("name"), urlsplit(server["url"]).hostname])]
    return [server for server in own if not (located and _is_elsewhere(server["url"], wanted))]


def _spelled(url: str) -> str:
    """As the modules return it."""
    try:
        return same_url(url)
    except ValueError:
        return url


def _is_elsewhere(url: str, names: Collection[str]) -> bool:
    """Whether the URL has an IP address that is none of these folded names.

    NAT may translate a public one, so that it is on no interface. So it counts only if the host is known by a public one of that kind, too.
    """
    host = urlsplit(url).hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if same_address(host) in names:
        return False
    return not address.is_global or any(_is_public(name, address.version) for name in names)


def _is_public(name: str, version: int) -> bool:
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return address.is_global and address.version == version


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
    return {same_address(str(name)) for name in names if name}


def is_ready(server: Result) -> bool:
    """Whether an API server, as storage_version_hashes returns it, is ready and said everything about itself."""
    return bool(server.get("ready")) and server.get("error") is None


def server_states(servers: Sequence[Result]) -> list[str]:
    """``https://10.0.0.11:6443 is ready at v1.37.2`` for each API server."""
    return [clean_line(f"{server['url']} {_state(server)}") for server in servers]


def _state(server: Result) -> str:
    if not is_ready(server):
        return "is down"
    emulated = server.get("emulated_version")
    return f"is ready at {server.get('version')}" + (f", emulating {emulated}" if emulated else "")


def _own_of(host: Mapping[str, Any], servers: Sequence[Result]) -> list[Result]:
    return own_servers(
        servers, host.get("names") or (), str(host.get("server") or "") or None, bool(host.get("located"))
    )


def masters_at_release(servers: Sequence[Result], hosts: Mapping[str, Mapping[str, Any]], release: str) -> list[str]:
    """The masters whose own API server is ready at the release. ``hosts`` as for unmatched_masters."""
    found = {}
    for name, host in hosts.items():
        own = _own_of(host, servers)
        if len(own) == 1:
            found[name] = own[0]
    urls = [server["url"] for server in found.values()]
    return [
        name
        for name, server in found.items()
        if is_ready(server)
        and at_release(server.get("version"), release, server.get("emulated_version"))
        and urls.count(server["url"]) == 1
    ]


def unmatched_masters(servers: Sequence[Result], hosts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Why masters don't each have an API server of their own, before the first is touched.

    ``hosts``: of each master in order, the ``names`` by which a server may know it, and the URL of its ``server`` if that is given. A
    master without a match whose facts aren't known yet (``sure`` is false) is left to the check in its own turn. ``located``: as for own_servers.
    """
    problems, taken = [], dict[str, str]()
    unmatched: dict[str, list[str]] = {_NO_SERVER: [], "More than one API server": []}
    for name, host in hosts.items():
        own = _own_of(host, servers)
        if not own and not host.get("sure"):
            continue
        if len(own) != 1:
            unmatched["More than one API server" if own else _NO_SERVER].append(name)
            continue
        url = str(own[0]["url"])
        if url in taken:
            problems.append(
                f"{url} is the API server of {name} and of another master, {taken[url]}; set rolling_upgrade_server of each to its own address."
            )
        taken.setdefault(url, name)
    known = ", ".join(str(server["url"]) for server in servers)
    return [
        *(
            f"{number} could be matched with {' or '.join(names)} (known are {known}); set rolling_upgrade_server for "
            f"{'this host to its URL' if len(names) == 1 else 'each host to its own URL'}{_KUBECONFIG if number == _NO_SERVER else ''}."
            for number, names in unmatched.items()
            if names
        ),
        *problems,
    ]
