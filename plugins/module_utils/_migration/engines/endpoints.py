# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API servers as targets of writes: which one gets the next request, which one is out, and for how long."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    UnreachableError,
    UnreachableKind,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.concurrency import (
    ConcurrencyLimit,
)

_FAILURES_UNTIL_OUT = 3


@dataclass
class Endpoint:
    """One API server, its own limit, and what it has in flight."""

    server: ApiServer
    limit: ConcurrencyLimit
    in_flight: int = 0
    out: bool = False
    failures: int = 0
    last_turn: int = 0


class EndpointPool:
    """Spreads requests over all servers in proportion to what each can take.

    A server that can't be reached is taken out; only the guard readmits it, when it is ready and
    its hashes agree.
    """

    def __init__(self, servers: Iterable[ApiServer], workers: int) -> None:
        self._workers = workers
        self._endpoints = {server.url: Endpoint(server, ConcurrencyLimit(workers)) for server in servers}
        self.in_flight = 0
        self._turn = 0

    @property
    def slots(self) -> int:
        """How many requests may be in flight now, over all servers."""
        return min(
            self._workers, sum(endpoint.limit.slots for endpoint in self._endpoints.values() if not endpoint.out)
        )

    @property
    def servers(self) -> list[ApiServer]:
        """The servers in use."""
        return [endpoint.server for endpoint in self._endpoints.values() if not endpoint.out]

    @property
    def out(self) -> list[str]:
        """URLs of the servers that were taken out."""
        return [url for url, endpoint in self._endpoints.items() if endpoint.out]

    def pick(self) -> Endpoint | None:
        """The server with the largest free share of its limit, in turn if that is equal; None if all are busy or out."""
        endpoint = self.least_loaded() if self.in_flight < self._workers else None
        return endpoint if endpoint is not None and endpoint.in_flight < endpoint.limit.slots else None

    def least_loaded(self) -> Endpoint | None:
        """A server for a list, busy or not; None if all are out.

        Lists are few and don't wait for a free slot. Otherwise the objects of a large resource, which take
        every slot as it becomes free, would hold up the first page of a small one.
        """
        usable = [endpoint for endpoint in self._endpoints.values() if not endpoint.out]
        return min(
            usable, key=lambda endpoint: (endpoint.in_flight / endpoint.limit.slots, endpoint.last_turn), default=None
        )

    def start(self, endpoint: Endpoint) -> None:
        self._turn += 1
        endpoint.last_turn = self._turn
        endpoint.in_flight += 1
        self.in_flight += 1

    def answered(self, endpoint: Endpoint, now: float) -> None:
        endpoint.limit.completed(now, endpoint.in_flight)
        endpoint.failures = 0
        self._end(endpoint)

    def failed(self, endpoint: Endpoint, error: UnreachableError, now: float) -> None:
        """There was no answer. A refusal takes the server out; so do resets and timeouts without an answer in between."""
        if error.kind in (UnreachableKind.HELD, UnreachableKind.EXHAUSTED):  # It was not asked at all.
            self._end(endpoint)
            return
        endpoint.failures += 1
        if error.kind is UnreachableKind.TIMEOUT:
            endpoint.limit.overloaded(now)
        if (
            error.kind not in (UnreachableKind.TIMEOUT, UnreachableKind.RESET)
            or endpoint.failures >= _FAILURES_UNTIL_OUT
        ):
            endpoint.out = True
        self._end(endpoint)

    def eject(self, url: str) -> None:
        if url in self._endpoints:
            self._endpoints[url].out = True

    def readmit(self, server: ApiServer) -> None:
        """A server is ready and agrees: one that was out, or one that is new."""
        endpoint = self._endpoints.get(server.url)
        if endpoint is None:
            self._endpoints[server.url] = Endpoint(server, ConcurrencyLimit(self._workers))
        elif endpoint.out:
            endpoint.out, endpoint.failures, endpoint.limit = False, 0, ConcurrencyLimit(self._workers)

    def _end(self, endpoint: Endpoint) -> None:
        endpoint.in_flight -= 1
        self.in_flight -= 1
