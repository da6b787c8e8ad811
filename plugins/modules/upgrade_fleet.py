#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Documentation only: the work is done by the action plugin of the same name, on the controller.

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_fleet
short_description: Keep the page, the record and the metrics of a fleet of clusters
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - >-
    Makes one page of the reports about many clusters: C(index.html) with a row for each, C(fleet.json) for programs, and C(metrics.prom) for
    Prometheus. It reads C(clusters/NAME/state.json), the report of an audit by M(kube_storage.upgrade.upgrade_report), and beside it the newest
    result of each purpose (O(kube_storage.upgrade.upgrade_report#module:fleet)).
  - Plans the waves of a run, and decides after each whether the next one may begin. A run that was stopped or killed is resumed.
  - A cluster that was not reached, failed, or had no turn has its own row. What is unknown is left empty, in the metrics, too.
  - The entry point C(fleet) of the role rolling_upgrade calls it.
options:
  path:
    description: The folder. It is readable by its owner only, apart from the metrics.
    type: path
    required: true
  metrics_path:
    description: Another path for the metrics, such as one in the folder of node_exporter's textfile collector. The file is replaced as a whole.
    type: path
  purpose:
    description: What the run does with each cluster.
    type: str
    choices: [audit, check, migrate]
    default: audit
  version:
    description: The release that the clusters are checked for.
    type: str
  clusters:
    description: Begin or resume a run over these clusters, by their names in the inventory. They are also the names of folders.
    type: list
    elements: str
  run:
    description:
      - The run, as RV(run) of the task before. Without it and without O(clusters), the last run in the folder.
      - Several runs may share a folder, as those of AWX's slices do; the page has the clusters of all.
    type: dict
  waves:
    description:
      - The waves in order, each a number of clusters, a share of all such as V(10%), or the name of a group or host of the inventory.
      - A cluster belongs to the first wave that has it; the clusters that are left are the last wave. Without any, all are one wave.
    type: list
    elements: raw
    default: []
  groups:
    description: The groups of the inventory.
    type: dict
    default: {}
  resume_within:
    description:
      - Resume the last run with some of these clusters, if it was stopped or killed less than this many seconds ago and had the same O(purpose) and
        O(version). Other runs may have used the folder since.
    type: float
    default: 0
  finished_wave:
    description:
      - The wave that has just ended, by its number from 0.
      - In a task with O(clusters), existing reports count, however old they are.
    type: int
  stop_on:
    description:
      - The least state of one cluster for which no further wave begins.
      - In this order, V(concern), V(stale) (stale objects in etcd), V(disagreement) (API servers differ), V(blocker) (something blocks the
        upgrade), V(failure) (something could not be completed), V(not_reached).
    type: str
    choices: [concern, stale, disagreement, blocker, failure, not_reached, never]
    default: blocker
  max_failures:
    description: How many clusters of the waves so far may fail or not be reached before no further wave begins.
    type: int
    default: 0
  fail_on:
    description: The least state for which a cluster counts as a problem. After a stop, the first that had no turn counts, too, for all of these.
    type: str
    choices: [concern, stale, disagreement, blocker, failure, not_reached, never]
    default: blocker
  end:
    description: The play ends now.
    type: bool
    default: false
  problem:
    description: Only fail with this message.
    type: str
  unreachable:
    description: With O(problem), whether the host counts as unreachable instead of failed.
    type: bool
    default: false
attributes:
  check_mode:
    description: Nothing is written in check mode.
    support: full
  diff_mode:
    description: Differences between pages are not shown.
    support: none
  platform:
    description: Where it works.
    support: full
    platforms: posix
seealso:
  - module: kube_storage.upgrade.upgrade_report
"""

EXAMPLES = r"""
- name: Report on a cluster
  kube_storage.upgrade.upgrade_report:
    path: "./fleet/clusters/{{ inventory_hostname }}/state.html"
    kind: audit
    observed: ["{{ hashes }}"]

- name: Make one page of all reports
  kube_storage.upgrade.upgrade_fleet:
    path: ./fleet
    clusters: "{{ ansible_play_hosts_all }}"
    finished_wave: 0
    end: true
  run_once: true
"""

RETURN = r"""
msg:
  description: Why the run was stopped, or how many clusters there are.
  returned: always
  type: str
html:
  description: The page.
  returned: success
  type: str
json:
  description: The record.
  returned: success
  type: str
metrics:
  description: The file with the metrics.
  returned: success
  type: str
run:
  description: The run, for O(run) of the next task.
  returned: success
  type: dict
status:
  description: V(running), V(stopped) or V(finished).
  returned: success
  type: str
stopped:
  description: Whether no further wave may begin.
  returned: success
  type: bool
waves:
  description: The waves in order.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    clusters:
      description: Its clusters.
      type: list
      elements: str
done:
  description: The clusters of the run that are done, according to the results of this run or of the one that it resumes.
  returned: success
  type: list
  elements: str
notes:
  description: What to know before the first wave, one sentence each.
  returned: success
  type: list
  elements: str
states:
  description: The state of each cluster of the run, V(fine), one of those of O(stop_on), or V(not_begun).
  returned: success
  type: dict
problems:
  description: A sentence for each cluster that counts as a problem.
  returned: success
  type: dict
only_unreachable:
  description: Whether each of these was just not reached.
  returned: success
  type: bool
summary:
  description: How many clusters are in which state, one line each, for people to read.
  returned: success
  type: list
  elements: str
"""
