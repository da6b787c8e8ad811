# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP by aiohttp: the fast adapter."""

from __future__ import annotations

import asyncio
import ssl

from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import (
    Headers,
    Response,
    TransportSettings,
    describe_failure,
)

try:
    import aiohttp

    AVAILABLE = True
except ImportError:  # open_client() takes the other adapter
    AVAILABLE = False


class AiohttpClient:
    """Keeps connections alive; must be used and closed within one event loop."""

    def __init__(self, settings: TransportSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = self._settings.ssl_context
            connector = aiohttp.TCPConnector(
                limit=0,
                limit_per_host=self._settings.concurrency,
                keepalive_timeout=60,
                ssl=context if context is not None else True,
            )
            # Explicitly uncompressed: compressing lists costs API servers more than the bytes cost a data centre.
            self._session = aiohttp.ClientSession(connector=connector, headers={"Accept-Encoding": "identity"})
        return self._session

    async def request(self, method: str, url: str, *, headers: Headers, body: bytes | None, timeout: float) -> Response:
        session = self._open()
        try:
            async with session.request(
                method,
                url,
                headers=list(headers),
                data=body,
                timeout=aiohttp.ClientTimeout(total=timeout),
                allow_redirects=False,
                proxy=self._settings.proxy_for(url),
                proxy_headers=self._settings.proxy_headers,
                server_hostname=self._settings.server_name,
            ) as answer:
                return Response(status=answer.status, headers=answer.headers, body=await answer.read())
        except (aiohttp.ClientError, asyncio.TimeoutError, ssl.SSLError, OSError, ValueError) as error:
            kind, sentence = describe_failure(url, error)
            raise UnreachableError(sentence, kind=kind) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
