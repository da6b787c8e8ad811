# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one HTTP library can do on its own: the module's patches to the stub, without the module.

Run as a program in a process of its own: ``raw_http.py LIBRARY URL CA COUNT CONCURRENCY``.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Callable

import aiohttp
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import sockets as _http_sockets
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import urllib3_client as _http_urllib3
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import (
    Headers,
    HttpClient,
    Response,
    TransportSettings,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import MERGE_PATCH, METADATA


class AiohttpClient:
    """The general library that the module's own adapter is compared with, used as sparingly as it can be."""

    def __init__(self, settings: TransportSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

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
        if before is not None:
            before()
        if self._session is None:
            assert self._settings.ssl_context is not None
            connector = aiohttp.TCPConnector(limit=self._settings.concurrency, ssl=self._settings.ssl_context)
            self._session = aiohttp.ClientSession(connector=connector, headers={"Accept-Encoding": "identity"})
        limit = aiohttp.ClientTimeout(total=timeout)
        async with self._session.request(method, url, headers=list(headers), data=body, timeout=limit) as answer:
            return Response(answer.status, answer.headers, await answer.read())

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


_ADAPTERS: dict[str, Callable[[TransportSettings], HttpClient]] = {
    "sockets": _http_sockets.SocketClient,
    "aiohttp": AiohttpClient,
    "urllib3": _http_urllib3.Urllib3Client,
}
_HEADERS = (("Accept", METADATA), ("Content-Type", MERGE_PATCH), ("Authorization", "Bearer benchmark"))


async def patch_all(client: HttpClient, url: str, count: int, concurrency: int) -> float:
    """Objects per second."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            path = f"/apis/benchmark/v1/namespaces/bench/thing00s/object-{number:07d}"
            body = b'{"metadata":{"resourceVersion":"1"}}'
            answer = await client.request("PATCH", url + path, headers=_HEADERS, body=body, timeout=40.0)
            if answer.status != 200:
                raise RuntimeError(f"the stub answered {answer.status}")

    started = time.monotonic()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    rate = count / (time.monotonic() - started)
    await client.close()
    return rate


def main() -> None:
    library, url, ca, count, concurrency = sys.argv[1:]
    settings = TransportSettings(ssl_context=ssl.create_default_context(cafile=ca), concurrency=int(concurrency))
    before = time.process_time()
    rate = asyncio.run(patch_all(_ADAPTERS[library](settings), url, int(count), int(concurrency)))
    print(json.dumps({"rate": rate, "cpu_us": (time.process_time() - before) / int(count) * 1e6}))


if __name__ == "__main__":
    main()
