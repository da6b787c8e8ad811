# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_way
short_description: The releases to upgrade to in turn
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - From the result of a check, lists each minor release up to the target. If something remains to be migrated at the current release, that one comes first.
  - If O(stop_before) is V(migrate), the list ends with the first newer release. If it is V(finalize), it ends with the first newer release at which
    API servers don't emulate the one before it yet.
options:
  _input:
    description: The result of M(kube_storage.upgrade.upgrade_check) for the last release.
    type: dict
    required: true
  target:
    description: The last release, such as V(1.37) or V(v1.37.2).
    type: str
    required: true
  releases:
    description: Patch releases to use for some of the minor ones, such as V(v1.36.5).
    type: list
    elements: str
    default: []
  stop_before:
    description: The role's variable C(rolling_upgrade_stop_before).
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Show the releases
  ansible.builtin.debug:
    msg: "{{ checked | kube_storage.upgrade.upgrade_way('v1.37.2', ['v1.36.5']) | map(attribute='release') }}"
"""

RETURN = r"""
_value:
  description:
    - The releases in order, each as C(release).
    - C(emulate) is the release that its API servers emulate, empty for none, and C(stops_before) is the step before which the upgrade to it ends.
  type: list
  elements: dict
"""

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._way import way


def upgrade_way(checked: Any, target: Any, releases: Any = (), stop_before: Any = "") -> list[dict[str, str]]:
    return way(checked, str(target), releases or (), str(stop_before))


class FilterModule:
    """The releases of the role's entry point several_releases."""

    def filters(self) -> dict[str, Any]:
        return {"upgrade_way": upgrade_way}
