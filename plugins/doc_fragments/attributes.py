# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What every module of the collection supports."""

    DOCUMENTATION = r"""
attributes:
  check_mode:
    description: Can run in check mode and report what would be done without writing anything.
    support: full
  diff_mode:
    description: Shows what changes, in diff mode.
    support: full
  action_group:
    description: Use C(group/kube_storage.upgrade.k8s) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - kube_storage.upgrade.k8s
"""
