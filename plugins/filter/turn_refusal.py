# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: turn_refusal
short_description: Say why a master must not be touched in its turn
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - From the API servers' answers at the beginning of a master's turn, says why it must not be taken down, and what to do. A missing answer is a
    reason, too.
positional: master
options:
  _input:
    description: The result of M(kube_storage.upgrade.upgrade_turn).
    type: dict
    required: true
  master:
    description: The name of the master.
    type: str
    required: true
  own:
    description: A list of the one API server in the input that runs on this master.
    type: list
    elements: dict
    required: true
  others:
    description: The URLs of the API servers of the other masters, as far as they are known.
    type: list
    elements: str
    default: []
  expected:
    description: How many API servers there must be; V(0) means as many as answered.
    type: int
    default: 0
  masters:
    description: All masters. There must be as many API servers, since the cluster soon stops listing one that is down.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Touch no master while another one is down
  ansible.builtin.assert:
    that: turn | kube_storage.upgrade.turn_refusal(inventory_hostname, own=own, expected=3) | length == 0
"""

RETURN = r"""
_value:
  description: The reason with the remedy; empty if the master may be touched.
  type: str
"""

from collections.abc import Sequence
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._refusals import in_its_turn


def turn_refusal(
    found: Any, master: str, own: Any, others: Any = (), expected: Any = 0, masters: Sequence[str] = ()
) -> str:
    return in_its_turn(master, found, own, others or (), expected, masters or ())


class FilterModule:
    """Filters of the role's checks."""

    def filters(self) -> dict[str, Any]:
        return {"turn_refusal": turn_refusal}
