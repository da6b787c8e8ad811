# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""API servers as a queueing model: requests wait for one of a few cores, after a round trip. No clock, no machine."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.endpoints import (
    Endpoint,
    EndpointPool,
)


@dataclass
class Machine:
    """Some cores, and the mean time of a core that a request takes. ``sizes``: how much one differs from another (0: all alike)."""

    cores: int
    service: float
    sizes: float = 0.3
    free: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.free = [0.0] * self.cores

    def done_at(self, now: float, chance: random.Random) -> float:
        """When a request that arrives now is done: first come, first served."""
        begins = max(now, heapq.heappop(self.free))
        ends = begins + self.service * max(0.05, chance.lognormvariate(-(self.sizes**2) / 2, self.sizes))
        heapq.heappush(self.free, ends)
        return ends

    @property
    def most(self) -> float:
        """Requests per second."""
        return self.cores / self.service


class Simulation:
    """A pool that always has something to send, in front of servers on machines. A machine may carry several servers.

    ``others``: requests per second by other clients, to each machine; ``waited``: how long those took.
    """

    def __init__(
        self,
        machines: Sequence[Machine],
        *,
        impact: str = "normal",
        workers: int = 64,
        round_trip: float = 0.0,
        others: float = 0.0,
        seed: int = 1,
    ) -> None:
        self.machines = {f"https://{number}": machine for number, machine in enumerate(machines)}
        servers = [ApiServer(url, cast(Any, None), cast(Any, None)) for url in self.machines]
        self.pool = EndpointPool(servers, workers, impact)
        self.round_trip, self.others = round_trip, others
        self.chance = random.Random(seed)
        self.now = 0.0
        self.waited: list[float] = []
        self.answered: list[float] = []
        self.most_in_flight = 0
        self._wakes = 0.0
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, tuple[Endpoint, float] | Machine | None]] = []
        if others:
            for machine in {id(machine): machine for machine in machines}.values():
                self._at(0.0, machine)

    def _at(self, when: float, what: tuple[Endpoint, float] | Machine | None) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), what))

    def run(self, seconds: float) -> float:
        """Answers a second meanwhile."""
        until, before = self.now + seconds, len(self.answered)
        self._pump()
        while self._events and self._events[0][0] <= until:
            self.now, _number, what = heapq.heappop(self._events)
            if isinstance(what, Machine):
                self.waited.append(what.done_at(self.now, self.chance) - self.now)
                self._at(self.now + self.chance.expovariate(self.others), what)
            elif what is not None:
                endpoint, began = what
                self.pool.answered_write(endpoint, began, self.now)
                self.answered.append(self.now)
            self._pump()
        self.now = until
        return (len(self.answered) - before) / seconds

    def _pump(self) -> None:
        while (endpoint := self.pool.pick(self.now)) is not None:
            self.pool.start_write(endpoint, self.now)
            arrives = self.now + self.round_trip / 2
            machine = self.machines[endpoint.server.url]
            self._at(machine.done_at(arrives, self.chance) + self.round_trip / 2, (endpoint, self.now))
        self.most_in_flight = max(self.most_in_flight, self.pool.writes)
        wait = self.pool.delay(self.now)
        if wait is not None and self._wakes <= self.now:
            self._wakes = self.now + wait
            self._at(self._wakes, None)

    def in_flight(self) -> float:
        """The mean until now, over all servers."""
        return sum(found["in_flight"] or 0.0 for found in self.pool.pace_kept().servers)
