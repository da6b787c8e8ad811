# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP over sockets that the event loop watches: the fast adapter, for servers that are reached without a proxy.

It uses only the standard library. TLS uses the ssl module's own sockets: asyncio's transports and a general HTTP library
would together cost several times as much for each request.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import (
    Headers,
    Response,
    TransportSettings,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.errors import (
    HandshakeEndedError,
    out_of_files,
    transport_failure,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.http11 import AnswerReader, request_bytes

# The maximum size of a TLS record.
_PIECE = 16 * 1024
_PIECES_AT_ONCE = 16
# API servers close connections that are idle for 90 s, and others on the way may forget them sooner: don't try those.
_KEPT_IDLE = 60.0
# If a name has several addresses, each but the last has this long to accept a connection.
_NEXT_ADDRESS_AFTER = 5.0
# How many of this process's open files are reserved for anything but connections: state, reports, certificates.
_SPARE_FILES = 8
_NOT_YET = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_Socket = socket.socket  # an ssl.SSLSocket is one, too


class SocketClient:
    """Keeps connections alive; must be used and closed within one event loop."""

    def __init__(self, settings: TransportSettings) -> None:
        self._settings = settings
        self._origins: dict[str, _Origin] = {}
        self._budget = _Budget(self._origins)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers,
        body: bytes | None,
        timeout: float,
        before: Callable[[], None] | None = None,
    ) -> Response:
        origin, path = self._origin(url)
        try:
            return await origin.exchange(request_bytes(method, origin.host, path, headers, body), timeout, before)
        except (OSError, ValueError, asyncio.TimeoutError) as error:
            raise transport_failure(url, error) from error

    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Headers,
        body: bytes | None,
        timeout: float,
        take: Callable[[bytes], None],
    ) -> Response:
        origin, path = self._origin(url)
        try:
            return await origin.stream(request_bytes(method, origin.host, path, headers, body), timeout, take)
        except (OSError, ValueError, asyncio.TimeoutError) as error:
            raise transport_failure(url, error) from error

    def _origin(self, url: str) -> tuple[_Origin, str]:
        """The server of a URL, and the path there."""
        end = url.find("/", 8)
        root, path = (url, "/") if end < 0 else (url[:end], url[end:])
        origin = self._origins.get(root)
        if origin is None:
            origin = self._origins[root] = _Origin(root, self._settings, self._budget)
        return origin, path

    async def close(self) -> None:
        for origin in self._origins.values():
            origin.close()
        self._origins.clear()


class _Budget:
    """How many connections one client may have, over all its servers; further requests wait until one is free."""

    def __init__(self, origins: Mapping[str, _Origin]) -> None:
        self._origins = origins
        self._most = most_connections()
        self._connecting = 0
        self._freed = asyncio.Event()

    @property
    def _open(self) -> int:
        return sum(len(origin.channels) for origin in self._origins.values()) + self._connecting

    def freed(self) -> None:
        """A connection became idle, or was closed."""
        self._freed.set()

    async def open(self, origin: _Origin) -> _Channel:
        """A connection to a server: an idle one, or a new one as soon as the limit allows."""
        while True:
            channel = origin.kept()
            if channel is not None:
                return channel
            if self._open < self._most or self._close_an_idle_one():
                self._connecting += 1
                try:
                    return await origin.connect()
                except OSError as error:
                    if not out_of_files(error) or not self._make_do():
                        raise
                finally:
                    self._connecting -= 1
            else:
                self._freed.clear()
                await self._freed.wait()

    def _make_do(self) -> bool:
        """Lowers the limit below the current number of connections; False if there is none but the one that failed."""
        others = self._open - 1
        self._most = max(1, others - _SPARE_FILES)
        while self._open > self._most and self._close_an_idle_one():
            pass
        return others > 0

    def _close_an_idle_one(self) -> bool:
        for origin in self._origins.values():
            while origin.idle:
                channel = origin.idle.pop(0)
                if not channel.closed:
                    channel.close()
                    return True
        return False


def most_connections() -> int:
    """How many connections the limit of open files leaves room for."""
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError:
        used = 0
    return max(1, limit - used - _SPARE_FILES) if limit != resource.RLIM_INFINITY else 1_000_000


