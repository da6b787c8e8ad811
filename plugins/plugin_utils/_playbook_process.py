# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""This run of ansible-playbook among the processes of its controller, and whether another one has ended.

A process is identified by the kernel that runs it (boot id and pid namespace), its pid and its start time, so that "it has
ended" is never a guess. On a controller without /proc, nothing is known about other runs.
"""

from __future__ import annotations

import getpass
import hashlib
import multiprocessing
import os
import socket
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ansible.executor.process.worker import WorkerProcess

_PROC = Path("/proc")
# include/linux/sched.h: "Forked but didn't exec"; Ansible's workers are forks of ansible-playbook.
_FORKED_ONLY = 0x40
# Who started the job where Ansible runs as a service's user.
_WHO_VARIABLES = ("awx_user_name", "tower_user_name")


class Stat(NamedTuple):
    state: str
    parent: int
    flags: int
    started: int


def main_pid() -> int:
    """The pid of ansible-playbook itself; plugins run in its workers."""
    parent = multiprocessing.parent_process()
    if isinstance(multiprocessing.current_process(), WorkerProcess) and parent is not None and parent.pid:
        return parent.pid
    return os.getpid()


def this_run() -> dict[str, Any]:
    """What identifies this run of ansible-playbook, as plain data."""
    return dict(_process(main_pid()))


@lru_cache(maxsize=4)
def _process(pid: int) -> tuple[tuple[str, Any], ...]:
    found = stat(pid)
    started: Any = found.started if found else _started_by_ps(pid)
    return tuple(
        {
            "boot": _text(_PROC / "sys/kernel/random/boot_id"),
            "pids": _link(_PROC / "self/ns/pid"),
            "pid": pid,
            "started": started,
            "command": _command(pid),
        }.items()
    )


def run_id() -> str:
    """A unique name of this run: a digest of what identifies it."""
    named = [socket.gethostname(), *(f"{name}={value}" for name, value in sorted(this_run().items()))]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()[:12]


def holder() -> str:
    """The holder's name in the Lease: user, host and run."""
    return f"{user()}@{socket.gethostname()}/{run_id()}"


def claim(variables: Mapping[str, Any], group: str = "") -> dict[str, Any]:
    """What this run writes into the Lease about itself, as options of the modules that do.

    ``group``: that of the masters in a play with several clusters. Two groups that are the same cluster are two holders.
    """
    return {"holder": f"{holder()}/{group}" if group else holder(), "about": about(variables)}


def cluster_group(action: Any, variables: Mapping[str, Any]) -> str:
    """The group of this host's cluster in a play with several; empty in others. ``action``: the action plugin that asks."""
    return str(action._templar.template(variables.get("rolling_upgrade_cluster_group") or ""))


def about(variables: Mapping[str, Any]) -> dict[str, Any]:
    """User, host and process of this run."""
    who = next((str(variables[name]) for name in _WHO_VARIABLES if variables.get(name)), user())
    return {"who": who, "host": socket.gethostname(), "process": this_run()}


def user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a name
        return f"uid {os.getuid()}"


def has_ended(process: Mapping[str, Any]) -> bool:
    """Whether that run of ansible-playbook is certainly over; False also if that is unknown."""
    return _is_of_this_kernel(process) and not _is_alive(process)


def is_at_work(process: Mapping[str, Any]) -> bool | None:
    """Whether that run, or a worker it left behind, still runs tasks; None if that is unknown."""
    if not _is_of_this_kernel(process):
        return None
    return _is_alive(process) or bool(workers_left(process))


def workers_left(process: Mapping[str, Any]) -> list[int]:
    """Workers whose ansible-playbook died: each finishes its task, including retries and loops."""
    command, found = process.get("command"), []
    if not command:
        return []
    for pid in _pids():
        known = stat(pid)
        if known is None or known.state in "ZX" or not known.flags & _FORKED_ONLY:
            continue
        if known.started >= int(process["started"]) and _command(pid) == command and _command(known.parent) != command:
            found.append(pid)
    return found


def _is_of_this_kernel(process: Mapping[str, Any]) -> bool:
    here = this_run()
    return bool(
        here["boot"]
        and here["pids"]
        and isinstance(process.get("started"), int)
        and (process.get("boot"), process.get("pids")) == (here["boot"], here["pids"])
    )


def _is_alive(process: Mapping[str, Any]) -> bool:
    pid = int(process.get("pid") or 0)
    try:
        os.kill(pid, 0)  # asks without /proc, which may hide other users' processes
    except ProcessLookupError:
        return False
    except OSError:
        pass
    found = stat(pid)
    return found is None or (found.started == process["started"] and found.state not in "ZX")


def stat(pid: int) -> Stat | None:
    try:
        content = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = content.rpartition(")")[2].split()
    return Stat(fields[0], int(fields[1]), int(fields[6]), int(fields[19]))


def _command(pid: int) -> str:
    """A digest of its command line, which may hold secrets."""
    try:
        line = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return hashlib.sha256(line).hexdigest()[:16] if line else ""


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir(_PROC) if name.isdigit()]
    except OSError:
        return []


def _started_by_ps(pid: int) -> str:
    """Where there is no /proc, as on macOS."""
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
