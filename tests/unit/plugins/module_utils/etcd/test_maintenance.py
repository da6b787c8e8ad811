# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What members of etcd say about their database."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import EtcdError, UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.maintenance import (
    Maintenance,
    Statuses,
    member_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.space import ASSUMED, TOLD, Member
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import HttpClient, Response

A, B, C = "https://10.0.0.1:2379", "https://10.0.0.2:2379", "https://10.0.0.3:2379"


class Members(HttpClient):
    """Three members, by address their id; those in ``down`` don't answer. ``listed``: whether they list each other."""

    ids = {A: "1", B: "2", C: "3"}

    def __init__(self, *, down: tuple[str, ...] = (), listed: bool = True, denied: bool = False) -> None:
        self.down = down
        self.listed = listed
        self.denied = denied
        self.asked: list[tuple[str, str]] = []

    async def request(self, method: str, url: str, **_rest: Any) -> Response:
        address, path = url.partition("/v3/")[0], url.partition("/v3/")[2]
        self.asked.append((address, path))
        if address in self.down:
            raise UnreachableError("refused", kind="refused")
        if self.denied:
            return Response(403, {}, b'{"error":"etcdserver: permission denied","code":7}')
        header = {"cluster_id": "7", "member_id": self.ids[address]}
        body: dict[str, Any] = {"header": header, "dbSize": f"{self.ids[address]}000", "dbSizeInUse": "500"}
        if path == "cluster/member/list":
            if not self.listed:
                return Response(404, {}, b"404 page not found")
            body = {
                "header": header,
                "members": [{"ID": number, "clientURLs": [url]} for url, number in self.ids.items()],
            }
        return Response(200, {}, json.dumps(body).encode())

    async def close(self) -> None:
        pass


def statuses(http: Members, *endpoints: str) -> Statuses:
    return asyncio.run(Maintenance(Etcd(endpoints, http)).statuses())


@pytest.mark.parametrize("endpoints", [(A,), (A, B), (A, B, C)])
def test_every_member_is_asked_whatever_the_endpoints(endpoints: tuple[str, ...]) -> None:
    found = statuses(Members(), *endpoints)
    assert {member.where: member.size for member in found.members} == {A: 1000, B: 2000, C: 3000}
    assert found.silent == ()


def test_silent_members_are_named() -> None:
    found = statuses(Members(down=(C,)), A, B)
    assert ({member.where for member in found.members}, found.silent) == ({A, B}, (C,))


def test_members_that_nobody_lists_are_not_asked() -> None:
    found = statuses(Members(listed=False), A)
    assert [member.where for member in found.members] == [A]


def test_the_members_are_listed_once() -> None:
    http = Members()

    async def looks() -> None:
        maintenance = Maintenance(Etcd([A], http))
        for _number in range(3):
            await maintenance.statuses()

    asyncio.run(looks())
    assert sum(path == "cluster/member/list" for _address, path in http.asked) == 1


@pytest.mark.parametrize("http", [Members(down=(A, B, C)), Members(denied=True)])
def test_no_answer_is_an_error(http: Members) -> None:
    with pytest.raises(EtcdError):
        statuses(http, A, B)


@pytest.mark.parametrize(
    ("document", "member"),
    [
        # etcd 3.7, as its gateway answered.
        (
            {"version": "3.7.0", "dbSize": "25165824", "dbSizeInUse": "12582912", "dbSizeQuota": "50331648"},
            Member(A, 25165824, 12582912, 50331648, TOLD),
        ),
        # 3.5 tells no quota; 3.3 not even what is in use.
        ({"version": "3.5.9", "dbSize": "20480", "dbSizeInUse": "16384"}, Member(A, 20480, 16384, None, ASSUMED)),
        ({"dbSize": "20480"}, Member(A, 20480, None, None, ASSUMED)),
        # kine, which has no quota.
        ({"header": {}, "version": "3.6.11", "dbSize": "20480"}, Member(A, 20480, None, None, TOLD)),
        # --quota-backend-bytes=-1
        ({"dbSize": "20480", "dbSizeQuota": "-1"}, Member(A, 20480, None, None, TOLD)),
        (
            {"dbSize": "20480", "errors": ["memberID:10276657743932975437 alarm:NOSPACE ", "etcdserver: no leader"]},
            Member(A, 20480, None, None, ASSUMED, (("NOSPACE", "10276657743932975437"),)),
        ),
    ],
)
def test_what_a_status_says(document: dict[str, Any], member: Member) -> None:
    assert member_of(A, document) == member
