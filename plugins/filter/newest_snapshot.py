# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: newest_snapshot
short_description: Say when the newest snapshot of an etcd cluster was taken
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Finds the newest of the files that M(kube_storage.upgrade.etcd_snapshot) wrote for one etcd cluster. The name of a file has its time and its revision.
  - One of a later revision than the cluster is at now is of another cluster with the same id, and is left out.
positional: revision
options:
  _input:
    description: The paths of the snapshots of that cluster. Other files are left out.
    type: list
    elements: str
    required: true
  revision:
    description: The revision that the cluster is at now, such as RV(kube_storage.upgrade.stored_versions_info#module:revision).
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Show how old the newest snapshot is
  ansible.builtin.debug:
    msg: "{{ found.files | map(attribute='path') | kube_storage.upgrade.newest_snapshot(stored.revision) }}"
"""

RETURN = r"""
_value:
  description: Its time in UTC, such as V(2026-11-27T11:45:02Z); empty if there is none.
  type: str
"""

from collections.abc import Iterable
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import seconds_text
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.snapshot_files import newest_of


def newest_snapshot(paths: Iterable[Any], revision: Any) -> str:
    found = newest_of(map(str, paths), int(revision or 0))
    return seconds_text(found.taken_at) if found else ""


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"newest_snapshot": newest_snapshot}
