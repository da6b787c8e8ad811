# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible and ansible-playbook from a process that has imported them, and keeps the modules that they packed.

A run of its own spends 2 s of CPU on that, which is most of what many tests cost. The command line, its process group and its
output are as always; only what Ansible itself keeps in its temporary folder outlives a run.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

# Some tests have settings of their own.
_SERVERS_AT_MOST = 3
_servers: dict[str, socket.socket] = {}


class Started:
    """A program that runs; ``pid`` is its own. Whoever drops this while it runs has killed it."""

    def __init__(self, command: Sequence[str], connection: socket.socket) -> None:
        self._command = command
        self._connection = connection
        self._answers = connection.makefile("r")
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
                raise subprocess.TimeoutExpired(list(self._command), timeout)
            self._code = int(self._answers.readline())
            self.close()
        return self._code

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kills it with its process group if it still runs."""
        self._answers.close()
        self._connection.close()


def start(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], output: IO[Any], errors: IO[Any]) -> Started:
    """Starts a program of Ansible that writes to these files."""
    connection = _connect(env)
    request = json.dumps({"command": list(command), "cwd": str(cwd), "env": dict(env)}).encode()
    socket.send_fds(connection, [len(request).to_bytes(8, "big")], [output.fileno(), errors.fileno()])
    connection.sendall(request)
    return Started(command, connection)


def run(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run would run this program of Ansible, with its output captured as text."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        code = start(command, cwd=cwd, env=env, output=output, errors=errors).wait(timeout)
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(command, code, output.read().decode(), errors.read().decode())


def _connect(env: Mapping[str, str]) -> socket.socket:
    """To the server for Ansible's settings, which it reads when it is imported."""
    settings = {name: value for name, value in env.items() if name.startswith(("ANSIBLE_", "PYTHON"))}
    key = json.dumps(settings, sort_keys=True)
    if key not in _servers:
        while len(_servers) >= _SERVERS_AT_MOST:
            _servers.pop(next(iter(_servers))).close()
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        program = [sys.executable, __file__, str(there.fileno())]
        process = subprocess.Popen(program, pass_fds=[there.fileno()], env=dict(env), stdin=subprocess.DEVNULL)
        there.close()
        atexit.register(process.wait, 30)
        atexit.register(here.close)
        _servers[key] = here
    _servers[key] = _servers.pop(key)  # The one used last is closed last.
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    socket.send_fds(_servers[key], [b"+"], [theirs.fileno()])
    theirs.close()
    return mine


def serve(control: socket.socket) -> None:
    """Until the tests end, forks a process for each command that they send."""
    sys.path[0] = str(Path(sys.executable).parent)  # As for the programs themselves.
    from ansible import constants as _constants  # noqa: F401
    from ansible.cli.adhoc import AdHocCLI
    from ansible.cli.playbook import PlaybookCLI

    programs: dict[str, Callable[[list[str]], Any]] = {
        "ansible": AdHocCLI.cli_executor,
        "ansible-playbook": PlaybookCLI.cli_executor,
    }
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        mark, handles, _flags, _address = socket.recv_fds(control, 1, 1)
        if not mark:
            return
        connection = socket.socket(fileno=handles[0])
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            _attend(connection, programs)
            os._exit(0)
        connection.close()


def _attend(connection: socket.socket, programs: Mapping[str, Callable[[list[str]], Any]]) -> None:
    """Runs one command; if who asked for it no longer waits, it is killed."""
    length, handles, _flags, _address = socket.recv_fds(connection, 8, 2)
    wanted = int.from_bytes(length, "big")
    text = b""
    while len(text) < wanted:
        text += connection.recv(1 << 16)
    request = json.loads(text)
    child = os.fork()
    if child == 0:
        os.setsid()
        connection.close()
        for number, handle in enumerate(handles, 1):
            os.dup2(handle, number)
            os.close(handle)
        os._exit(_run(request, programs))
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


def _run(request: Mapping[str, Any], programs: Mapping[str, Callable[[list[str]], Any]]) -> int:
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = request["command"]
    code = 0
    try:
        programs[Path(sys.argv[0]).name](sys.argv)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
