# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role decides with these filters: nothing that is missing counts as good."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.filter.own_nodes import own_nodes
from ansible_collections.kube_storage.upgrade.plugins.filter.own_servers import own_servers
from ansible_collections.kube_storage.upgrade.plugins.filter.server_states import server_states
from ansible_collections.kube_storage.upgrade.plugins.filter.upgrade_proof import upgrade_proof


def server(number: int, **more: Any) -> dict[str, Any]:
    url = f"https://10.0.0.{number}:6443"
    known = {"url": url, "name": f"master-{number}", "version": "v1.37.2", "emulated_version": None, "ready": True}
    return {**known, "error": None, **more}


SERVERS = [server(1), server(2), server(3, url="https://Master3.example.com:6443", name="")]


@pytest.mark.parametrize(
    ("names", "url", "found"),
    [
        (["master-1"], None, [0]),
        (["MASTER-2", "somewhere"], "", [1]),
        (["", None, "10.0.0.2"], None, [1]),
        (["master3.example.com"], None, [2]),
        (["master-1", "10.0.0.2"], None, [0, 1]),
        (["", None], None, []),
        (["master-1"], "https://10.0.0.2:6443/", [1]),
        (["master-1"], "https://10.0.0.9:6443", []),
    ],
)
def test_the_api_server_of_a_host(names: list[Any], url: str | None, found: list[int]) -> None:
    assert own_servers(SERVERS, names, url) == [SERVERS[number] for number in found]


def test_an_api_server_with_the_name_of_a_host_at_an_address_of_another() -> None:
    """That of another cluster, whose masters have the same names."""
    names = ["master-1", "10.9.0.1"]
    assert own_servers(SERVERS, names) == SERVERS[:1] and own_servers(SERVERS, names, located=True) == []
    assert own_servers(SERVERS, [*names, "10.0.0.1"], located=True) == SERVERS[:1]
    assert own_servers(SERVERS, names, SERVERS[0]["url"], located=True) == SERVERS[:1]
    public = {**SERVERS[0], "url": "https://8.8.8.8:6443"}
    assert own_servers([public], names, located=True) == [public], "NAT may translate it to an address of the host"
    for given, returned in (
        ("https://[2001:DB8:0::1]:6443/", "https://[2001:db8::1]:6443"),
        ("https://API.example.com:443", "https://api.example.com"),
    ):
        assert own_servers([{"url": returned}], [], given) == [{"url": returned}]
    assert own_servers(SERVERS, names, "no URL") == []
    # A host with a public address of its own is not behind NAT.
    assert own_servers([public], [*names, "8.8.4.4"], located=True) == [], (
        "that is another cluster's master of this name"
    )
    assert own_servers([public], [*names, "8.8.4.4", "8.8.8.8"], located=True) == [public]
    assert own_servers([public], [*names, "2606:4700::1111"], located=True) == [public], "it may have NAT for IPv4 only"
    of_ipv6 = {**SERVERS[0], "url": "https://[2606:4700::1001]:6443"}
    assert own_servers([of_ipv6], [*names, "2606:4700::1111"], located=True) == []
    assert own_servers([of_ipv6], [*names, "2606:4700:0::1001"], located=True) == [of_ipv6]
    by_name = ["master3.example.com", "10.0.0.3"]
    assert own_servers(SERVERS, by_name, located=True) == SERVERS[2:]


def node(name: str, *addresses: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"addresses": [{"address": address} for address in addresses]}}


NODES = [node("m1", "10.0.0.1"), node("m2", "10.0.0.2", "2001:db8::2"), {"metadata": {"name": "m3"}}]


@pytest.mark.parametrize(
    ("names", "name", "found"),
    [
        (["M1"], "", ["m1"]),
        (["2001:DB8::2"], None, ["m2"]),
        (["m3", ""], None, ["m3"]),
        (["m1"], "m2", ["m2"]),
        (["m1"], "m9", []),
        ([], None, []),
    ],
)
def test_the_node_of_a_host(names: list[str], name: str | None, found: list[str]) -> None:
    assert [found_node["metadata"]["name"] for found_node in own_nodes(NODES, names, name)] == found


def test_states_of_servers() -> None:
    servers = [server(1), server(2, emulated_version="1.36"), server(3, error="timed out"), server(4, ready=False)]
    assert server_states(servers) == [
        "https://10.0.0.1:6443 is ready at v1.37.2",
        "https://10.0.0.2:6443 is ready at v1.37.2, emulating 1.36",
        "https://10.0.0.3:6443 is down",
        "https://10.0.0.4:6443 is down",
    ]
    assert server_states(None) == []


def agreed(*servers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "servers": list(servers),
        "converged": True,
        "proven_by": "each_server",
        "cross_checked": True,
        "sampling": None,
        **more,
    }


STORED = {
    "totals": {"objects": 11, "internal": 2, "stale": 0, "unprovable": 0, "unknown": 0, "encryption_unknown": 0},
    "problems": [],
    "revision": 77,
}


def test_everything_is_proven() -> None:
    proof = upgrade_proof(agreed(server(1), server(2)), STORED, "1.37")
    assert proof["proven"] is True and proof["source"] == "etcd" and proof["behind"] == []
    assert (proof["objects"], proof["revision"], proof["stale_resources"]) == (9, 77, [])


@pytest.mark.parametrize(
    ("found", "stored", "version"),
    [
        (agreed(server(1), server(2, version="v1.36.4")), STORED, "1.37"),
        (agreed(server(1), server(2, ready=False)), STORED, ""),
        (agreed(server(1), proven_by="sampling"), STORED, "1.37"),
        (agreed(server(1), converged=False), STORED, "1.37"),
        (agreed(server(1), cross_checked=False), STORED, "1.37"),
        (agreed(server(1), cross_checked=None), STORED, "1.37"),
        (agreed(server(1), proven_by="listed_servers"), STORED, "1.37"),
        (agreed(), STORED, "1.37"),
        ({}, STORED, ""),
        (agreed(server(1)), {}, "1.37"),
        (agreed(server(1)), {"totals": {}}, "1.37"),
        (agreed(server(1)), {**STORED, "problems": ["a member did not answer"]}, ""),
        *(
            (agreed(server(1)), {**STORED, "totals": {**STORED["totals"], name: 1}}, "")  # type: ignore[dict-item]
            for name in ("stale", "unprovable", "encryption_unknown", "unknown")
        ),
    ],
)
def test_what_keeps_it_from_being_proven(found: Any, stored: Any, version: str) -> None:
    assert upgrade_proof(found, stored, version)["proven"] is False
