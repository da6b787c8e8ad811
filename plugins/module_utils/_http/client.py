# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The port to HTTP: the minimum that the rest of the collection needs from a client library.

Two adapters implement it. The one over plain sockets takes about a quarter of the processor time that aiohttp
takes for a request, and a fifteenth of urllib3's. That matters if client and API server share a machine.
Behind a proxy, urllib3 in threads is used.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.proxy import Proxy

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Response:
    """One HTTP answer, read whole. ``headers`` looks names up case-insensitively."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class TransportSettings:
    """How connections are made; the same for every server of a cluster.

    ``server_name`` is the name that certificates are verified against instead of the URL's host
    (kubeconfig's tls-server-name). ``concurrency`` bounds the connections to one server. ``identity`` changes with the client
    certificate in ``ssl_context``: connections that showed another one aren't used again.
    """

    ssl_context: ssl.SSLContext | None = field(repr=False)
    server_name: str | None = None
    proxy: Proxy | None = None
    no_proxy: str | None = None
    concurrency: int = 128
    identity: Callable[[], int] | None = field(default=None, repr=False)

    def proxy_for(self, url: str) -> Proxy | None:
        """The proxy for ``url``, if any."""
        if not self.proxy:
            return None
        from requests.utils import should_bypass_proxies

        return None if self.no_proxy and should_bypass_proxies(url, no_proxy=self.no_proxy) else self.proxy


class HttpClient(Protocol):
    """Sends one request and reads the answer; raises UnreachableError if there is none."""

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
        """``before`` is called when a connection is there and nothing was sent yet; what it raises, this raises."""

    async def close(self) -> None: ...


@runtime_checkable
class StreamingClient(Protocol):
    """An HttpClient that can also receive answers larger than memory."""

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
        """Like ``request``, but ``take`` gets the body of an answer with status 200 as it arrives.

        ``timeout``: seconds until the next piece. What ``take`` raises, if it is a StorageUpgradeError, this raises.
        """


class Client(HttpClient, StreamingClient, Protocol):
    """Both."""
