# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The progress of long work, as events. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event

_NAMED = 3


class Speed:
    """Units per second over the last seconds, which predicts the time left better than the mean since the start."""

    def __init__(self, window: float = 20.0) -> None:
        self._window = window
        self._seen: deque[tuple[float, int]] = deque()

    def at(self, now: float, done: int) -> float:
        """Adds a measurement; returns 0.0 until there are two."""
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._window:
            self._seen.popleft()
        since, before = self._seen[0]
        return max(0.0, (done - before) / (now - since)) if now > since else 0.0


def progress_event(
    unit: str,
    done: int,
    total: int | None,
    rate: float,
    *,
    resources: Sequence[str] = (),
    failures: int = 0,
    uncertain: int = 0,
    total_is_known: bool = True,
) -> Event:
    """How many ``unit`` of the total are done; the time left is included only if the total is known.

    ``uncertain``: of those, how many may have been written by this work or by others.
    """
    total = None if total is None else max(total, done)
    known = total is not None and total_is_known
    left = (total - done) / rate if total is not None and known and rate > 0 else None
    share = f" ({100 * done // total} %)" if total and known else ""
    of = "" if total is None else f" of {'' if known else 'at least '}{total}"
    parts = [f"{done}{of} {unit}{share}"]
    if rate > 0:
        parts.append(f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
    if left is not None and left >= 1:
        parts.append(f"{duration(left)} left")
    if uncertain:
        parts.append(f"{uncertain} uncertain")
    if failures:
        parts.append(f"{failures} failed")
    return Event(
        "progress",
        ", ".join(parts) + (f": {some_of(resources)}" if resources else ""),
        {
            "resources": list(resources),
            "done": done,
            "total": total,
            "total_is_known": known,
            "rate": round(rate, 1),
            "seconds_left": None if left is None else round(left, 1),
            "failures": failures,
            "uncertain": uncertain,
        },
    )


def some_of(names: Sequence[str]) -> str:
    """``a, b, c and 4 more``"""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 20 s``, ``2 h 5 min``"""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 // 60 else "")
