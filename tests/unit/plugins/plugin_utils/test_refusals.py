# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What keeps the role from touching a master: nothing that is missing counts as good."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._refusals import (
    cut_off_steps,
    in_its_turn,
    not_all_ready,
    others_not_ready,
    still_at_work,
)

ALL = ["m1", "m2", "m3"]


def server(name: str, ready: bool = True, error: str | None = None) -> dict[str, Any]:
    return {"url": f"https://{name}:6443", "ready": ready, "error": error}


def found(*servers: dict[str, Any], reasons: list[str] | None = None) -> dict[str, Any]:
    return {"servers": list(servers), "reasons": reasons or []}


THREE = found(*(server(name) for name in ALL))


def test_an_upgrade_begins_with_all_servers_ready() -> None:
    assert not_all_ready(THREE, 3) == not_all_ready(THREE, "3") == not_all_ready(THREE, 0) == []
    assert not_all_ready(THREE, 4) == ["3 of 4 API servers are ready."]
    down = found(server("m1"), server("m2", ready=False), reasons=["m2 is down."])
    assert not_all_ready(down, 2) == ["m2 is down."]
    assert not_all_ready(found(server("m1"), server("m2", error="timed out")), 2) == ["1 of 2 API servers are ready."]


def test_no_upgrade_begins_while_another_server_is_alive() -> None:
    """Issue 13, number 3: the masters could never agree."""
    more = {**found(*THREE["servers"], reasons=["m4 is alive."]), "unlisted_servers": [{"name": "m4"}]}
    assert not_all_ready(more, 3) == ["m4 is alive."]


@pytest.mark.parametrize("answer", [None, {}, {"failed": True, "msg": "x"}, {"servers": []}, {"skipped": True}, "text"])
def test_no_answer_is_not_permission(answer: Any) -> None:
    assert not_all_ready(answer, 0) == ["The API servers could not be asked."]
    assert others_not_ready(answer, [server("m1")], 0) == ["The API servers could not be asked."]


def test_a_master_is_touched_while_all_others_are_ready() -> None:
    own = [server("m2", ready=False)]
    assert others_not_ready(found(server("m1"), server("m2", ready=False), server("m3")), own, 3) == []
    assert others_not_ready(found(server("m1", ready=False), server("m2")), own, 2) == [
        "0 of 1 other API servers are ready."
    ]
    assert others_not_ready(found(server("m1", error="x"), server("m2"), reasons=["why"]), own, 2) == ["why"]
    assert others_not_ready(found(server("m2")), own, 3) != []
    assert others_not_ready(THREE, [], 3) != [] and others_not_ready(THREE, [server("m1"), server("m2")], 3) != []
    assert others_not_ready(THREE, [server("m9")], 3) == [
        "https://m9:6443 is not one of the API servers that answered."
    ]


def turn(answer: Any, own: Any = None, others: Any = (), expected: Any = 3) -> str:
    return in_its_turn("m2", answer, [server("m2")] if own is None else own, others, expected)


def test_a_master_may_be_touched_in_its_turn() -> None:
    asked = {**THREE, "error": None}
    assert turn(asked) == turn(asked, others=["https://m1:6443"]) == turn(asked, expected=0) == ""


def test_one_that_the_cluster_no_longer_lists_is_down() -> None:
    """With rolling_upgrade_expected_servers 0, the next master was taken down beside it."""
    two = {**found(server("m2"), server("m3")), "error": None}
    own = [server("m2")]
    assert in_its_turn("m2", two, own, (), 0, ALL).startswith(
        "m2 was not touched, because not all other API servers are ready: 1 of 2 other API servers are ready."
    )
    assert (
        in_its_turn("m2", two, own, (), 0, ["m2", "m3"])
        == in_its_turn("m2", {**THREE, "error": None}, own, (), 0, ALL)
        == ""
    )


