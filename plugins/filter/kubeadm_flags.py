# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kubeadm_flags
short_description: The flags of kubeadm upgrade apply or node
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - With O(emulate), addons are left as they are. With O(rollback), CoreDNS is, because kubeadm can't replace it with an older version.
options:
  _input:
    description:
      - C(config), the path of an C(UpgradeConfiguration) on the master, C(documents), what it holds, C(patches), and C(ignore_preflight_errors).
    type: dict
    required: true
  verb:
    description: V(apply) or V(node).
    type: str
    required: true
  emulate:
    description: The minor release to emulate, such as V(1.36); empty for none.
    type: str
    default: ""
  rollback:
    description: Whether this is a rollback to an older release.
    type: bool
    default: false
  keep_kubelet:
    description: Whether the kubelet isn't upgraded along with the control plane.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the command
  ansible.builtin.debug:
    msg: "kubeadm upgrade node {{ {} | kube_storage.upgrade.kubeadm_flags('node', rollback=true) | join(' ') }}"
"""

RETURN = r"""
_value:
  description: The flags and their values.
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._kubeadm import flags_of_upgrade


def kubeadm_flags(
    options: Mapping[str, Any], verb: str, emulate: Any = "", rollback: Any = False, keep_kubelet: Any = False
) -> list[str]:
    return flags_of_upgrade(
        verb,
        options,
        emulate=str(emulate) != "",
        rollback=boolean(rollback, strict=False),
        keep_kubelet=boolean(keep_kubelet, strict=False),
    )


class FilterModule:
    """Filters of the driver kubeadm."""

    def filters(self) -> dict[str, Any]:
        return {"kubeadm_flags": kubeadm_flags}
