# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: play_refusals
short_description: Say why an upgrade of all masters can't work, before the first is touched
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Collects what M(kube_storage.upgrade.upgrade_play) found on every master. With the API servers' answers, it also says which masters
    can't be matched with an API server of their own.
positional: hosts, batch
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
    description: The result of M(kube_storage.upgrade.storage_version_hashes), to match masters with API servers.
    type: dict
"""

EXAMPLES = r"""
- name: Refuse what can't work
  ansible.builtin.fail:
    msg: "{{ problems | join(' ') }}"
  vars:
    problems: "{{ masters | kube_storage.upgrade.play_refusals(hostvars, ansible_play_batch) }}"
  when: problems | length > 0
"""

RETURN = r"""
_value:
  description: The reasons, one sentence each; empty if nothing is wrong.
  type: list
  elements: str
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._masters import unmatched_masters
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._play import merged_problems

NOT_RUN = "the role did not run there; include it for every master, without run_once or a condition."


def play_refusals(
    masters: Sequence[str], hosts: Mapping[str, Any], batch: Sequence[str], found: Mapping[str, Any] | None = None
) -> list[str]:
    here = [name for name in masters if name in batch]
    looks: dict[str, Mapping[str, Any]] = {name: hosts[name].get("rolling_upgrade_play") or {} for name in here}
    first: Mapping[str, Any] = looks[masters[0]] if masters and masters[0] in looks else {}
    if found is None:
        later: Mapping[str, Sequence[str]] = first.get("later") or {}
        found_wrong = {name: looks[name].get("problems", [NOT_RUN]) for name in here}
        return merged_problems({**found_wrong, **later})
    known = {}
    for name in masters:
        look = looks.get(name) or first
        known[name] = {key: (look.get(key) or {}).get(name) for key in ("names", "server", "sure")}
    return unmatched_masters(found.get("servers") or (), known)


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"play_refusals": play_refusals}
