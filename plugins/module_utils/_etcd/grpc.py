# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""etcd without its JSON gateway, and kine, which never has one: gRPC, in place of the HTTP client that asks the gateway.

kine (github.com/k3s-io/kine, pkg/server) keeps what API servers write in a table of an SQL database. A revision there is the id of a
row. Rows stay until they are compacted, so a range can be read at one revision, over many pages, as in etcd; once it is compacted
away, kine refuses it as etcd does. It refuses ``serializable``, and older ones ``keys_only``, without which it answers the same or
more; and ``min_mod_revision``, which is done here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    EtcdError,
    UnreachableCause,
    UnreachableError,
    UnreachableKind,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.calls import (
    CALLS,
    HTTP_STATUS,
    Call,
    range_answer,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import http2
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Headers, Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.http2 import Answer, Http2Client

_HEADERS = (
    ("Content-Type", "application/grpc"),
    ("TE", "trailers"),
    ("User-Agent", "kube_storage.upgrade"),
)
# Before each message: a byte that says whether it is compressed, and its length in four bytes.
_FRAME = 5
_OK = 0
_RANGE = "/v3/kv/range"
_NOT_IN_KINE = b"is not implemented by kine"
_KINE_REFUSES = ("serializable", "min_mod_revision", "keys_only")


class GrpcClient:
    """An HttpClient and StreamingClient for the paths of etcd's JSON gateway: asks by gRPC and answers as the gateway does."""

    def __init__(self, http: Http2Client) -> None:
        self._http = http
        self._kine: set[str] = set()

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
        """``method`` is always POST here. ``before`` is for writes, and there are none."""
        origin, path = _split(url)
        document = json.loads(body or b"{}")
        known = origin in self._kine
        answer = await self._ask(origin, path, document, headers, timeout)
        if not known and answer.status != 200 and _NOT_IN_KINE in answer.body:
            self._kine.add(origin)
            answer = await self._ask(origin, path, document, headers, timeout)
        return answer

    async def _ask(
        self, origin: str, path: str, document: Mapping[str, Any], headers: Headers, timeout: float
    ) -> Response:
        call = CALLS[path]
        after = 0
        if path == _RANGE and origin in self._kine:
            after = int(document.get("min_mod_revision") or 0)
            document = {name: value for name, value in document.items() if name not in _KINE_REFUSES}
        messages: list[bytes] = []
        failed = await self._call(origin, call, document, headers, timeout, messages.append)
        if failed is not None:
            return failed
        try:
            (message,) = messages
            found = range_answer(message, after) if after else call.answer(message)
        except (IndexError, ValueError) as error:
            raise _no_grpc(origin) from error
        return Response(200, {}, found)

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
        origin, path = _split(url)
        call = CALLS[path]

        def pass_on(message: bytes) -> None:
            try:
                told = call.answer(message)
            except (IndexError, ValueError) as error:
                raise _no_grpc(origin) from error
            take(b'{"result":%b}\n' % told)

        failed = await self._call(origin, call, json.loads(body or b"{}"), headers, timeout, pass_on)
        return failed or Response(200, {}, b"")

    async def _call(
        self,
        origin: str,
        call: Call,
        document: Mapping[str, Any],
        headers: Headers,
        timeout: float,
        take: Callable[[bytes], None],
    ) -> Response | None:
        """``take`` gets each message of the answer; returns the gateway's answer if it is an error. Raises UnreachableError."""
        if not http2.is_available():
            raise UnreachableError(
                f"{origin} can only be read over gRPC; {http2.how_to_install()}.", kind=UnreachableKind.UNUSABLE
            )
        token = next((value for name, value in headers if name == "Authorization"), None)
        message = call.message(document)
        frames = _Frames(take)
        answer = await self._http.post(
            origin,
            call.method,
            headers=(*_HEADERS, ("token", token)) if token else _HEADERS,
            body=b"\0" + len(message).to_bytes(4, "big") + message,
            timeout=timeout,
            take=frames.feed,
        )
        if not answer.headers.get("content-type", "").startswith("application/grpc"):
            raise _no_grpc(origin)
        failed = _error_in(answer)
        if failed is None and frames.rest:
            raise _no_grpc(origin)
        return failed

    async def close(self) -> None:
        await self._http.close()


class _Frames:
    """Puts messages together; ``rest``: what belongs to the next one."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self.rest = bytearray()
        self._take = take

    def feed(self, data: bytes) -> None:
        """Raises EtcdError, and what ``take`` raises."""
        self.rest += data
        while len(self.rest) >= _FRAME:
            end = _FRAME + int.from_bytes(self.rest[1:_FRAME], "big")
            if len(self.rest) < end:
                return
            if self.rest[0]:
                raise EtcdError("etcd compressed its answer, which nobody asked for; check etcd.endpoints.")
            message = bytes(self.rest[_FRAME:end])
            del self.rest[:end]
            self._take(message)


def _split(url: str) -> tuple[str, str]:
    """The server, and the path of the gateway there."""
    origin, slash, path = url.rpartition("/v3/")
    return origin, slash + path


def _error_in(answer: Answer) -> Response | None:
    """As the gateway writes it; None if the call succeeded. An answer without messages has its status in the headers."""
    told = answer.trailers if "grpc-status" in answer.trailers else answer.headers
    text = told.get("grpc-status", "")
    code = int(text) if text.isdecimal() else -1
    if code == _OK:
        return None
    message = unquote(told.get("grpc-message", ""))
    body = json.dumps({"error": message, "code": code, "message": message}).encode()
    return Response(HTTP_STATUS.get(code, 500), {}, body)


def _no_grpc(origin: str) -> UnreachableError:
    return UnreachableError(
        f"{origin} does not answer as etcd does over gRPC; check etcd.endpoints.",
        kind=UnreachableKind.RESET,
        cause=UnreachableCause.GRPC,
    )
