# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: own_nodes
short_description: Find the Node of a host
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Compares the names and addresses of a host with the name and the addresses of each Node, ignoring case.
  - Returns all that match. Check that there is exactly one.
options:
  _input:
    description: Nodes, as M(kubernetes.core.k8s_info) returns them in C(resources).
    type: list
    elements: dict
    required: true
  names:
    description: Names and addresses of the host; empty ones are ignored.
    type: list
    elements: str
    required: true
  name:
    description: Name of the Node, if it is known. Then O(names) is ignored.
    type: str
"""

EXAMPLES = r"""
- name: Find the Node of this host
  ansible.builtin.set_fact:
    own: "{{ nodes.resources | kube_storage.upgrade.own_nodes([inventory_hostname, ansible_host]) }}"
"""

RETURN = r"""
_value:
  description: The Nodes that match, in the order of the input.
  type: list
  elements: dict
"""

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _masters as masters


def own_nodes(nodes: Any, names: Any, name: Any = None) -> list[Any]:
    return masters.own_nodes(nodes or (), names, str(name) if name else None)


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"own_nodes": own_nodes}
