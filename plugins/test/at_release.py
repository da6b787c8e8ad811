# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: at_release
short_description: Whether an API server is at a release of Kubernetes
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Follows the same rule as the modules and the report.
  - A distribution's suffix, such as C(+rke2r1) or C(-eks-1a2b3c), only counts if O(release) has it, too.
  - A pre-release such as C(1.37.0-rc.1) is at V(1.37), but not at V(1.37.0).
  - If an API server emulates a minor release, that is its release; its patch level is then unknown and ignored.
  - V(1.37 emulating 1.36) is only a server of 1.37 that emulates 1.36, which is at neither V(1.37) nor V(1.36 itself).
  - The API server need not be ready.
options:
  _input:
    description:
      - One of the RV(kube_storage.upgrade.storage_version_hashes#module:servers), whose V(version) and V(emulated_version) are used, or a
        version as text.
      - If the version is unknown, the test fails.
    type: raw
    required: true
  release:
    description: A minor release such as V(1.37), or a patch release such as V(v1.37.2); also as above.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: List the API servers that are still to be upgraded
  ansible.builtin.debug:
    msg: "{{ hashes.servers | reject('kube_storage.upgrade.at_release', '1.37') | map(attribute='url') }}"

- name: Make sure that this one is at the release
  ansible.builtin.assert:
    that: hashes.servers[0] is kube_storage.upgrade.at_release('1.37.2')
"""

RETURN = r"""
_value:
  description: Whether it is.
  type: bool
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import at_release as versions_match


def at_release(server: Any, release: Any) -> bool:
    known = server if isinstance(server, Mapping) else {"version": server}
    texts = [str(known.get(name) or "") for name in ("version", "emulated_version")]
    return versions_match(texts[0], str(release), texts[1])


class TestModule:
    """Tests of what API servers report."""

    def tests(self) -> dict[str, Callable[..., bool]]:
        return {"at_release": at_release}
