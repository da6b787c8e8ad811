# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wire format of protobuf (protobuf.dev, Encoding), as far as etcd's messages and stored objects use it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


def varint(data: bytes, at: int) -> tuple[int, int]:
    """(number, next position); raises IndexError or ValueError on nonsense."""
    result = shift = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field in a message, in their order; raises IndexError or ValueError on nonsense.

    A varint is a number, without a sign; strings and messages are bytes; fields of a fixed length are left out.
    """
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        wire = tag & 7
        if wire == _BYTES:
            length, at = varint(data, at)
            if at + length > len(data):
                raise ValueError("field too long")
            yield tag >> 3, data[at : at + length]
            at += length
        elif wire == _VARINT:
            value, at = varint(data, at)
            yield tag >> 3, value
        elif wire == _EIGHT_BYTES:
            at += 8
        elif wire == _FOUR_BYTES:
            at += 4
        else:
            raise ValueError("no such wire type")


def field(number: int, value: int | bytes) -> bytes:
    """One field; numbers must not be negative."""
    if isinstance(value, bytes):
        return _encoded(number << 3 | _BYTES) + _encoded(len(value)) + value
    return _encoded(number << 3 | _VARINT) + _encoded(value)


def _encoded(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
