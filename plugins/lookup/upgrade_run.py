# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_run
short_description: Identify this run of ansible-playbook
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Returns a unique name for the current run of ansible-playbook, which is the same for all its plays, hosts and tasks. Facts that a play stores
    under that name can't be mistaken for those of an earlier run.
options:
  _terms:
    description: What else the name should stand for, such as a release. A different list gives a different name.
    type: list
    elements: raw
    default: []
seealso:
  - module: kube_storage.upgrade.upgrade_lease
"""

EXAMPLES = r"""
- name: Remember what was done in this run, and for which release
  ansible.builtin.set_fact:
    upgraded: "{{ lookup('kube_storage.upgrade.upgrade_run', '1.37') }}"

- name: Make sure that it was done
  ansible.builtin.assert:
    that: upgraded | default('') == lookup('kube_storage.upgrade.upgrade_run', '1.37')
"""

RETURN = r"""
_raw:
  description: The name, twelve letters and digits, and twelve more for what else it stands for.
  type: list
  elements: str
"""

import hashlib
import json
from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _playbook_process as playbook_process


class LookupModule(LookupBase):  # type: ignore[misc]  # ansible-core is not typed for this
    def run(self, terms: list[Any], variables: Any = None, **options: Any) -> list[str]:
        if not terms:
            return [playbook_process.run_id()]
        stands_for = json.dumps(terms, sort_keys=True, default=str)
        return [f"{playbook_process.run_id()}-{hashlib.sha256(stands_for.encode()).hexdigest()[:12]}"]
