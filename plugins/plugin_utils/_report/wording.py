# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How times, numbers and names are written in a report. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import duration

_DAY = 86400.0


def clock(at: float, date: bool = False) -> str:
    """``12:00:05``, with the date before it if wanted; in UTC."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S")


def time_taken(length: float) -> str:
    """``4.2 s``, ``43 s``, ``2 min 5 s``, ``3 h 10 min``, ``2 days``."""
    length = max(0.0, length)
    if length < 9.95:
        return f"{length:.1f} s"
    return duration(length) if length < 2 * _DAY else f"{round(length / _DAY)} days"


def number(count: int | None) -> str:
    """``12 345``, with narrow spaces."""
    return "unknown" if count is None else f"{count:,}".replace(",", "\u202f")


def things(count: int | None, noun: str, plural: str | None = None) -> str:
    """``1 object``, ``2 objects``."""
    if count is None:
        return f"an unknown number of {plural or noun + 's'}"
    return f"{number(count)} {noun if count == 1 else plural or noun + 's'}"


def some_of(names: Sequence[str], most: int) -> str:
    """The first of them, and an ellipsis if there are more."""
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")
