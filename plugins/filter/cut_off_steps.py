# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: cut_off_steps
short_description: List the upgrade steps that were interrupted
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Combines the records of every master with that of the Lease.
options:
  _input:
    description: The results of M(kube_storage.upgrade.upgrade_step) from a loop over all masters.
    type: list
    elements: dict
    required: true
  open_step:
    description: RV(kube_storage.upgrade.upgrade_lease#module:open_step).
    type: dict
"""

EXAMPLES = r"""
- name: Say which steps were interrupted
  ansible.builtin.debug:
    msg: "{{ looks.results | kube_storage.upgrade.cut_off_steps(lease.open_step) | map(attribute='master') }}"
"""

RETURN = r"""
_value:
  description: The steps, each with C(id), C(master), C(begun), C(who) and C(host).
  type: list
  elements: dict
"""

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._refusals import cut_off_steps


class FilterModule:
    """Filters of the role's checks."""

    def filters(self) -> dict[str, Any]:
        return {"cut_off_steps": cut_off_steps}
