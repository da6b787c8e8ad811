# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many requests to have in flight for the most throughput, and how many per second. Pure: the time is an argument.

This is ``impact: high``; latency.py is the default. Each API server has its own limit. The rule is hill climbing on throughput
within slow start and multiplicative decrease (Chiu and Jain, "Analysis of the Increase and Decrease Algorithms", 1989; RFC 5681),
as in adaptive concurrency limiters: grow by half while that brings at least 5 % more throughput,
else go back and hold; shrink by 30 % on 429, 503, 504 and timeouts, and by 15 % when throughput at the
same concurrency falls by 40 % for a second, which by Little's law is latency rising by two thirds. After a
hold it probes again. Slowness alone never takes it below its initial value: a few requests don't strain a server,
and on a busy machine throughput often falls by that much for unrelated reasons (measured: the limit went down
step by step, and a fifth of the throughput with it). The initial value gives one API server on two cores enough
to do even while this process, which has only one thread, is busy with other answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

_WINDOW_SECONDS = 0.5
_GROW = 1.5
_WORTH_IT = 1.05
_OVERLOADED = 0.7
_SLOWER = 0.6
_SLOW_WINDOWS = 2
_SLOWED = 0.85
_HOLD_SECONDS = 10.0
FIRST = 32


class ConcurrencyLimit(Protocol):
    """How many requests to one server may be in flight at once, learned from its answers. Times are in seconds.

    ``slots``: that number. ``alone``: the latency of a request with no other of ours in flight; None if that isn't measured.
    """

    @property
    def slots(self) -> int: ...

    @property
    def alone(self) -> float | None: ...

    def measures_alone(self, now: float) -> bool:
        """Whether the next requests are to be sent one at a time, with none of ours in flight to any server."""

    def completed(self, now: float, in_flight: int, took: float, *, alone: bool, servers: int) -> None:
        """One request was answered; ``in_flight`` is the number just before the answer.

        ``alone``: no other write of ours was in flight meanwhile. ``servers``: how many share the work.
        """

    def gave_up_alone(self, now: float) -> None:
        """Nothing was learned from a request that was alone, as no answer came soon."""

    def overloaded(self, now: float) -> None:
        """The server said that it is overloaded, or did not answer in time."""


@dataclass
class ThroughputLimit:
    """Implements ConcurrencyLimit: as many as bring throughput."""

    maximum: int
    value: float = field(default=0.0)
    alone: float | None = None
    _growing: bool = True
    _best_rate: float = 0.0
    _best_value: float = 0.0
    _held_until: float = 0.0
    _window_start: float | None = None
    _completed: int = 0
    _was_full: bool = False
    _slow: int = 0
    _shrunk_at: float = float("-inf")

    def __post_init__(self) -> None:
        self.value = self.value or float(min(FIRST, self.maximum))

    @property
    def slots(self) -> int:
        return max(1, int(self.value))

    def measures_alone(self, now: float) -> bool:
        return False

    def gave_up_alone(self, now: float) -> None:
        """It measures nothing alone."""

    def completed(
        self, now: float, in_flight: int, took: float = 0.0, *, alone: bool = False, servers: int = 1
    ) -> None:
        if self._window_start is None:
            self._window_start = now
            return
        self._completed += 1
        self._was_full = self._was_full or in_flight >= self.slots
        elapsed = now - self._window_start
        if elapsed >= _WINDOW_SECONDS and self._completed >= 2 * self.slots:
            rate, full = self._completed / elapsed, self._was_full
            self._window_start, self._completed, self._was_full = now, 0, False
            if full:  # A server that was not kept busy says nothing about its limit.
                self._decide(now, rate)

    def overloaded(self, now: float) -> None:
        """Counts once per window."""
        if now - self._shrunk_at < _WINDOW_SECONDS:
            return
        self._shrunk_at = now
        self._shrink(now, max(1.0, self.value * _OVERLOADED))

    def _shrink(self, now: float, value: float) -> None:
        self.value = value
        self._growing = False
        self._best_rate = 0.0
        self._slow = 0
        self._held_until = now + _HOLD_SECONDS
        self._window_start, self._completed = None, 0

    def _decide(self, now: float, rate: float) -> None:
        if self._growing:
            if rate >= self._best_rate * _WORTH_IT:
                self._best_rate, self._best_value = rate, self.value
                self.value = min(float(self.maximum), max(self.value + 1, self.value * _GROW))
            else:
                self.value = self._best_value
                self._growing = False
                self._held_until = now + _HOLD_SECONDS
        elif self._best_rate == 0.0:
            self._best_rate, self._best_value = rate, self.value
        elif rate < self._best_rate * _SLOWER:
            self._slow += 1
            if self._slow >= _SLOW_WINDOWS:
                self._shrink(now, max(min(self.value, float(FIRST)), self.value * _SLOWED))
        elif now >= self._held_until:
            self._growing = True
            self._best_rate, self._best_value = rate, self.value
            self.value = min(float(self.maximum), max(self.value + 1, self.value * _GROW))
        else:
            self._slow = 0


@dataclass
class Rate:
    """At most ``per_second`` starts per second (0 for no limit), with a burst of a twentieth of a second's worth."""

    per_second: float
    _next: float = 0.0

    def delay(self, now: float) -> float:
        """Seconds until the next start is allowed; 0 if it is now."""
        if self.per_second <= 0:
            return 0.0
        return max(0.0, self._next - now)

    def started(self, now: float) -> None:
        if self.per_second > 0:
            self._next = max(self._next, now - 0.05) + 1.0 / self.per_second
