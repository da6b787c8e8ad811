# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which server gets the next request, and when one is taken out."""

from __future__ import annotations

from typing import Any, cast

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.endpoints import (
    Endpoint,
    EndpointPool,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.pace import (
    HIGH,
    LOW,
    Held,
)


def server(url: str) -> ApiServer:
    return ApiServer(url, cast(Any, None), cast(Any, None))


A, B = server("https://a"), server("https://b")


def lost(kind: str) -> UnreachableError:
    return UnreachableError("no answer", kind=kind)


def fail(endpoints: EndpointPool, kind: str) -> str:
    """One request to the server whose turn it is gets no answer; its URL."""
    endpoint = cast(Endpoint, endpoints.pick(1.0))
    endpoints.start_write(endpoint, 1.0)
    endpoints.failed_write(endpoint, lost(kind), 1.0)
    return endpoint.server.url


def test_requests_go_where_there_is_room() -> None:
    endpoints = EndpointPool([A, B], workers=8, impact=HIGH)
    for _request in range(8):
        endpoints.start_write(cast(Endpoint, endpoints.pick(1.0)), 1.0)
    assert endpoints.pick(1.0) is None and endpoints.writes == 8


def test_a_server_that_refuses_is_out_at_once_and_the_other_does_its_work() -> None:
    endpoints = EndpointPool([A, B], workers=8, impact=HIGH)
    gone = fail(endpoints, "refused")
    assert endpoints.out == [gone]
    picked = {cast(Endpoint, endpoints.pick(1.0)).server.url for _turn in range(4)}
    assert picked == {"https://a", "https://b"} - {gone}


def test_one_reset_is_not_a_reason_but_three_in_a_row_are() -> None:
    endpoints = EndpointPool([A], workers=8, impact=HIGH)
    fail(endpoints, "reset")
    fail(endpoints, "timeout")
    assert endpoints.out == []
    endpoint = cast(Endpoint, endpoints.pick(1.0))
    endpoints.start_write(endpoint, 1.0)
    endpoints.answered_write(endpoint, 1.0, 2.0)
    for _request in range(2):
        fail(endpoints, "reset")
    assert endpoints.out == [], "an answer came in between"
    fail(endpoints, "reset")
    assert endpoints.out == ["https://a"] and endpoints.pick(1.0) is None


def test_a_late_answer_readmits_no_server() -> None:
    endpoints = EndpointPool([A], workers=8, impact=HIGH)
    late = cast(Endpoint, endpoints.pick(1.0))
    endpoints.start_write(late, 1.0)
    fail(endpoints, "refused")
    endpoints.answered_write(late, 1.0, 2.0)
    assert endpoints.servers == []
    endpoints.readmit(A)
    assert endpoints.servers == [A] and endpoints.writes == 0


def test_idle_servers_take_turns() -> None:
    """At a low rate there is never more than one request in flight, and still all servers do their part."""
    endpoints = EndpointPool([server("https://a"), server("https://b"), server("https://c")], 8, HIGH)
    picked = []
    for _turn in range(6):
        endpoint = cast(Endpoint, endpoints.pick(1.0))
        picked.append(endpoint.server.url)
        endpoints.start_write(endpoint, 1.0)
        endpoints.answered_write(endpoint, 1.0, 1.0)
    assert picked == ["https://a", "https://b", "https://c"] * 2


def test_a_server_that_asks_to_wait_gets_nothing_until_then() -> None:
    endpoints = EndpointPool([A, B], workers=8, impact=HIGH)
    asking = cast(Endpoint, endpoints.pick(1.0))
    endpoints.overloaded(asking, 3.0, 1.0)
    assert {cast(Endpoint, endpoints.pick(now)).server.url for now in (1.0, 2.0, 3.9)} == {"https://b"}
    endpoints.eject("https://b")
    assert endpoints.pick(3.9) is None and endpoints.why_held(3.9) is Held.ASKED
    assert endpoints.delay(3.0) == 1.0 and endpoints.pick(4.0) is asking


def test_low_impact_is_one_request_at_a_time_and_rests() -> None:
    endpoints = EndpointPool([A, B], workers=8, impact=LOW)
    assert endpoints.page_size(500) == 100
    first = cast(Endpoint, endpoints.pick(10.0))
    endpoints.start_write(first, 10.0)
    assert endpoints.pick(10.0) is None and endpoints.why_held(10.0) is Held.WORKERS
    endpoints.answered_write(first, 10.0, 10.5)
    assert endpoints.pick(11.9) is None and endpoints.why_held(11.9) is Held.REST
    assert endpoints.delay(11.9) == pytest.approx(0.1)
    assert endpoints.pick(12.0) is not None


def test_a_server_is_measured_with_no_other_write_in_flight() -> None:
    endpoints = EndpointPool([A, B], workers=8)
    measured = cast(Endpoint, endpoints.pick(1.0))
    endpoints.start_write(measured, 1.0)
    assert endpoints.pick(1.0) is None
    now = 1.0
    for _answer in range(16):
        endpoints.answered_write(measured, now, now + 0.01)
        now += 0.01
        picked = cast(Endpoint, endpoints.pick(now))
        endpoints.start_write(picked, now)
    assert picked is not measured, "now the other one is"
    assert endpoints.pick(now) is None


def test_an_answer_that_does_not_come_ends_the_measurement() -> None:
    endpoints = EndpointPool([A], workers=8)
    endpoints.start_write(cast(Endpoint, endpoints.pick(1.0)), 1.0)
    assert endpoints.pick(3.9) is None and endpoints.delay(3.9) == pytest.approx(0.1)
    assert endpoints.pick(4.0) is not None


def test_what_was_kept() -> None:
    endpoints = EndpointPool([A], workers=2, impact=HIGH)
    for began, took in ((1.0, 0.010), (2.0, 0.010), (3.0, 0.100)):
        endpoint = cast(Endpoint, endpoints.pick(began))
        endpoints.start_write(endpoint, began)
        endpoints.answered_write(endpoint, began, began + took)
    endpoints.pace.hold(Held.MAX_RATE, 4.0)
    endpoints.pace.hold(Held.CONCURRENCY, 6.0)
    endpoints.pace.hold(None, 6.5)
    kept = endpoints.pace_kept().as_dict()
    assert kept["impact"] == "high" and kept["latency_ms"]["p50"] == pytest.approx(10, rel=0.06)
    assert kept["latency_ms"]["p99"] == pytest.approx(100, rel=0.06)
    assert kept["held_back"]["max_rate"] == 2.0 and kept["held_back"]["concurrency"] == 0.5
    (server,) = kept["servers"]
    assert (server["url"], server["writes"], server["in_flight"], server["most_in_flight"]) == ("https://a", 3, 1.0, 1)
