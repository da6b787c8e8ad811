# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: own_servers
short_description: Find the API server that runs on a host
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Compares the names and addresses of a host with the name and the host part of the URL of each API server, ignoring case.
  - Returns all that match. Check that there is exactly one.
options:
  _input:
    description: The RV(kube_storage.upgrade.storage_version_hashes#module:servers).
    type: list
    elements: dict
    required: true
  names:
    description: Names and addresses of the host; empty ones are ignored.
    type: list
    elements: str
    required: true
  url:
    description: URL of its API server, if it is known. Then O(names) is ignored.
    type: str
  located:
    description:
      - Whether O(names) has all addresses of the host. Then an API server with one of its names at another IP address doesn't match, as another
        cluster may use the same names.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Find this host's own API server
  ansible.builtin.set_fact:
    own: "{{ hashes.servers | kube_storage.upgrade.own_servers([inventory_hostname, ansible_host]) }}"
"""

RETURN = r"""
_value:
  description: The API servers that match, in the order of the input.
  type: list
  elements: dict
"""

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _masters as masters


def own_servers(servers: Any, names: Any, url: Any = None, located: bool = False) -> list[Any]:
    return masters.own_servers(servers or (), names, str(url) if url else None, located)


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"own_servers": own_servers}
