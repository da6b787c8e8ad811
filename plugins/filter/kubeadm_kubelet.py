# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kubeadm_kubelet
short_description: Decide whether the driver kubeadm leaves the kubelet of a master as it is
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - A kubelet may not be newer than its API server. So while API servers emulate an older release, the driver C(kubeadm) of
    P(kube_storage.upgrade.rolling_upgrade#role) leaves kubelets as they are, whatever an interrupted run has begun there.
  - Otherwise it leaves one as it is only if it is at the release, and if no interrupted run may have begun to replace it.
positional: version
options:
  _input:
    description: What an interrupted run noted, as P(kube_storage.upgrade.kubeadm_unfinished#filter) returns it; empty without a note.
    type: dict
    required: true
  version:
    description: The release to upgrade to, or to go back to.
    type: str
    required: true
  emulate:
    description: The minor release that the API servers will emulate; empty for none.
    type: str
    default: ""
  rollback:
    description: Whether this is a rollback to an older release.
    type: bool
    default: false
  running:
    description: The kubelet's version, as its Node reports it.
    type: str
    required: true
  installed:
    description: What C(kubelet --version) says on the master, which is what runs there after its next start; empty if that is unknown.
    type: str
    default: ""
  server:
    description: The version of the master's API server before its upgrade.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Remember whether the kubelet stays
  ansible.builtin.set_fact:
    stays: "{{ ({} | kube_storage.upgrade.kubeadm_kubelet('1.37', emulate='1.36', running='v1.36.5', server='v1.36.5')).stays }}"
"""

RETURN = r"""
_value:
  description:
    - V(stays) says whether the kubelet is left as it is. V(begun) says whether an interrupted run may have drained the Node or installed another
      kubelet.
  type: dict
"""

import re
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _kubeadm as kubeadm

_VERSION = re.compile(r"v[0-9]\S*")


def kubeadm_kubelet(
    note: Mapping[str, Any],
    version: Any,
    emulate: Any = "",
    rollback: Any = False,
    running: Any = "",
    installed: Any = "",
    server: Any = "",
) -> dict[str, bool]:
    """``installed`` may be all that the command prints, such as ``Kubernetes v1.36.5``."""
    found = _VERSION.search(str(installed or ""))
    stays = kubeadm.keeps_kubelet(
        note or {},
        str(version),
        emulate=str(emulate),
        rollback=bool(boolean(rollback, strict=False)),
        running=str(running or ""),
        installed=found[0] if found else "",
        server=str(server or ""),
    )
    return {"stays": stays, "begun": kubeadm.begun_on_kubelet(note or {})}


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"kubeadm_kubelet": kubeadm_kubelet}
