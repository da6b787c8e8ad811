# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A user's token: obtained once for all requests, renewed when it has expired. Real etcd: tests/integration/test_etcd_access.py."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import EtcdError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.access import Access
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import HttpClient, Response

A = "http://10.0.0.1:2379"


def refused(status: int, message: str) -> Response:
    return Response(status, {}, json.dumps({"code": 1, "message": message}).encode())


class Gateway(HttpClient):
    """Takes the token that it gave last; ``expire`` makes it forget that."""

    def __init__(self, *, authentication: bool = True) -> None:
        self.authentication = authentication
        self.logins = 0
        self.reads = 0
        self.valid = ""

    def expire(self) -> None:
        self.valid = ""

    async def request(self, method: str, url: str, **rest: Any) -> Response:
        await asyncio.sleep(0)
        if url.endswith("/v3/auth/authenticate"):
            if not self.authentication:
                return refused(400, "etcdserver: authentication is not enabled")
            if json.loads(rest["body"]) != {"name": "reader", "password": "secret"}:
                return refused(400, "etcdserver: authentication failed, invalid user ID or password")
            self.logins += 1
            self.valid = f"token {self.logins}"
            return Response(200, {}, json.dumps({"header": {}, "token": self.valid}).encode())
        token = dict(rest["headers"]).get("Authorization", "")
        if self.authentication and (not token or token != self.valid):
            return refused(401, "etcdserver: invalid auth token")
        self.reads += 1
        return Response(200, {}, b'{"header":{"cluster_id":"1","revision":"7"}}')

    async def close(self) -> None:
        pass


def etcd_of(gateway: Gateway, password: str = "secret") -> Etcd:
    return Etcd([A], gateway, access=Access("reader", password))


def test_requests_at_once_share_a_token_and_its_renewal() -> None:
    gateway = Gateway()
    etcd = etcd_of(gateway)

    async def reads() -> None:
        for _time in range(2):
            await asyncio.gather(*(etcd.range(b"/", None) for _number in range(8)))
            gateway.expire()

    asyncio.run(reads())
    assert (gateway.logins, gateway.reads) == (2, 16)


def test_a_wrong_password_is_tried_once_and_not_shown() -> None:
    with pytest.raises(EtcdError, match="check both") as found:
        asyncio.run(etcd_of(Gateway(), "another").range(b"/", None))
    assert "another" not in found.value.message


def test_with_authentication_off_no_token_is_sent() -> None:
    gateway = Gateway(authentication=False)
    asyncio.run(etcd_of(gateway).range(b"/", None))
    assert (gateway.logins, gateway.reads) == (0, 1)


def test_what_is_not_etcd_gives_no_token() -> None:
    """A web server that answers everything with a page."""

    class Page(Gateway):
        async def request(self, method: str, url: str, **rest: Any) -> Response:
            return Response(200, {}, b"<html></html>")

    with pytest.raises(EtcdError, match="not JSON"):
        asyncio.run(etcd_of(Page()).range(b"/", None))
    with pytest.raises(EtcdError, match="not JSON"):
        asyncio.run(Etcd([A], Page()).status())


def test_an_answer_that_repeats_the_password_is_not_shown() -> None:
    """Some web services quote the request that they don't understand."""

    class Echo(Gateway):
        async def request(self, method: str, url: str, **rest: Any) -> Response:
            return refused(422, f"unexpected input {rest['body'].decode()}")

    with pytest.raises(EtcdError, match="answered with 422; check etcd.endpoints") as found:
        asyncio.run(etcd_of(Echo(), "hunter2").range(b"/", None))
    assert "hunter2" not in found.value.message
