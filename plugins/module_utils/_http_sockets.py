# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP over sockets that the event loop watches: the fast adapter, for servers that are reached without a proxy.

Nothing but the standard library. TLS is done by the ssl module's own sockets rather than by asyncio's
transports, which together with a general HTTP library cost several times as much for each request.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import (
    Headers,
    Response,
    TransportSettings,
    describe_failure,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http_answer import AnswerReader, request_bytes

# The most that a TLS record holds.
_PIECE = 16 * 1024
_PIECES_AT_ONCE = 16
# API servers close what is idle after 90 s; a connection that nobody may remember any more is not worth a try.
_KEPT_IDLE = 60.0
# Of several addresses of one name, each but the last gets so long to accept a connection.
_NEXT_ADDRESS_AFTER = 5.0
_NOT_YET = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_Socket = socket.socket  # an ssl.SSLSocket is one, too


class SocketClient:
    """Keeps connections alive; must be used and closed within one event loop."""

    def __init__(self, settings: TransportSettings) -> None:
        self._settings = settings
        self._origins: dict[str, _Origin] = {}

    async def request(self, method: str, url: str, *, headers: Headers, body: bytes | None, timeout: float) -> Response:
        end = url.find("/", 8)
        root, path = (url, "/") if end < 0 else (url[:end], url[end:])
        origin = self._origins.get(root)
        if origin is None:
            origin = self._origins[root] = _Origin(root, self._settings)
        try:
            return await origin.exchange(request_bytes(method, origin.host, path, headers, body), timeout)
        except (OSError, ValueError, asyncio.TimeoutError) as error:
            kind, sentence = describe_failure(url, error)
            raise UnreachableError(sentence, kind=kind) from error

    async def close(self) -> None:
        for origin in self._origins.values():
            origin.close()
        self._origins.clear()


class _Origin:
    """One server, and the connections to it."""

    def __init__(self, root: str, settings: TransportSettings) -> None:
        parts = urlsplit(root)
        self.host = parts.netloc.rpartition("@")[2]
        self._name = parts.hostname or ""
        self._tls = settings.ssl_context if parts.scheme == "https" else None
        if parts.scheme == "https" and self._tls is None:
            self._tls = ssl.create_default_context()
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._verified_as = settings.server_name or self._name
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._idle: list[_Channel] = []
        self._all: set[_Channel] = set()

    async def exchange(self, request: bytes, timeout: float) -> Response:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if self._slots.locked():
            await asyncio.wait_for(self._slots.acquire(), timeout)
        else:
            await self._slots.acquire()
        try:
            channel = self._kept(loop.time())
            if channel is None:
                channel = await asyncio.wait_for(self._connect(), deadline - loop.time())
            if await channel.exchange(request, deadline):
                self._idle.append(channel)
            else:
                channel.close()
            return channel.answer
        finally:
            self._slots.release()

    def _kept(self, now: float) -> _Channel | None:
        """The connection that was used last; those that ended or were idle for long are dropped."""
        while self._idle:
            channel = self._idle.pop()
            if not channel.closed and now - channel.used < _KEPT_IDLE:
                return channel
            channel.close()
        return None

    async def _connect(self) -> _Channel:
        plain = await self._reach()
        try:
            connected = plain if self._tls is None else await self._secure(plain, self._tls)
        except BaseException:
            plain.close()
            raise
        channel = _Channel(connected, self._all.discard)
        self._all.add(channel)
        return channel

    async def _reach(self) -> _Socket:
        loop = asyncio.get_running_loop()
        addresses = await _addresses(self._name, self._port)
        for number, (family, address) in enumerate(addresses):
            last = number == len(addresses) - 1
            plain = socket.socket(family, socket.SOCK_STREAM)
            try:
                plain.setblocking(False)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await asyncio.wait_for(loop.sock_connect(plain, address), None if last else _NEXT_ADDRESS_AFTER)
                return plain
            except (OSError, asyncio.TimeoutError):
                plain.close()
                if last:
                    raise
            except BaseException:
                plain.close()
                raise
        raise socket.gaierror(f"no address for {self._name}")

    async def _secure(self, plain: _Socket, context: ssl.SSLContext) -> _Socket:
        secured = context.wrap_socket(plain, do_handshake_on_connect=False, server_hostname=self._verified_as)
        try:
            while True:
                try:
                    secured.do_handshake()
                    return secured
                except ssl.SSLWantReadError:
                    await _readiness(secured, write=False)
                except ssl.SSLWantWriteError:
                    await _readiness(secured, write=True)
        except BaseException:
            secured.close()
            raise

    def close(self) -> None:
        for channel in list(self._all):
            channel.close()
        self._idle.clear()


async def _addresses(name: str, port: int) -> list[tuple[int, Any]]:
    """(family, address) of a host; a name is looked up, in a thread."""
    try:
        family = socket.AF_INET6 if ip_address(name.partition("%")[0]).version == 6 else socket.AF_INET
    except ValueError:
        family = socket.AF_UNSPEC
    if family == socket.AF_INET:
        return [(family, (name, port))]
    found = await asyncio.get_running_loop().getaddrinfo(name, port, family=family, type=socket.SOCK_STREAM)
    return [(one[0], one[4]) for one in found]


async def _readiness(of: _Socket, *, write: bool) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    watch, forget = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    watch(of, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        forget(of)


class _Channel:
    """One connection. It is watched also while it is idle, so that its end is noticed at once."""

    answer: Response

    def __init__(self, connected: _Socket, ended: Callable[[_Channel], None]) -> None:
        self.closed = False
        self.used = 0.0
        self._socket = connected
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._reader = AnswerReader()
        self._unsent = b""
        self._loop.add_reader(connected, self._readable)

    async def exchange(self, request: bytes, deadline: float) -> bool:
        """Sends a request and awaits its ``answer``; whether another one may follow. Raises OSError."""
        loop = self._loop
        self._reader = AnswerReader()
        self._waiter = waiter = loop.create_future()
        timer = loop.call_at(deadline, self._fail, TimeoutError())
        try:
            self._send(request)
            await waiter
        except BaseException:
            self._waiter = None
            self.close()  # An answer may still come, and would be taken for that of the next request.
            raise
        finally:
            timer.cancel()
            self._waiter = None
        self.used = loop.time()
        return self._reader.reusable and not self.closed

    def _send(self, data: bytes) -> None:
        try:
            sent = self._socket.send(data)
        except _NOT_YET:
            sent = 0
        if sent == len(data):
            if self._unsent:
                self._unsent = b""
                self._loop.remove_writer(self._socket)
            return
        if not self._unsent:
            self._loop.add_writer(self._socket, self._writable)
        self._unsent = data[sent:]

    def _writable(self) -> None:
        try:
            self._send(self._unsent)
        except OSError as error:
            self._fail(error)

    def _readable(self) -> None:
        try:
            for _piece in range(_PIECES_AT_ONCE):
                data = self._socket.recv(_PIECE)
                if self._waiter is None or self._waiter.done():
                    self.close()  # The end of an idle connection, or something that nobody asked for.
                    return
                answer = self._reader.feed(data) if data else self._reader.end()
                if answer is not None:
                    self.answer = answer
                    self._waiter.set_result(None)
                    return
                if not data:
                    raise ConnectionResetError("the connection ended before the answer did")
        except _NOT_YET:
            return
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self.close()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._ended(self)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionAbortedError("the connection was closed"))
