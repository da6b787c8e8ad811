# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP/1.1 as bytes (RFC 9112): turns a request into bytes, and arriving bytes into an answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote

from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Headers, Response

_MOST_HEAD = 256 * 1024
# For a head in lower case, which is cheaper than ignoring case.
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([^\r]*)")
_CODING = re.compile(rb"\r\ntransfer-encoding:[ \t]*([^\r]*)")
_CLOSE = re.compile(rb"\r\nconnection:[^\r]*\bclose\b")
# Tabs, visible characters and obs-text, which is all that a value or a reason phrase may hold (RFC 9110, 5.5; RFC 9112, 4).
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
_FIELD = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:" + _TEXT
# The whole head, strictly: two readers that interpret odd lines differently find different bodies.
_HEAD = re.compile(rb"HTTP/1\.([0-9]) ([1-5][0-9][0-9])(?: " + _TEXT + rb")?(?:\r\n" + _FIELD + rb")*")
_TRAILER = re.compile(_FIELD)
# No real length has more digits than this, and Python is slow to convert thousands of them into a number.
_DIGITS = re.compile(rb"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n\0]*)?")
_PLAIN = re.compile(r"[!-~]+")
_RESERVED = "%/:?#[]@!$&'()*+,;=-._~"


# The frames SETTINGS and GOAWAY of stream 0, with which an HTTP/2 server begins (RFC 9113, 4.1).
_HTTP_2 = re.compile(rb"\x00[\s\S]{2}[\x04\x07]\x00\x00\x00\x00\x00")


class NotHttpError(OSError):
    """What arrived is not a valid HTTP/1.1 answer."""


