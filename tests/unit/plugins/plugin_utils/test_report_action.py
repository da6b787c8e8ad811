# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A report that can't be written is a failed result, not an exception: failed_when of the role must be asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.action import upgrade_report
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report import store


class Task:
    """What the action asks of a task."""

    async_val = 0
    check_mode = False
    diff = False
    action = "kube_storage.upgrade.upgrade_report"
    no_log = False

    def __init__(self, args: dict[str, Any]) -> None:
        self.args = args


def run(path: Path, **news: Any) -> dict[str, Any]:
    action = upgrade_report.ActionModule.__new__(upgrade_report.ActionModule)
    action._task = Task({"path": str(path), **(news or {"end": True})})
    action._connection = type("Connection", (), {"_shell": type("Shell", (), {"tmpdir": None})(), "has_tty": False})()
    action._templar = None
    return dict(action.run(task_vars={"inventory_hostname": "master-1"}))


def test_it_is_written(tmp_path: Path) -> None:
    found = run(tmp_path / "r.html")
    assert found["status"] == "unfinished" and not found.get("failed")


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = run(tmp_path / "file" / "r.html")
    assert found["failed"] and "The report can't be written to" in found["msg"]


def test_without_news_it_says_whether_it_could_be_written(tmp_path: Path) -> None:
    """Issue 13, number 11: so that a play asks before its first write."""
    found = run(tmp_path / "r.html", version="1.37")
    assert not found.get("failed") and not found["changed"] and list(tmp_path.iterdir()) == []
    found = run(Path("/proc/r.html"), version="1.37")
    assert found["failed"] and "/proc/r.json can't be written" in found["msg"]


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_files: Any, _record: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.ReportFiles, "write_record", full)
    found = run(tmp_path / "r.html")
    assert (
        found["failed"]
        and found["msg"] == f"The report can't be written to {tmp_path}/r.html: No space left on device."
    )


def test_a_page_that_cannot_be_made_leaves_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_record: Any, _name: str) -> str:
        raise KeyError("x\x1b[2J")

    monkeypatch.setattr(store, "page", broken)
    found = run(tmp_path / "r.html")
    assert found["failed"] and "could not be updated (KeyError: " in found["msg"] and "\x1b" not in found["msg"]
    assert json.loads((tmp_path / "r.json").read_text())["status"] == "unfinished"