class _Origin:
    """One server, and the connections to it."""

    def __init__(self, root: str, settings: TransportSettings, budget: _Budget) -> None:
        parts = urlsplit(root)
        self.host = parts.netloc.rpartition("@")[2]
        self._name = parts.hostname or ""
        self._tls = settings.ssl_context if parts.scheme == "https" else None
        if parts.scheme == "https" and self._tls is None:
            self._tls = ssl.create_default_context()
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._verified_as = settings.server_name or self._name
        self._identity = settings.identity or (lambda: 0)
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._budget = budget
        self.idle: list[_Channel] = []
        self.channels: set[_Channel] = set()

    async def exchange(self, request: bytes, timeout: float, before: Callable[[], None] | None) -> Response:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if self._slots.locked():
            await asyncio.wait_for(self._slots.acquire(), timeout)
        else:
            await self._slots.acquire()
        try:
            channel = self.kept()
            if channel is None:
                channel = await asyncio.wait_for(self._budget.open(self), deadline - loop.time())
            if before is not None:
                try:
                    before()
                except BaseException:
                    channel.close()
                    raise
            if await channel.exchange(request, deadline):
                self.idle.append(channel)
                self._budget.freed()
            else:
                channel.close()
            return channel.answer
        finally:
            self._slots.release()

    async def stream(self, request: bytes, timeout: float, take: Callable[[bytes], None]) -> Response:
        """On a connection of its own, which is then closed. ``timeout``: until the next piece arrives."""
        channel = await asyncio.wait_for(self._budget.open(self), timeout)
        try:
            await channel.stream(request, timeout, take)
        finally:
            channel.close()
        return channel.answer

    def kept(self) -> _Channel | None:
        """The connection that was used last; those that ended, were idle for too long or showed an old certificate are dropped."""
        now, identity = asyncio.get_running_loop().time(), self._identity()
        while self.idle:
            channel = self.idle.pop()
            if not channel.closed and now - channel.used < _KEPT_IDLE and channel.identity == identity:
                return channel
            channel.close()
        return None

    async def connect(self) -> _Channel:
        """A new connection."""
        identity = self._identity()
        plain = await self._reach()
        try:
            connected = plain if self._tls is None else await self._secure(plain, self._tls)
        except BaseException:
            plain.close()
            raise
        channel = _Channel(connected, self._ended, identity)
        self.channels.add(channel)
        return channel

    def _ended(self, channel: _Channel) -> None:
        self.channels.discard(channel)
        self._budget.freed()

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
        # Without TLS's close_notify this is not the end of an answer: something on the way may have cut it.
        secured = context.wrap_socket(
            plain, do_handshake_on_connect=False, server_hostname=self._verified_as, suppress_ragged_eofs=False
        )
        try:
            while True:
                try:
                    secured.do_handshake()
                    return secured
                except ssl.SSLWantReadError:
                    await _readiness(secured, write=False)
                except ssl.SSLWantWriteError:
                    await _readiness(secured, write=True)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError) as error:
            secured.close()
            raise HandshakeEndedError("the handshake did not end") from error
        except BaseException:
            secured.close()
            raise

    def close(self) -> None:
        for channel in list(self.channels):
            channel.close()
        self.idle.clear()


async def _addresses(name: str, port: int) -> list[tuple[int, Any]]:
    """(family, address) of a host; a name is looked up, in a thread."""
    try:
        family = socket.AF_INET6 if ip_address(name.partition("%")[0]).version == 6 else socket.AF_INET
    except ValueError:
        family = socket.AF_UNSPEC
    if family == socket.AF_INET:
        return [(family, (name, port))]
    found = await asyncio.get_running_loop().getaddrinfo(name, port, family=family, type=socket.SOCK_STREAM)
    return [(family, address) for family, _type, _protocol, _name, address in found]


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
    """One connection. It is also watched while idle, so that its end is noticed at once."""

    answer: Response

    def __init__(self, connected: _Socket, ended: Callable[[_Channel], None], identity: int = 0) -> None:
        self.closed = False
        self.identity = identity
        self.used = 0.0
        self._socket = connected
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._reader = AnswerReader()
        self._unsent = b""
        self._loop.add_reader(connected, self._readable)

    async def exchange(self, request: bytes, deadline: float) -> bool:
        """Sends a request and awaits its ``answer``; returns whether another one may follow. Raises OSError."""
        self._reader = AnswerReader()
        timer = self._loop.call_at(deadline, self._fail, TimeoutError())
        try:
            await self._answered(request)
        finally:
            timer.cancel()
        return self._reader.reusable and not self.closed

    async def stream(self, request: bytes, timeout: float, take: Callable[[bytes], None]) -> None:
        """The same, but ``take`` gets the body. ``timeout``: until the next piece of it. Raises what ``take`` raises, too."""
        last = self._loop.time()
        timer: asyncio.TimerHandle | None = None

        def taken(piece: bytes) -> None:
            nonlocal last
            take(piece)
            last = self._loop.time()

        def watch() -> None:
            nonlocal timer
            if self._loop.time() >= last + timeout:
                self._fail(TimeoutError())
            else:
                timer = self._loop.call_at(last + timeout, watch)

        self._reader = AnswerReader(taken)
        timer = self._loop.call_at(last + timeout, watch)
        try:
            await self._answered(request)
        finally:
            timer.cancel()

    async def _answered(self, request: bytes) -> None:
        self._waiter = waiter = self._loop.create_future()
        try:
            self._send(request)
            await waiter
        except BaseException:
            self._waiter = None
            self.close()  # An answer may still arrive, and would be mistaken for that of the next request.
            raise
        finally:
            self._waiter = None
        self.used = self._loop.time()

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
                    self.close()  # The end of an idle connection, or unsolicited data.
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
        except ssl.SSLEOFError:
            self._fail(ConnectionResetError("the connection ended before the answer did"))
        except (OSError, StorageUpgradeError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
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
