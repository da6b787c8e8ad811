# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the limit of requests in flight follows the throughput of a server."""

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.concurrency import (
    FIRST,
    ThroughputLimit,
)


class Server:
    """Answers at a steady rate for as long as it is told, as a limit that is always full sees it."""

    def __init__(self, limit: ThroughputLimit) -> None:
        self.limit = limit
        self.now = 100.0

    def answers(self, rate: float, seconds: float) -> None:
        for _answer in range(int(rate * seconds)):
            self.now += 1 / rate
            self.limit.completed(self.now, self.limit.slots)


def test_it_grows_while_that_brings_throughput_and_shrinks_when_it_does_not() -> None:
    server = Server(ThroughputLimit(64))
    server.answers(400, 0.6)
    grown = server.limit.slots
    assert grown > FIRST
    server.answers(401, 2.0)
    assert server.limit.slots == FIRST


def test_it_never_grows_beyond_workers() -> None:
    server = Server(ThroughputLimit(20))
    for rate in (400, 800, 1600, 3200):
        server.answers(rate, 0.6)
    assert server.limit.slots == 20


def test_an_overloaded_server_gets_less_at_once_counted_once_per_window() -> None:
    limit = ThroughputLimit(64)
    limit.overloaded(100.0)
    limit.overloaded(100.1)
    assert limit.slots == int(FIRST * 0.7)
    for second in range(101, 140):
        limit.overloaded(float(second))
    assert limit.slots == 1


def test_rising_latency_shrinks_it_but_not_below_where_it_began() -> None:
    server = Server(ThroughputLimit(64, value=40.0))
    server.answers(1000, 2.0)
    before = server.limit.slots
    server.answers(300, 3.0)
    assert FIRST < server.limit.slots < before
    for rate in (100, 40, 15, 6):
        server.answers(rate, 12.0)
    assert server.limit.slots >= FIRST


def test_one_slow_moment_changes_nothing() -> None:
    server = Server(ThroughputLimit(64, value=40.0))
    server.answers(1000, 2.0)
    before = server.limit.slots
    server.answers(300, 0.4)
    server.answers(1000, 2.0)
    assert server.limit.slots == before
