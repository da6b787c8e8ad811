# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP/1.1 as bytes: answers in every form that a server may choose, cut anywhere."""

from __future__ import annotations

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.http11 import (
    AnswerReader,
    NotHttpError,
    request_bytes,
)

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nRetry-After: 3\r\n\r\nhello world"
CHUNKED = (
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after:3\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"6\r\nhello \r\n5;x=y\r\nworld\r\n0\r\nSome-Trailer: 1\r\n\r\n"
)
TWO_LINES = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nD\r\nhello\r\n\r\nworl\r\n1\r\nd\r\n0\r\n\r\n"


def read(*pieces: bytes) -> tuple[Response | None, AnswerReader]:
    reader = AnswerReader()
    answer = None
    for piece in pieces:
        assert answer is None, "it was complete before its last byte"
        answer = reader.feed(piece)
    return answer, reader


@pytest.mark.parametrize(
    ("data", "status", "body"),
    [(PLAIN, 200, b"hello world"), (CHUNKED, 429, b"hello world"), (TWO_LINES, 200, b"hello\r\n\r\nworld")],
)
def test_an_answer_is_read_wherever_it_is_split(data: bytes, status: int, body: bytes) -> None:
    cuts = [[data], [data[i : i + 1] for i in range(len(data))]]
    cuts += [[data[:i], data[i:]] for i in range(1, len(data))]
    for pieces in cuts:
        answer, reader = read(*pieces)
        assert answer is not None
        assert (answer.status, answer.body) == (status, body)
        assert reader.reusable


def test_headers_are_found_in_any_case() -> None:
    for data in (PLAIN, CHUNKED):
        answer, _reader = read(data)
        assert answer is not None
        assert answer.headers["Retry-After"] == answer.headers.get("RETRY-AFTER") == "3"
        assert answer.headers.get("Date") is None


def test_http_100_is_not_an_answer() -> None:
    answer, _reader = read(b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN)
    assert answer is not None
    assert answer.status == 200


@pytest.mark.parametrize(
    "data",
    [
        PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
        PLAIN + b"HTTP/1.1 200 OK",
        CHUNKED + b"HTTP/1.1 200 OK",
    ],
)
def test_a_connection_is_not_reused_if_that_is_not_safe(data: bytes) -> None:
    answer, reader = read(data)
    assert answer is not None
    assert answer.body == b"hello world"
    assert not reader.reusable


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    answer, reader = read(b"HTTP/1.1 200 OK\r\n\r\nhello", b" world")
    assert answer is None
    answer = reader.end()
    assert answer is not None
    assert answer.body == b"hello world"
    assert not reader.reusable


@pytest.mark.parametrize("data", [PLAIN[:-1], CHUNKED[:-2], b"HTTP/1.1 200 OK\r\n", b""])
def test_an_incomplete_answer_is_not_an_answer(data: bytes) -> None:
    _answer, reader = read(data)
    assert reader.end() is None


def test_answers_without_a_body_need_no_length() -> None:
    answer, reader = read(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert answer is not None
    assert answer.body == b""
    assert reader.reusable


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"x" * 300_000,
    ],
)
def test_what_is_not_http_is_refused(data: bytes) -> None:
    with pytest.raises(NotHttpError):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello5\r\nworld\r\n0\r\n\r\n",
    ],
)
def test_a_chunk_ends_where_its_size_says(data: bytes) -> None:
    with pytest.raises(NotHttpError):
        read(data)


def test_a_request_is_one_piece() -> None:
    assert request_bytes("PATCH", "a:6443", "/x?y=1", [("Accept", "b")], b"{}") == (
        b"PATCH /x?y=1 HTTP/1.1\r\nHost: a:6443\r\nAccept-Encoding: identity\r\nAccept: b\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert request_bytes("GET", "a", "/", [], None).endswith(b"identity\r\n\r\n")


def test_a_path_can_not_break_out_of_its_line() -> None:
    request = request_bytes("GET", "a", "/x y\r\nEvil: 1\u00e4?a=b%20c", [], None)
    assert request.startswith(b"GET /x%20y%0D%0AEvil:%201%C3%A4?a=b%20c HTTP/1.1\r\n")


@pytest.mark.parametrize("header", [("A", "b\r\nC: d"), ("A", "b\nC: d"), ("A: b\r\nC", "d"), ("A B", "c"), ("", "c")])
def test_a_header_can_not_smuggle_in_another(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        request_bytes("GET", "a", "/", [header], None)
