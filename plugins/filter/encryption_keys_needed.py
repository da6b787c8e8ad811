# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: encryption_keys_needed
short_description: Tell what keeps old encryption keys from being dropped
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Compares what etcd holds with the plan of a rotation. Everything stored of the rotated resources must be under the new key,
    and nothing else that was read under an old one.
options:
  _input:
    description: The result of M(kube_storage.upgrade.stored_versions_info).
    type: dict
    required: true
  plan:
    description: The result of P(kube_storage.upgrade.encryption_key_rotation#filter); V(key), V(provider), V(resources) and V(old) are used.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: The old key may go only if nothing is under it
  ansible.builtin.assert:
    that: stored | kube_storage.upgrade.encryption_keys_needed(plan) | length == 0
"""

RETURN = r"""
_value:
  description: What was found, one text each, such as C(12 of secrets under aescbc key1); empty if the old keys can be dropped.
  type: list
  elements: str
"""

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption_rotation import still_needed


class FilterModule:
    """Filters of the role's entry point rotate_encryption_key."""

    def filters(self) -> dict[str, Any]:
        return {"encryption_keys_needed": still_needed}
