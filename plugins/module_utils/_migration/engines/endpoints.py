# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API servers as targets of writes: which one gets the next request, which one is out, and for how long."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    UnreachableError,
    UnreachableKind,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.concurrency import (
    ConcurrencyLimit,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.pace import (
    NORMAL,
    Held,
    InFlight,
    Latencies,
    PaceKept,
    impact_of,
    milliseconds,
)

_FAILURES_UNTIL_OUT = 3
# A server whose latency is measured alone keeps all other writes waiting for no longer than this without an answer, in seconds.
_ALONE_FOR = 3.0


@dataclass
class Endpoint:
    """One API server, its own limit, and what it has in flight: ``writes``, and lists as well in ``in_flight``.

    ``not_before``: until when it asked not to be sent anything, in seconds of time.monotonic().
    ``latencies``, ``kept``: of writes.
    """

    server: ApiServer
    limit: ConcurrencyLimit
    in_flight: int = 0
    writes: int = 0
    out: bool = False
    failures: int = 0
    last_turn: int = 0
    not_before: float = 0.0
    latencies: Latencies = field(default_factory=Latencies)
    kept: InFlight = field(default_factory=InFlight)


class EndpointPool:
    """Spreads requests over all servers in proportion to what each can take.

    A server that can't be reached is taken out; only the guard readmits it, when it is ready and
    its hashes agree.
    """

    def __init__(self, servers: Iterable[ApiServer], workers: int, impact: str = NORMAL) -> None:
        self._impact = impact_of(impact)
        self._workers = min(workers, self._impact.at_once or workers)
        self._endpoints = {server.url: Endpoint(server, self._impact.limit(self._workers)) for server in servers}
        # Those that are not out; kept, because it is asked for twice for each object.
        self._in_use = list(self._endpoints.values())
        self.writes = 0
        self.pace = PaceKept(impact)
        # The server whose latency is being measured with no other write in flight, and when something last happened to that.
        self._measured: Endpoint | None = None
        self._measured_at = 0.0
        self._rest_until = self._asked_until = 0.0
        self._turn = 0

    @property
    def slots(self) -> int:
        """How many requests may be in flight now, over all servers."""
        return min(self._workers, sum(endpoint.limit.slots for endpoint in self._in_use))

    def page_size(self, wanted: int) -> int:
        """Objects in one page of a list."""
        return min(wanted, self._impact.page or wanted)

    @property
    def servers(self) -> list[ApiServer]:
        """The servers in use."""
        return [endpoint.server for endpoint in self._in_use]

    @property
    def out(self) -> list[str]:
        """URLs of the servers that were taken out."""
        return [url for url, endpoint in self._endpoints.items() if endpoint.out]

    def pick(self, now: float) -> Endpoint | None:
        """The server for the next write; None if none may be sent now.

        It is the server with the largest free share of its limit, in turn if that is equal.
        """
        if now < self._rest_until or self.writes >= self._workers:
            return None
        usable = self._in_use
        if now < self._asked_until:
            usable = [endpoint for endpoint in usable if now >= endpoint.not_before]
        measured = self._to_measure(usable, now)
        if measured is not None:
            return measured if self.writes == 0 else None
        endpoint = _least_loaded(usable)
        return endpoint if endpoint is not None and endpoint.writes < endpoint.limit.slots else None

    def _to_measure(self, usable: list[Endpoint], now: float) -> Endpoint | None:
        """The server that is to be measured alone, one after another."""
        measured = self._measured
        if measured is not None:
            if now - self._measured_at >= _ALONE_FOR:
                measured.limit.gave_up_alone(now)
            if measured in usable and measured.limit.measures_alone(now):
                return measured
        self._measured = next((endpoint for endpoint in usable if endpoint.limit.measures_alone(now)), None)
        self._measured_at = now
        return self._measured

    def why_held(self, now: float) -> Held:
        """Why ``pick`` found no server."""
        if now < self._rest_until:
            return Held.REST
        if not self._in_use:
            return Held.NOT_WRITABLE
        if all(now < endpoint.not_before for endpoint in self._in_use):
            return Held.ASKED
        return Held.WORKERS if self.writes >= self._workers else Held.CONCURRENCY

    def delay(self, now: float) -> float | None:
        """Seconds until time alone may change what ``pick`` finds; None if only an answer can."""
        times = [endpoint.not_before for endpoint in self._in_use]
        if self._measured is not None:
            times.append(self._measured_at + _ALONE_FOR)
        times.append(self._rest_until)
        later = [at for at in times if at > now]
        return min(later) - now if later else None

    def least_loaded(self) -> Endpoint | None:
        """A server for a list, busy or not; None if all are out.

        Lists are few and don't wait for a free slot. Otherwise the objects of a large resource, which take
        every slot as it becomes free, would hold up the first page of a small one.
        """
        return _least_loaded(self._in_use)

    def start(self, endpoint: Endpoint) -> None:
        """A list is sent."""
        self._turn += 1
        endpoint.last_turn = self._turn
        endpoint.in_flight += 1

    def start_write(self, endpoint: Endpoint, now: float) -> None:
        """An object is visited."""
        self.start(endpoint)
        endpoint.writes += 1
        self.writes += 1
        endpoint.kept.change(endpoint.writes, now)
        if endpoint is self._measured:
            self._measured_at = now

    def answered(self, endpoint: Endpoint) -> None:
        """A list was answered."""
        endpoint.failures = 0
        endpoint.in_flight -= 1

    def answered_write(self, endpoint: Endpoint, began: float, now: float) -> None:
        """``began``: when it was sent."""
        took, alone = now - began, endpoint is self._measured and self.writes == 1
        endpoint.limit.completed(now, endpoint.writes, took, alone=alone, servers=max(1, len(self._in_use)))
        endpoint.latencies.add(took)
        if self._impact.rest:
            self._rest_until = now + took * self._impact.rest
        self.answered(endpoint)
        self._end_write(endpoint, now)

    def overloaded(self, endpoint: Endpoint, wait: float | None, now: float) -> None:
        """A server said that it is overloaded; ``wait``: for how many seconds it asked not to come back."""
        endpoint.limit.overloaded(now)
        if wait:
            endpoint.not_before = max(endpoint.not_before, now + wait)
            self._asked_until = max(self._asked_until, endpoint.not_before)

    def failed(self, endpoint: Endpoint, error: UnreachableError, now: float) -> None:
        """There was no answer to a list. A refusal takes the server out; so do resets and timeouts without an answer in between."""
        endpoint.in_flight -= 1
        if error.kind in (UnreachableKind.HELD, UnreachableKind.EXHAUSTED):  # It was not asked at all.
            return
        endpoint.failures += 1
        if error.kind is UnreachableKind.TIMEOUT:
            endpoint.limit.overloaded(now)
        if (
            error.kind not in (UnreachableKind.TIMEOUT, UnreachableKind.RESET)
            or endpoint.failures >= _FAILURES_UNTIL_OUT
        ):
            self._set_out(endpoint, True)

    def failed_write(self, endpoint: Endpoint, error: UnreachableError, now: float) -> None:
        """The same for the visit of an object."""
        self.failed(endpoint, error, now)
        self._end_write(endpoint, now)

    def eject(self, url: str) -> None:
        if url in self._endpoints:
            self._set_out(self._endpoints[url], True)

    def readmit(self, server: ApiServer) -> None:
        """A server is ready and agrees: one that was out, or one that is new."""
        endpoint = self._endpoints.get(server.url)
        if endpoint is None:
            endpoint = self._endpoints[server.url] = Endpoint(server, self._impact.limit(self._workers))
        elif endpoint.out:
            endpoint.failures, endpoint.limit = 0, self._impact.limit(self._workers)
        self._set_out(endpoint, False)

    def _set_out(self, endpoint: Endpoint, out: bool) -> None:
        endpoint.out = out
        self._in_use = [candidate for candidate in self._endpoints.values() if not candidate.out]

    def _end_write(self, endpoint: Endpoint, now: float) -> None:
        endpoint.writes -= 1
        self.writes -= 1
        endpoint.kept.change(endpoint.writes, now)
        if endpoint is self._measured:
            self._measured_at = now

    def pace_kept(self) -> PaceKept:
        """What was kept until now."""
        self.pace.hold(None, time.monotonic())
        self.pace.latencies = Latencies.of(endpoint.latencies for endpoint in self._endpoints.values())
        self.pace.servers = [_kept(url, endpoint) for url, endpoint in sorted(self._endpoints.items())]
        return self.pace


def _kept(url: str, endpoint: Endpoint) -> dict[str, Any]:
    """What was kept to at one server, as the module returns it."""
    return {
        "url": url,
        "writes": endpoint.latencies.count,
        "latency_ms": endpoint.latencies.as_dict(),
        "alone_ms": milliseconds(endpoint.limit.alone),
        "in_flight": endpoint.kept.mean,
        "most_in_flight": endpoint.kept.most,
    }


def _least_loaded(endpoints: Iterable[Endpoint]) -> Endpoint | None:
    return min(
        endpoints, key=lambda endpoint: (endpoint.in_flight / endpoint.limit.slots, endpoint.last_turn), default=None
    )
