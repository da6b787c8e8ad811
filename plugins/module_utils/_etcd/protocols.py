# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which way each member of etcd is asked: by its JSON gateway, which needs no library, and if there is none, over gRPC."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableError, UnreachableKind
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import http2
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Client, Headers, Response

_NOT_FOUND = 404
# How requests fail at a port that only speaks gRPC.
_UNCLEAR = (UnreachableKind.TLS, UnreachableKind.RESET)


class GatewayOrGrpc:
    """Asks each server by the gateway first, and remembers which ones have none.

    ``is_grpc_only``: whether a port speaks gRPC and nothing else, asked after a request there failed.
    """

    def __init__(self, gateway: Client, grpc: Client, is_grpc_only: Callable[[str], Awaitable[bool]]) -> None:
        self._gateway = gateway
        self._grpc = grpc
        self._is_grpc_only = is_grpc_only
        self._without_gateway: set[str] = set()

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
        async def over(client: Client) -> Response:
            return await client.request(method, url, headers=headers, body=body, timeout=timeout, before=before)

        if self._lacks_gateway(url):
            return await over(self._grpc)
        try:
            answer = await over(self._gateway)
        except UnreachableError as error:
            if error.kind not in _UNCLEAR or not http2.is_available() or not await self._is_grpc_only(_origin(url)):
                raise
            found = await over(self._grpc)  # A port of the gateway alone begins with HTTP/2, too, if TLS offers it.
            self._without_gateway.add(_origin(url))
            return found
        if answer.status != _NOT_FOUND or not http2.is_available():
            return answer
        try:
            found = await over(self._grpc)
        except UnreachableError as error:
            if error.kind not in _UNCLEAR:
                raise
            return answer  # Nothing of etcd's is there.
        self._without_gateway.add(_origin(url))
        return found

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
        """The server must have been asked something before."""
        client = self._grpc if self._lacks_gateway(url) else self._gateway
        return await client.stream(method, url, headers=headers, body=body, timeout=timeout, take=take)

    def _lacks_gateway(self, url: str) -> bool:
        return url.startswith(http2.UNIX) or _origin(url) in self._without_gateway

    async def close(self) -> None:
        await self._gateway.close()
        await self._grpc.close()


def _origin(url: str) -> str:
    return url.rpartition("/v3/")[0]
