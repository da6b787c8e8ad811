# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP/2 for gRPC, with the library h2: concurrent requests on one connection to each server, also over Unix sockets.

h2 rather than grpcio: it is pure Python, 110 kB instead of 7 MB, packaged by the distributions that masters run, and no slower where
the answer is some MiB in one piece. It is needed only where etcd has no JSON gateway, so its absence is no error before.
"""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    StorageUpgradeError,
    UnreachableError,
    UnreachableKind,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Headers
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.errors import out_of_files, transport_failure

UNIX = "unix://"
# The window of each answer: all of it may be on its way, as it is read as fast as it comes.
_WINDOW = (1 << 31) - 1
_FIRST_WINDOW = 65535


def is_available() -> bool:
    """Whether the library is installed for this Python."""
    return importlib.util.find_spec("h2") is not None


def how_to_install() -> str:
    """The end of a sentence about what needs it."""
    return f"install the Python library h2 for {sys.executable} (pip install h2, or the package python3-h2)"


@dataclass
class Answer:
    """The headers of an answer and what follows its body, in lower case; the body went to ``take``."""

    headers: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)


class Http2Client:
    """One connection to each server; must be used and closed within one event loop. ``tls``: makes a new context."""

    def __init__(self, tls: Callable[[], ssl.SSLContext] = ssl.create_default_context) -> None:
        self._tls = tls
        self._connections: dict[str, _Connection] = {}
        self._connecting: dict[str, asyncio.Lock] = {}

    async def post(
        self,
        origin: str,
        path: str,
        *,
        headers: Headers,
        body: bytes,
        timeout: float,
        take: Callable[[bytes], None],
    ) -> Answer:
        """``origin``: such as ``https://10.0.0.11:2379`` or ``unix:///run/kine.sock``. ``timeout``: seconds until the next piece.

        ``take`` gets the body in pieces. Raises UnreachableError, and the StorageUpgradeError that ``take`` raises.
        """
        try:
            connection = await asyncio.wait_for(self._open(origin), timeout)
            return await connection.post(path, headers, body, timeout, take)
        except (OSError, ValueError, asyncio.TimeoutError) as error:
            raise _socket_failure(origin, error) or transport_failure(origin, error) from error

    async def _open(self, origin: str) -> _Connection:
        async with self._connecting.setdefault(origin, asyncio.Lock()):
            found = self._connections.get(origin)
            if found is None or not found.usable:
                found = self._connections[origin] = await self._connect(origin)
            return found

    async def _connect(self, origin: str) -> _Connection:
        loop = asyncio.get_running_loop()
        if origin.startswith(UNIX):
            _transport, made = await loop.create_unix_connection(
                lambda: _Connection("http", "localhost"), origin.removeprefix(UNIX)
            )
            return made
        parts = urlsplit(origin)
        context = None
        if parts.scheme == "https":
            context = self._tls()
            context.set_alpn_protocols(["h2"])
        transport, made = await loop.create_connection(
            lambda: _Connection(parts.scheme, parts.netloc), parts.hostname or "", parts.port or 2379, ssl=context
        )
        secured = transport.get_extra_info("ssl_object")
        if secured is not None and secured.selected_alpn_protocol() != "h2":
            transport.abort()
            raise ConnectionAbortedError("the server does not speak HTTP/2")
        return made

    async def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()


def _socket_failure(origin: str, error: BaseException) -> UnreachableError | None:
    """The error for a Unix socket that can't be used; None for anything else."""
    if not origin.startswith(UNIX):
        return None
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return UnreachableError(
            f"{origin} did not answer in time; check its server, and the database behind it.",
            kind=UnreachableKind.TIMEOUT,
        )
    if not isinstance(error, OSError) or out_of_files(error):
        return None
    if error.errno == errno.ENOENT:
        return UnreachableError(
            f"{origin} does not exist; check the path, on the host where the task runs.", kind=UnreachableKind.REFUSED
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return UnreachableError(
            f"{origin} may not be used by this user; run the task as a user who may (become: true).",
            kind=UnreachableKind.UNUSABLE,
        )
    if isinstance(error, ConnectionRefusedError):
        return UnreachableError(
            f"Nobody listens at {origin}; check that the server of that socket is running.",
            kind=UnreachableKind.REFUSED,
        )
    return UnreachableError(f"The connection to {origin} was lost, or is no HTTP/2.", kind=UnreachableKind.RESET)


@dataclass
class _Exchange:
    """One request, and what has arrived of its answer."""

    take: Callable[[bytes], None]
    done: asyncio.Future[Answer]
    answer: Answer = field(default_factory=Answer)
    touched: float = 0.0


class _Connection(asyncio.Protocol):
    """The protocol itself is h2's work; this moves bytes and distributes events."""

    def __init__(self, scheme: str, authority: str) -> None:
        from h2.config import H2Configuration
        from h2.connection import H2Connection
        from h2.settings import SettingCodes, Settings

        self.usable = True
        self._scheme = scheme
        self._authority = authority
        self._exchanges: dict[int, _Exchange] = {}
        self._loop = asyncio.get_running_loop()
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._h2.local_settings = Settings(
            client=True, initial_values={SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW}
        )

    async def post(
        self, path: str, headers: Headers, body: bytes, timeout: float, take: Callable[[bytes], None]
    ) -> Answer:
        """Raises OSError, asyncio.TimeoutError, and what ``take`` raises."""
        from h2.exceptions import ProtocolError

        if not self.usable:
            raise ConnectionResetError("the connection ended before the request")
        fields = [(":method", "POST"), (":scheme", self._scheme), (":authority", self._authority), (":path", path)]
        stream = self._h2.get_next_available_stream_id()
        exchange = _Exchange(take, self._loop.create_future(), touched=self._loop.time())
        self._exchanges[stream] = exchange
        timer = self._loop.call_later(timeout, self._watch, stream, timeout)
        try:
            self._h2.send_headers(stream, [*fields, *((name.lower(), value) for name, value in headers)])
            self._h2.send_data(stream, body, end_stream=True)
            self._flush()
            return await exchange.done
        except ProtocolError as error:
            self._end(error)
            raise ConnectionResetError("the request could not be sent") from error
        finally:
            timer.cancel()
            if self._exchanges.pop(stream, None) is not None:
                self._reset(stream)

    def _watch(self, stream: int, timeout: float) -> None:
        """Ends an exchange that has received nothing for that long."""
        exchange = self._exchanges.get(stream)
        if exchange is None or exchange.done.done():
            return
        left = exchange.touched + timeout - self._loop.time()
        if left > 0:
            self._loop.call_later(left, self._watch, stream, timeout)
        else:
            exchange.done.set_exception(TimeoutError())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_WINDOW - _FIRST_WINDOW)
        self._flush()

    def data_received(self, data: bytes) -> None:
        from h2.exceptions import ProtocolError

        try:
            events = self._h2.receive_data(data)
        except ProtocolError:
            self._end(ConnectionResetError("what the server sends is not valid HTTP/2"))
            self._transport.abort()
            return
        for event in events:
            self._take(event)
        self._flush()

    def _take(self, event: Any) -> None:
        from h2 import events

        if isinstance(event, events.ConnectionTerminated):
            self.usable = False  # What the server has accepted before it still answers.
        exchange = self._exchanges.get(getattr(event, "stream_id", None) or 0)
        if isinstance(event, events.DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if exchange is None or exchange.done.done():
            return
        exchange.touched = self._loop.time()
        if isinstance(event, events.ResponseReceived):
            exchange.answer.headers = _lower(event.headers)
        elif isinstance(event, events.TrailersReceived):
            exchange.answer.trailers = _lower(event.headers)
        elif isinstance(event, events.DataReceived):
            try:
                exchange.take(event.data)
            except StorageUpgradeError as error:
                exchange.done.set_exception(error)
        elif isinstance(event, events.StreamEnded):
            exchange.done.set_result(exchange.answer)
            del self._exchanges[event.stream_id]
        elif isinstance(event, events.StreamReset):
            exchange.done.set_exception(ConnectionResetError("the server ended the request"))
            del self._exchanges[event.stream_id]

    def _reset(self, stream: int) -> None:
        """Tells the server that nobody waits for an answer anymore."""
        from h2.errors import ErrorCodes
        from h2.exceptions import ProtocolError

        try:
            self._h2.reset_stream(stream, ErrorCodes.CANCEL)
        except ProtocolError:
            return  # It has ended already, or never began.
        self._flush()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionResetError("the connection ended before the answer did"))

    def _end(self, error: Exception) -> None:
        self.usable = False
        for exchange in self._exchanges.values():
            if not exchange.done.done():
                exchange.done.set_exception(error)
        self._exchanges.clear()

    def close(self) -> None:
        self.usable = False
        self._h2.close_connection()
        self._flush()
        self._transport.close()


def _lower(headers: Any) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in headers}
