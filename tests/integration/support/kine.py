# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kine without API servers, and what its table holds, read by SQLite itself."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc

from tests.control_plane import build
from tests.control_plane.processes import wait_for

from .etcd import Stored


def rows_of(database: Path, revision: int | None = None) -> dict[str, Stored]:
    """Every key with its row as of a revision (None: the newest), by what kine's table says."""
    query = """
        SELECT name, id, value, deleted FROM kine AS row
        WHERE id = (SELECT MAX(id) FROM kine WHERE name = row.name AND (? IS NULL OR id <= ?))
    """
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        found = connection.execute(query, (revision, revision)).fetchall()
    return {name: Stored(number, bytes(value or b"")) for name, number, value, deleted in found if not deleted}


def number(field: int, value: int) -> bytes:
    """A field of a protobuf message, below 16,384."""
    low, high = value & 0x7F, value >> 7
    return bytes([field << 3, low | 0x80, high] if high else [field << 3, low])


def text(field: int, value: bytes) -> bytes:
    """The same for bytes shorter than 128."""
    return bytes([field << 3 | 2, len(value)]) + value


class KineAlone:
    """kine at a Unix socket, as k3s has it by default. ``stop`` it."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.socket = folder / "kine.sock"
        self.database = folder / "state.db"
        command = [
            str(build.binaries(build.kine()) / "kine"),
            f"--endpoint=sqlite://{self.database}?_journal_mode=WAL&_busy_timeout=30000&_txlock=immediate&cache=shared",
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
