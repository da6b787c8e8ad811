# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: table
short_description: Write a list of dictionaries as a table that a person can read
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Turns what the modules of this collection return into aligned lines, such as for M(ansible.builtin.debug).
  - Numbers are set to the right. Long texts are wrapped within their column.
positional: columns, width
options:
  _input:
    description: The rows.
    type: list
    elements: dict
    required: true
  columns:
    description: The keys to show, in their order, or a dictionary of titles and keys.
    type: raw
    required: true
  width:
    description: How many characters a line may have.
    type: int
    default: 140
"""

EXAMPLES = r"""
- name: Say what blocks the upgrade
  ansible.builtin.debug:
    msg: "{{ checked.blockers | kube_storage.upgrade.table(['resource', 'what', 'mend']) }}"

- name: The plan, with titles of one's own
  ansible.builtin.debug:
    msg: "{{ checked.plan.changes | kube_storage.upgrade.table({'Resource': 'resource', 'Now': 'from', 'Then': 'to'}) }}"
"""

RETURN = r"""
_value:
  description: The lines of the table, its titles first; empty where there are no rows.
  type: list
  elements: str
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

_GAP = "  "
_LEAST = 12


def table(rows: Iterable[Mapping[str, Any]], columns: Any, width: int = 140) -> list[str]:
    """Aligned lines for rows."""
    if isinstance(rows, (str, Mapping)) or not isinstance(rows, Iterable):
        raise AnsibleFilterError("table: the input must be a list of dictionaries.")
    if not isinstance(columns, (Mapping, list, tuple)) or not columns:
        raise AnsibleFilterError("table: columns must be a list of keys, or a dictionary of titles and keys.")
    rows = list(rows)
    if any(not isinstance(row, Mapping) for row in rows):
        raise AnsibleFilterError("table: the input must be a list of dictionaries.")
    if not rows:
        return []
    titled = dict(columns) if isinstance(columns, Mapping) else {_title(key): key for key in columns}
    cells = [[_text(row.get(key)) for key in titled.values()] for row in rows]
    right = [all(_is_number(row.get(key)) for row in rows) for key in titled.values()]
    widths = _widths(list(titled), cells, width)
    lines = _lines(list(titled), widths, right)
    lines.append(_GAP.join("-" * one for one in widths))
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
        return ", ".join(_text(one) for one in value) or "-"
    return " ".join(str(value).split())


def _widths(titles: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """What each column needs; the widest give way until a line fits, at first only between words."""
    columns = [[line[at] for line in [titles, *cells]] for at in range(len(titles))]
    widths = [max(len(cell) for cell in column) for column in columns]
    words = [max(len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    room = width - len(_GAP) * (len(titles) - 1)
    for floors in (words, [min(one, _LEAST) for one in words]):
        while sum(widths) > room and any(one > floor for one, floor in zip(widths, floors)):
            widest = max(range(len(widths)), key=lambda at: (widths[at] > floors[at], widths[at]))
            widths[widest] -= 1
    return widths


def _lines(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    wrapped = [textwrap.wrap(cell, one, break_on_hyphens=False) or [""] for cell, one in zip(row, widths)]
    height = max(len(one) for one in wrapped)
    found = []
    for at in range(height):
        parts = [one[at] if at < len(one) else "" for one in wrapped]
        aligned = [part.rjust(wide) if to else part.ljust(wide) for part, wide, to in zip(parts, widths, right)]
        found.append(_GAP.join(aligned).rstrip())
    return found


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        return {"table": table}
