# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many requests to have in flight so that a server is busy and others don't wait for it. Pure: the time is an argument.

Beyond the knee of its throughput, more requests in flight just queue in the API server, and so do everybody else's. TCP Vegas
(Brakmo and Peterson, "TCP Vegas: End to End Congestion Avoidance on a Global Internet", 1995) sees that queue from outside: of N
requests in flight, N * (1 - alone / now) are waiting, where ``alone`` is the latency of a request that finds the server
free, and ``now`` the present one. Netflix's concurrency-limits (github.com/Netflix/concurrency-limits, VegasLimit and Gradient2Limit)
uses that for services, and from there come bounds on the queue that grow with the limit, the rule that a limit which isn't
used doesn't grow, and falling by no more than half at a time.

What is different here: ``alone`` is measured, not taken from the fastest answer so far. Every ten seconds a few requests are sent one
at a time, with nothing else of ours in flight, as BBR drains its queue to measure the round trip (Cardwell et al., "BBR:
Congestion-Based Congestion Control", 2016; PROBE_RTT). Objects differ in what they cost the server, so the fastest answer may be that of
a smaller kind. The least of the last three measurements counts: one that others' requests have slowed down doesn't raise it,
and a latency that has risen permanently is believed within half a minute.

The bounds on the queue are shared by the API servers, since on small clusters they share a machine, and always etcd.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

FIRST = 2.0
# The queue, in requests, below which the limit grows and above which it shrinks: for a small server, and in relation to the limit.
_GROW_BELOW, _GROW_BELOW_SHARE = 2.0, 0.2
_SHRINK_ABOVE, _SHRINK_ABOVE_SHARE = 3.0, 0.3
_SLOW_START = 1.5
_OVERLOADED = 0.7
# A window ends after this many answers for each slot and this many seconds; while slow start lasts, sooner.
_ANSWERS, _LEAST_ANSWERS = 2, 10
_WINDOW, _WINDOW_OF_SLOW_START = 0.25, 0.06
_LONGEST_WINDOW = 2.0
# New connections and pauses of the server's make some answers much slower; they say nothing about the queue.
_FASTEST = 0.75
# After a growth that had to be taken back, and after a server said that it is overloaded.
_HOLD, _HOLD_OVERLOADED = 5.0, 10.0
# Measurements alone: how often, how many are kept, when one ends.
_ALONE_EVERY = 10.0
_ALONE_KEPT = 3
_ALONE_MOST = 16
_ALONE_FEWEST, _ALONE_SECONDS = 5, 0.1
_ALONE_LONGEST = 1.0


@dataclass
class LatencyLimit:
    """Implements ConcurrencyLimit: as many as the server can work on."""

    maximum: int
    value: float = field(default=0.0)
    _slow_start: bool = True
    _alone: deque[float] = field(default_factory=lambda: deque(maxlen=_ALONE_KEPT))
    _measuring: bool = True
    _measured_from: float | None = None
    _measure_at: float = float("-inf")
    _singles: list[float] = field(default_factory=list)
    _window_start: float | None = None
    _took: list[float] = field(default_factory=list)
    _in_flight: int = 0
    _grew: bool = False
    _held_until: float = float("-inf")
    _shrunk_at: float = float("-inf")

    def __post_init__(self) -> None:
        self.value = min(self.value or FIRST, float(self.maximum))

    @property
    def slots(self) -> int:
        return max(1, int(self.value))

    @property
    def alone(self) -> float | None:
        return min(self._alone) if self._alone else None

    def measures_alone(self, now: float) -> bool:
        if not self._measuring and now >= self._measure_at:
            self._measuring, self._measured_from = True, None
            self._singles.clear()
        return self._measuring

    def completed(self, now: float, in_flight: int, took: float, *, alone: bool, servers: int) -> None:
        if self._measuring:
            if alone:
                self._single(now, took)
            return
        if self._window_start is None:
            self._window_start = now
            return
        self._took.append(took)
        self._in_flight += in_flight
        elapsed, number = now - self._window_start, len(self._took)
        enough = max(_LEAST_ANSWERS, _ANSWERS * self.slots)
        least = _WINDOW_OF_SLOW_START if self._slow_start else _WINDOW
        if (elapsed >= least and number >= enough) or (elapsed >= _LONGEST_WINDOW and number >= self.slots):
            self._decide(now, _typical(self._took), self._in_flight / number, servers)
            self._begin_window(now)

    def _begin_window(self, now: float | None) -> None:
        self._window_start, self._in_flight = now, 0
        self._took.clear()

    def _single(self, now: float, took: float) -> None:
        if self._measured_from is None:
            self._measured_from = now - took
        self._singles.append(took)
        lasted, number = now - self._measured_from, len(self._singles)
        few = number >= _ALONE_FEWEST and lasted >= _ALONE_SECONDS
        if number >= _ALONE_MOST or few or lasted >= _ALONE_LONGEST:
            self._alone.append(_typical(self._singles))
            self._end_of_measurement(now, lasted)

    def gave_up_alone(self, now: float) -> None:
        self._end_of_measurement(now, _ALONE_LONGEST)

    def _end_of_measurement(self, now: float, lasted: float) -> None:
        self._measuring = False
        # Where each answer takes long, measuring takes its share of the time, not all of it.
        self._measure_at = now + max(_ALONE_EVERY, 20.0 * lasted)
        self._begin_window(None)

    def _decide(self, now: float, took: float, in_flight: float, servers: int) -> None:
        alone = self.alone
        if alone is None:
            return
        working = in_flight * min(1.0, alone / took)
        queue = in_flight - working
        grow_below = max(_GROW_BELOW / servers, _GROW_BELOW_SHARE * in_flight)
        shrink_above = max(_SHRINK_ABOVE / servers, _SHRINK_ABOVE_SHARE * in_flight)
        if queue > shrink_above:
            if self._grew:
                self._held_until = max(self._held_until, now + _HOLD)
            self._set(max(self.value / 2, min(self.value - 1, working + shrink_above)))
            self._slow_start = self._grew = False
        elif queue >= grow_below:
            self._slow_start = self._grew = False
        elif now >= self._held_until and in_flight >= 0.75 * self.slots:
            # A limit that was not used says nothing about more.
            self._set(max(self.value + 1, self.value * (_SLOW_START if self._slow_start else 1.05)))
            self._grew = True

    def _set(self, value: float) -> None:
        self.value = max(1.0, min(float(self.maximum), value))

    def overloaded(self, now: float) -> None:
        """Counts once per window."""
        if now - self._shrunk_at < _WINDOW:
            return
        self._shrunk_at = now
        self._held_until = now + _HOLD_OVERLOADED
        self._slow_start = self._grew = False
        self._set(self.value * _OVERLOADED)
        if not self._measuring:
            self._begin_window(None)


def _typical(took: Sequence[float]) -> float:
    """The mean of the faster ones."""
    kept = sorted(took)[: max(1, int(len(took) * _FASTEST))]
    return sum(kept) / len(kept)
