# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which server gets the next request, and when one is taken out."""

from __future__ import annotations

from typing import Any, cast

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.lanes import Lane, Lanes


def server(url: str) -> ApiServer:
    return ApiServer(url, cast(Any, None), cast(Any, None))


A, B = server("https://a"), server("https://b")


def lost(kind: str) -> UnreachableError:
    return UnreachableError("no answer", kind=kind)


def fail(lanes: Lanes, kind: str) -> str:
    """One request to the server whose turn it is gets no answer; its URL."""
    lane = cast(Lane, lanes.pick())
    lanes.start(lane)
    lanes.failed(lane, lost(kind), 1.0)
    return lane.server.url


def test_requests_go_where_there_is_room() -> None:
    lanes = Lanes([A, B], workers=8)
    for _request in range(8):
        lanes.start(cast(Lane, lanes.pick()))
    assert lanes.pick() is None and lanes.in_flight == 8


def test_a_server_that_refuses_is_out_at_once_and_the_other_does_its_work() -> None:
    lanes = Lanes([A, B], workers=8)
    gone = fail(lanes, "refused")
    assert lanes.out == [gone]
    picked = {cast(Lane, lanes.pick()).server.url for _turn in range(4)}
    assert picked == {"https://a", "https://b"} - {gone}


def test_one_reset_is_no_reason_but_three_in_a_row_are() -> None:
    lanes = Lanes([A], workers=8)
    fail(lanes, "reset")
    fail(lanes, "timeout")
    assert lanes.out == []
    lane = cast(Lane, lanes.pick())
    lanes.start(lane)
    lanes.answered(lane, 2.0)
    for _request in range(2):
        fail(lanes, "reset")
    assert lanes.out == [], "an answer came in between"
    fail(lanes, "reset")
    assert lanes.out == ["https://a"] and lanes.pick() is None


def test_an_answer_that_comes_late_takes_nobody_back() -> None:
    lanes = Lanes([A], workers=8)
    late = cast(Lane, lanes.pick())
    lanes.start(late)
    fail(lanes, "refused")
    lanes.answered(late, 2.0)
    assert lanes.servers == []
    lanes.take_back(A)
    assert lanes.servers == [A] and lanes.in_flight == 0


def test_idle_servers_take_turns() -> None:
    """At a low rate there is never more than one request in flight, and still all servers do their part."""
    lanes = Lanes([server("https://a"), server("https://b"), server("https://c")], 8)
    picked = []
    for _turn in range(6):
        lane = cast(Lane, lanes.pick())
        picked.append(lane.server.url)
        lanes.start(lane)
        lanes.answered(lane, 0.0)
    assert picked == ["https://a", "https://b", "https://c"] * 2
