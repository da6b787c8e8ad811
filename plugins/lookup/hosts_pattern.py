# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: hosts_pattern
short_description: Refuse a pattern for the hosts of a play that matches no host
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Returns the pattern as it is, for the keyword C(hosts) of a play. If no host of the inventory matches it, the play fails. Ansible itself skips a
    play without hosts, and ends without an error.
  - Without an inventory, as in a syntax check, every pattern is accepted.
options:
  _terms:
    description: The pattern, or several, as C(hosts) takes them.
    type: list
    elements: raw
    required: true
seealso:
  - plugin: ansible.builtin.inventory_hostnames
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Never end without an error because of a mistyped group
  hosts: "{{ query('kube_storage.upgrade.hosts_pattern', rolling_upgrade_hosts | default('kube_control_plane')) }}"
  roles:
    - kube_storage.upgrade.rolling_upgrade
"""

RETURN = r"""
_raw:
  description: The patterns.
  type: list
  elements: str
"""

from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible.plugins.lookup.inventory_hostnames import LookupModule as InventoryHostnames


class LookupModule(LookupBase):  # type: ignore[misc]  # ansible-core is not typed for this
    def run(self, terms: list[Any], variables: Any = None, **options: Any) -> list[Any]:
        patterns: list[Any] = self._flatten(terms)
        if not variables["groups"]["all"]:
            return patterns
        named = [pattern for pattern in patterns if str(pattern).strip()]  # An empty one would match all hosts there.
        if not InventoryHostnames(loader=self._loader, templar=self._templar).run(named, variables=variables):
            raise AnsibleLookupError(
                f"No host of the inventory matches '{', '.join(map(str, patterns))}', so there is nothing to do; name the hosts or their group "
                "with -e rolling_upgrade_hosts=NAME, and the inventory with -i."
            )
        return patterns
