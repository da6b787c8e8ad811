#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_turn
short_description: Ask every API server and renew the Lease of a roll, before and after a master is upgraded
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Does in one task what the role P(kube_storage.upgrade.rolling_upgrade#role) needs at the beginning and at the end of each master's turn, since
    starting a module takes longer than its work.
  - First it waits until O(await_server) is ready, if that is given. Then it asks every API server as M(kube_storage.upgrade.storage_version_hashes)
    does. Last it renews the Lease of M(kube_storage.upgrade.upgrade_lease), and records there that a step begins or has ended.
  - Nothing is written to the Lease if the wait or the question failed.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - kube_storage.upgrade.cluster
  - kube_storage.upgrade.cluster.sampling
  - kube_storage.upgrade.attributes
attributes:
  diff_mode:
    support: none
options:
  await_server:
    description:
      - URL of the API server of the master that was upgraded. It must become ready at O(expected_version).
      - In check mode nothing is waited for.
    type: str
  expected_version:
    description: The release that O(await_server) must report, as for M(kube_storage.upgrade.storage_version_hashes).
    type: str
  wait_timeout:
    description: How long to wait for O(await_server), in seconds.
    type: float
    default: 600
  purpose:
    description: What the Lease is held for, shown to other runs, such as V(the upgrade to 1.37).
    type: str
  doing:
    description: How far along it is, shown to other runs, such as V(master-2).
    type: str
  step:
    description: Name of the master on which a step begins.
    type: str
  ended:
    description: Steps that have ended, by their RV(kube_storage.upgrade.upgrade_lease#module:open_step).
    type: list
    elements: str
    default: []
  duration:
    description: After how many seconds without renewal other runs may take the Lease over.
    type: int
    default: 14400
  name:
    description: Name of the Lease.
    type: str
    default: kube-storage-upgrade-roll
  namespace:
    description: Namespace of the Lease.
    type: str
    default: kube-system
  holder:
    description: Name of the holder. By default it consists of the user, the controller and the process of ansible-playbook.
    type: str
  about:
    description: C(who) holds it, on which C(host) and as which C(process), for other runs to see. By default the values of this run.
    type: dict
notes:
  - This run must hold the Lease already, except in check mode.
seealso:
  - module: kube_storage.upgrade.upgrade_lease
  - module: kube_storage.upgrade.storage_version_hashes
"""

EXAMPLES = r"""
- name: Begin a master's turn
  kube_storage.upgrade.upgrade_turn:
    expected_servers: 3
    step: "{{ inventory_hostname }}"
  delegate_to: localhost
  register: turn

- name: Upgrade it
  ansible.builtin.include_tasks: upgrade_one_master.yml

- name: End its turn
  kube_storage.upgrade.upgrade_turn:
    await_server: https://10.0.0.11:6443
    expected_version: "1.37"
    ended: ["{{ turn.lease.open_step.id }}"]
  delegate_to: localhost
"""

RETURN = r"""
servers:
  description: The API servers, and with them everything else that M(kube_storage.upgrade.storage_version_hashes) returns about all of them.
  returned: if they could be asked
  type: list
  elements: dict
waited:
  description: What M(kube_storage.upgrade.storage_version_hashes) returns about O(await_server) alone, with its history; null if nothing was waited for.
  returned: success, and if the wait failed
  type: dict
lease:
  description: What M(kube_storage.upgrade.upgrade_lease) returns.
  returned: success, and if the Lease was the problem
  type: dict
error:
  description:
    - The kind of failure, null if there was none. Check it after a task with C(failed_when=false).
    - One of those of M(kube_storage.upgrade.storage_version_hashes) and M(kube_storage.upgrade.upgrade_lease).
  returned: always
  type: str
"""

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import CLUSTER_SPEC, SAMPLING_SPEC
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.run_module import run_module
from ansible_collections.kube_storage.upgrade.plugins.module_utils._rolling_upgrade.roll_lease import (
    DURATION,
    NAME,
    NAMESPACE,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._rolling_upgrade.turn import (
    UpgradeTurnOptions,
    upgrade_turn,
)


def main() -> None:
    spec = {
        **CLUSTER_SPEC,
        **SAMPLING_SPEC,
        "await_server": {"type": "str"},
        "expected_version": {"type": "str"},
        "wait_timeout": {"type": "float", "default": 600},
        "purpose": {"type": "str"},
        "doing": {"type": "str"},
        "step": {"type": "str"},
        "ended": {"type": "list", "elements": "str", "default": []},
        "duration": {"type": "int", "default": DURATION},
        "name": {"type": "str", "default": NAME},
        "namespace": {"type": "str", "default": NAMESPACE},
        "holder": {"type": "str"},
        "about": {"type": "dict"},
    }
    run_module(spec, UpgradeTurnOptions.from_params, upgrade_turn)


if __name__ == "__main__":
    main()
