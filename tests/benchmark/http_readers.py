# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processor time to build one patch and to read its answer, by library: ``python -m tests.benchmark.http_readers``.

No sockets and no server, so nothing but the parsers counts. The answer is what an API server sends for a patch.
"""

from __future__ import annotations

import http.client
import io
import socket
import statistics
import time
from collections.abc import Callable
from typing import cast

import h11
import httptools
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.http11 import AnswerReader, request_bytes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import MERGE_PATCH, METADATA

HOST, PATH = "10.0.0.11:6443", "/api/v1/namespaces/bench/configmaps/object-0000001"
HEADERS = [
    ("Accept", METADATA),
    ("Content-Type", MERGE_PATCH),
    ("Authorization", "Bearer benchmark"),
    ("User-Agent", "kube_storage.upgrade"),
]
PATCH = b'{"metadata":{"resourceVersion":"1"}}'
BODY = b"x" * 480
ANSWER = (
    b"HTTP/1.1 200 OK\r\nAudit-Id: 0f2b0b53-0d7c-4d2a-8c3c-0b1c6a4de0f1\r\nCache-Control: no-cache, private\r\n"
    b"Content-Type: application/json\r\nX-Kubernetes-Pf-Flowschema-Uid: 4c5d6a52-3a0e-45cd-9d4f-1f0a6d2a1b55\r\n"
    b"X-Kubernetes-Pf-Prioritylevel-Uid: 9c5d6a52-3a0e-45cd-9d4f-1f0a6d2a1b55\r\n"
    b"Date: Thu, 26 Nov 2026 19:34:26 GMT\r\nContent-Length: 480\r\n\r\n"
) + BODY
_ROUNDS, _EACH = 15, 2000


def by_this_collection() -> bytes:
    request_bytes("PATCH", HOST, PATH, HEADERS, PATCH)
    answer = AnswerReader().feed(ANSWER)
    assert answer is not None
    return answer.body


class _Socket:
    """What http.client needs of a socket."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.sent.append(data)

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(ANSWER)

    def close(self) -> None:
        pass


def by_http_client() -> bytes:
    connection = http.client.HTTPConnection(HOST)
    connection.sock = cast("socket.socket", _Socket())
    connection.request("PATCH", PATH, body=PATCH, headers=dict(HEADERS))
    return connection.getresponse().read()


def by_h11() -> bytes:
    connection = h11.Connection(h11.CLIENT)
    headers = [("Host", HOST), ("Content-Length", str(len(PATCH))), *HEADERS]
    connection.send(h11.Request(method="PATCH", target=PATH, headers=headers))
    connection.send(h11.Data(data=PATCH))
    connection.send(h11.EndOfMessage())
    connection.receive_data(ANSWER)
    body = []
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Data):
            body.append(bytes(event.data))
    return b"".join(body)


class _Events:
    def __init__(self) -> None:
        self.body: list[bytes] = []
        self.headers: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.body.append(body)


def by_httptools() -> bytes:
    """httptools reads only; requests are built as this collection does it."""
    request_bytes("PATCH", HOST, PATH, HEADERS, PATCH)
    events = _Events()
    httptools.HttpResponseParser(events).feed_data(ANSWER)
    return b"".join(events.body)


READERS: dict[str, Callable[[], bytes]] = {
    "this collection": by_this_collection,
    "http.client": by_http_client,
    "h11": by_h11,
    "httptools (C)": by_httptools,
}


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in READERS}
    for _round in range(_ROUNDS):
        for name, reader in READERS.items():
            assert reader() == BODY
            started = time.process_time()
            for _number in range(_EACH):
                reader()
            times[name].append((time.process_time() - started) / _EACH * 1e6)
    for name, found in times.items():
        print(f"{name:16} {statistics.median(found):6.1f} µs ({min(found):.1f} to {max(found):.1f})")


if __name__ == "__main__":
    main()
