# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: stored_rows
short_description: List what etcd holds as rows of a table
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Turns RV(kube_storage.upgrade.stored_versions_info#module:resources) into rows for P(kube_storage.upgrade.table#filter), one for each form in
    which objects of a resource are stored.
options:
  _input:
    description: RV(kube_storage.upgrade.stored_versions_info#module:resources).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what is stored
  ansible.builtin.debug:
    msg: "{{ stored.resources | kube_storage.upgrade.stored_rows | kube_storage.upgrade.table(['resource', 'version', 'objects', 'stale']) }}"
"""

RETURN = r"""
_value:
  description: The rows, each with C(resource), C(version), C(encoding), C(encryption), C(objects), C(bytes) and C(stale).
  type: list
  elements: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _check_text as text


def stored_rows(resources: Mapping[str, Any]) -> list[dict[str, Any]]:
    return text.stored_rows(resources)


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"stored_rows": stored_rows}
