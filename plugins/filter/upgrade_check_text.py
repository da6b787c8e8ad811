# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_check_text
short_description: Say what blocks an upgrade and what it changes, as lines and tables
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Turns the result of M(kube_storage.upgrade.upgrade_check) into lines for M(ansible.builtin.debug).
options:
  _input:
    description: The result of M(kube_storage.upgrade.upgrade_check).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what was found
  ansible.builtin.debug:
    msg: "{{ checked | kube_storage.upgrade.upgrade_check_text }}"
"""

RETURN = r"""
_value:
  description: The lines; tables have a line for each row.
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._check_text import check_text


def upgrade_check_text(checked: Mapping[str, Any]) -> list[str]:
    return check_text(checked)


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"upgrade_check_text": upgrade_check_text}
