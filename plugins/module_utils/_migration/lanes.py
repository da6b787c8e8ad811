# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API servers as writers: which one gets the next request, which one is out, and for how long."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.pace import Limit

_FAILURES_UNTIL_OUT = 3


@dataclass
class Lane:
    """One API server, its own limit, and what it has in flight."""

    server: ApiServer
    limit: Limit
    in_flight: int = 0
    out: bool = False
    failures: int = 0
    last_turn: int = 0


class Lanes:
    """Spreads requests over all servers in proportion to what each can take.

    A server that can't be reached is taken out; only the guard takes it back, when it is ready and
    its hashes agree.
    """

    def __init__(self, servers: Iterable[ApiServer], workers: int) -> None:
        self._workers = workers
        self._lanes = {server.url: Lane(server, Limit(workers)) for server in servers}
        self.in_flight = 0
        self._turn = 0

    @property
    def slots(self) -> int:
        """How many requests may be in flight now, over all servers."""
        return min(self._workers, sum(lane.limit.slots for lane in self._lanes.values() if not lane.out))

    @property
    def servers(self) -> list[ApiServer]:
        """The servers in use."""
        return [lane.server for lane in self._lanes.values() if not lane.out]

    @property
    def out(self) -> list[str]:
        """URLs of the servers that were taken out."""
        return [url for url, lane in self._lanes.items() if lane.out]

    def pick(self) -> Lane | None:
        """The server with the largest free share of its limit, in turn where it is the same; None if all are busy or out."""
        lane = self.least_loaded() if self.in_flight < self._workers else None
        return lane if lane is not None and lane.in_flight < lane.limit.slots else None

    def least_loaded(self) -> Lane | None:
        """A server for a list, busy or not; None if all are out.

        Lists are few and don't wait for a free slot: else the objects of a large resource, which take
        every slot as it gets free, would hold up the first page of a small one.
        """
        usable = [lane for lane in self._lanes.values() if not lane.out]
        return min(usable, key=lambda lane: (lane.in_flight / lane.limit.slots, lane.last_turn), default=None)

    def start(self, lane: Lane) -> None:
        self._turn += 1
        lane.last_turn = self._turn
        lane.in_flight += 1
        self.in_flight += 1

    def answered(self, lane: Lane, now: float) -> None:
        lane.limit.completed(now, lane.in_flight)
        lane.failures = 0
        self._end(lane)

    def failed(self, lane: Lane, error: UnreachableError, now: float) -> None:
        """No answer came. A refusal takes the server out; resets and timeouts do when no answer comes in between."""
        lane.failures += 1
        if error.kind == "timeout":
            lane.limit.overloaded(now)
        if error.kind not in ("timeout", "reset") or lane.failures >= _FAILURES_UNTIL_OUT:
            lane.out = True
        self._end(lane)

    def take_out(self, url: str) -> None:
        if url in self._lanes:
            self._lanes[url].out = True

    def take_back(self, server: ApiServer) -> None:
        """A server is ready and agrees: one that was out, or one that is new."""
        lane = self._lanes.get(server.url)
        if lane is None:
            self._lanes[server.url] = Lane(server, Limit(self._workers))
        elif lane.out:
            lane.out, lane.failures, lane.limit = False, 0, Limit(self._workers)

    def _end(self, lane: Lane) -> None:
        lane.in_flight -= 1
        self.in_flight -= 1
