# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows as aligned lines that a person can read. Pure, except that it asks how wide the screen is."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.utils.display import Display

_GAP = "  "


def screen_width() -> int:
    """How many characters fit into a line of the screen; Ansible assumes about 80 without one."""
    return int(Display().columns)


def fold(lines: Sequence[str], width: int) -> list[str]:
    """The lines, with those that are too long wrapped between words below their own indentation. No word is broken.

    Lines that begin with four spaces are commands to copy, and stay whole.
    """
    found = []
    for line in lines:
        indent = line[: len(line) - len(line.lstrip())]
        wrapped = textwrap.wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
        )
        found += wrapped if len(line) > width and not line.startswith("    ") else [line]
    return found


def table_lines(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str] | Sequence[str], width: int | None = None
) -> list[str]:
    """The titles, a line under them, and the rows; ``columns`` are keys, or titles and keys. Empty without rows.

    Cells are wrapped between words. Where even that doesn't fit into the width (by default the screen's), each row becomes a block:
    its first cell, and the others below it with their titles.
    """
    if not rows:
        return []
    width = width or screen_width()
    titled = dict(columns) if isinstance(columns, Mapping) else {_title(key): key for key in columns}
    cells = [[_text(row.get(key)) for key in titled.values()] for row in rows]
    if not _fits(list(titled), cells, width):
        return _blocks(list(titled), cells, width)
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


def _fits(titles: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> bool:
    """Whether a line can hold the longest words of all columns."""
    words = [
        max(len(word) for line in [titles, *cells] for word in line[at].split() or [""]) for at in range(len(titles))
    ]
    return sum(words) + len(_GAP) * (len(titles) - 1) <= width


def _blocks(titles: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[str]:
    lines = []
    for row in cells:
        lines.append(row[0])
        told = [f"{title}: {cell}" for title, cell in zip(titles[1:], row[1:]) if cell != "-"]
        line = ""
        for part in told:
            if line and len(_GAP) + len(line) + 2 + len(part) > width:
                lines += fold([_GAP + line], width)
                line = ""
            line = f"{line}, {part}" if line else part
        lines += fold([_GAP + line], width) if line else []
    return lines


def _widths(titles: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """What each column needs; the widest shrink until a line fits, by wrapping between words."""
    columns = [[line[at] for line in [titles, *cells]] for at in range(len(titles))]
    widths = [max(len(cell) for cell in column) for column in columns]
    words = [max(len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    room = width - len(_GAP) * (len(titles) - 1)
    while sum(widths) > room and any(column > floor for column, floor in zip(widths, words)):
        widest = max(range(len(widths)), key=lambda at: (widths[at] > words[at], widths[at]))
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
