# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whom a cluster asks besides those that are listed (issue 13, numbers 3 and 18)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableError, UnreachableKind
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response, TransportSettings
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.auth import Connection
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import Cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Expectation

ENTRY = "https://10.0.0.9:6443"
ONE, TWO, THREE = (f"https://10.0.0.{number}:6443" for number in (1, 2, 3))


def lease(number: int) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"apiserver-{number}",
            "labels": {"kubernetes.io/hostname": f"master-{number}"},
            "annotations": {"kubernetes.io/peer-advertise-address": f"10.0.0.{number}:6443"},
        },
        "spec": {"holderIdentity": f"apiserver-{number}_1", "renewTime": "2999-01-01T00:00:00.0Z"},
    }


class Servers:
    """Implements HttpClient: API servers that serve no resources. ``dead``: URLs at which nothing answers, by kind."""

    def __init__(self, leases: Sequence[dict[str, Any]], *, status: int = 200) -> None:
        self.dead: dict[str, UnreachableKind] = {}
        self.asked: list[str] = []
        self._leases, self._status = list(leases), status

    async def request(self, method: str, url: str, **_more: Any) -> Response:
        cut = url.index("/", len("https://"))
        base, path = url[:cut], url[cut:]
        self.asked.append(url)
        if base in self.dead:
            raise UnreachableError(f"{base} is away.", kind=self.dead[base])
        if "kube-system/leases" in path:
            return Response(self._status, {}, json.dumps({"items": self._leases}).encode())
        known: dict[str, dict[str, Any]] = {
            "/version": {"gitVersion": "v1.36.5"},
            "/apis": {"kind": "APIGroupList", "groups": []},
            "/api/v1": {"kind": "APIResourceList", "resources": []},
            "/apis/apiregistration.k8s.io/v1/apiservices": {"kind": "APIServiceList", "items": []},
        }
        return Response(200, {}, json.dumps(known.get(path, {"items": []})).encode())

    async def close(self) -> None:
        pass

    def cluster(self, urls: Sequence[str], **expected: Any) -> Cluster:
        connection = Connection(ENTRY, TransportSettings(ssl_context=None), lambda: [])
        return Cluster(connection, self, urls=urls, expectation=Expectation(**expected))


def test_a_living_server_that_the_user_left_out_is_asked_who_it_is() -> None:
    servers = Servers([lease(1), lease(2), lease(3)])
    seen = asyncio.run(servers.cluster([ONE, TWO]).observe())
    assert not seen.converged and f"{THREE}/version" in servers.asked
    assert f"master-3 answers at {THREE}, and is at v1.36.5" in seen.summary()
    assert asyncio.run(servers.cluster([ONE, TWO], ignored=("master-3",)).observe()).counts


@pytest.mark.parametrize(
    ("kind", "dying"),
    [
        (UnreachableKind.REFUSED, True),
        (UnreachableKind.TIMEOUT, True),
        # Something answers there.
        (UnreachableKind.TLS, False),
    ],
)
def test_it_seems_to_have_died_only_if_nothing_answers(kind: UnreachableKind, dying: bool) -> None:
    servers = Servers([lease(1), lease(2), lease(3)])
    servers.dead[THREE] = kind
    seen = asyncio.run(servers.cluster([ONE, TWO]).observe())
    assert not seen.converged and bool(seen.cross.dying) is dying
    assert ("master-3 seems to have died" in seen.summary()) is dying


def test_any_of_the_servers_tells_the_leases_if_the_address_of_the_cluster_is_down() -> None:
    servers = Servers([lease(1), lease(2), lease(3)])
    servers.dead = {ENTRY: UnreachableKind.REFUSED, ONE: UnreachableKind.REFUSED}
    seen = asyncio.run(servers.cluster([ONE, TWO]).observe())
    assert [unlisted.server.name for unlisted in seen.cross.unlisted] == ["master-3"]
    servers.dead[TWO] = UnreachableKind.REFUSED
    alone = asyncio.run(servers.cluster([ONE, TWO]).observe())
    assert not alone.cross_checked and "can't be read" in str(alone.cross.why_not)


@pytest.mark.parametrize(
    ("status", "why"), [(403, "cannot list leases"), (404, "answered with 404"), (500, "answered with 500")]
)
def test_leases_that_cannot_be_read_are_said(status: int, why: str) -> None:
    seen = asyncio.run(Servers([], status=status).cluster([ONE]).observe())
    assert seen.converged and not seen.counts and why in str(seen.cross.why_not)


def test_the_list_of_servers_alone_is_cross_checked_too() -> None:
    """For modules that ask each server something else, such as what it can read."""
    listed = asyncio.run(Servers([lease(1), lease(2)]).cluster([ONE]).servers())
    assert [server.url for server in listed.servers] == [ONE] and "(master-1, master-2)" in listed.problems[0]
    assert asyncio.run(Servers([lease(1), lease(2)]).cluster([ONE], ignored=("*",)).servers()).problems == ()
