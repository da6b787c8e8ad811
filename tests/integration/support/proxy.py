# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small proxy: HTTP's CONNECT (RFC 9110, 9.3.6) and SOCKS 5 (RFC 1928, 1929) on the same port."""

from __future__ import annotations

import asyncio
import base64
import threading
from types import TracebackType


class TunnelProxy:
    """Runs in a thread until the end of the ``with`` block.

    ``credentials``: ``user:password`` that a client must send. ``targets``: where clients wanted to go. ``answers``: what each
    CONNECT gets instead of a tunnel.
    """

    def __init__(self, credentials: str = "", answers: int = 0) -> None:
        self.credentials = credentials
        self.answers = answers
        self.targets: list[str] = []
        self.address = ""
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> TunnelProxy:
        self._thread.start()
        assert self._started.wait(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.readexactly(1)
            await (self._socks(reader, writer) if first == b"\x05" else self._connect(first, reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _connect(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
        target = head.split(" ")[1]
        self.targets.append(target)
        wanted = "Basic " + base64.b64encode(self.credentials.encode()).decode()
        status = self.answers or (407 if self.credentials and wanted not in head else 200)
        writer.write(f"HTTP/1.1 {status} Whatever\r\n\r\n".encode())
        if status == 200:
            host, _colon, port = target.rpartition(":")
            await self._tunnel(host.strip("[]"), int(port), reader, writer)

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        method = 2 if self.credentials else 0
        writer.write(bytes([5, method if method in methods else 0xFF]))
        if method not in methods:
            return
        if self.credentials:
            await reader.readexactly(1)
            user, password = [await reader.readexactly((await reader.readexactly(1))[0]) for _part in range(2)]
            known = f"{user.decode()}:{password.decode()}" == self.credentials
            writer.write(b"\x01\x00" if known else b"\x01\x01")
            if not known:
                return
        _version, _command, _reserved, kind = await reader.readexactly(4)
        if kind == 1:
            host = ".".join(str(part) for part in await reader.readexactly(4))
        else:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.targets.append(f"{host}:{port}")
        await self._tunnel(host, port, reader, writer, b"\x05%c\x00\x01\x00\x00\x00\x00\x00\x00")

    async def _tunnel(
        self, host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reply: bytes = b""
    ) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.write(reply and reply % 5)
            return
        writer.write(reply and reply % 0)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
            target.close()

        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True)
