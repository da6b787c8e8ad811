# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_proof_text
short_description: Say what is proven from etcd, and what is not
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Turns a proof without stale objects into sentences. They also say what is unknown.
options:
  _input:
    description: The fact C(rolling_upgrade_proof) that the entry point C(verify) of P(kube_storage.upgrade.rolling_upgrade#role) sets.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say what is proven
  ansible.builtin.debug:
    msg: "{{ rolling_upgrade_proof | kube_storage.upgrade.upgrade_proof_text }}"
"""

RETURN = r"""
_value:
  description: The sentences in one text.
  type: str
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._proof_text import proof_text


def upgrade_proof_text(proof: Mapping[str, Any]) -> str:
    return proof_text(proof)


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"upgrade_proof_text": upgrade_proof_text}
