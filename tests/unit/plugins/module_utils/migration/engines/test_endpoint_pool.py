# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which server gets the next request, and when one is taken out."""

from __future__ import annotations

from typing import Any, cast

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.endpoints import (
    Endpoint,
    EndpointPool,
)


def server(url: str) -> ApiServer:
    return ApiServer(url, cast(Any, None), cast(Any, None))


A, B = server("https://a"), server("https://b")


def lost(kind: str) -> UnreachableError:
    return UnreachableError("no answer", kind=kind)


def fail(endpoints: EndpointPool, kind: str) -> str:
    """One request to the server whose turn it is gets no answer; its URL."""
    endpoint = cast(Endpoint, endpoints.pick())
    endpoints.start(endpoint)
    endpoints.failed(endpoint, lost(kind), 1.0)
    return endpoint.server.url


def test_requests_go_where_there_is_room() -> None:
    endpoints = EndpointPool([A, B], workers=8)
    for _request in range(8):
        endpoints.start(cast(Endpoint, endpoints.pick()))
    assert endpoints.pick() is None and endpoints.in_flight == 8


def test_a_server_that_refuses_is_out_at_once_and_the_other_does_its_work() -> None:
    endpoints = EndpointPool([A, B], workers=8)
    gone = fail(endpoints, "refused")
    assert endpoints.out == [gone]
    picked = {cast(Endpoint, endpoints.pick()).server.url for _turn in range(4)}
    assert picked == {"https://a", "https://b"} - {gone}


def test_one_reset_is_not_a_reason_but_three_in_a_row_are() -> None:
    endpoints = EndpointPool([A], workers=8)
    fail(endpoints, "reset")
    fail(endpoints, "timeout")
    assert endpoints.out == []
    endpoint = cast(Endpoint, endpoints.pick())
    endpoints.start(endpoint)
    endpoints.answered(endpoint, 2.0)
    for _request in range(2):
        fail(endpoints, "reset")
    assert endpoints.out == [], "an answer came in between"
    fail(endpoints, "reset")
    assert endpoints.out == ["https://a"] and endpoints.pick() is None


def test_a_late_answer_readmits_no_server() -> None:
    endpoints = EndpointPool([A], workers=8)
    late = cast(Endpoint, endpoints.pick())
    endpoints.start(late)
    fail(endpoints, "refused")
    endpoints.answered(late, 2.0)
    assert endpoints.servers == []
    endpoints.readmit(A)
    assert endpoints.servers == [A] and endpoints.in_flight == 0


def test_idle_servers_take_turns() -> None:
    """At a low rate there is never more than one request in flight, and still all servers do their part."""
    endpoints = EndpointPool([server("https://a"), server("https://b"), server("https://c")], 8)
    picked = []
    for _turn in range(6):
        endpoint = cast(Endpoint, endpoints.pick())
        picked.append(endpoint.server.url)
        endpoints.start(endpoint)
        endpoints.answered(endpoint, 0.0)
    assert picked == ["https://a", "https://b", "https://c"] * 2
