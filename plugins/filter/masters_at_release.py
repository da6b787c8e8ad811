# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: masters_at_release
short_description: List the masters whose API server is ready at a release
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Matches masters with the API servers that answered. A master that can't be matched with exactly one of its own is not listed.
positional: hosts, batch, found, release
options:
  _input:
    description: The masters in order.
    type: list
    elements: str
    required: true
  hosts:
    description: The variables of all hosts, C(hostvars). Each holds its result of M(kube_storage.upgrade.upgrade_play) as C(rolling_upgrade_play).
    type: dict
    required: true
  batch:
    description: The hosts of this batch, C(ansible_play_batch). What is known of other masters, the first master found.
    type: list
    elements: str
    required: true
  found:
    description: The result of M(kube_storage.upgrade.storage_version_hashes).
    type: dict
    required: true
  release:
    description: The release, as for the test P(kube_storage.upgrade.at_release#test).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show which masters need no upgrade
  ansible.builtin.debug:
    msg: "{{ masters | kube_storage.upgrade.masters_at_release(hostvars, ansible_play_batch, hashes, '1.37') }}"
"""

RETURN = r"""
_value:
  description: The masters at the release, in order.
  type: list
  elements: str
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _masters
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._play import identities


def masters_at_release(
    masters: Sequence[str], hosts: Mapping[str, Any], batch: Sequence[str], found: Mapping[str, Any], release: str
) -> list[str]:
    return _masters.masters_at_release(found.get("servers") or (), identities(masters, hosts, batch), str(release))


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"masters_at_release": masters_at_release}
