# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The port to HTTP: what the rest of the collection needs of a client library, and nothing more.

Two adapters implement it. The one over plain sockets takes about a quarter of the processor time that aiohttp
takes for a request, and a fifteenth of urllib3's, which matters where client and API server share a machine;
urllib3 in threads serves where a proxy is on the way.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

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
    (kubeconfig's tls-server-name). ``concurrency`` bounds the connections to one server.
    """

    ssl_context: ssl.SSLContext | None = field(repr=False)
    server_name: str | None = None
    proxy: str | None = field(default=None, repr=False)
    no_proxy: str | None = None
    proxy_headers: Mapping[str, str] | None = field(default=None, repr=False)
    concurrency: int = 128

    def proxy_for(self, url: str) -> str | None:
        """The proxy on the way to ``url``, if any."""
        if not self.proxy:
            return None
        from requests.utils import should_bypass_proxies

        return None if self.no_proxy and should_bypass_proxies(url, no_proxy=self.no_proxy) else self.proxy


class HttpClient(Protocol):
    """Sends one request and reads the answer; raises UnreachableError where none came."""

    async def request(
        self, method: str, url: str, *, headers: Headers, body: bytes | None, timeout: float
    ) -> Response: ...

    async def close(self) -> None: ...


def open_client(settings: TransportSettings) -> HttpClient:
    """The adapter for these settings."""
    if settings.proxy:
        from ansible_collections.kube_storage.upgrade.plugins.module_utils._http_urllib3 import Urllib3Client

        return Urllib3Client(settings)
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._http_sockets import SocketClient

    return SocketClient(settings)


def describe_failure(url: str, error: BaseException) -> tuple[str, str]:
    """(kind, sentence) for a failed request, in words that don't depend on the library.

    The kinds are ``tls``, ``timeout``, ``dns``, ``refused`` and ``reset``.
    """
    origin = "/".join(url.split("/", 3)[:3])
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        inner = current.__cause__ or current.__context__
        reason = getattr(current, "reason", None)
        current = reason if isinstance(reason, BaseException) else inner
    names = [type(one).__name__ for one in chain]
    text = " ".join(str(one) for one in chain)
    if any(isinstance(one, ssl.SSLCertVerificationError) for one in chain) or "CERTIFICATE_VERIFY_FAILED" in text:
        why = next((str(one.verify_message) for one in chain if hasattr(one, "verify_message")), "").rstrip(".")
        hint = (
            "set tls_server_name to a name that the certificate has, such as kubernetes.default.svc"
            if "match" in why.lower() or "doesn't match" in text or "not valid for" in text
            else "check ca_cert"
        )
        return "tls", f"The certificate of {origin} can't be verified{': ' + why if why else ''}; {hint}."
    if any(isinstance(one, ssl.SSLError) for one in chain):
        return "tls", f"TLS with {origin} failed; check that the URL, ca_cert, client_cert and client_key fit together."
    if any(isinstance(one, TimeoutError) or "Timeout" in name for one, name in zip(chain, names)):
        return "timeout", f"{origin} did not answer in time."
    if any(name in ("gaierror", "ClientConnectorDNSError", "NameResolutionError") for name in names):
        return "dns", f"The host name of {origin} can't be resolved."
    if any(isinstance(one, ConnectionRefusedError) for one in chain):
        return "refused", f"{origin} refuses connections; is the API server running there?"
    return "reset", f"The connection to {origin} was lost or could not be made."
