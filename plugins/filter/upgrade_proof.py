# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_proof
short_description: Summarize what is proven after an upgrade or a migration
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Combines the API servers' last answers with what etcd holds. Anything unknown counts as not proven.
options:
  _input:
    description: The result of M(kube_storage.upgrade.storage_version_hashes).
    type: dict
    required: true
  stored:
    description: The result of M(kube_storage.upgrade.stored_versions_info), empty if etcd was not read.
    type: dict
  version:
    description: The release that every API server must be at; empty if any will do.
    type: str
"""

EXAMPLES = r"""
- name: Make sure that everything is proven
  ansible.builtin.assert:
    that: (hashes | kube_storage.upgrade.upgrade_proof(stored, '1.37')).proven
"""

RETURN = r"""
_value:
  description:
    - V(proven) is true if etcd was read and nothing in it is stale, unprovable or unknown, each API server was asked (all that are alive by
      their identity Leases), they agree, and all are ready at the release.
    - V(source) is V(etcd) or V(api_servers). V(behind) has the URL of each API server that is not ready at the release. V(agreement),
      V(cross_checked) and V(sampling) describe the evidence that they agree.
    - V(stale), V(stale_resources), V(unprovable), V(unprovable_resources), V(encryption_unknown), V(encryption_unknown_resources), V(unknown), V(objects),
      V(revision), V(consistent) and V(problems) are those of M(kube_storage.upgrade.stored_versions_info), null or empty if etcd was not read.
  type: dict
"""

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _proof as proof


def upgrade_proof(found: Any, stored: Any = None, version: Any = None) -> dict[str, Any]:
    return proof.upgrade_proof(found or {}, stored or {}, str(version or ""))


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"upgrade_proof": upgrade_proof}
