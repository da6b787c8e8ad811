# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._event_lines import (
    Lines,
    Status,
    cut,
    events_in,
    progress_bar,
    sentences,
)

ERASE = "\r\x1b[2K"


def progress(message: str, done: int = 5, total: int = 10) -> dict[str, Any]:
    return {
        "kind": "progress",
        "message": message,
        "fields": {"done": done, "total": total, "total_is_known": True},
    }


def waiting(message: str) -> dict[str, Any]:
    return {"kind": "waiting", "message": message, "fields": {}}


def test_noise_and_half_lines_are_left_out() -> None:
    text = "We trust you have received the lecture\r\n" + json.dumps(progress("a")) + '\r\n[1]\n{"kind": "prog'
    assert [event["message"] for event in events_in(text)] == ["a"]


def test_a_log_gets_every_notice_and_progress_now_and_then() -> None:
    lines = Lines("m1", every=10)
    assert lines.take([progress("1 of 9"), waiting("for m2"), progress("2 of 9")], 0) == "m1: for m2\nm1: 2 of 9\n"
    assert lines.take([progress("3 of 9")], 9) == ""
    assert lines.take([waiting("for m3")], 9) == "m1: for m3\n"
    assert lines.take([progress("4 of 9")], 10) == "m1: 4 of 9\n"
    assert lines.end() == ""


def test_several_reasons_are_a_list() -> None:
    fields = {"reasons": ["m2 is at v1.36.", "m3 is not ready."], "more": 4}
    event = {"kind": "waiting", "message": "Waiting: m2 is at v1.36; m3 is not ready; and 4 more.", "fields": fields}
    assert sentences(event) == ["Waiting:", "  m2 is at v1.36.", "  m3 is not ready.", "  and 4 more"]
    event["fields"] = {"reasons": ["m2 is at v1.36."]}
    assert sentences(event) == [event["message"]]


def test_nothing_from_a_target_can_steer_a_terminal() -> None:
    assert Lines("m1").take([waiting("a\x1b[2Jb\nc\rd")], 0) == "m1: ab c d\n"


def test_a_terminal_gets_one_line_under_the_notices() -> None:
    status = Status("m1", started=0)
    assert status.take([], 3, 80) == ""
    assert status.take([progress("5 of 10 objects")], 4, 80) == f"{ERASE}m1: [##########----------] 5 of 10 objects"
    assert status.take([waiting("m2 is old")], 5, 80) == f"{ERASE}m1: m2 is old\nm1: waiting for 5 s ..."
    assert status.take([], 65, 80) == f"{ERASE}m1: waiting for 1 min 5 s ..."
    assert status.end() == ERASE
    assert status.end() == ""


def test_the_line_never_wraps() -> None:
    status = Status("m1", started=0)
    drawn = status.take([progress("x" * 200)], 4, 40).removeprefix(ERASE)
    assert len(drawn) == 39 and drawn.endswith("...")
    assert cut("short", 40) == "short"


def test_a_bar_needs_a_known_total() -> None:
    assert progress_bar({"done": 10, "total": 10, "total_is_known": True}) == "[####################] "
    assert progress_bar({"done": 5, "total": 10, "total_is_known": False}) == ""
    assert progress_bar({"done": 5, "total": None, "total_is_known": True}) == ""
    assert progress_bar({}) == ""
