# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether another run has certainly ended; with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _playbook_process as playbook_process

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="there is no /proc here")

# Forks a child that outlives it, as ansible-playbook has workers, and says its pid.
_MAIN = "import os, time\nchild = os.fork()\nif child: print(child, flush=True)\ntime.sleep(60)"


def process(pid: int) -> dict[str, Any]:
    return dict(playbook_process._process.__wrapped__(pid))


def test_this_run_has_one_name_that_does_not_change() -> None:
    assert playbook_process.run_id() == playbook_process.run_id() and len(playbook_process.run_id()) == 12
    assert playbook_process.holder().endswith("/" + playbook_process.run_id())
    assert playbook_process.has_ended(playbook_process.this_run()) is False
    assert playbook_process.about({"awx_user_name": "alice"})["who"] == "alice"


def test_a_process_that_was_killed_has_ended_and_its_worker_still_works() -> None:
    with subprocess.Popen([sys.executable, "-c", _MAIN], stdout=subprocess.PIPE, text=True) as main:
        assert main.stdout is not None
        worker = int(main.stdout.readline())
        known = process(main.pid)
        assert playbook_process.has_ended(known) is False and playbook_process.is_at_work(known) is True
        assert playbook_process.workers_left(known) == []
        main.kill()
        main.wait()
        assert playbook_process.has_ended(known) is True
        assert playbook_process.workers_left(known) == [worker] and playbook_process.is_at_work(known) is True
        os.kill(worker, signal.SIGKILL)
        end = time.monotonic() + 10
        while playbook_process.is_at_work(known) and time.monotonic() < end:
            time.sleep(0.05)
        assert playbook_process.is_at_work(known) is False


@pytest.mark.parametrize("other", [{"boot": "another"}, {"pids": "pid:[1]"}, {"started": ""}, {"boot": ""}])
def test_nothing_is_said_about_processes_elsewhere(other: dict[str, Any]) -> None:
    known = {**playbook_process.this_run(), "pid": 2**22 + 1, **other}
    assert playbook_process.has_ended(known) is False and playbook_process.is_at_work(known) is None
    assert playbook_process.has_ended({}) is False and playbook_process.is_at_work({}) is None


def test_another_process_with_the_same_pid_is_another_one() -> None:
    assert playbook_process.has_ended({**playbook_process.this_run(), "started": 1}) is True
