# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Events of long-running work, for anything that wants to show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """``kind`` is for programs (``waiting``, ``progress``, ``notice`` …), ``message`` for a person."""

    kind: str
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)


Report = Callable[[Event], None]


def nobody_listens(_event: Event) -> None:
    """A Report for callers who don't show anything."""
