# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In processes of their own, as a process without privileges can't take its niceness back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base import niceness

PROGRAM = """
import os, runpy, sys
os.setpriority(os.PRIO_PROCESS, 0, int(sys.argv[2]))
runpy.run_path(sys.argv[1])["give_way"](int(sys.argv[3]))
print(os.getpriority(os.PRIO_PROCESS, 0))
"""


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        pytest.param(0, 5, 5, id="raised"),
        pytest.param(15, 5, 15, id="what was started with nice stays as it was"),
        pytest.param(0, 0, 0, id="not wanted"),
    ],
)
def test_niceness_only_rises(before: int, wanted: int, after: int) -> None:
    command = [sys.executable, "-c", PROGRAM, str(Path(niceness.__file__)), str(before), str(wanted)]
    assert int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) == after


def test_a_system_that_refuses_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: int) -> None:
        raise PermissionError

    monkeypatch.setattr(niceness.os, "getpriority", lambda *_arguments: 0)
    monkeypatch.setattr(niceness.os, "setpriority", refuse)
    niceness.give_way(5)
