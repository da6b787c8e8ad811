#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Documentation only: the work is done by the action plugin of the same name, on the controller.

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_play
short_description: Refuse plays and variables that can't work with the role rolling_upgrade
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Checks the play in which it runs and the variables of the role P(kube_storage.upgrade.rolling_upgrade#role), and says what can't work before
    anything is touched. It doesn't talk to any cluster.
  - "The play: a strategy that doesn't keep the masters' order; masters that aren't in the inventory or that have failed; tags that would make
    C(include_role) run nothing; with several clusters, masters without the group of their cluster, and what would have one cluster interrupt
    another one."
  - "The variables: their values, for this host and for masters whose turn in C(serial) comes later; the tasks file of the driver V(tasks); and
    extra variables (C(-e)) that begin with C(rolling_upgrade_) and aren't options of the role."
  - "The role calls it first. Its task needs C(tags: [always]), so it can tell which tags skip the other tasks."
attributes:
  action:
    description: Runs on the controller.
    support: full
  check_mode:
    description: It changes nothing, so it does the same.
    support: full
  diff_mode:
    description: Shows what changes, in diff mode.
    support: none
options:
  entry_point:
    description: The entry point of the role whose variables to check.
    type: str
    required: true
  masters:
    description: The masters in order.
    type: list
    elements: str
    required: true
  refuse:
    description: Whether to fail if something can't work. Otherwise RV(problems) says what.
    type: bool
    default: true
seealso:
  - module: kube_storage.upgrade.upgrade_lease
"""

EXAMPLES = r"""
- name: Refuse what can't work
  kube_storage.upgrade.upgrade_play:
    entry_point: migrate
    masters: "{{ rolling_upgrade_masters }}"
  tags: [always]
"""

RETURN = r"""
problems:
  description: What can't work on this host, one sentence each.
  returned: always
  type: list
  elements: str
later:
  description: For each master in a later batch of the play, what can't work there, as far as that is known now.
  returned: always
  type: dict
names:
  description: With O(entry_point=main) and O(entry_point=clusters), the names and addresses by which an API server may know each master.
  returned: always
  type: dict
server:
  description: The URL of each master's own API server, if C(rolling_upgrade_server) gives it.
  returned: always
  type: dict
sure:
  description: For each master, whether all of its names are known.
  returned: always
  type: dict
located:
  description: Whether the facts of this host are known, and so all of its addresses. Over the connection P(ansible.builtin.local#connection), facts
    are those of the controller.
  returned: always
  type: bool
handlers:
  description: Whether the play may have handlers, which masters that need no upgrade may still have to run.
  returned: always
  type: bool
first:
  description: The first host of this batch when this host was checked; it may have been refused since.
  returned: always
  type: str
shared_reports:
  description:
    - With O(entry_point=clusters), for each group whose cluster would have its report at the same path as another one, a sentence that says so.
    - Only the first host of the play looks for it.
  returned: always
  type: dict
"""
