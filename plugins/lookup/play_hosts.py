# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: play_hosts
short_description: Refuse a play that would do nothing
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Returns patterns of hosts unchanged, or fails if they match no host of the inventory. Ansible itself would skip the play and end without an error.
  - "If a playbook of this collection is run directly, C(--limit) must leave at least one of these hosts. A playbook that imports it may have other plays
    for which C(--limit) is given, so there it may leave none. The same holds for C(--tags) and C(--skip-tags), since the tasks of the playbooks have no tags."
  - Without an inventory, as in a syntax check, any pattern is returned.
options:
  _terms:
    description: The patterns, as C(hosts) of a play has them.
    type: list
    elements: raw
    required: true
seealso:
  - plugin: ansible.builtin.inventory_hostnames
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Upgrade the masters, if there are any
  hosts: "{{ query('kube_storage.upgrade.play_hosts', 'kube_control_plane') }}"
  roles: [kube_storage.upgrade.rolling_upgrade]
"""

RETURN = r"""
_list:
  description: The patterns.
  type: list
  elements: str
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ansible import context
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager, split_host_pattern
from ansible.plugins.lookup import LookupBase
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._play import no_hosts_refusal, playbook_tags_refusal

_PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"


class LookupModule(LookupBase):  # type: ignore[misc]  # ansible-core is not typed for this
    def run(self, terms: list[Any], variables: Any = None, **options: Any) -> list[str]:
        patterns = list(_texts(terms))
        groups = (variables or {}).get("groups") or {}
        if not groups.get("all"):
            return patterns
        inventory = InventoryManager(self._loader, parse=False)
        for group, hosts in groups.items():
            inventory.add_group(group)
            for host in hosts:
                inventory.add_host(host, group=group)
        named = [pattern for pattern in patterns if pattern.strip()]  # An empty one would match all hosts.
        unmatched = _unmatched(inventory, named) if named else patterns
        if unmatched or not named:
            raise AnsibleError(no_hosts_refusal(unmatched))
        if _run_directly(context.CLIARGS.get("args") or ()):
            _refuse_to_do_nothing(inventory, patterns)
        return patterns


def _refuse_to_do_nothing(inventory: InventoryManager, patterns: list[str]) -> None:
    """In a playbook that imports this one, ``--limit`` and ``--tags`` may be for another play."""
    limit = context.CLIARGS.get("subset")
    if limit:
        inventory.subset(limit)
        if _unmatched(inventory, patterns):
            raise AnsibleError(no_hosts_refusal(patterns, limit))
    refusal = playbook_tags_refusal(context.CLIARGS.get("tags") or (), context.CLIARGS.get("skip_tags") or ())
    if refusal:
        raise AnsibleError(refusal)


def _unmatched(inventory: InventoryManager, patterns: list[str]) -> list[str]:
    """All patterns if they match no host together; with Ansible's setting ``host_pattern_mismatch = error`` also each that matches none by itself."""
    try:
        return [] if inventory.get_hosts(patterns) else patterns
    except AnsibleError:
        return [pattern for pattern in split_host_pattern(patterns) if not _matches(inventory, pattern)]


def _matches(inventory: InventoryManager, pattern: str) -> bool:
    try:
        return bool(inventory.get_hosts([pattern]))
    except AnsibleError:
        return False


def _texts(terms: Iterable[Any]) -> Iterable[str]:
    for term in terms:
        if isinstance(term, (list, tuple)):
            yield from _texts(term)
        elif term is not None:
            yield str(term)


def _run_directly(playbooks: Sequence[str]) -> bool:
    """Whether all playbooks of the command line are from this collection."""
    return all(
        name.startswith("kube_storage.upgrade.") or _PLAYBOOKS in Path(name).resolve().parents for name in playbooks
    )
