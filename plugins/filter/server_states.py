# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: server_states
short_description: Describe the state of each API server
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - For each API server, says whether it is ready and at which release.
options:
  _input:
    description: The RV(kube_storage.upgrade.storage_version_hashes#module:servers).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the state of the API servers
  ansible.builtin.debug:
    msg: "Now: {{ hashes.servers | kube_storage.upgrade.server_states | join('; ') }}."
"""

RETURN = r"""
_value:
  description: One text for each API server, such as C(https://10.0.0.11:6443 is ready at v1.37.2).
  type: list
  elements: str
"""

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _masters as masters


def server_states(servers: Any) -> list[str]:
    return masters.server_states(servers or ())


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"server_states": server_states}
