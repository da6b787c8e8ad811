# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reader against h11 and http.client, on generated and on damaged answers: the same answer or an error."""

from __future__ import annotations

import http.client
import io
from typing import Any, Optional, cast

import h11
import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.http11 import AnswerReader, NotHttpError
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

# Status and body; None: an error, or incomplete.
Answer = Optional[tuple[int, bytes]]


def read_here(pieces: list[bytes]) -> Answer:
    reader = AnswerReader()
    try:
        for piece in pieces:
            answer = reader.feed(piece)
            if answer is not None:
                return answer.status, answer.body
        answer = reader.end()
    except NotHttpError:
        return None
    return None if answer is None else (answer.status, answer.body)


def read_by_h11(data: bytes) -> Answer:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    status, body = 0, []
    try:
        connection.receive_data(data)
        connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return status, b"".join(body)
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def read_by_http_client(data: bytes) -> Answer:
    answer = http.client.HTTPResponse(cast(Any, _Socket(data)), method="GET")
    try:
        answer.begin()
        return answer.status, answer.read()
    except (http.client.HTTPException, ValueError):
        return None


SPACES = st.sampled_from(["", " ", "\t", "  "])
BODIES = st.binary(max_size=80) | st.sampled_from([b"\r\n0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"5\r\nhello\r\n"])


@st.composite
def fields(draw: st.DrawFn, name: str, value: str) -> bytes:
    """One field, in any case, with any space around its value that is allowed."""
    name = draw(st.sampled_from([name, name.lower(), name.upper()]))
    return f"{name}:{draw(SPACES)}{value}{draw(SPACES)}\r\n".encode()


@st.composite
def chunks(draw: st.DrawFn, body: bytes) -> bytes:
    """A body cut into chunks, some with extensions, and perhaps trailers."""
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=4)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)]) if start < end]
    lines = []
    for piece in pieces:
        size = draw(st.sampled_from(["{:x}", "{:X}", "000{:x}"])).format(len(piece))
        lines.append(f"{size}{draw(st.sampled_from(['', ';a=b']))}\r\n".encode() + piece + b"\r\n")
    trailer = draw(st.sampled_from([b"", b"Some-Trailer: 1\r\n"]))
    return b"".join(lines) + b"0\r\n" + trailer + b"\r\n"


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, int, bytes]:
    """(bytes, status, body) of a valid answer in any of the three framings."""
    body = draw(BODIES)
    status = draw(st.sampled_from([200, 201, 404, 409, 429, 500, 503]))
    head = f"HTTP/1.1 {status} {draw(st.sampled_from(['OK', '', 'Too Many Requests']))}\r\n".encode()
    others = draw(st.lists(st.sampled_from([b"Date: today\r\n", b"X-A: :\r\n", b"Retry-After:3\r\n"]), max_size=3))
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    if framing == "length":
        others.append(draw(fields("Content-Length", str(len(body)))))
    elif framing == "chunked":
        # http.client does not know "chunked " with a space after it.
        others.append(
            draw(fields("Transfer-Encoding", draw(st.sampled_from(["chunked", "Chunked"])))).rstrip() + b"\r\n"
        )
    head += b"".join(draw(st.permutations(others))) + b"\r\n"
    goes_on = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    return goes_on + head + (draw(chunks(body)) if framing == "chunked" else body), status, body


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid answer with some bytes replaced, left out, doubled or inserted, or truncated."""
    data = bytearray(draw(answers())[0])
    for _number in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 12)))
        kind = draw(st.sampled_from(["replace", "remove", "double", "insert", "cut"]))
        odd = draw(
            st.binary(min_size=1, max_size=3)
            | st.sampled_from(
                [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"+", b"-", b"0x", b"_", b",", b":", b";"]
                + [b"\r\nContent-Length: 3", b"\r\nContent-Length: 3, 3", b"\r\nTransfer-Encoding: chunked", b"\r\n "]
            )
        )
        new = {"replace": odd, "remove": b"", "double": bytes(data[at:end]) * 2, "insert": odd}
        if kind == "cut":
            del data[at:]
        else:
            data[at : at if kind == "insert" else end] = new[kind]
    return bytes(data)


@given(answers(), st.data())
def test_every_valid_answer_is_read_as_others_read_it(made: tuple[bytes, int, bytes], data: st.DataObject) -> None:
    sent, status, body = made
    at = data.draw(st.integers(0, len(sent)))
    assert read_here([sent]) == read_here([sent[:at], sent[at:]]) == (status, body)
    assert read_by_h11(sent) == read_by_http_client(sent) == (status, body)


@given(answers(), st.data())
def test_a_truncated_answer_is_never_taken_for_a_complete_one(
    made: tuple[bytes, int, bytes], data: st.DataObject
) -> None:
    sent, _status, _body = made
    assume(b"ontent-" in sent.lower() or b"ransfer-" in sent.lower())  # else the connection's end is that of the answer
    assert read_here([sent[: data.draw(st.integers(0, len(sent) - 1))]]) is None


@settings(max_examples=300)
@given(damaged(), st.data())
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 3\r\n\r\nhello", None)
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 5, 3\r\n\r\nhello", None)
@example(b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello\r\n\r\nworld", None)
@example(b"HTTP/1.1 200 OK\r\nA: b\r\n Content-Length: 5\r\n\r\nhello", None)
@example(b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello world", None)
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", None)
def test_a_damaged_answer_is_read_as_h11_reads_it_or_refused(sent: bytes, data: Optional[st.DataObject]) -> None:
    at = data.draw(st.integers(0, len(sent))) if data is not None else 0
    found = read_here([sent[:at], sent[at:]])
    assert found == read_here([sent]) == read_here([bytes([byte]) for byte in sent])
    assert found is None or found == read_by_h11(sent)


@settings(max_examples=200)
@given(st.binary(max_size=200).map(lambda end: b"HTTP/1.1 200 OK\r\n" + end) | st.binary(max_size=200))
def test_arbitrary_bytes_are_read_as_h11_reads_them_or_refused(sent: bytes) -> None:
    found = read_here([sent])
    assert found is None or found == read_by_h11(sent)


@pytest.mark.parametrize(
    "fields_of_length",
    [
        b"Content-Length: " + b"1" * 5000,
        b"Content-Length: " + b"1" * 19,
        b"Content-Length: -5",
        b"Content-Length: +5",
        b"Content-Length: 0x5",
        b"Content-Length: 5_0",
        b"Content-Length: \xb2",
        b"Content-Length:",
        b"Content-Length: 5, 5",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5\r\ncontent-length: -5",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
    ],
)
def test_an_invalid_length_is_an_error_at_once(fields_of_length: bytes) -> None:
    with pytest.raises(NotHttpError):
        AnswerReader().feed(b"HTTP/1.1 200 OK\r\n" + fields_of_length + b"\r\n\r\n")


def test_a_chunked_answer_that_ends_after_its_head_is_incomplete() -> None:
    sent = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert read_here([sent]) is None


def test_the_same_length_twice_is_that_length() -> None:
    sent = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length:5\r\n\r\nhello"
    assert read_here([sent]) == read_by_h11(sent) == (200, b"hello")
