# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A KMS plugin (v1 and v2) on a unix socket, which API servers really talk to. Its cipher is for tests only.

The protocols are k8s.io/kms, apis/v1beta1 and apis/v2; their few messages are encoded here by hand, so
that no compiler for them is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

_PAD = bytes(range(1, 256)) * 20


def fields(message: bytes) -> dict[int, bytes]:
    """The length-delimited fields of a message that has no others."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(message):
        number, at = message[at] >> 3, at + 1
        length = shift = 0
        while True:
            byte, at = message[at], at + 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        found[number], at = message[at : at + length], at + length
    return found


def message(*values: tuple[int, bytes]) -> bytes:
    """The opposite."""
    out = bytearray()
    for number, value in values:
        out.append(number << 3 | 2)
        length = len(value)
        while length > 0x7F:
            out.append(length & 0x7F | 0x80)
            length >>= 7
        out.append(length)
        out += value
    return bytes(out)


class KmsPlugin:
    """Serves until ``close``; ``key_id`` is the remote key that new values are sealed with, and may be changed."""

    def __init__(self, socket: Path, key_id: str) -> None:
        self.key_id = key_id
        self._server = grpc.server(ThreadPoolExecutor(4))
        answers: dict[str, dict[str, Callable[[dict[int, bytes]], bytes]]] = {
            "v1beta1.KeyManagementService": {
                "Version": lambda _: message((1, b"v1beta1"), (2, b"test"), (3, b"1")),
                "Encrypt": lambda asked: message((1, _swap(asked[2]))),
                "Decrypt": lambda asked: message((1, _swap(asked[2]))),
            },
            "v2.KeyManagementService": {
                "Status": lambda _: message((1, b"v2"), (2, b"ok"), (3, self.key_id.encode())),
                "Encrypt": lambda asked: message((1, _swap(asked[1])), (2, self.key_id.encode())),
                "Decrypt": lambda asked: message((1, _swap(asked[1]))),
            },
        }
        for service, methods in answers.items():
            self._server.add_generic_rpc_handlers(
                (
                    grpc.method_handlers_generic_handler(
                        service,
                        {
                            name: grpc.unary_unary_rpc_method_handler(
                                lambda asked, _context, answer=answer: answer(fields(asked))
                            )
                            for name, answer in methods.items()
                        },
                    ),
                )
            )
        self._server.add_insecure_port(f"unix:{socket}")
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait()


def _swap(data: bytes) -> bytes:
    return bytes(byte ^ other for byte, other in zip(data, _PAD))
