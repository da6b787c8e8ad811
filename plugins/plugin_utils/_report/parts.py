# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the pages of all reports are made of, for parts.html.j2 and base.html.j2 to show. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Heading:
    """``tone`` is good, bad, fair or open."""

    title: str
    badge: str
    tone: str
    sentence: str


@dataclass(frozen=True)
class Claim:
    """``holds``: True is proven, False is contradicted, None is not proven."""

    holds: bool | None
    text: str


class Figure(NamedTuple):
    """What matters most, large."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Table:
    """``columns`` are titles and looks: ``n`` for numbers, ``text`` for sentences, ``name`` where it may be broken, else nothing."""

    caption: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Any]]
