# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Number 19: which processes of an upgrade step are still running, and which are daemons that it started."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._rolling_upgrade import step_markers as markers
from ansible_collections.kube_storage.upgrade.plugins.module_utils._rolling_upgrade.step_processes import (
    VARIABLE,
    Process,
    at_work,
    look,
    name_of,
    read_processes,
)

STEP = "0123456789abcdef"
MARK = f"{VARIABLE}={STEP}".encode()
ENV = b"PATH=/bin\0" + MARK + b"\0"
MODULE = b"/usr/bin/python3\0/root/.ansible/tmp/ansible-tmp-1-2-3/AnsiballZ_command.py\0"


def process(
    pid: int, parent: int = 1, session: int = 7, command: bytes = b"x\0", environment: bytes | None = ENV
) -> Process:
    return Process(pid, parent, session, command, environment)


SHELL = process(
    7, 6, 7, b"/bin/sh\0-c\0" + MARK + b" /usr/bin/python3 /x/AnsiballZ_command.py && sleep 0\0", b"PATH=/bin\0"
)


def busy(*processes: Process) -> set[int]:
    return set(at_work(processes, [STEP]))


def test_a_module_and_its_children_count_as_running() -> None:
    assert busy(SHELL, process(8, 7, command=MODULE), process(9, 8), process(10, 9, environment=b"")) == {7, 8, 9, 10}


def test_with_pipelining_and_sudo_the_shell_identifies_it() -> None:
    sudo = process(
        20, 6, 6, b"sudo\0-u\0root\0/bin/sh\0-c\0echo BECOME-SUCCESS ; " + MARK + b" /usr/bin/python3\0", None
    )
    assert busy(sudo, process(21, 20, 20, b"/usr/bin/python3\0", None)) == {20, 21}


def test_a_command_whose_module_was_killed_is_still_running() -> None:
    assert busy(process(9, 1)) == {9}


def test_a_daemon_that_the_step_started_is_not() -> None:
    server = process(30, 1, 30, b"kube-apiserver\0")
    assert busy(server, process(31, 30, 30), process(32, 1, 30)) == set()


def test_neither_is_a_process_of_nobody_or_of_another_step() -> None:
    other = process(40, 1, 7, MODULE, ENV.replace(STEP.encode(), b"ffffffffffffffff"))
    longer = process(41, 1, 7, MODULE, ENV.replace(STEP.encode(), STEP.encode() + b"0"))
    assert busy(other, longer, process(42, 1, 7, MODULE, b"PATH=/bin\0"), process(43, environment=None)) == set()


def test_an_async_task_counts_as_running_though_it_is_a_daemon() -> None:
    wrapper = process(50, 1, 50, b"/usr/bin/python3\0/root/.ansible/tmp/ansible-tmp-9/async_wrapper.py\0123\0")
    assert busy(wrapper, process(51, 50, 50, MODULE), process(52, 51, 50)) == {50, 51, 52}


def test_names_have_no_arguments() -> None:
    assert name_of(process(1, command=MODULE)) == "Ansible's command"
    assert name_of(process(1, command=b"/usr/bin/kubeadm\0--token\0secret\0")) == "kubeadm"
    assert name_of(process(1, command=b"")) == "?"


def test_a_user_who_may_not_see_all_processes_says_so() -> None:
    assert look([STEP], lambda: ([], False)) == {"processes": [], "complete": False}
    assert look([], lambda: ([], False)) == {"processes": [], "complete": True}
    assert read_processes("/nonexistent") == ([], False)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc here")
def test_real_processes() -> None:
    """An orphan that waits, and a daemon, both started by a shell that has ended."""
    step = os.urandom(16).hex()
    script = "sleep 61 & setsid sleep 62 & exit 0"
    subprocess.run(["/bin/sh", "-c", script], env={**os.environ, VARIABLE: step}, check=True)

    def names() -> list[str]:
        found, _complete = read_processes()
        return sorted(process.command.decode() for process in found if process.pid in at_work(found, [step]))

    try:
        await_that(lambda: names() == ["sleep\x0061\0"])
    finally:
        for process in read_processes()[0]:
            if process.environment and f"{VARIABLE}={step}".encode() in process.environment:
                os.kill(process.pid, 9)
    await_that(lambda: names() == [])


def await_that(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_markers_are_left_found_and_removed(tmp_path: Path) -> None:
    folder = tmp_path / "markers"
    marker = {"id": STEP, "master": "master-1", "cluster": "aaaa", "about": {"who": "alice"}}
    path = markers.leave(marker, str(folder))
    markers.leave({**marker, "id": "f" * 16, "master": "master-2"}, str(folder))

    def found(master: str, cluster: str | None) -> list[str]:
        return [left["id"] for left in markers.find(master, cluster, [str(folder)])]

    assert found("master-1", "aaaa") == found("master-1", None) == [STEP]
    assert found("master-1", "bbbb") == found("master-3", None) == []
    assert markers.remove([path]) == [] and markers.remove([path]) == []
    assert found("master-1", None) == []


def test_what_is_not_a_marker_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("no JSON")
    (tmp_path / "b.json").write_text('{"id": "../../x", "master": "m"}')
    (tmp_path / "c.json").symlink_to(tmp_path / "d")
    (tmp_path / "d").write_text('{"id": "0123456789", "master": "m"}')
    os.mkfifo(tmp_path / "e.json")
    assert markers.find("m", None, [str(tmp_path), str(tmp_path / "nowhere")]) == []
    if os.geteuid() == 0:
        (tmp_path / "f.json").write_text('{"id": "0123456789", "master": "m"}')
        assert markers.find("m", None, [str(tmp_path)]) != []
        os.chown(tmp_path / "f.json", 1234, 1234)
        assert markers.find("m", None, [str(tmp_path)]) == []
        (tmp_path / "theirs").mkdir()
        os.chown(tmp_path / "theirs", 1234, 1234)
        with pytest.raises(PermissionError):
            markers.leave({"id": STEP, "master": "m"}, str(tmp_path / "theirs"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may see all processes")
def test_root_sees_all_though_processes_come_and_go() -> None:
    assert read_processes()[1] is True
