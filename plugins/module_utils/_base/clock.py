# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A clock that also counts the time for which the machine slept."""

from __future__ import annotations

import sys
import time


def boottime() -> float:
    """Seconds since some moment in the past; never steps, and keeps running while the machine is suspended.

    time.monotonic() stands still while a Linux machine sleeps, so its users would think that no time has passed. On
    macOS, CLOCK_MONOTONIC counts sleep, but Python's time.monotonic() does not. Other systems get time.monotonic().
    """
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()


def _clock() -> int | None:
    if sys.platform == "darwin":
        return time.CLOCK_MONOTONIC
    return getattr(time, "CLOCK_BOOTTIME", None)


_CLOCK = _clock()
