#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Documentation only: the work is done by the action plugin of the same name, on the controller.

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_report
short_description: Write the report of an upgrade, a key rotation, a check or an audit, as a page and as JSON
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Keeps a record in a JSON file on the controller, wherever the task runs, and beside it one HTML file that shows it, with pictures. The
    page needs no network and no script.
  - Of an upgrade or a rotation, each call adds what it is given, so the report tells what happened so far, however a run ends. A later
    run of the same undertaking goes on with it; nothing that an earlier one saw is lost. A check or an audit tells how things
    stand at one moment, and replaces the one before. A report of something else is put aside under another name.
  - The role rolling_upgrade and the playbooks call it wherever there is something to tell; call it by yourself around an upgrade of your own.
  - Only named fields of results are taken over. No option of a task, no key in etcd and no content of an object gets into the report;
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
        what speaks against an upgrade, V(audit) for what is stored and how.
    type: str
    choices: [upgrade, key_rotation, check, audit]
    default: upgrade
  version:
    description:
      - The release that is upgraded to. Where a report of another one is at O(path), it is put aside and a new one is begun.
      - Without it, the news is added to whatever report is there.
    type: str
  rotation:
    description: With O(kind=key_rotation), which rotation it is. Names only, never a key.
    type: dict
    suboptions:
      key:
        description: Name of the new key. With the same one, a later run goes on with the report.
        type: str
        required: true
      provider:
        description: The provider of the new key.
        type: str
      resources:
        description: What is rewritten under it.
        type: list
        elements: str
      old:
        description: Provider and name of each key that goes.
        type: list
        elements: list
      drop_old:
        description: Whether the old ones go in this rotation.
        type: bool
  masters:
    description:
      - The masters in their order, so that the report can name API servers after them.
      - By inventory name, the address or host name that it is reached at, empty if unknown.
    type: dict
  begin:
    description: Begin a new run. Without it, the news belongs to the run that did not end yet, if there is one.
    type: bool
    default: false
  during:
    description: What the news is about, of V(check), V(upgrade), V(agreement), V(migration) and V(proof); the report's advice depends on it.
    type: str
  step:
    description: The upgrade of one master, or one stage of a rotation on it, begins or ends now.
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
        description: Of a rotation, V(1) (the new key can be read), V(2) (it writes) or V(3) (the old ones are gone).
        type: int
        choices: [1, 2, 3]
      state:
        description: Whether it begins or how it ended.
        type: str
        choices: [running, done, failed]
        required: true
  observed:
    description: Results of M(kube_storage.upgrade.storage_version_hashes), in the order of time.
    type: list
    elements: dict
  stored_before:
    description: Result of M(kube_storage.upgrade.stored_versions_info) before the upgrade. The first one counts.
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
    description: With O(kind=check), the blockers to go on in spite of, by their id or the name of the check.
    type: list
    elements: str
  stored:
    description: With O(kind=audit), the result of M(kube_storage.upgrade.stored_versions_info).
    type: dict
  outcomes:
    description: Results of other tasks. Where one failed, its message is noted as what stopped the run.
    type: list
    elements: dict
  verified:
    description: All that should be proven was. It counts unless something failed.
    type: bool
    default: false
  end:
    description: The run ends now.
    type: bool
    default: false
attributes:
  check_mode:
    description: Nothing is written in check mode.
    support: full
  diff_mode:
    description: The files are no configuration; their differences are not shown.
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
- name: Migrate and look at the result
  kube_storage.upgrade.storage_migrate:
  register: migration

- name: Put it into a report
  kube_storage.upgrade.upgrade_report:
    path: ./upgrade.html
    migration: "{{ migration }}"
    end: true

- name: Put what etcd holds into a page
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
put_aside:
  description: Where a report of another release, or one that could not be read, is now; null if there was none.
  returned: success
  type: str
status:
  description: How the last run in it stands, of V(running), V(succeeded), V(failed) and V(unfinished); null if there is no report.
  returned: success
  type: str
stored_before_found:
  description: Whether it holds what etcd held before.
  returned: success
  type: bool
"""
