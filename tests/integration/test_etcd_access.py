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

import grpc
import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import EtcdError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import nobody_listens
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd import access
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.membership import (
    Hashes,
    Membership,
    hashes,
    membership,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.opening import open_etcd
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.protobuf import field
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, scan
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.snapshot import SnapshotOptions, etcd_snapshot
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import http2

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


def test_a_port_for_grpc_only_is_read_over_grpc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = f"https://127.0.0.1:{free_port()}"
    etcd = EtcdAlone(tmp_path, f"--listen-client-http-urls={gateway}")
    try:
        option = {**etcd.option(), "endpoints": [gateway]}
        assert wait_for(lambda: _is_read(option), 120.0)
        with pytest.raises(EtcdError, match="holds nothing below"):
            read(etcd.option())
        with pytest.raises(EtcdError, match=r"expired\.crt expired on 20.* renew it"):
            read(etcd.option(etcd.expired))
        monkeypatch.setattr(access, "is_available", lambda: False)
        monkeypatch.setattr(http2, "is_available", lambda: False)
        with pytest.raises(
            EtcdError, match=r"is a gRPC-only port of etcd.* install the Python library h2 for .*2383 on Talos"
        ):
            read(etcd.option())
    finally:
        etcd.stop()


@pytest.fixture(scope="module")
def without_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdAlone]:
    etcd = EtcdAlone(tmp_path_factory.mktemp("grpc"), "--enable-grpc-gateway=false")
    assert wait_for(lambda: _is_read(etcd.option()), 120.0)
    yield etcd
    etcd.stop()


def test_without_the_gateway_all_is_asked_over_grpc(without_gateway: EtcdAlone, tmp_path: Path) -> None:
    etcd = without_gateway
    call(etcd, "KV/Put", [(1, KEYS[0].encode()), (2, b"k8s\0\n\x0f\n\x02v1\x12\tConfigMap")])
    call(etcd, "KV/Put", [(1, KEYS[1].encode()), (2, b"k8s\0\n\x0f\n\x02v1\x12\tConfigMap")])
    found = read(etcd.option())
    assert found.objects == 2 and found.counts("configmaps") == {("v1", "protobuf", "identity", None): 2}

    async def members() -> tuple[Membership, Hashes]:
        async with open_etcd(etcd.option()) as opened:
            told = await membership(opened)
            return told, await hashes(opened, told.states)

    told, seen = asyncio.run(members())
    (state,), (listed,) = told.states, told.listed
    assert state.leads and state.id == listed.id and not told.down and not told.is_kine
    assert seen.revision == found.revision and seen.comparable and not seen.differ
    options = SnapshotOptions(str(tmp_path / "snapshots"), etcd.option())
    taken = asyncio.run(etcd_snapshot(options, False, nobody_listens))
    assert taken["revision"] == found.revision and taken["bytes"] == Path(taken["path"]).stat().st_size > 20_000


def test_a_user_logs_in_over_grpc(without_gateway: EtcdAlone) -> None:
    """Last, as it switches authentication on. A certificate's common name counts as the user, which the gateway refuses."""
    etcd = without_gateway
    for name, role in (("root", "root"), ("client", "reader"), ("other", "reader"), ("nobody", "nobody")):
        call(etcd, "Auth/UserAdd", [(1, name.encode()), (2, f"password of {name}".encode())])
        if role != "root" and name != "other":
            call(etcd, "Auth/RoleAdd", [(1, role.encode())])
        call(etcd, "Auth/UserGrantRole", [(1, name.encode()), (2, role.encode())])
    permission = field(2, b"/registry/") + field(3, b"/registry0")
    call(etcd, "Auth/RoleGrantPermission", [(1, b"reader"), (2, permission)])
    call(etcd, "Auth/AuthEnable", [])
    assert read(etcd.option()).objects == 2
    assert read(as_user(etcd, "other")).objects == 2
    with pytest.raises(EtcdError, match=r"does not accept etcd\.username with etcd\.password"):
        read(as_user(etcd, "other", "wrong"))
    with pytest.raises(EtcdError, match="does not let the user nobody read the keys"):
        read(as_user(etcd, "nobody"))
    with pytest.raises(EtcdError, match=r"give etcd\.username and etcd\.password"):
        read(etcd.option(etcd.without_name))


def call(etcd: EtcdAlone, method: str, values: list[tuple[int, bytes]]) -> bytes:
    """By the library that clients of etcd use, as the collection's own is what is tested."""
    pem = [Path(path).read_bytes() for path in (etcd.ca.cert, etcd.client.key, etcd.client.cert)]
    with grpc.secure_channel(etcd.url.removeprefix("https://"), grpc.ssl_channel_credentials(*pem)) as channel:
        message = b"".join(field(number, value) for number, value in values)
        answer: bytes = channel.unary_unary(f"/etcdserverpb.{method}")(message, timeout=60)
    return answer


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
