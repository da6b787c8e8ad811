# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: cut_off_refusals
short_description: Say why an interrupted step keeps all masters from being touched
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Checks the records of every master and of the Lease for processes of an interrupted upgrade step that may still be running. A master
    that could not be checked is a reason, too.
options:
  _input:
    description: The results of M(kube_storage.upgrade.upgrade_step) from a loop over all masters.
    type: list
    elements: dict
    required: true
  open_step:
    description: RV(kube_storage.upgrade.upgrade_lease#module:open_step).
    type: dict
  masters:
    description: The names of all masters.
    type: list
    elements: str
    required: true
  ended:
    description: IDs of the steps that, as the user confirms, have no running processes.
    type: list
    elements: str
  this_run:
    description: RV(kube_storage.upgrade.upgrade_lease#module:holder).
    type: str
"""

EXAMPLES = r"""
- name: Touch no master while an interrupted step may still be running
  ansible.builtin.assert:
    that: looks.results | kube_storage.upgrade.cut_off_refusals(open_step=lease.open_step, masters=masters) | length == 0
"""

RETURN = r"""
_value:
  description: The reasons, one sentence each; empty if masters may be touched.
  type: list
  elements: str
"""

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._refusals import still_at_work


def cut_off_refusals(looks: Any, masters: Any, open_step: Any = None, ended: Any = (), this_run: str = "") -> list[str]:
    return still_at_work(looks, open_step, masters, ended, this_run)


class FilterModule:
    """Filters of the role's checks."""

    def filters(self) -> dict[str, Any]:
        return {"cut_off_refusals": cut_off_refusals}
