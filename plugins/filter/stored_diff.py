# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: stored_diff
short_description: Show in which versions objects are stored before and after an upgrade
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Turns the result of M(kube_storage.upgrade.upgrade_check) into the O(kube_storage.upgrade.say#module:diff) of
    M(kube_storage.upgrade.say). With etcd, each stored version has its number of objects.
options:
  _input:
    description: The result of M(kube_storage.upgrade.upgrade_check).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what changes, in diff mode
  kube_storage.upgrade.say:
    lines: []
    diff: "{{ checked | kube_storage.upgrade.stored_diff }}"
"""

RETURN = r"""
_value:
  description: V(before) and V(after), each a line for each resource.
  type: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _verdict


def stored_diff(checked: Mapping[str, Any]) -> dict[str, list[str]]:
    return _verdict.stored_diff(checked)


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"stored_diff": stored_diff}