@pytest.mark.parametrize(
    ("answer", "own", "others", "says"),
    [
        ({"failed": True, "msg": "This roll no longer holds the Lease."}, [], (), "no longer holds the Lease. m2 was"),
        ({"error": "unreachable", "msg": "No answer.\nMore."}, [], (), "No answer. m2 was not touched."),
        ({**THREE}, None, (), "could not be asked. m2 was not touched."),
        (None, None, (), "could not be asked. m2 was not touched."),
        ({**THREE, "error": None}, [], (), "No API server could be matched with m2 (known are https://m1:6443, "),
        ({**THREE, "error": None}, THREE["servers"][:2], (), "No API server could be matched with m2"),
        ({**THREE, "error": None}, None, ["https://m2:6443"], "is the API server of m2 and of another master"),
        (
            {**found(server("m1", ready=False), server("m2"), server("m3"), reasons=["m1 is down."]), "error": None},
            None,
            (),
            "m2 was not touched, because not all other API servers are ready: m1 is down. Bring them back",
        ),
    ],
)
def test_why_a_master_is_not_touched_in_its_turn(answer: Any, own: Any, others: Any, says: str) -> None:
    assert says in turn(answer, own, others)


STEP = {
    "id": "a" * 16,
    "master": "m1",
    "begun": "2026-11-26 16:12:34 UTC",
    "who": "alice",
    "holder": "alice@h/1",
    "host": "h",
}


def look(item: str, **more: Any) -> dict[str, Any]:
    return {"item": item, "processes": [], "steps": [], "complete": True, "run_at_work": False, **more}


CLEAN = [look(name) for name in ALL]


def refusals(looks: Any, step: Any = None, ended: Any = (), run: str = "bob@h/2") -> list[str]:
    return still_at_work(looks, step, ALL, ended, run)


def test_nothing_on_record_and_nothing_seen() -> None:
    assert refusals(CLEAN) == [] and cut_off_steps(CLEAN, None) == []


def test_a_step_that_is_over_is_not_a_reason_but_is_reported() -> None:
    assert refusals(CLEAN, STEP) == []
    marked = [look("m1", steps=[{"id": "a" * 16, "master": "m1", "about": STEP}]), *CLEAN[1:]]
    told = [{"id": "a" * 16, "master": "m1", "begun": STEP["begun"], "who": "alice", "host": "h"}]
    assert cut_off_steps(marked, None) == cut_off_steps(CLEAN, STEP) == cut_off_steps(marked, STEP) == told


def test_a_running_step_is_a_reason_with_a_way_out() -> None:
    busy = {"pid": 7, "step": "a" * 16, "name": "kubeadm"}
    for looks, step in (
        ([look("m1", processes=[busy]), *CLEAN[1:]], STEP),
        ([look("m1", processes=[busy], steps=[{"id": "a" * 16, "master": "m1", "about": {}}]), *CLEAN[1:]], None),
    ):
        (reason,) = refusals(looks, step)
        assert (
            "its tasks are still running there: kubeadm (pid 7)" in reason
            and "rolling_upgrade_cut_off_ended to 'aaaaaaaaaaaaaaaa'" in reason
        )
        assert refusals(looks, step, "a" * 16) == refusals(looks, step, ["a" * 16]) == []
        assert refusals(looks, step, ["b" * 16]) != []


def test_what_could_not_be_checked_is_a_reason() -> None:
    (reason,) = refusals([look("m1", complete=False), *CLEAN[1:]], STEP)
    assert "this user can't see all processes there. Run again as root" in reason
    (reason,) = refusals([look("m1", run_at_work=True), *CLEAN[1:]], STEP)
    assert "still runs tasks on this controller" in reason
    (reason,) = refusals(CLEAN, {**STEP, "master": "elsewhere"})
    assert "no such master is in this play" in reason
    (reason,) = refusals(CLEAN, STEP, run="alice@h/1")
    assert "in this run. " in reason
    unreachable = {"item": "m2", "unreachable": True, "msg": "Failed to connect.\nmore"}
    assert refusals([CLEAN[0], unreachable, CLEAN[2]]) == [
        "Whether an upgrade step is still running on m2 is unknown: Failed to connect. Make sure that Ansible can log in and run tasks there, and run again."
    ]
    assert len(refusals([])) == len(refusals(None)) == 3
    assert len(refusals([*CLEAN[:2], {"item": "m3", "failed": True, "msg": "no Python"}])) == 1
