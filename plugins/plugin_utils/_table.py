# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows as aligned lines that a person can read. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

_GAP = "  "
_LEAST = 12


def table_lines(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str] | Sequence[str], width: int) -> list[str]:
    """The titles, a line under them, and the rows; ``columns`` are keys, or titles and keys. Empty without rows."""
    if not rows:
        return []
    titled = dict(columns) if isinstance(columns, Mapping) else {_title(key): key for key in columns}
    cells = [[_text(row.get(key)) for key in titled.values()] for row in rows]
    right = [all(_is_number(row.get(key)) for row in rows) for key in titled.values()]
    widths = _widths(list(titled), cells, width)
    lines = _lines(list(titled), widths, right)
    lines.append(_GAP.join("-" * column for column in widths))
    for row in cells:
        lines += _lines(row, widths, right)
    return lines


def _title(key: Any) -> str:
    return str(key).replace("_", " ").capitalize()


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value) or "-"
    return " ".join(str(value).split())


def _widths(titles: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """What each column needs; the widest shrink until a line fits, first only by wrapping between words."""
    columns = [[line[at] for line in [titles, *cells]] for at in range(len(titles))]
    widths = [max(len(cell) for cell in column) for column in columns]
    words = [max(len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    room = width - len(_GAP) * (len(titles) - 1)
    for floors in (words, [min(word, _LEAST) for word in words]):
        while sum(widths) > room and any(column > floor for column, floor in zip(widths, floors)):
            widest = max(range(len(widths)), key=lambda at: (widths[at] > floors[at], widths[at]))
            widths[widest] -= 1
    return widths


def _lines(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    wrapped = [textwrap.wrap(cell, column, break_on_hyphens=False) or [""] for cell, column in zip(row, widths)]
    height = max(len(lines) for lines in wrapped)
    found = []
    for at in range(height):
        parts = [lines[at] if at < len(lines) else "" for lines in wrapped]
        aligned = [part.rjust(wide) if to else part.ljust(wide) for part, wide, to in zip(parts, widths, right)]
        found.append(_GAP.join(aligned).rstrip())
    return found
