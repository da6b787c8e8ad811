# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: table
short_description: Format a list of dictionaries as a readable table
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Turns results of this collection's modules into aligned lines, for instance for M(ansible.builtin.debug).
  - Numbers are right-aligned. Long texts are wrapped between words within their column; rows for which even that is too wide become blocks of
    lines.
positional: columns, width
options:
  _input:
    description: The rows.
    type: list
    elements: dict
    required: true
  columns:
    description: The keys to show, in this order, or a dictionary of titles and keys.
    type: raw
    required: true
  width:
    description: The maximum number of characters in a line. By default what fits on the screen.
    type: int
"""

EXAMPLES = r"""
- name: Say what blocks the upgrade
  ansible.builtin.debug:
    msg: "{{ checked.blockers | kube_storage.upgrade.table(['resource', 'what', 'remediation']) }}"

- name: Show the plan, with your own titles
  ansible.builtin.debug:
    msg: "{{ checked.plan.changes | kube_storage.upgrade.table({'Resource': 'resource', 'Now': 'from', 'Then': 'to'}) }}"
"""

RETURN = r"""
_value:
  description: The lines of the table, titles first; empty if there are no rows.
  type: list
  elements: str
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._table import table_lines


def table(rows: Iterable[Mapping[str, Any]], columns: Any, width: int | None = None) -> list[str]:
    """Aligned lines for rows."""
    if isinstance(rows, (str, Mapping)) or not isinstance(rows, Iterable):
        raise AnsibleFilterError("table: the input must be a list of dictionaries.")
    if not isinstance(columns, (Mapping, list, tuple)) or not columns:
        raise AnsibleFilterError("table: columns must be a list of keys, or a dictionary of titles and keys.")
    rows = list(rows)
    if any(not isinstance(row, Mapping) for row in rows):
        raise AnsibleFilterError("table: the input must be a list of dictionaries.")
    return table_lines(rows, columns, width)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        return {"table": table}
