# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kubeadm_configuration
short_description: The ClusterConfiguration from which kubeadm makes the manifests of an upgrade
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Sets or removes C(emulated-version) in C(extraArgs) of API server, controller-manager and scheduler, and sets kubeadm's feature gates.
  - Everything else stays as it is.
options:
  _input:
    description: The C(ClusterConfiguration) in the ConfigMap C(kubeadm-config).
    type: dict
    required: true
  emulate:
    description: The minor release to emulate, such as V(1.36); empty for none.
    type: str
    default: ""
  feature_gates:
    description: Feature gates of kubeadm to set.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show what kubeadm would be told
  ansible.builtin.debug:
    msg: "{{ configuration | kube_storage.upgrade.kubeadm_configuration(emulate='1.36') }}"
"""

RETURN = r"""
_value:
  description: The configuration.
  type: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._kubeadm import adapted


def kubeadm_configuration(
    configuration: Mapping[str, Any], emulate: Any = "", feature_gates: Mapping[str, bool] | None = None
) -> dict[str, Any]:
    return adapted(configuration, str(emulate), feature_gates or {})


class FilterModule:
    """Filters of the driver kubeadm."""

    def filters(self) -> dict[str, Any]:
        return {"kubeadm_configuration": kubeadm_configuration}
