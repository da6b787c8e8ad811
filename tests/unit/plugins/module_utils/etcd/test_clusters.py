# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which etcd has what, and that members of different ones are never mixed up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    BadInputError,
    EtcdError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import KeyMap, own_prefixes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.opening import open_clusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import scan, scan_clusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import HttpClient, Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

A, B, C = "http://10.0.0.1:2379", "http://10.0.0.2:2379", "http://10.0.0.3:2379"


class Members(HttpClient):
    """Members by address: the ID of their cluster; None: no answer."""

    def __init__(self, clusters: Mapping[str, int | None]) -> None:
        self.clusters = dict(clusters)
        self.asked: list[str] = []

    async def request(self, method: str, url: str, **_rest: Any) -> Response:
        endpoint = url.partition("/v3/")[0]
        self.asked.append(endpoint)
        cluster = self.clusters[endpoint]
        if cluster is None:
            raise UnreachableError("refused", kind="refused")
        body = {"header": {"cluster_id": str(cluster), "member_id": "1", "revision": "7"}}
        return Response(200, {}, json.dumps(body).encode())

    async def close(self) -> None:
        pass


def test_answers_of_another_cluster_are_refused() -> None:
    members = Members({A: 1, B: 2})
    etcd = Etcd([A, B], members)

    async def reads() -> None:
        for _number in range(4):
            await etcd.range(b"/", None)

    with pytest.raises(EtcdError, match="different etcd clusters"):
        asyncio.run(reads())


def test_each_is_asked_separately() -> None:
    pages = asyncio.run(Etcd([A, B, C], Members({A: 1, B: None, C: 1})).read_from_each(b"/k"))
    assert list(pages) == [A, C] and pages[A].revision == 7
    with pytest.raises(EtcdError, match="different etcd clusters"):
        asyncio.run(Etcd([A, B, C], Members({A: 1, B: None, C: 2})).read_from_each(b"/k"))
    with pytest.raises(EtcdError, match="refuses connections"):
        asyncio.run(Etcd([A, B], Members({A: None, B: None})).read_from_each(b"/k"))


def test_only_what_was_found_to_be_good_is_used() -> None:
    members = Members({A: 1, B: 1, C: 1})
    etcd = Etcd([A, B, C], members)
    etcd.use_only([B])

    async def reads() -> None:
        for _number in range(3):
            await etcd.range(b"/", None)

    asyncio.run(reads())
    assert members.asked == [B, B, B]
    members.clusters[B] = None
    with pytest.raises(EtcdError):
        asyncio.run(etcd.range(b"/", None))


def test_nothing_below_the_prefix_is_not_a_cluster() -> None:
    etcd = Etcd([A], Members({A: 1}), prefix="/kubernetes.io")
    with pytest.raises(EtcdError, match=r"holds nothing below /kubernetes\.io/"):
        asyncio.run(scan(etcd))
    assert asyncio.run(scan(etcd, resources=["events"], may_be_empty=True)).objects == 0


def test_resources_by_cluster() -> None:
    clusters = open_clusters(
        {
            "endpoints": [A],
            "prefix": "/there",
            "overrides": [
                {"resources": ["/events", "apps/*"], "endpoints": [B]},
                {"resources": ["deployments.apps", "*."], "endpoints": [C], "prefix": "/else"},
            ],
        }
    )
    at = {name: clusters.of(name).endpoints[0] for name in ("secrets", "leases.coordination.k8s.io")}
    assert at == {"secrets": C, "leases.coordination.k8s.io": A}
    # A resource's own name counts before its group, whatever the order.
    assert clusters.of("events").endpoints == clusters.of("events.events.k8s.io").endpoints == (B,)
    assert clusters.of("deployments.apps").endpoints == (C,)
    assert clusters.of("daemonsets.apps").endpoints == (B,)
    assert [etcd.prefix for etcd in (clusters.default, clusters.of("events"), clusters.of("secrets"))] == [
        "/there",
        "/there",
        "/else",
    ]
    parts = clusters.split(["secrets", "daemonsets.apps"])
    assert [(etcd.endpoints[0], names) for etcd, names in parts] == [
        (A, []),
        (C, ["secrets"]),
        (B, ["daemonsets.apps"]),
    ]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([{"resources": [], "endpoints": [B]}], "needs resources and endpoints"),
        ([{"resources": ["events"], "endpoints": []}], "number 1 needs"),
        (
            [{"resources": ["events"], "endpoints": [B]}, {"resources": ["/events"], "endpoints": [C]}],
            "events is in two",
        ),
        ([{"resources": ["events"], "endpoints": ["10.0.0.2:2379"]}], "not an etcd endpoint"),
    ],
)
def test_overrides_that_make_no_sense(overrides: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        open_clusters({"endpoints": [A], "overrides": overrides})


def test_what_is_kept_elsewhere_is_read_there_and_left_behind_here() -> None:
    """The first etcd has old ConfigMaps, which the API servers don't see; the second one has those that count."""

    class Keys(Members):
        held: Mapping[str, list[str]] = {
            A: ["/registry/configmaps/default/old", "/registry/secrets/default/a"],
            B: ["/registry/configmaps/default/new", "/registry/pods/default/others"],
        }

        async def request(self, method: str, url: str, **rest: Any) -> Response:
            import base64

            asked = json.loads(rest["body"])
            start = base64.b64decode(asked["key"]).decode()
            end = base64.b64decode(asked["range_end"]).decode()
            keys = [key for key in self.held[url.partition("/v3/")[0]] if start <= key < end]
            shown = keys[: int(asked.get("limit", 0)) or None]
            value = base64.b64encode(b'{"kind":"K","apiVersion":"v1"}').decode()
            kvs = [
                {"key": base64.b64encode(key.encode()).decode(), "value": value, "mod_revision": "5"} for key in shown
            ]
            body = {"header": {"revision": "9"}, "kvs": kvs, "more": len(shown) < len(keys), "count": str(len(keys))}
            return Response(200, {}, json.dumps(body).encode())

    clusters = open_clusters(
        {"endpoints": [A], "overrides": [{"resources": ["configmaps"], "endpoints": [B]}]},
    )
    for etcd in (clusters.default, clusters.of("configmaps")):
        etcd._http = Keys({})
    found = asyncio.run(scan_clusters(clusters))
    assert {name: sum(found.versions(name).values()) for name in found.resources} == {"configmaps": 1, "secrets": 1}
    samples = [key for tally in found.resources["configmaps"].values() for key in tally.samples]
    assert samples == ["/registry/configmaps/default/new"]
    assert {prefix: tally.objects for prefix, tally in found.unknown.items()} == {"configmaps": 1}
    assert [etcd.endpoints for etcd, _part in found.parts] == [(A,), (B,)]


def test_prefixes_of_one_resource_without_those_of_others() -> None:
    def resource(name: str) -> ServedResource:
        plural, _dot, group = name.partition(".")
        return ServedResource(name, group, plural, "Kind", True, frozenset(), ("v1",), ("hash",))

    served = {
        name: resource(name) for name in ("pods", "pods.example.com", "services", "events", "events.events.k8s.io")
    }
    keys = KeyMap(served)
    assert own_prefixes("pods.example.com", keys) == ["example.com/pods"]
    assert own_prefixes("pods", keys) == ["pods"]
    assert own_prefixes("services", keys) == ["services/specs"]
    assert own_prefixes("events.events.k8s.io", keys) == ["events"]
    assert KeyMap(served, elsewhere=lambda name: name == "pods").resource_at("pods") is None
