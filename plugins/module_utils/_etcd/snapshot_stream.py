# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stream of a snapshot, as etcd's JSON gateway sends it. Pure: bytes go in, and come out in the order of the file.

Each line is ``{"result": {"remaining_bytes": …, "blob": …}}``, with up to 32 KiB in base64. After the database comes its SHA-256,
which etcdctl and etcdutl keep at the end of the file (go.etcd.io/etcd, server/etcdserver/api/v3rpc/maintenance.go: Snapshot).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import EtcdError

_SUM = 32
# Pages of a database are multiples of this.
_UNIT = 512
_MOST_LINE = 64 << 20


class SnapshotStream:
    """``write`` gets the whole file. ``size`` is that of the database, as the first message tells it; None before that."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.size: int | None = None
        self.done = 0
        self._write = write
        self._line = b""
        self._held = b""
        self._database = hashlib.sha256()

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the answer. Raises EtcdError if they are no snapshot, and what ``write`` raises."""
        lines = (self._line + data).split(b"\n")
        self._line = lines.pop()
        if len(self._line) > _MOST_LINE:
            raise EtcdError("etcd's JSON gateway sent something that is not a snapshot; check etcd.endpoints.")
        for line in lines:
            if line.strip():
                self._take(line)

    def end(self) -> str:
        """Checks that it is whole; returns the SHA-256 of the file in hexadecimal. Raises EtcdError."""
        if self._line.strip():
            self._take(self._line)
            self._line = b""
        if self.size is None or self.done != self.size or len(self._held) != _SUM:
            raise EtcdError(
                f"etcd's snapshot ended after {self.done} of {self.size or 'an unknown number of'} bytes; run again, and look at the "
                "member's log if it happens again."
            )
        if self._database.digest() != self._held or self.size % _UNIT:
            raise EtcdError(
                "etcd's snapshot doesn't match the checksum that etcd sent with it; run again, and check the network and the member if "
                "it happens again."
            )
        whole = self._database.copy()
        whole.update(self._held)
        self._write(self._held)
        return whole.hexdigest()

    def _take(self, line: bytes) -> None:
        message = _message(line)
        blob = base64.b64decode(message.get("blob") or "")
        if self.size is None:
            self.size = len(blob) + int(message.get("remaining_bytes") or 0)
        data = self._held + blob
        # The last bytes may be the checksum, which isn't part of the database.
        self._held, data = data[-_SUM:], data[:-_SUM]
        self._database.update(data)
        self.done += len(data)
        if data:
            self._write(data)


def _message(line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except ValueError as error:
        raise EtcdError(
            "etcd's JSON gateway sent something that is not JSON instead of a snapshot; check etcd.endpoints."
        ) from error
    if isinstance(document, dict) and isinstance(document.get("result"), dict):
        found: dict[str, Any] = document["result"]
        return found
    told = document.get("error") if isinstance(document, dict) else None
    why = told.get("message") if isinstance(told, dict) else told
    raise EtcdError(f"etcd stopped sending the snapshot: {str(why or 'it gave no reason')[:200]}; run again.")