def request_bytes(method: str, host: str, path: str, headers: Headers, body: bytes | None) -> bytes:
    """A whole request, for a connection that is kept alive. Raises ValueError for headers that would break it."""
    if not _PLAIN.fullmatch(path):
        path = quote(path, safe=_RESERVED)
    # Explicitly uncompressed: compressing lists costs API servers more than the bytes cost a data center.
    lines = [f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: identity\r\n"]
    for name, value in headers:
        if "\r" in value or "\n" in value or ":" in name or not _PLAIN.fullmatch(name):
            raise ValueError("a header holds a line break or has no proper name")
        lines.append(f"{name}: {value}\r\n")
    if body is None:
        lines.append("\r\n")
        return "".join(lines).encode()
    lines.append(f"Content-Length: {len(body)}\r\n\r\n")
    return "".join(lines).encode() + body


class AnswerHeaders(Mapping[str, str]):
    """Looked up case-insensitively; parsed only on demand, since few answers need it."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._fields: dict[str, str] | None = None

    def _parsed(self) -> dict[str, str]:
        if self._fields is None:
            self._fields = {}
            for line in self._head.decode("latin-1").split("\r\n")[1:]:
                name, _colon, value = line.partition(":")
                self._fields.setdefault(name.lower(), value.strip())
        return self._fields

    def __getitem__(self, name: str) -> str:
        return self._parsed()[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parsed())

    def __len__(self) -> int:
        return len(self._parsed())


class AnswerReader:
    """Takes the bytes of one answer as they arrive. ``reusable``: whether the connection can carry another request.

    ``take``: gets the body of an answer with status 200 piece by piece, and then the answer has an empty one.
    """

    __slots__ = (
        "_chunked",
        "_head",
        "_in_body",
        "_in_chunk",
        "_keep",
        "_missing",
        "_parts",
        "_rest",
        "_status",
        "_take",
        "_trailer",
        "_trailers",
        "reusable",
    )

    def __init__(self, take: Callable[[bytes], None] | None = None) -> None:
        self.reusable = True
        self._head = b""
        self._in_body = False
        self._status = 0
        self._chunked = False
        # Bytes that are still to come, of the body or of a chunk; None: until the connection ends.
        self._missing: int | None = 0
        self._in_chunk = False
        self._trailer = False
        self._trailers = 0
        self._rest = b""
        self._parts: list[bytes] = []
        self._take = take
        self._keep: Callable[[bytes], None] = self._parts.append

    def feed(self, data: bytes) -> Response | None:
        """The answer, once it is whole; raises NotHttpError."""
        while not self._in_body:
            head = self._head + data if self._head else data
            if _HTTP_2.match(head):
                raise NotHttpError("it speaks HTTP/2 only; let it accept HTTP/1.1, too")
            end = head.find(b"\r\n\r\n")
            if end < 0:
                if len(head) > _MOST_HEAD:
                    raise NotHttpError("the head of the answer does not end")
                self._head = head
                return None
            self._head, data = head[:end], head[end + 4 :]
            self._begin_body()
            if self._status < 200:  # The answer itself follows.
                self._in_body, self._head = False, b""
        return self._feed_chunks(data) if self._chunked else self._feed_plain(data)

    def end(self) -> Response | None:
        """The connection ended: returns the answer if that completes it, else None."""
        return self._answer() if self._in_body and self._missing is None else None

    def _begin_body(self) -> None:
        head = self._head
        found = _HEAD.fullmatch(head)
        if found is None:
            raise NotHttpError("the head of the answer is not valid HTTP/1.1")
        self._status = int(found[2])
        self._in_body = True
        if self._take is not None and self._status == 200:
            self._keep = self._take
        head = head.lower()
        self.reusable = found[1] != b"0" and not _CLOSE.search(head)
        if self._status == 101:
            raise NotHttpError("the answer switches to a protocol that was not asked for")
        lengths, codings = _LENGTH.findall(head), _CODING.findall(head)
        length = _body_length(lengths) if lengths else None
        if codings and (length is not None or [coding.strip(b" \t") for coding in codings] != [b"chunked"]):
            raise NotHttpError("the answer has a transfer coding that was not asked for, or a length besides")
        if self._status in (204, 304):
            self._missing = 0
        elif codings:
            self._chunked, self._missing = True, 0
        else:
            self._missing = length
            self.reusable = self.reusable and length is not None

    def _feed_plain(self, data: bytes) -> Response | None:
        if self._missing is None:
            self._keep(data)
            return None
        if len(data) > self._missing:
            data = data[: self._missing]
            self.reusable = False  # More than was announced, so it belongs to nothing known.
        self._keep(data)
        self._missing -= len(data)
        return None if self._missing else self._answer()

    def _feed_chunks(self, data: bytes) -> Response | None:
        if self._rest:
            data, self._rest = self._rest + data, b""
        at = 0
        while True:
            if self._missing:
                piece = data[at : at + self._missing]
                self._keep(piece)
                self._missing -= len(piece)
                at += len(piece)
                if self._missing:
                    return None
            end = data.find(b"\r\n", at)
            if end < 0:
                self._rest = data[at:]
                if len(self._rest) > _MOST_HEAD:
                    raise NotHttpError("the size of a chunk does not end")
                return None
            line, at = data[at:end], end + 2
            if self._trailer:
                if not line:
                    self.reusable = self.reusable and at == len(data)
                    return self._answer()
                self._take_trailer(line)
            elif self._in_chunk:
                if line:
                    raise NotHttpError("a chunk is longer than it says")
                self._in_chunk = False
            else:
                self._begin_chunk(line)

    def _take_trailer(self, line: bytes) -> None:
        """Nobody needs trailers, so they are only checked; RFC 9110, 6.5.1 lets a client drop them."""
        self._trailers += len(line)
        if not _TRAILER.fullmatch(line) or self._trailers > _MOST_HEAD:
            raise NotHttpError("the trailer of the answer is not valid HTTP/1.1")

    def _begin_chunk(self, line: bytes) -> None:
        found = _CHUNK.fullmatch(line)
        if found is None:
            raise NotHttpError("a chunk has no size")
        self._missing = int(found[1], 16)
        self._in_chunk = self._missing > 0
        self._trailer = not self._in_chunk

    def _answer(self) -> Response:
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        return Response(self._status, AnswerHeaders(self._head), body)


def _body_length(values: list[bytes]) -> int:
    """The value of one or more Content-Length fields, which must all agree (RFC 9112, 6.3)."""
    lengths = {value.strip(b" \t") for value in values}
    if len(lengths) > 1 or not all(_DIGITS.fullmatch(length) for length in lengths):
        raise NotHttpError("the answer has no valid Content-Length, or two that differ")
    return int(lengths.pop())
