#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Documentation only: the work is done by the action plugin of the same name, on the controller.

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_report
short_description: Write the report of an upgrade, a key rotation, a check or an audit as HTML and JSON
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Keeps a record in a JSON file on the controller, wherever the task runs, and beside it an HTML file that shows it with charts. The
    page needs no network and no script.
  - For an upgrade or a rotation, each call adds to the record, so the report is up to date however a run ends. A later
    run of the same upgrade or rotation continues it, and nothing that an earlier run saw is lost. A check or an audit shows the state
    at one moment and replaces the previous one. A report of something else is archived under another name.
  - The headline follows from what is proven. An upgrade is never reported as done while an API server is not ready at O(version), or if no
    run visited the objects and etcd was not read.
  - A run that O(begin) opens is closed in any case. If ansible-playbook is killed, or the last host can no longer be reached, a
    process on the controller, which must run Linux, notes in the report where that happened.
  - If there is no news, it writes nothing, returns what is on record, and fails if the report could not be written. With O(begin) it also fails
    if the disk is nearly full.
  - The role rolling_upgrade and the playbooks call it; you can also call it in your own playbooks.
  - Only specific fields of results are used. Task options, keys in etcd and object content never get into the report;
    names of objects that could not be rewritten do.
options:
  path:
    description:
      - The page (V(.html)), or the JSON beside it (V(.json)), or their common name without a suffix.
      - Both are readable by their owner only.
    type: path
    required: true
  kind:
    description:
      - V(upgrade) for an upgrade with its migration, or a migration alone, V(key_rotation) for a rotation of the encryption key, V(check) for
        what blocks an upgrade, V(audit) for what is stored and how.
    type: str
    choices: [upgrade, key_rotation, check, audit]
    default: upgrade
  cluster_name:
    description: Name of the cluster, shown at the top of the page. A later run without it leaves it unchanged.
    type: str
    version_added: 1.0.0
  cluster_uid:
    description:
      - The uid of the namespace C(kube-system), which no other cluster has, such as RV(kube_storage.upgrade.upgrade_lease#module:uid). By default that in
        O(observed), if there is one. If a report of another cluster is at O(path), it is archived and a new one begins.
      - If the uid is unknown, a different O(cluster_name), or O(masters) none of which is in the report, means another cluster.
    type: str
    version_added: 1.0.0
  version:
    description:
      - The release to upgrade to. If a report of another release is at O(path), it is archived and a new one begins.
      - Without it, the news is added to the report at O(path).
    type: str
  rotation:
    description: With O(kind=key_rotation), which rotation it is. Names only, never a key.
    type: dict
    suboptions:
      key:
        description: Name of the new key. A later run with the same name continues the report.
        type: str
        required: true
      provider:
        description: The provider of the new key.
        type: str
      resources:
        description: The resources that are rewritten with it.
        type: list
        elements: str
      old:
        description: Provider and name of each old key.
        type: list
        elements: list
      drop_old:
        description: Whether this rotation drops the old keys.
        type: bool
  masters:
    description:
      - The masters in order, so that the report can name API servers after them.
      - Maps each inventory name to the address or host name it is reached at, empty if unknown.
    type: dict
  begin:
    description: Begin a new run. Without it, the news belongs to the run that has not ended yet, if there is one.
    type: bool
    default: false
  during:
    description: The phase, one of V(check), V(upgrade), V(agreement), V(migration) and V(proof); the report's advice depends on it.
    type: str
  step:
    description: The upgrade of a master, or a stage of a rotation on it, that begins or ends now.
    type: dict
    suboptions:
      master:
        description: Inventory name.
        type: str
        required: true
      server:
        description: URL of its API server.
        type: str
      from:
        description: Release before.
        type: str
      to:
        description: Release after.
        type: str
      stage:
        description: In a rotation, V(1) (the new key is readable), V(2) (it writes) or V(3) (the old keys are gone).
        type: int
        choices: [1, 2, 3]
      state:
        description: Whether it begins, or how it ended.
        type: str
        choices: [running, done, failed]
        required: true
  observed:
    description: Results of M(kube_storage.upgrade.storage_version_hashes), oldest first.
    type: list
    elements: dict
  stored_before:
    description: Result of M(kube_storage.upgrade.stored_versions_info) before the upgrade. Only the first one is kept.
    type: dict
  migration:
    description: Result of M(kube_storage.upgrade.storage_migrate).
    type: dict
  stored_after:
    description: Result of M(kube_storage.upgrade.stored_versions_info) after the migration.
    type: dict
  checked:
    description: With O(kind=check), the result of M(kube_storage.upgrade.upgrade_check).
    type: dict
  ignored:
    description: With O(kind=check), the blockers to ignore, by ID or by name of the check.
    type: list
    elements: str
  stored:
    description: With O(kind=audit), the result of M(kube_storage.upgrade.stored_versions_info).
    type: dict
  snapshot_at:
    description: With O(kind=audit), when the newest snapshot of etcd was taken, in UTC.
    type: str
    version_added: 1.0.0
  fleet:
    description:
      - With O(kind=audit), the run over a fleet that the result belongs to. It is also kept in a file of its own, such as C(state-migrate.json), because
        another run, such as a nightly audit, may replace the report while this one goes on.
      - M(kube_storage.upgrade.upgrade_fleet) counts a report without it as the result of an audit or a check, but never as that of a migration.
    type: dict
    version_added: 1.0.0
    suboptions:
      purpose:
        description: What that run does with each cluster.
        type: str
        choices: [audit, check, migrate]
        required: true
      version:
        description: The release that it checks for.
        type: str
  outcomes:
    description: Results of other tasks. If one failed, its message is recorded as what stopped the run.
    type: list
    elements: dict
  verified:
    description: The verification is complete. It counts only if nothing failed, every API server was last seen ready at O(version), and
      objects were visited or etcd was read.
    type: bool
    default: false
  end:
    description: The run ends now.
    type: bool
    default: false
  say:
    description:
      - Whether to print where the report is when a run has ended, or that it could not be written.
    type: bool
    version_added: 1.0.0
    default: false
attributes:
  check_mode:
    description:
      - In check mode the report at O(path) is left as it is. What a check or an audit found is written beside it, with C(-check-mode) after the
        name, and labeled as that of a run that changed nothing.
    support: full
  diff_mode:
    description: Differences between reports are not shown.
    support: none
  platform:
    description: Where it works.
    support: full
    platforms: posix
seealso:
  - module: kube_storage.upgrade.storage_version_hashes
  - module: kube_storage.upgrade.storage_migrate
  - module: kube_storage.upgrade.stored_versions_info
"""

EXAMPLES = r"""
- name: Migrate
  kube_storage.upgrade.storage_migrate:
  register: migration

- name: Report the result
  kube_storage.upgrade.upgrade_report:
    path: ./upgrade.html
    migration: "{{ migration }}"
    end: true

- name: Report what etcd holds
  kube_storage.upgrade.upgrade_report:
    path: ./audit.html
    kind: audit
    observed: ["{{ hashes }}"]
    stored: "{{ stored }}"
"""

RETURN = r"""
html:
  description: The page.
  returned: success
  type: str
  sample: /home/me/upgrade.html
json:
  description: The JSON beside it.
  returned: success
  type: str
  sample: /home/me/upgrade.json
archived:
  description: New path of a report of another release or cluster, or of one that could not be read; null if there was none.
  returned: success
  type: str
status:
  description:
    - Status of its last run, one of V(running), V(succeeded), V(failed), V(unfinished) and V(cut off) (it ended abruptly); null if there
      is no report.
  returned: success
  type: str
run:
  description: When its last run began, in UTC; null if there is none.
  returned: success
  type: str
stored_before_found:
  description: Whether it records what etcd held before.
  returned: success
  type: bool
"""
