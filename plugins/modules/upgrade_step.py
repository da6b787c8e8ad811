#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_step
short_description: Find out whether tasks of an upgrade step are still running on a master
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - When ansible-playbook is killed, the task that it ran on a master continues there, and may take the API server down while a second run is
    upgrading the next master. This module leaves a marker file on the master when a step begins, and removes it when the step has ended. A later run
    learns from it which steps were interrupted, and which of their processes are still running.
  - "Processes are recognized by the environment variable E(KUBE_STORAGE_UPGRADE_STEP), which holds the ID of their step. Run the tasks of the step with
    C(environment: {KUBE_STORAGE_UPGRADE_STEP: …})."
  - Ansible's own processes with the variable count, and so do all their descendants. Any other process with the variable counts, too, unless it is in
    a session of its own, like a daemon that a step starts on purpose.
  - It needs only Python on the master. The role P(kube_storage.upgrade.rolling_upgrade#role) uses it.
attributes:
  check_mode:
    description: Reports what would be done without writing anything.
    support: full
  diff_mode:
    description: Shows what changes, in diff mode.
    support: none
options:
  state:
    description:
      - V(looked) reports which recorded steps have not ended, and which of their processes are running. It changes nothing.
      - V(begun) leaves the marker file. If that is not possible, the module warns and does not fail.
      - V(ended) removes the marker files of these steps.
    type: str
    choices: [looked, begun, ended]
    default: looked
  master:
    description: Name of the master, as one host may stand for several.
    type: str
    required: true
  ids:
    description: IDs of the steps. V(looked) adds those that are recorded on this master.
    type: list
    elements: str
    default: []
  cluster:
    description: An identifier of the cluster, such as RV(kube_storage.upgrade.upgrade_lease#module:cluster). Steps of other clusters are ignored.
    type: str
  about:
    description: Further data to record about the step, such as RV(kube_storage.upgrade.upgrade_lease#module:open_step).
    type: dict
    default: {}
  runs:
    description:
      - Runs of ansible-playbook that began the steps, as in RV(kube_storage.upgrade.upgrade_lease#module:open_step.process). Those of
        recorded steps are added.
    type: list
    elements: dict
    default: []
  wait_timeout:
    description: How many seconds V(looked) may wait for running processes to end. Every ten seconds it shows what it is waiting for.
    type: float
    default: 0
notes:
  - Run it as root. Other users can't inspect all processes, and RV(complete) is V(false) for them.
  - Steps are recorded in C(/run/kube-storage-upgrade-steps) by root, and in C(/var/tmp/kube-storage-upgrade-UID) by other users.
seealso:
  - module: kube_storage.upgrade.upgrade_lease
"""

EXAMPLES = r"""
- name: Check whether processes of an earlier run are still running
  kube_storage.upgrade.upgrade_step:
    master: "{{ inventory_hostname }}"
    wait_timeout: 600
  register: look

- name: Stop if there are any
  ansible.builtin.assert:
    that: look.complete and look.processes | length == 0 and not look.run_at_work
"""

RETURN = r"""
steps:
  description: The steps recorded on this master that have not ended.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Its ID.
      type: str
    master:
      description: The master.
      type: str
    cluster:
      description: The cluster, null if unknown.
      type: str
    about:
      description: What else is recorded.
      type: dict
    path:
      description: Path of the marker file.
      type: str
processes:
  description: Running processes of these steps, or of O(ids).
  returned: success
  type: list
  elements: dict
  contains:
    pid:
      description: Its pid.
      type: int
    step:
      description: The ID of its step.
      type: str
    name:
      description: Its name, without its arguments.
      type: str
run_at_work:
  description: Whether a run that began a step, or a worker that it left behind, is known to still run tasks on this controller.
  returned: success
  type: bool
complete:
  description: Whether all processes of the host could be inspected.
  returned: success
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kube_storage.upgrade.plugins.module_utils._rolling_upgrade import step_markers as markers
from ansible_collections.kube_storage.upgrade.plugins.module_utils._rolling_upgrade.step_processes import look


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["looked", "begun", "ended"], "default": "looked"},
            "master": {"type": "str", "required": True},
            "ids": {"type": "list", "elements": "str", "default": []},
            "cluster": {"type": "str"},
            "about": {"type": "dict", "default": {}},
            "runs": {"type": "list", "elements": "dict", "default": []},
            "wait_timeout": {"type": "float", "default": 0},
        },
        supports_check_mode=True,
    )
    state, ids = module.params["state"], module.params["ids"]
    wrong = [identity for identity in ids if not markers.is_id(identity)]
    if wrong:
        module.fail_json(msg=f"'{wrong[0]}' is not the ID of a step; use the one in the Lease or in the marker file.")
    known = markers.find(module.params["master"], module.params["cluster"])
    changed = False
    if state == "begun":
        changed = True
        if not module.check_mode:
            _begin(module)
            known = markers.find(module.params["master"], module.params["cluster"])
    elif state == "ended":
        paths = [step["path"] for step in known if step["id"] in ids]
        changed = bool(paths)
        left = [] if module.check_mode else markers.remove(paths)
        for path in left:
            module.warn(f"{path} can't be removed by this user; remove it by hand, since its step has ended.")
        known = [step for step in known if step["id"] not in ids or step["path"] in left]
    seen = look(set(ids) | {str(step["id"]) for step in known}) if state == "looked" else look(())
    module.exit_json(changed=changed, steps=known, **seen)


def _begin(module: AnsibleModule) -> None:
    for identity in module.params["ids"]:
        marker = {"id": identity, **{name: module.params[name] for name in ("master", "cluster", "about")}}
        try:
            markers.leave(marker)
        except OSError as error:
            module.warn(
                f"No marker could be left in {markers.own_folder()} ({error.strerror}); if this step is interrupted, only the Lease records it."
            )


if __name__ == "__main__":
    main()
