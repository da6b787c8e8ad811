# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.event_file import PATH_VARIABLE, open_report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event, nobody_listens
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import (
    Speed,
    duration,
    progress_event,
    some_of,
)


def test_speed_is_that_of_the_last_seconds() -> None:
    speed = Speed(window=10)
    assert speed.at(0, 0) == 0.0
    assert speed.at(5, 500) == 100.0
    assert speed.at(20, 650) == 10.0
    assert speed.at(30, 650) == 0.0


def test_progress_says_what_is_known() -> None:
    event = progress_event("objects", 250, 1000, 50.0, resources=["a", "b", "c", "d"], failures=2)
    assert event.message == "250 of 1000 objects (25 %), 50/s, 15 s left, 2 failed: a, b, c and 1 more"
    assert event.fields["seconds_left"] == 15.0 and event.fields["failures"] == 2


def test_what_answers_did_not_tell_is_in_the_progress() -> None:
    event = progress_event("objects", 9, 10, 3.0, failures=1, uncertain=2)
    assert event.message == "9 of 10 objects (90 %), 3.0/s, 2 uncertain, 1 failed"
    assert event.fields["uncertain"] == 2


def test_no_time_left_is_shown_while_the_total_is_unknown() -> None:
    event = progress_event("objects", 250, 1000, 50.0, total_is_known=False)
    assert event.message == "250 of at least 1000 objects, 50/s"
    assert event.fields["seconds_left"] is None
    assert progress_event("keys", 3, None, 0.0).message == "3 keys"


def test_more_done_than_was_expected() -> None:
    assert progress_event("objects", 12, 10, 4.0).message == "12 of 12 objects (100 %), 4.0/s"
    assert progress_event("objects", 0, 0, 0.0).message == "0 of 0 objects"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_some_of() -> None:
    assert some_of(["a"]) == "a" and some_of(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_the_file_is_private_and_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "progress"
    monkeypatch.setenv(PATH_VARIABLE, str(path))
    with open_report() as report:
        assert not path.exists(), "a run that has nothing to tell touches no file"
        report(Event("waiting", "for m2"))
        report(Event("waiting", "for m2"))
        report(Event("progress", "1 of 2", {"done": 1}))
        report(Event("progress", "2 of 2", {"done": 2}))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        told = [json.loads(line)["message"] for line in path.read_text(encoding="utf-8").splitlines()]
        assert told == ["for m2", "1 of 2"]
    assert not path.exists()


def test_a_file_that_is_there_already_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, victim = tmp_path / "progress", tmp_path / "victim"
    os.symlink(victim, path)
    monkeypatch.setenv(PATH_VARIABLE, str(path))
    with open_report() as report:
        report(Event("notice", "hello"))
    assert path.is_symlink() and not victim.exists()


def test_without_a_path_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PATH_VARIABLE, raising=False)
    with open_report() as report:
        assert report is nobody_listens
