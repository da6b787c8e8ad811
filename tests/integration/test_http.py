# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP adapter against servers that misbehave. The other tests cover TLS and real servers."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import (
    Response,
    TransportSettings,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.factory import open_client
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.sockets import SocketClient

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Script = Callable[[int, bytes, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Does what ``script(number of the request, its body, writer)`` does; counts requests and connections."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.requests = self.connections = self.at_once = self.most_at_once = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                _before, found, after = head.partition(b"content-length: ")
                body = await reader.readexactly(int(after.split(b"\r\n")[0])) if found else b""
                self.requests += 1
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
                await self._script(self.requests, body, writer)
                self.at_once -= 1
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def against(script: Script, work: Callable[[SocketClient, str, Server], Awaitable[Any]], **settings: Any) -> Any:
    """Runs ``work(client, url, server)``; nothing may be left behind that asyncio complains about."""
    complaints: list[dict[str, Any]] = []

    async def main() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        server = Server(script)
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        client = open_client(TransportSettings(ssl_context=None, **settings))
        assert isinstance(client, SocketClient)
        try:
            return await asyncio.wait_for(work(client, url, server), 60)
        finally:
            await client.close()
            listening.close()
            gc.collect()
            await asyncio.sleep(0)
            assert complaints == []

    return asyncio.run(main())


async def ask(client: SocketClient, url: str, body: bytes | None = None, timeout: float = 30.0) -> Response:
    return await client.request("POST" if body else "GET", url + "/x", headers=(), body=body, timeout=timeout)


async def fails(client: SocketClient, url: str, **how: Any) -> str:
    with pytest.raises(UnreachableError) as caught:
        await ask(client, url, **how)
    return caught.value.kind


def test_a_connection_is_kept() -> None:
    async def script(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)

    async def work(client: SocketClient, url: str, server: Server) -> None:
        for _time in range(3):
            assert (await ask(client, url)).body == b"ok"
        assert (server.requests, server.connections) == (3, 1)

    against(script, work)


def test_a_server_that_closes_what_is_idle_costs_no_request() -> None:
    async def script(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        writer.close()

    async def work(client: SocketClient, url: str, server: Server) -> None:
        for _time in range(3):
            assert (await ask(client, url)).status == 200
            # The end of the connection is seen before anything else is asked.
            await asyncio.sleep(0.05)
        assert server.connections == 3

    against(script, work)


def test_half_an_answer_is_not_an_answer() -> None:
    async def script(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(OK[:-1] if number == 1 else OK)
        if number == 1:
            await writer.drain()
            writer.close()

    async def work(client: SocketClient, url: str, server: Server) -> None:
        assert await fails(client, url) == "reset"
        assert (await ask(client, url)).status == 200

    against(script, work)


def test_what_is_not_http_is_a_lost_connection() -> None:
    async def script(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n\r\n")

    async def work(client: SocketClient, url: str, server: Server) -> None:
        assert await fails(client, url) == "reset"

    against(script, work)


def test_a_late_answer_is_not_that_of_the_next_request() -> None:
    async def script(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if number == 1:
            await asyncio.sleep(0.3)
        writer.write(OK.replace(b"ok", b"%02d" % number))

    async def work(client: SocketClient, url: str, server: Server) -> None:
        assert await fails(client, url, timeout=0.1) == "timeout"
        assert (await ask(client, url)).body == b"02"
        cancelled = asyncio.create_task(ask(client, url))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        assert (await ask(client, url)).body == b"%02d" % server.requests

    against(script, work)


def test_no_more_connections_than_allowed() -> None:
    async def script(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        writer.write(OK)

    async def work(client: SocketClient, url: str, server: Server) -> None:
        answers = await asyncio.gather(*(ask(client, url) for _time in range(20)))
        assert [answer.status for answer in answers] == [200] * 20
        assert (server.most_at_once, server.connections) == (2, 2)

    against(script, work, concurrency=2)


def test_more_than_the_buffers_hold_goes_both_ways() -> None:
    async def script(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async def work(client: SocketClient, url: str, server: Server) -> None:
        body = bytes(range(256)) * 40_000
        assert (await ask(client, url, body=body)).body == body
        assert (await ask(client, url)).body == b""
        assert server.connections == 1

    against(script, work)


def test_what_is_in_flight_at_the_end_fails() -> None:
    async def script(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async def work(client: SocketClient, url: str, server: Server) -> None:
        asking = asyncio.create_task(fails(client, url))
        while server.requests == 0:
            await asyncio.sleep(0.01)
        await client.close()
        assert await asking == "reset"

    against(script, work)


def test_nobody_there() -> None:
    async def script(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("nobody is asked")

    async def work(client: SocketClient, url: str, server: Server) -> None:
        assert await fails(client, "http://127.0.0.1:1") == "refused"
        assert await fails(client, "http://no-such-host.invalid") == "dns"

    against(script, work)
