#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_lease
short_description: Let only one run at a time upgrade the masters of a cluster
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Takes, renews and releases a Lease in the cluster. The role P(kube_storage.upgrade.rolling_upgrade#role) holds it from its check to its proof, and
    while it rotates an encryption key. Use it for the same purpose in your own playbooks that take masters down.
  - All tasks of one ansible-playbook run are one holder, whatever their hosts and plays. While another run holds the Lease, the module
    fails, and says who holds it, where, since when, and how far along they are.
  - Nothing renews the Lease in the background, so O(duration) has to cover the longest time from one task with this module to the next.
  - A Lease that was not released is taken over when it has expired, or at once if its holder ran on this controller and has definitely ended. With
    O(take_over) you confirm that its holder has ended.
  - With O(step) it also records that work on a master begins. The step stays on record, even if the Lease is released or taken over, until O(ended)
    names it. Until then no other step can begin.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - kube_storage.upgrade.cluster
  - kube_storage.upgrade.attributes
attributes:
  diff_mode:
    support: none
options:
  state:
    description:
      - V(held) takes the Lease, or renews it if this run already holds it.
      - V(released) releases it. If this run doesn't hold it, nothing is done.
      - V(queried) only reads it.
    type: str
    choices: [held, released, queried]
    default: held
  acquire:
    description:
      - Whether V(held) may take a Lease that this run doesn't hold.
      - With V(false) the module fails in that case. Use it in a run that has already taken the Lease, and relies on having held it ever since. In check
        mode, which never takes the Lease, it doesn't fail.
    type: bool
    default: true
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
    description: Steps that have ended, by their RV(open_step.id).
    type: list
    elements: str
    default: []
  duration:
    description: After how many seconds without renewal other runs may take over the Lease.
    type: int
    default: 14400
  take_over:
    description: A holder that you know has ended, as the error names it. Its Lease is taken over at once.
    type: str
  name:
    description: Name of the Lease.
    type: str
    default: kube-storage-upgrade-roll
  namespace:
    description: Namespace of the Lease. It must exist.
    type: str
    default: kube-system
  holder:
    description: Name of the holder. By default it consists of the user, the controller and the process of ansible-playbook.
    type: str
  about:
    description: C(who) holds it, on which C(host) and as which C(process), for other runs to see. By default the values of this run.
    type: dict
notes:
  - The credentials must be allowed to get, update and create the Lease.
  - If the server of the kubeconfig doesn't answer, O(servers) are asked, as it may be the master that is being upgraded.
seealso:
  - module: kube_storage.upgrade.storage_migrate
"""

EXAMPLES = r"""
- name: Upgrade this master with your own tasks, while no other run does
  block:
    - name: Take the Lease
      kube_storage.upgrade.upgrade_lease:
        purpose: the upgrade to 1.37
        doing: "{{ inventory_hostname }}"
        step: "{{ inventory_hostname }}"
      delegate_to: localhost
      register: lease

    - name: Upgrade
      ansible.builtin.include_tasks: upgrade_one_master.yml

  always:
    - name: Release the Lease
      kube_storage.upgrade.upgrade_lease:
        state: released
        ended: ["{{ lease.open_step.id }}"]
      delegate_to: localhost
      when: lease.held | default(false)
"""

RETURN = r"""
held:
  description: Whether this run holds the Lease now.
  returned: success
  type: bool
holder:
  description: The name of this run as a holder.
  returned: success
  type: str
other:
  description: The other run that holds the Lease, null if none does.
  returned: success, and if another run blocks this one
  type: dict
  contains:
    holder:
      description: Its name, for O(take_over).
      type: str
    who:
      description: The user that runs it.
      type: str
    host:
      description: The controller on which it runs.
      type: str
    since:
      description: Since when it holds the Lease, by the API server's clock, in UTC.
      type: str
    purpose:
      description: What for.
      type: str
    doing:
      description: How far along it is.
      type: str
    process:
      description: Its process, for runs on the same controller.
      type: dict
    seconds_left:
      description: For how many more seconds its Lease is valid.
      type: int
open_step:
  description: The step that is on record, either one that O(step) has just begun or an interrupted one; null if there is none.
  returned: success, and if a step blocks this run
  type: dict
  contains:
    id:
      description: Its name, for O(ended).
      type: str
    master:
      description: The master on which it began.
      type: str
    begun:
      description: When, by the API server's clock, in UTC.
      type: str
    holder:
      description: The run that began it.
      type: str
    who:
      description: The user that ran it.
      type: str
    host:
      description: The controller on which that run began it.
      type: str
    process:
      description: Its process there.
      type: dict
    on_controller:
      description:
        - V(working) while that run, or a worker that it left behind, still runs tasks on this controller, V(ended) if it definitely does not,
          V(unknown) if it ran on another controller.
      type: str
cluster:
  description: A digest of the cluster's CA, which identifies this cluster; null if no CA was given.
  returned: success
  type: str
uid:
  description: The uid of the namespace C(kube-system), which no other cluster has. Null if the user may not read it, or without O(acquire).
  returned: success
  type: str
forces_handlers:
  description: Whether the play has handlers and C(force_handlers); then they run at its end on all hosts at once, even if one failed.
  returned: always
  type: bool
error:
  description:
    - The kind of failure, null if there was none. Check it after a task with C(failed_when=false).
    - One of V(already_running), V(api), V(bad_input), V(cut_off), V(unreachable) and V(other).
  returned: always
  type: str
"""

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import CLUSTER_SPEC
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.run_module import run_module
from ansible_collections.kube_storage.upgrade.plugins.module_utils._rolling_upgrade.roll_lease import (
    DURATION,
    NAME,
    NAMESPACE,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._rolling_upgrade.upgrade_lease import (
    UpgradeLeaseOptions,
    upgrade_lease,
)


def main() -> None:
    spec = {
        **CLUSTER_SPEC,
        "state": {"type": "str", "choices": ["held", "released", "queried"], "default": "held"},
        "acquire": {"type": "bool", "default": True},
        "purpose": {"type": "str"},
        "doing": {"type": "str"},
        "step": {"type": "str"},
        "ended": {"type": "list", "elements": "str", "default": []},
        "duration": {"type": "int", "default": DURATION},
        "take_over": {"type": "str"},
        "name": {"type": "str", "default": NAME},
        "namespace": {"type": "str", "default": NAMESPACE},
        "holder": {"type": "str"},
        "about": {"type": "dict"},
    }
    run_module(spec, UpgradeLeaseOptions.from_params, upgrade_lease)


if __name__ == "__main__":
    main()
