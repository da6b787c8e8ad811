# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_refusals
short_description: Say why a master must not be touched now
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - From the API servers' latest answers, says why an upgrade can't begin, or why one master can't be taken down. A missing answer is a
    reason, too.
options:
  _input:
    description: The result of M(kube_storage.upgrade.storage_version_hashes).
    type: dict
    required: true
  expected:
    description: How many API servers there must be; V(0) means as many as answered.
    type: int
    default: 0
  own:
    description: A list of the one server in the input that is going to be taken down. Without it, all must be ready.
    type: list
    elements: dict
"""

EXAMPLES = r"""
- name: Touch it only if all others are ready
  ansible.builtin.assert:
    that: found | kube_storage.upgrade.upgrade_refusals(own=own, expected=3) | length == 0
"""

RETURN = r"""
_value:
  description: The reasons, one sentence each; empty if it may be touched.
  type: list
  elements: str
"""

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._refusals import not_all_ready, others_not_ready


def upgrade_refusals(found: Any, expected: Any = 0, own: Any = None) -> list[str]:
    return not_all_ready(found, expected) if own is None else others_not_ready(found, own, expected)


class FilterModule:
    """Filters of the role's checks."""

    def filters(self) -> dict[str, Any]:
        return {"upgrade_refusals": upgrade_refusals}
