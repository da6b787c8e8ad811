# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kubeadm_unfinished
short_description: Read what an interrupted run of the driver kubeadm noted on a master
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - The driver C(kubeadm) of P(kube_storage.upgrade.rolling_upgrade#role) marks a master as unfinished with a note. If the note is about another minor
    release, all that counts is whether the Node was cordoned before, and whether the kubelet was to stay.
positional: version, cordoned, path
options:
  _input:
    description: The note, a JSON text; empty if there is none.
    type: str
    required: true
  version:
    description: The release to upgrade to.
    type: str
    required: true
  cordoned:
    description: Whether the Node is cordoned now.
    type: bool
    required: true
  path:
    description: The file with the note, for the error if it is damaged.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Read the note
  ansible.builtin.set_fact:
    unfinished: "{{ note.stdout | kube_storage.upgrade.kubeadm_unfinished('v1.37.2', false) }}"
"""

RETURN = r"""
_value:
  description:
    - Empty without a note. V(was_cordoned) says whether the Node must stay cordoned; the rest is what the interrupted run noted for the same minor
      release, such as V(verb).
  type: dict
"""

from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _kubeadm as kubeadm


def kubeadm_unfinished(note: Any, version: Any, cordoned: Any, path: Any = "") -> dict[str, Any]:
    return kubeadm.unfinished(str(note), str(version), bool(boolean(cordoned, strict=False)), str(path))


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"kubeadm_unfinished": kubeadm_unfinished}
