# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What test clusters of both kinds have in common: a folder with their state, a network, and an owner whom they don't outlive."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import select
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from tests.control_plane.hosts import Network
from tests.control_plane.processes import Process


class ClusterFolder:
    """A cluster in a folder. Everything about it is in one file there, so any process can continue with it."""

    STATE: ClassVar[str]
    ERROR: ClassVar[type[Exception]]

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        if not self.exists(folder):
            raise self.ERROR(f"There is no cluster in {folder}; start one with: cluster.py up --dir {folder}")
        self.data: dict[str, Any] = json.loads((self.folder / self.STATE).read_text(encoding="utf-8"))

    @classmethod
    def exists(cls, folder: Path) -> bool:
        return (folder / cls.STATE).exists()

    @property
    def network(self) -> Network:
        return Network(self.data["network"])

    @property
    def masters(self) -> list[str]:
        return list(self.data["masters"])

    def address(self, master: str) -> str:
        return str(self.data["masters"][master]["address"])

    def _change(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Changes the state as it is in the file now: other processes may start and stop other servers at the same time."""
        with open(self.folder / "lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            data = json.loads((self.folder / self.STATE).read_text(encoding="utf-8"))
            change(data)
            temporary = self.folder / f"{self.STATE}.new"
            temporary.write_text(json.dumps(data, indent=1), encoding="utf-8")
            os.replace(temporary, self.folder / self.STATE)
        self.data = data

    def _keep(self, name: str, process: Process) -> None:
        """Records a process, so that ``down`` ends it."""
        self._change(lambda data: data["processes"].update({name: process.as_dict()}))


def short_name(host: str) -> str:
    """``m2`` for ``master-2``: the name of a network interface has room for no more."""
    return f"{host[0]}{host.rpartition('-')[2]}"


def get(address: str, port: int, path: str, context: ssl.SSLContext) -> bytes:
    """The body of a GET; empty where there is no good answer."""
    with contextlib.closing(Server(address, port, context)) as server:
        return server.get(path)


class Server:
    """A server that is asked again and again, over one connection as long as that lasts."""

    def __init__(self, address: str, port: int, context: ssl.SSLContext) -> None:
        self._connection = http.client.HTTPSConnection(address, port, context=context, timeout=5)

    def get(self, path: str) -> bytes:
        """The body; empty where there is no good answer."""
        for _kept_or_new in range(2 if self._connection.sock else 1):
            try:
                self._connection.request("GET", path)
                answer = self._connection.getresponse()
                body = answer.read()
                return body if answer.status == 200 else b""
            except (OSError, http.client.HTTPException):
                self.close()
        return b""

    def close(self) -> None:
        self._connection.close()


def await_end(pid: int) -> None:
    """Waits until a process has ended, whoever started it."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([descriptor], [], [])
