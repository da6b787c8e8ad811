# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answers larger than memory, directly and through a proxy."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import FileError, UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import (
    Response,
    StreamingClient,
    TransportSettings,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.factory import open_client
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.proxy import parse_proxy

# ansible-test's environments don't have urllib3, which talks to proxies.
PROXIED = pytest.mark.parametrize(
    "proxied",
    [False, pytest.param(True, marks=pytest.mark.skipif(find_spec("urllib3") is None, reason="needs urllib3"))],
)
PIECES = [bytes([65 + number]) * 100_000 for number in range(10)]


class Answers(BaseHTTPRequestHandler):
    """In chunks; as a proxy, too, which gets whole URLs. What it does depends on the end of the path."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.endswith("/denied"):
            self.send_response(403)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"denied")
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in PIECES:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if self.path.endswith("/cut"):
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves early is part of the tests."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    listening = Server(("127.0.0.1", 0), Answers)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_address[1]}"
    listening.shutdown()


class Sink:
    """Refuses more than ``most`` bytes, as a full disk does."""

    def __init__(self, most: int = 1 << 30) -> None:
        self.taken = b""
        self.most = most

    def take(self, data: bytes) -> None:
        self.taken += data
        if len(self.taken) > self.most:
            raise FileError("full")


def stream(server: str, path: str, sink: Sink, *, proxied: bool) -> Response:
    async def run() -> Response:
        client = open_client(
            TransportSettings(ssl_context=None, proxy=parse_proxy(server, "proxy") if proxied else None)
        )
        assert isinstance(client, StreamingClient)
        url = f"{'http://etcd.example.com:2379' if proxied else server}/{path}"
        try:
            return await client.stream("POST", url, headers=(), body=b"{}", timeout=10.0, take=sink.take)
        finally:
            await client.close()

    return asyncio.run(run())


@PROXIED
def test_the_body_arrives_in_pieces(server: str, proxied: bool) -> None:
    sink = Sink()
    answer = stream(server, "whole", sink, proxied=proxied)
    assert (answer.status, answer.body, sink.taken) == (200, b"", b"".join(PIECES))


@PROXIED
def test_an_error_is_not_taken_for_the_body(server: str, proxied: bool) -> None:
    sink = Sink()
    answer = stream(server, "denied", sink, proxied=proxied)
    assert (answer.status, answer.body, sink.taken) == (403, b"denied", b"")


@PROXIED
def test_a_connection_that_ends_early_is_an_error(server: str, proxied: bool) -> None:
    with pytest.raises(UnreachableError):
        stream(server, "cut", Sink(), proxied=proxied)


@PROXIED
def test_who_takes_it_may_refuse(server: str, proxied: bool) -> None:
    with pytest.raises(FileError):
        stream(server, "whole", Sink(most=250_000), proxied=proxied)
