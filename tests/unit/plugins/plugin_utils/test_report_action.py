# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A report that can't be written is a failed result, not an exception: failed_when of the role must be asked."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.action import upgrade_report
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report import end_watch, store


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


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux can tell when a process has ended")
def test_a_process_of_its_own_closes_the_report_once_ansible_playbook_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade_report, "watch", lambda *_run: None)
    begun = run(tmp_path / "r.html", begin=True, version="1.37", masters={"m1": "10.0.0.1"})
    playbook = subprocess.Popen(["sleep", "60"])
    end_watch.watch(playbook.pid, tmp_path / "r.html", begun["run"])
    assert _status(tmp_path) == "running"
    playbook.kill()
    playbook.wait()
    until = time.monotonic() + 60
    while "ended abruptly" not in (tmp_path / "r.html").read_text(encoding="utf-8"):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert _status(tmp_path) == "cut off"


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux can tell when a process has ended")
def test_a_report_that_its_run_has_closed_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade_report, "watch", lambda *_run: None)
    begun = run(tmp_path / "r.html", begin=True, version="1.37", masters={"m1": "10.0.0.1"})
    run(tmp_path / "r.html", end=True)
    before = (tmp_path / "r.json").read_text(encoding="utf-8")
    playbook = subprocess.Popen(["sleep", "60"])
    handle = os.pidfd_open(playbook.pid)
    playbook.kill()
    end_watch.main(str(handle), str(tmp_path / "r.html"), begun["run"])
    playbook.wait()
    os.close(handle)
    assert (tmp_path / "r.json").read_text(encoding="utf-8") == before


def test_check_mode_leaves_the_report_and_labels_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 15, number 8."""
    run(tmp_path / "r.html")
    before = (tmp_path / "r.json").read_text(encoding="utf-8")
    monkeypatch.setattr(Task, "check_mode", True)
    for news in ({"begin": True}, {"during": "upgrade", "end": True}, {"kind": "key_rotation", "end": True}):
        assert run(tmp_path / "r.html", **news)["changed"] is False
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "r.json"]
    servers = [{"url": "https://10.0.0.1:6443", "name": "m1", "version": "v1.36.5", "ready": True, "error": None}]
    found = run(tmp_path / "r.html", during="check", version="1.37", observed=[{"servers": servers, "converged": True}])
    assert found["html"] == f"{tmp_path}/r-check-mode.html"
    told = json.loads((tmp_path / "r-check-mode.json").read_text(encoding="utf-8"))
    assert (told["kind"], told["check_mode"], told["version"]) == ("check", True, "1.37")
    assert "Check mode: nothing was changed." in (tmp_path / "r-check-mode.html").read_text(encoding="utf-8")
    assert (tmp_path / "r.json").read_text(encoding="utf-8") == before and "check_mode" not in before
    monkeypatch.setattr(Task, "check_mode", False)
    run(tmp_path / "real.html", kind="check", version="1.37", observed=[{"servers": servers, "converged": True}])
    assert "Check mode" not in (tmp_path / "real.html").read_text(encoding="utf-8")


def _status(folder: Path) -> str:
    return str(json.loads((folder / "r.json").read_text(encoding="utf-8"))["status"])


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
