# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_way_refusals
short_description: Say why several releases can't be upgraded to in turn
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - From the result of a check, says why its target can't be reached one minor release after another.
options:
  _input:
    description: The result of M(kube_storage.upgrade.upgrade_check) for the last release.
    type: dict
    required: true
  releases:
    description: Patch releases to use for some of the minor ones, such as V(v1.36.5).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Make sure that each of these releases can be reached
  ansible.builtin.assert:
    that: checked | kube_storage.upgrade.upgrade_way_refusals | length == 0
"""

RETURN = r"""
_value:
  description: The reasons, one sentence each; empty if each release can be reached.
  type: list
  elements: str
"""

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._way import way_refusals


def upgrade_way_refusals(checked: Any, releases: Any = ()) -> list[str]:
    return way_refusals(checked, releases or ())


class FilterModule:
    """Why the role's entry point several_releases refuses."""

    def filters(self) -> dict[str, Any]:
        return {"upgrade_way_refusals": upgrade_way_refusals}
