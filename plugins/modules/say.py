#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Documentation only: the work is done by the action plugin of the same name, on the controller.

from __future__ import annotations

DOCUMENTATION = r"""
module: say
short_description: Print lines as they are
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Prints sentences and tables for people, without the quotes and brackets that M(ansible.builtin.debug) puts around them. Lines that are too
    long for the screen are wrapped between words.
  - With a callback whose output is not for people, such as C(json), the lines are only in the result.
attributes:
  action:
    description: Runs on the controller.
    support: full
  check_mode:
    description: It changes nothing, so it does the same.
    support: full
  diff_mode:
    description: Shows O(diff), in diff mode.
    support: full
options:
  lines:
    description: What to print, such as what P(kube_storage.upgrade.table#filter) returns. Without any, nothing is printed.
    type: list
    elements: str
    required: true
  diff:
    description:
      - What to show in diff mode, with the keys V(before) and V(after), each a list of lines. If they differ, the task counts as changed, as Ansible
        shows differences only of changed tasks.
    type: dict
seealso:
  - plugin: kube_storage.upgrade.table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show what blocks the upgrade
  kube_storage.upgrade.say:
    lines: "{{ checked.blockers | kube_storage.upgrade.table(['resource', 'what', 'remediation']) }}"
"""

RETURN = r"""
lines:
  description: The lines.
  returned: always
  type: list
  elements: str
"""
