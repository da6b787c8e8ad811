# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs from a process that has imported what they need: it forks one for each request, so that nothing is imported twice.

Importing is most of what a short run of Ansible or of a module costs. A program has the command line, environment, working directory
and files of whoever asks for it, and a process group of its own. If whoever asked is gone, it is killed.
"""

from __future__ import annotations

import atexit
import gc
import marshal
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[3]

# (command line, working directory, environment), as marshal writes it: who asks must be the same Python.
Request = tuple[list[str], str, dict[str, str]]


class Server:
    """A script that calls serve(), until this process ends or closes it. ``path``: the socket on which it listens."""

    def __init__(self, script: Path, env: Mapping[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fork-server-")
        self.path = os.path.join(self._folder.name, "socket")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self.path)
        listener.listen(64)
        alive, self._mine = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        handles = [listener.fileno(), alive.fileno()]
        command = [sys.executable, str(script), *map(str, handles)]
        self._process = subprocess.Popen(command, pass_fds=handles, env=dict(env), stdin=subprocess.DEVNULL)
        listener.close()
        alive.close()
        atexit.register(self.close)

    def close(self) -> None:
        """What it has started runs on."""
        atexit.unregister(self.close)
        self._mine.close()
        self._process.wait(30)
        self._folder.cleanup()


class Started:
    """A program that runs; ``pid`` is its own. Whoever drops this while it runs has killed it."""

    def __init__(
        self, path: str, command: Sequence[str], cwd: Path, env: Mapping[str, str], files: Sequence[IO[Any]]
    ) -> None:
        self._command = list(command)
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.connect(path)
        request: Request = (self._command, str(cwd), dict(env))
        data = marshal.dumps(request)
        with open(os.devnull, encoding="utf-8") as nothing:
            handles = [nothing.fileno(), *(file.fileno() for file in files)]
            socket.send_fds(self._connection, [len(data).to_bytes(8, "big")], handles)
        self._connection.sendall(data)
        self._answers = self._connection.makefile("r")
        self.pid = int(self._answers.readline())
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code once it has ended; minus a signal's number if that killed it."""
        if self._code is not None:
            return self._code
        return self.wait() if select.select([self._connection], [], [], 0)[0] else None

    def wait(self, timeout: float | None = None) -> int:
        if self._code is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                self.close()
                assert timeout is not None
                raise subprocess.TimeoutExpired(self._command, timeout)
            self._code = int(self._answers.readline())
            self.close()
        return self._code

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kills it with its process group if it still runs."""
        self._answers.close()
        self._connection.close()


def compiled_files(folders: Iterable[Path]) -> dict[bytes, CodeType]:
    """The code of all Python files below these folders, by their sources."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    codes = {path.read_bytes(): SourceFileLoader("compiled", str(path)).get_code("compiled") for path in paths}
    return {source: code for source, code in codes.items() if code is not None}


def serve(run: Callable[[list[str]], int]) -> None:
    """The server: ``run`` runs a command line in a process of its own, and returns its exit code."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    alive = int(sys.argv[2])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Collecting garbage would write to the memory that the forked processes share.
    gc.collect()
    gc.freeze()
    while True:
        ready, _write, _error = select.select([listener, alive], [], [])
        if alive in ready:
            return
        connection, _address = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            os.close(alive)
            _attend(connection, run)
            os._exit(0)
        connection.close()


def _attend(connection: socket.socket, run: Callable[[list[str]], int]) -> None:
    """Runs one command; if who asked for it no longer waits, it is killed."""
    length, handles, _flags, _address = socket.recv_fds(connection, 8, 3)
    wanted = int.from_bytes(length, "big")
    data = b""
    while len(data) < wanted:
        data += connection.recv(1 << 16)
    command, cwd, env = marshal.loads(data)
    child = os.fork()
    if child == 0:
        os.setsid()
        connection.close()
        for number, handle in enumerate(handles):
            os.dup2(handle, number)
            os.close(handle)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        sys.argv = command
        try:
            code = run(command)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    for handle in handles:
        os.close(handle)
    connection.sendall(f"{child}\n".encode())
    gone = os.pidfd_open(child)
    ready, _write, _error = select.select([connection, gone], [], [])
    if gone not in ready:
        os.killpg(child, signal.SIGKILL)
    _pid, status = os.waitpid(child, 0)
    if gone in ready:
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
