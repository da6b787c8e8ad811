# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Few file descriptors: fewer connections or one sentence, and never a hang (issue 13, number 21)."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    UnreachableError,
    UnreachableKind,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import sockets
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import TransportSettings
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.sockets import SocketClient


class Server:
    """Answers each request after a few turns of the loop; counts connections."""

    def __init__(self) -> None:
        self.open = self.most = self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                await asyncio.sleep(0.001)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()


def against(servers: int, work: Callable[[SocketClient, list[str]], Awaitable[Any]]) -> list[Server]:
    async def main() -> list[Server]:
        played = [Server() for _server in range(servers)]
        listening = [await asyncio.start_server(server.serve, "127.0.0.1", 0) for server in played]
        client = SocketClient(TransportSettings(None))
        urls = [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/" for server in listening]
        try:
            await asyncio.wait_for(work(client, urls), 60)
        finally:
            await client.close()
            for server in listening:
                server.close()
        return played

    return asyncio.run(main())


async def get(client: SocketClient, url: str) -> int:
    return (await client.request("GET", url, headers=[], body=None, timeout=30)).status


def test_no_more_connections_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "most_connections", lambda: 3)

    async def work(client: SocketClient, urls: list[str]) -> None:
        answers = await asyncio.gather(*(get(client, urls[number % 3]) for number in range(300)))
        assert set(answers) == {200}

    servers = against(3, work)
    assert sum(server.requests for server in servers) == 300
    assert sum(server.most for server in servers) <= 9 and max(server.most for server in servers) <= 3


def test_what_waits_for_a_connection_waits_no_longer_than_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "most_connections", lambda: 1)

    async def work(client: SocketClient, urls: list[str]) -> None:
        slow = asyncio.ensure_future(client.request("GET", urls[0], headers=[], body=None, timeout=30))
        await asyncio.sleep(0)
        with pytest.raises(UnreachableError) as failed:
            await client.request("GET", urls[1], headers=[], body=None, timeout=0.0005)
        assert failed.value.kind is UnreachableKind.TIMEOUT
        await slow
        assert await get(client, urls[1]) == 200

    against(2, work)


def test_a_connection_that_fails_makes_room_for_one_to_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for one, a dead server must not keep a living one waiting."""
    monkeypatch.setattr(sockets, "most_connections", lambda: 1)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}"

        async def work(client: SocketClient, urls: list[str]) -> None:
            failing = asyncio.ensure_future(get(client, dead))
            await asyncio.sleep(0)
            living = asyncio.ensure_future(client.request("GET", urls[0], headers=[], body=None, timeout=5))
            with pytest.raises(UnreachableError):
                await failing
            assert (await living).status == 200

        against(1, work)


class Files:
    """Refuses to open sockets while this many are open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.most = most
        self.made: list[socket.socket] = []
        self._real = socket.socket
        monkeypatch.setattr(sockets.socket, "socket", self)

    def __call__(self, *args: Any, **more: Any) -> socket.socket:
        by_client = len(args) == 2 and not more  # The servers of this process accept theirs otherwise.
        if by_client and sum(1 for opened in self.made if opened.fileno() >= 0) >= self.most:
            raise OSError(errno.EMFILE, "Too many open files")
        made = self._real(*args, **more)
        if by_client:
            self.made.append(made)
        return made


def test_a_client_at_its_limit_makes_do(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(client: SocketClient, urls: list[str]) -> None:
        Files(monkeypatch, 12)
        answers = await asyncio.gather(*(get(client, urls[number % 2]) for number in range(200)))
        assert set(answers) == {200}

    servers = against(2, work)
    assert sum(server.requests for server in servers) == 200


def test_without_a_single_connection_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(client: SocketClient, urls: list[str]) -> None:
        Files(monkeypatch, 0)
        with pytest.raises(UnreachableError, match="may open no more files; raise its limit") as failed:
            await get(client, urls[0])
        assert failed.value.kind is UnreachableKind.EXHAUSTED

    against(1, work)
