# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that outlive the program that started them, and can be identified later."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Process:
    """A pid and the time its process started (in clock ticks since boot): together they name just one."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        try:
            os.waitpid(self.pid, os.WNOHANG)
        except OSError:
            pass  # Not our child: nothing to reap.
        found = _stat(self.pid)
        if found is None or found[1] != self.started:
            return False
        # A killed program is a zombie at once, but keeps its ports until the last of its threads has ended.
        return found[0] not in ("Z", "X") or _threads(self.pid) > 1

    def send(self, number: signal.Signals) -> None:
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def stop(self, timeout: float = 20.0) -> None:
        """SIGTERM, and SIGKILL for what is still there after ``timeout`` seconds."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        if not wait_for(lambda: not self.alive, timeout):
            self.kill()

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        wait_for(lambda: not self.alive, 10.0)

    def as_dict(self) -> dict[str, int]:
        return {"pid": self.pid, "started": self.started}


def from_dict(data: dict[str, Any] | None) -> Process | None:
    return Process(int(data["pid"]), int(data["started"])) if data else None


def spawn(command: Sequence[str], log: Path, *, cgroup: Path | None = None) -> Process:
    """Starts a program in a session of its own, its output in ``log`` (appended)."""

    def join() -> None:
        if cgroup is not None:
            (cgroup / "cgroup.procs").write_text(str(os.getpid()), encoding="utf-8")

    with open(log, "ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            preexec_fn=join if cgroup is not None else None,
        )
    found = _stat(child.pid)
    child.returncode = 0  # This object doesn't manage the process.
    return Process(child.pid, found[1] if found else 0)


def wait_for(condition: Callable[[], bool], timeout: float, interval: float = 0.05) -> bool:
    """Whether the condition was met in time."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(interval)
    return True


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def _stat(pid: int) -> tuple[str, int] | None:
    """(state, start time) of a process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])
