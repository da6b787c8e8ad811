# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP with urllib3 in threads: for clusters behind a proxy."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import (
    Headers,
    Response,
    TransportSettings,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.errors import transport_failure

try:
    import urllib3
except ImportError:  # a dependency of kubernetes; open_connection() says that kubernetes is missing
    pass


class Urllib3Client:
    """One pool of connections, one pool of threads."""

    def __init__(self, settings: TransportSettings) -> None:
        options: dict[str, Any] = {"maxsize": settings.concurrency, "block": False, "retries": False}
        if settings.ssl_context is not None:
            options["ssl_context"] = settings.ssl_context
            if settings.ssl_context.verify_mode == ssl.CERT_NONE:
                options.update(cert_reqs=ssl.CERT_NONE, assert_hostname=False)
            elif not settings.ssl_context.check_hostname:
                options["assert_hostname"] = False
        if settings.server_name:
            options.update(server_hostname=settings.server_name, assert_hostname=settings.server_name)
        self._settings = settings
        self._direct = urllib3.PoolManager(**options)
        self._proxied = (
            urllib3.ProxyManager(settings.proxy, proxy_headers=dict(settings.proxy_headers or {}), **options)
            if settings.proxy
            else self._direct
        )
        self._threads = ThreadPoolExecutor(max_workers=settings.concurrency, thread_name_prefix="http")

    def _send(
        self,
        method: str,
        url: str,
        headers: Headers,
        body: bytes | None,
        timeout: float,
        before: Callable[[], None] | None,
    ) -> Response:
        fields = urllib3.HTTPHeaderDict()
        for name, value in headers:
            fields.add(name, value)
        pools = self._proxied if self._settings.proxy_for(url) else self._direct
        if before is not None:
            before()  # urllib3 connects after this; there is no hook in between.
        try:
            answer = pools.request(method, url, body=body, headers=fields, timeout=timeout, redirect=False)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            kind, sentence = transport_failure(url, error)
            raise UnreachableError(sentence, kind=kind) from error
        return Response(status=answer.status, headers=answer.headers, body=answer.data)

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
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._send, method, url, headers, body, timeout, before)

    async def close(self) -> None:
        self._direct.clear()
        self._proxied.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)
