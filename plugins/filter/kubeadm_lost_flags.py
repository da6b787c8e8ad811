# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kubeadm_lost_flags
short_description: Say which flags of static pods kubeadm would drop
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - kubeadm rewrites the manifests of static pods from its C(ClusterConfiguration). A flag that somebody added to a manifest by hand, such as
    C(--encryption-provider-config) or etcd's C(--quota-backend-bytes), is then gone.
positional: configuration
options:
  _input:
    description: >-
      Results of M(ansible.builtin.slurp), each with the master and the static pod, such as C(kube-apiserver), as its C(item). Manifests that could not be
      read are left out.
    type: list
    elements: dict
    required: true
  configuration:
    description: The C(ClusterConfiguration) in the ConfigMap C(kubeadm-config).
    type: dict
    required: true
  drop:
    description: Names of flags that may go.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Make sure that kubeadm drops no flag
  ansible.builtin.assert:
    that: manifests.results | kube_storage.upgrade.kubeadm_lost_flags(configuration, drop=['profiling']) | length == 0
"""

RETURN = r"""
_value:
  description: The reason not to go on; empty if nothing would be lost.
  type: str
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._kubeadm_flags import lost_flags_refusal


def kubeadm_lost_flags(
    results: Iterable[Mapping[str, Any]], configuration: Mapping[str, Any], drop: Sequence[Any] = ()
) -> str:
    manifests = [
        (str(result["item"][0]), str(result["item"][1]), base64.b64decode(result["content"]).decode(errors="replace"))
        for result in results
        if result.get("content")
    ]
    return lost_flags_refusal(manifests, configuration, [str(name) for name in drop])


class FilterModule:
    """Filters of the driver kubeadm."""

    def filters(self) -> dict[str, Any]:
        return {"kubeadm_lost_flags": kubeadm_lost_flags}
