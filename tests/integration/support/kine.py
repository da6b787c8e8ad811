# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kine without API servers."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc

from tests.control_plane import build
from tests.control_plane.processes import wait_for

from .databases import Database, SQLite


def number(field: int, value: int) -> bytes:
    """A field of a protobuf message, below 16,384."""
    low, high = value & 0x7F, value >> 7
    return bytes([field << 3, low | 0x80, high] if high else [field << 3, low])


def text(field: int, value: bytes) -> bytes:
    """The same for bytes shorter than 128."""
    return bytes([field << 3 | 2, len(value)]) + value


class KineAlone:
    """kine at a Unix socket, as k3s has it by default. ``stop`` it."""

    def __init__(self, folder: Path, *flags: str, database: Database | None = None) -> None:
        self.socket = folder / "kine.sock"
        self.database = database or SQLite(folder)
        command = [
            str(build.binaries(build.kine()) / "kine"),
            f"--endpoint={self.database.endpoint}",
            f"--listen-address=unix://{self.socket}",
            "--metrics-bind-address=0",
            *flags,
        ]
        with (folder / "kine.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        # The library that clients of etcd use, as the collection's own is what is tested.
        self._channel = grpc.insecure_channel(f"unix:{self.socket}")

    @property
    def option(self) -> dict[str, Any]:
        """The option ``etcd``."""
        return {"endpoints": [f"unix://{self.socket}"]}

    def await_ready(self) -> KineAlone:
        assert wait_for(self.socket.exists, 60.0), "kine did not come up"
        grpc.channel_ready_future(self._channel).result(timeout=60)
        return self

    def put(self, keys: Iterable[str], value: bytes = b'{"kind":"ConfigMap","apiVersion":"v1"}') -> None:
        put = self._channel.unary_unary("/etcdserverpb.KV/Put")
        for key in keys:
            put(text(1, key.encode()) + text(2, value), timeout=30)

    def compact(self, revision: int) -> None:
        self._channel.unary_unary("/etcdserverpb.KV/Compact")(number(1, revision), timeout=30)

    def stop(self) -> None:
        self._channel.close()
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)
