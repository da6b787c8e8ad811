# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""etcd as people run it: with authentication, other ports and certificates, without a leader. Each gets its own message."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import EtcdError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.opening import open_etcd
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, scan

from tests.control_plane.processes import wait_for

from .support.etcd_alone import EtcdAlone, free_port

KEYS = [f"/registry/configmaps/default/{number}" for number in range(5)]
TOKEN_SECONDS = 1


def read(option: Mapping[str, Any], *, times: int = 1, pause: float = 0.0) -> Stored:
    async def run() -> Stored:
        async with open_etcd(option) as etcd:
            for _time in range(times - 1):
                await scan(etcd)
                await asyncio.sleep(pause)
            return await scan(etcd)

    return asyncio.run(run())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdAlone]:
    etcd = EtcdAlone(tmp_path_factory.mktemp("etcd")).await_ready()
    etcd.put(KEYS)
    yield etcd
    etcd.stop()


@pytest.fixture(scope="module")
def with_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdAlone]:
    etcd = EtcdAlone(tmp_path_factory.mktemp("users"), f"--auth-token-ttl={TOKEN_SECONDS}").await_ready()
    etcd.put(KEYS)
    for name, role in (("root", "root"), ("reader", "reader"), ("nobody", "nobody")):
        etcd.post("/v3/auth/user/add", {"name": name, "password": f"password of {name}"})
        if role != "root":
            etcd.post("/v3/auth/role/add", {"name": role})
        etcd.post("/v3/auth/user/grant", {"user": name, "role": role})
    # The keys from /registry/ to before /registry0, in base64.
    permission = {"permType": "READ", "key": "L3JlZ2lzdHJ5Lw==", "range_end": "L3JlZ2lzdHJ5MA=="}
    etcd.post("/v3/auth/role/grant", {"name": "reader", "perm": permission})
    etcd.post("/v3/auth/enable", {})
    yield etcd
    etcd.stop()


def as_user(etcd: EtcdAlone, name: str, password: str | None = None) -> dict[str, Any]:
    return etcd.option(etcd.without_name, username=name, password=password or f"password of {name}")


def test_a_user_may_read_and_its_token_is_renewed(with_users: EtcdAlone) -> None:
    """Each pause is longer than a token lives."""
    assert read(as_user(with_users, "reader"), times=3, pause=2.5 * TOKEN_SECONDS).objects == len(KEYS)


def test_with_authentication_off_a_user_does_no_harm(plain: EtcdAlone) -> None:
    assert read(plain.option(username="reader", password="x")).objects == len(KEYS)


@pytest.mark.parametrize(
    ("user", "password", "says"),
    [
        (None, None, "give etcd.username and etcd.password"),
        ("reader", "wrong", "does not accept etcd.username with etcd.password"),
        ("nobody", None, "does not let the user nobody read the keys"),
    ],
)
def test_a_user_who_may_not_read_learns_why(
    with_users: EtcdAlone, user: str | None, password: str | None, says: str
) -> None:
    option = with_users.option(with_users.without_name) if user is None else as_user(with_users, user, password)
    with pytest.raises(EtcdError, match=says) as refused:
        read(option)
    assert "password of" not in refused.value.message and "wrong" not in refused.value.message


def test_a_certificate_with_a_name_is_refused_where_there_are_users(with_users: EtcdAlone) -> None:
    with pytest.raises(EtcdError, match=r"give etcd\.username, etcd\.password and a client certificate without one"):
        read(with_users.option())
    with pytest.raises(EtcdError, match="common name; give a client certificate without one"):
        read({**with_users.option(), "username": "reader", "password": "password of reader"})


def test_a_certificate_that_etcd_refuses_is_named(plain: EtcdAlone) -> None:
    with pytest.raises(EtcdError, match=r"expired\.crt expired on 20.* renew it"):
        read(plain.option(plain.expired))
    with pytest.raises(EtcdError, match=r"for-servers\.crt is not a client certificate"):
        read(plain.option(plain.for_servers))


def test_a_port_for_grpc_only_is_named(tmp_path: Path) -> None:
    gateway = f"https://127.0.0.1:{free_port()}"
    etcd = EtcdAlone(tmp_path, f"--listen-client-http-urls={gateway}")
    try:
        option = {**etcd.option(), "endpoints": [gateway]}
        assert wait_for(lambda: _is_read(option), 120.0)
        with pytest.raises(EtcdError, match="is a gRPC-only port of etcd"):
            read(etcd.option())
    finally:
        etcd.stop()


def _is_read(option: Mapping[str, Any]) -> bool:
    try:
        read(option)
    except EtcdError as error:
        return "holds nothing below" in error.message
    return True


def test_a_member_without_a_leader_is_named_soon(tmp_path: Path) -> None:
    peers = {"a": free_port(), "b": free_port(), "c": free_port()}
    members = [EtcdAlone(tmp_path, name=name, peers=peers) for name in peers]
    try:
        members[0].await_ready()
        members[0].put(KEYS)
        assert read(members[0].option()).objects == len(KEYS)
        for member in members[1:]:
            member.stop()
        started = time.monotonic()
        with pytest.raises(EtcdError, match="has no leader"):
            read({**members[0].option(), "endpoints": [member.url for member in reversed(members)]})
        # etcd itself answers after 7 s; one round of all that remain, not five.
        assert time.monotonic() - started < 25
    finally:
        for member in members:
            member.stop()


@pytest.mark.parametrize("first", [0, 1])
def test_a_silent_member_costs_no_timeout(tmp_path: Path, first: int) -> None:
    """Wherever in the list it is: it takes connections, and answers nothing."""
    peers = {"a": free_port(), "b": free_port(), "c": free_port()}
    members = [EtcdAlone(tmp_path, name=name, peers=peers) for name in peers]
    try:
        members[0].await_ready()
        members[0].put(KEYS)
        members[first].pause()
        others = [member for member in members if member is not members[first]]
        assert wait_for(lambda: _is_read({**members[0].option(), "endpoints": [others[0].url]}), 120.0)
        started = time.monotonic()
        found = read({**members[0].option(), "endpoints": [member.url for member in members]})
        assert found.objects == len(KEYS)
        assert time.monotonic() - started < 25
    finally:
        for member in members:
            member.stop()
