# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much of the API servers' time a run may take from others, and what it kept to. Pure: the time is an argument."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.priority import Classified, Priority
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.concurrency import (
    ConcurrencyLimit,
    ThroughputLimit,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.latency import LatencyLimit

LOW, NORMAL, HIGH = "low", "normal", "high"
EXEMPT = (
    "API Priority and Fairness exempts this user, as it does every member of system:masters: the API servers never make these requests wait for "
    "other clients', and only impact and max_rate hold them back. To have the API servers limit them, run as a user to whom "
    "kube-storage-upgrade-priority.yml applies."
)


@dataclass(frozen=True)
class Impact:
    """What ``impact`` stands for.

    ``limit``: makes the limit of one server. ``at_once``: requests in flight over all servers, None for no bound of its own.
    ``rest``: after each answer nothing is sent for this many times as long as it took, the "nice ratio" of GitHub's gh-ost.
    ``page``: objects in one page of a list, None for no bound of its own.
    ``niceness``: of this process on its host; see _base/niceness.py.
    """

    name: str
    limit: Callable[[int], ConcurrencyLimit]
    at_once: int | None = None
    rest: float = 0.0
    page: int | None = None
    niceness: int = 0


_IMPACTS = {
    # One request at a time, and three quarters of the time none.
    LOW: Impact(LOW, ThroughputLimit, at_once=1, rest=3.0, page=100, niceness=10),
    # On two cores shared with the API server, 5 costs a twentieth of the speed and halves what the others notice; 10 costs a tenth more.
    NORMAL: Impact(NORMAL, LatencyLimit, niceness=5),
    HIGH: Impact(HIGH, ThroughputLimit),
}


def impact_of(name: str) -> Impact:
    """By the value of the option."""
    return _IMPACTS[name]


class Held(Enum):
    """Why no request was sent although there was something to do."""

    CONCURRENCY = "concurrency"
    WORKERS = "workers"
    MAX_RATE = "max_rate"
    REST = "rest"
    ASKED = "retry_after"
    NOT_WRITABLE = "not_writable"


# Buckets of latencies: each is a tenth wider than the one before.
_WIDER = math.log(1.1)
_SMALLEST = 0.0001


class Latencies:
    """Latencies in seconds, kept as counts in buckets, so that any number of them takes the same memory."""

    def __init__(self) -> None:
        self.count = 0
        self._buckets: dict[int, int] = {}

    @classmethod
    def of(cls, parts: Iterable[Latencies]) -> Latencies:
        """All of them together."""
        whole = cls()
        for part in parts:
            whole.count += part.count
            for bucket, number in part._buckets.items():
                whole._buckets[bucket] = whole._buckets.get(bucket, 0) + number
        return whole

    def add(self, seconds: float) -> None:
        bucket = int(math.log(max(seconds, _SMALLEST) / _SMALLEST) / _WIDER)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1

    def quantile(self, share: float) -> float | None:
        """Correct within a twentieth; None without any."""
        left = share * self.count
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return float(_SMALLEST * math.exp((bucket + 0.5) * _WIDER))
        return None

    def as_dict(self) -> dict[str, float | None]:
        """In milliseconds."""
        found = {f"p{share}": self.quantile(share / 100) for share in (50, 90, 99)}
        return {name: milliseconds(value) for name, value in found.items()}


def milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


@dataclass
class InFlight:
    """How many requests were in flight to one server: the most, and the mean over the time in which there were any."""

    most: int = 0
    _sum: float = 0.0
    _seconds: float = 0.0
    _now: int = 0
    _since: float = 0.0

    def change(self, number: int, now: float) -> None:
        if self._now:
            self._sum += self._now * (now - self._since)
            self._seconds += now - self._since
        self._now, self._since = number, now
        self.most = max(self.most, number)

    @property
    def mean(self) -> float | None:
        return round(self._sum / self._seconds, 1) if self._seconds else None


@dataclass
class PaceKept:
    """What one run kept to. ``held``: seconds by reason.

    ``classified``: how API Priority and Fairness classified the run's writes, and ``priority`` the same by name.
    ``note``: what the option ``impact`` had no effect on, as a sentence.
    """

    impact: str = NORMAL
    latencies: Latencies = field(default_factory=Latencies)
    held: dict[Held, float] = field(default_factory=dict)
    servers: list[dict[str, Any]] = field(default_factory=list)
    classified: Classified | None = None
    priority: Priority = Priority()
    note: str | None = None
    _why: Held | None = None
    _since: float = 0.0

    def hold(self, why: Held | None, now: float) -> None:
        """From now on nothing more is sent, and why; None if nothing is held, or there is nothing to do."""
        if self._why is not None:
            self.held[self._why] = self.held.get(self._why, 0.0) + now - self._since
        self._why, self._since = why, now

    def as_dict(self) -> dict[str, Any]:
        """As the module returns it."""
        return {
            "impact": self.impact,
            "latency_ms": self.latencies.as_dict(),
            "servers": self.servers,
            "held_back": {why.value: round(self.held.get(why, 0.0), 1) for why in Held},
            "flow_schema": self.priority.schema,
            "priority_level": self.priority.level,
            "exempt": self.priority.exempt,
            "note": self.note,
        }
