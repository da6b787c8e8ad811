# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: encryption_keys_needed
short_description: List what keeps old encryption keys from being dropped
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Compares what etcd holds with the plan of a rotation. All objects of the rotated resources must be under the new key, there must be
    exactly as many as every API server lists at the same revision, and nothing else that was read may be under a key with which it could
    not be read any longer.
  - If anything is unknown, the keys stay as well.
options:
  _input:
    description: The result of M(kube_storage.upgrade.stored_versions_info).
    type: dict
    required: true
  plan:
    description: The result of P(kube_storage.upgrade.encryption_key_rotation#filter); all but V(masters) is used.
    type: dict
    required: true
  reading:
    description: The result of M(kube_storage.upgrade.readable_objects_info) at the revision of the input.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Make sure that nothing is under the old key
  ansible.builtin.assert:
    that: stored | kube_storage.upgrade.encryption_keys_needed(plan, reading) | length == 0
"""

RETURN = r"""
_value:
  description: What was found, one text each, such as C(12 of secrets under aescbc key1); empty if the old keys can be dropped.
  type: list
  elements: str
"""

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption.rotation_proof import (
    still_needed,
)


class FilterModule:
    """Filters of the role's entry point rotate_encryption_key."""

    def filters(self) -> dict[str, Any]:
        return {"encryption_keys_needed": still_needed}
