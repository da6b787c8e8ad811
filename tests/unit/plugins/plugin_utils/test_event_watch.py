# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which file the progress is read from: others on the host can see its path."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._event_watch import _Watch

EVENT = '{"kind": "notice", "text": "Reading what etcd holds.", "data": {}}\n'


class Shell:
    """Runs the command of a look in a real shell."""

    _connection = SimpleNamespace(become=None)

    def __init__(self) -> None:
        self.said = ""

    def _low_level_execute_command(self, command: str, sudoable: bool) -> dict[str, Any]:
        self.said = subprocess.run(
            ["/bin/sh", "-c", command], capture_output=True, text=True, timeout=10, check=False
        ).stdout
        return {"stdout": self.said}


def looked_at(path: Path) -> str:
    action = SimpleNamespace(_play_context=SimpleNamespace(remote_addr="host"), _task=SimpleNamespace(async_val=0))
    shell = Shell()
    _Watch(action, str(path), {})._look(shell)
    return shell.said


def test_a_plain_file_of_the_same_user_is_read(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    path.write_text(EVENT, encoding="utf-8")
    assert EVENT in looked_at(path)


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "none"])
def test_anything_else_is_left_alone(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "progress", tmp_path / "target"
    target.write_text(EVENT, encoding="utf-8")
    if kind == "link":
        path.symlink_to(target)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    assert looked_at(path) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_file_of_another_user_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    path.write_text(EVENT, encoding="utf-8")
    os.chown(path, 65534, 65534)
    assert looked_at(path) == ""
