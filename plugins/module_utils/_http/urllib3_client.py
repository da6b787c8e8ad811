# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP with urllib3 in threads: for clusters behind a proxy."""

from __future__ import annotations

import asyncio
import ssl
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import (
    Headers,
    Response,
    TransportSettings,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.errors import (
    proxy_failure,
    refused_by_proxy,
    transport_failure,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.proxy import Proxy

try:
    import urllib3
except ImportError:  # a dependency of kubernetes; open_connection() says that kubernetes is missing
    pass

_PIECE = 64 * 1024


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
        self._proxied = self._direct if settings.proxy is None else _through(settings.proxy, options)
        self._identity = settings.identity or (lambda: 0)
        self._shown = self._identity()
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
        if before is not None:
            before()  # urllib3 connects after this; there is no hook in between.
        with self._failures(url):
            answer = self._ask(method, url, headers, body, timeout)
        self._require_passage(url, answer.status)
        return Response(status=answer.status, headers=answer.headers, body=answer.data)

    def _ask(self, method: str, url: str, headers: Headers, body: bytes | None, timeout: float, **options: Any) -> Any:
        fields = urllib3.HTTPHeaderDict()
        for name, value in headers:
            fields.add(name, value)
        if self._shown != self._identity():
            self._shown = self._identity()
            self._direct.clear()
            self._proxied.clear()
        pools = self._direct if self._settings.proxy_for(url) is None else self._proxied
        return pools.request(method, url, body=body, headers=fields, timeout=timeout, redirect=False, **options)

    @contextmanager
    def _failures(self, url: str) -> Iterator[None]:
        """Says what a failure means."""
        try:
            yield
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            proxy = self._settings.proxy_for(url)
            at_proxy = None if proxy is None else proxy_failure(url, proxy.url, error)
            raise at_proxy or transport_failure(url, error) from error

    def _require_passage(self, url: str, status: int) -> None:
        proxy = self._settings.proxy_for(url)
        if status == 407 and proxy is not None:
            raise refused_by_proxy(url, proxy.url, status)

    def _receive(
        self, method: str, url: str, headers: Headers, body: bytes | None, timeout: float, take: Callable[[bytes], None]
    ) -> Response:
        with self._failures(url):
            answer = self._ask(method, url, headers, body, timeout, preload_content=False)
        try:
            self._require_passage(url, answer.status)
            if answer.status != 200:
                return Response(status=answer.status, headers=answer.headers, body=answer.data)
            pieces = answer.stream(_PIECE)
            while True:
                with self._failures(url):
                    piece = next(pieces, None)
                if piece is None:
                    return Response(status=200, headers=answer.headers, body=b"")
                take(piece)
        finally:
            answer.close()

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
        """``take`` is called in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._receive, method, url, headers, body, timeout, take)

    async def close(self) -> None:
        self._direct.clear()
        self._proxied.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _through(proxy: Proxy, options: Mapping[str, Any]) -> Any:
    """The pools for servers behind a proxy."""
    if not proxy.is_socks:
        return urllib3.ProxyManager(proxy.url, proxy_headers=dict(proxy.headers), **options)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # urllib3 warns about the missing library, too
            from urllib3.contrib.socks import SOCKSProxyManager
    except ImportError as error:
        raise BadInputError(
            f"The proxy {proxy.url} speaks SOCKS, for which {sys.executable} lacks the Python library PySocks; install it there with: "
            "pip install PySocks"
        ) from error
    return SOCKSProxyManager(proxy.url, username=proxy.user, password=proxy.password, **options)
