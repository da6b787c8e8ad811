# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kubeadm_refusals
short_description: Say which options of the driver kubeadm can't work
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Checks the options that the driver C(kubeadm) of P(kube_storage.upgrade.rolling_upgrade#role) can check before anything is touched.
options:
  _input:
    description:
      - The variables C(rolling_upgrade_version), C(rolling_upgrade_emulate), C(rolling_upgrade_rollback) and C(rolling_upgrade_kubeadm_*)
        without their prefixes, such as C(version), C(packages),
        C(package_tasks_file), C(package_version), C(config_file), C(patches) and C(feature_gates).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Check the options
  ansible.builtin.assert:
    that: "{'version': '1.37', 'packages': 'distribution'} | kube_storage.upgrade.kubeadm_refusals | length == 0"
"""

RETURN = r"""
_value:
  description: The reasons, one sentence each; empty if the options can work.
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _kubeadm as kubeadm


def kubeadm_refusals(options: Mapping[str, Any]) -> list[str]:
    rollback = boolean(options.get("rollback") or False, strict=False)
    return kubeadm.refusals({**options, "rollback": rollback})


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"kubeadm_refusals": kubeadm_refusals}
