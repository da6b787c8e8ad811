# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which processes of a master still work on an upgrade step. Runs on masters: only the standard library of old Pythons.

Everything that the tasks of a step start inherits an environment variable with the step's ID, including daemons that the
step starts on purpose, such as an API server. These processes count as working on the step:

- Ansible's own processes: modules, and the shells and sudos around them, whose command line sets the variable;
- their descendants;
- any other process with the variable, such as a command whose module was killed, unless it has created its own session, as
  daemons do (setsid), or belongs to such a session.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

VARIABLE = "KUBE_STORAGE_UPGRADE_STEP"
_ANSIBLE = re.compile(rb"AnsiballZ_|ansible-tmp-|/async_wrapper")
_MODULE = re.compile(r"AnsiballZ_(\w+)\.py")
# include/linux/sched.h
_KERNEL_THREAD = 0x00200000


class Process(NamedTuple):
    """``environment`` is None if it may not be read."""

    pid: int
    parent: int
    session: int
    command: bytes
    environment: bytes | None


def at_work(processes: Iterable[Process], ids: Collection[str]) -> dict[int, str]:
    """The IDs of steps by the PIDs of their running processes."""
    by_pid = {process.pid: process for process in processes}
    marks = {identity: f"{VARIABLE}={identity}".encode() for identity in ids}
    children: dict[int, list[int]] = {}
    for process in by_pid.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: dict[int, str] = {}
    for identity, mark in marks.items():
        having = {pid for pid, process in by_pid.items() if _has(process, mark)}
        of_ansible = {
            pid
            for pid, process in by_pid.items()
            if mark in process.command or (pid in having and _ANSIBLE.search(process.command))
        }
        busy = _with_descendants(of_ansible, children)
        busy |= {pid for pid in having - busy if not _is_daemon(by_pid, pid, having)}
        found.update(dict.fromkeys(sorted(busy), identity))
    return found


def _has(process: Process, mark: bytes) -> bool:
    return process.environment is not None and mark in process.environment.split(b"\0")


def _with_descendants(pids: set[int], children: dict[int, list[int]]) -> set[int]:
    found, left = set(pids), list(pids)
    while left:
        for pid in children.get(left.pop(), ()):
            if pid not in found:
                found.add(pid)
                left.append(pid)
    return found


def _is_daemon(by_pid: dict[int, Process], pid: int, having: set[int]) -> bool:
    """Whether a living process of the step created the session that it belongs to; otherwise that is unknown."""
    return by_pid[pid].session in having


def name_of(process: Process) -> str:
    """The name of a process without its arguments, which may contain secrets."""
    text = process.command.decode(errors="replace")
    module = _MODULE.search(text)
    return f"Ansible's {module.group(1)}" if module else os.path.basename(text.split("\0")[0]) or "?"


def read_processes(proc: str = "/proc") -> tuple[list[Process], bool]:
    """The processes, and whether these are all of them, with complete information."""
    found, complete = [], True
    try:
        pids = [int(name) for name in os.listdir(proc) if name.isdigit()]
    except OSError:
        return [], False
    for pid in pids:
        stat = _stat(_read(proc, pid, "stat"))
        if stat is None or stat[0] in "ZX" or stat[3] & _KERNEL_THREAD:
            continue
        command = _read(proc, pid, "cmdline") or b""
        environment = _environment(proc, pid)
        # The first process is older than any step, and some hosts hide it even from root.
        complete = complete and (environment is not None or pid == 1)
        found.append(Process(pid, stat[1], stat[2], command, environment))
    # With the mount option hidepid, other users' processes are not even listed.
    return found, complete and 1 in pids


def _read(proc: str, pid: int, name: str) -> bytes | None:
    try:
        with open(os.path.join(proc, str(pid), name), "rb") as file:
            return file.read()
    except OSError:
        return None


def _environment(proc: str, pid: int) -> bytes | None:
    """None if it may not be read; empty if there is none, for instance if the process is just ending."""
    try:
        with open(os.path.join(proc, str(pid), "environ"), "rb") as file:
            return file.read()
    except PermissionError:
        return None
    except OSError:
        return b""


def _stat(text: bytes | None) -> tuple[str, int, int, int] | None:
    """(state, parent, session, flags) of /proc/PID/stat."""
    if text is None:
        return None
    fields = text.decode(errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[3]), int(fields[6])


def look(ids: Collection[str], read: Callable[[], tuple[list[Process], bool]] = read_processes) -> dict[str, Any]:
    """Which processes work on these steps, and whether all could be inspected."""
    if not ids:
        return {"processes": [], "complete": True}
    processes, complete = read()
    by_pid = {process.pid: process for process in processes}
    busy = at_work(processes, ids)
    rows = [{"pid": pid, "step": identity, "name": name_of(by_pid[pid])} for pid, identity in busy.items()]
    return {"processes": rows, "complete": complete}
