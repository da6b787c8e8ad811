# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: driver_refusals
short_description: Say why a driver can't upgrade the masters
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Compares a driver of the role P(kube_storage.upgrade.rolling_upgrade#role) with what is asked of it.
positional: files, masters
options:
  _input:
    description: The driver, by its name or the path of its folder.
    type: str
    required: true
  files:
    description: The paths of those of its files C(main.yml) and C(all_masters.yml) that exist.
    type: list
    elements: str
    required: true
  masters:
    description: The masters.
    type: list
    elements: str
    required: true
  sampling:
    description: The role's C(rolling_upgrade_sampling).
    type: dict
    default: {}
  emulate:
    description: The release that upgraded API servers emulate, empty for none.
    type: str
    default: ""
  rollback:
    description: Whether this is a rollback to an older release.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Make sure that the driver can do what is asked
  ansible.builtin.assert:
    that: "'kubeadm' | kube_storage.upgrade.driver_refusals(['/drivers/kubeadm/main.yml'], masters) | length == 0"
"""

RETURN = r"""
_value:
  description: The reasons, one sentence each; empty if it can.
  type: list
  elements: str
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _driver


def driver_refusals(
    driver: Any,
    files: Sequence[str],
    masters: Sequence[str],
    sampling: Mapping[str, Any] | None = None,
    emulate: Any = "",
    rollback: Any = False,
) -> list[str]:
    return _driver.driver_refusals(str(driver), files, masters, sampling or {}, two_steps=bool(emulate or rollback))


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"driver_refusals": driver_refusals}
