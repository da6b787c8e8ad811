# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: play_refusals
short_description: Say why an upgrade of all masters can't work, before the first is touched
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Collects what M(kube_storage.upgrade.upgrade_play) found on every master. With the API servers' answers, it also says which masters
    can't be matched with their own API server.
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
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._play import (
    identities,
    looks_of,
    merged_problems,
    report_refusal,
)

LEFT_OUT = "This run left out the role's own check of the play (--skip-tags always); run it without --skip-tags."
NOT_RUN = "the role did not run there; include it for every master, without run_once or a condition."


def play_refusals(
    masters: Sequence[str], hosts: Mapping[str, Any], batch: Sequence[str], found: Mapping[str, Any] | None = None
) -> list[str]:
    if found is not None:
        return unmatched_masters(found.get("servers") or (), identities(masters, hosts, batch))
    looks = looks_of(masters, hosts, batch)
    if looks and not any("problems" in look for look in looks.values()):
        return [LEFT_OUT]
    later: Mapping[str, Sequence[str]] = looks.get(masters[0], {}).get("later") or {} if masters else {}
    found = merged_problems({**{name: look.get("problems", [NOT_RUN]) for name, look in looks.items()}, **later})
    return found + report_refusal(masters, hosts, batch)


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"play_refusals": play_refusals}
