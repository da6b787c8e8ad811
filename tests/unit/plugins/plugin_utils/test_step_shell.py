# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a real shell says about markers of steps. Whatever it can't be sure of is left to the module."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _step_shell as step_shell

ID, OTHER = "a" * 32, "b" * 32
NONE = {"changed": False, "steps": [], "processes": [], "complete": True}


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the folders of root and of other users."""
    monkeypatch.setattr(step_shell, "_FOLDERS", (f"{tmp_path}/root", f"{tmp_path}/user-*"))
    return tmp_path


def ask(check_mode: bool = False, **args: Any) -> dict[str, Any] | None:
    command = step_shell.command(args, check_mode=check_mode)
    assert command is not None
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return step_shell.result(args, done.stdout)


def leave(folder: Path, identity: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{identity}.json"
    path.write_text("{}", encoding="utf-8")
    return path


def test_no_marker_at_all(folders: Path) -> None:
    assert ask(master="m1") == ask(master="m1", state="looked", ids=[]) == NONE
    (folders / "root").mkdir()
    assert ask(master="m1") == NONE and ask(master="m1", state="ended", ids=[ID]) == NONE


@pytest.mark.parametrize("where", ["root", "user-1000"])
def test_a_marker_is_left_to_the_module(folders: Path, where: str) -> None:
    leave(folders / where, OTHER)
    assert ask(master="m1") is None
    leave(folders / where, ID)
    assert ask(master="m1", state="ended", ids=[ID]) is None
    assert [path.stem for path in (folders / where).iterdir()] == [OTHER]


def test_a_marker_of_a_step_that_has_ended_is_removed(folders: Path) -> None:
    path = leave(folders / "user-1000", ID)
    assert ask(master="m1", state="ended", ids=[ID]) == {**NONE, "changed": True}
    assert not path.exists()


@pytest.mark.parametrize(
    "args",
    [
        {"state": "begun", "ids": [ID]},
        {"state": "looked", "ids": [ID]},
        {"state": "ended", "ids": []},
        {"state": "ended", "ids": ["../../etc/passwd"]},
        {"state": "ended", "ids": [f"{ID}; reboot"]},
    ],
)
def test_everything_else_is_left_to_the_module(args: dict[str, Any]) -> None:
    assert step_shell.command({"master": "m1", **args}, check_mode=False) is None
    assert step_shell.command({"state": "ended", "ids": [ID]}, check_mode=True) is None


@pytest.mark.parametrize("output", ["", "Permission denied", "looked\nsomething", "Welcome!\nlooked", "removed"])
def test_an_answer_that_is_not_understood_proves_nothing(output: str) -> None:
    assert step_shell.result({}, output) is None
