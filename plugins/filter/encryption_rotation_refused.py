# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: encryption_rotation_refused
short_description: Say why a step of an encryption key rotation must not be taken now
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Relies only on values that this run has set. If a task failed, was ignored or skipped, or belongs to another run, its value is missing, and the
    step is refused.
  - The role's entry point C(rotate_encryption_key) uses it as the condition of every task that changes something.
options:
  _input:
    description:
      - What the run knows. V(run), V(plan) (from P(kube_storage.upgrade.encryption_key_rotation#filter)), V(states) (by master, which stage of
        which plan is done), V(read) (the stage after which every API server read everything), V(proven) (the plan that is proven), and
        V(lease) (whether the run holds the Lease).
    type: dict
    required: true
  before:
    description: >-
      V(start) for the rotation as a whole, V(step) for one stage on one master, V(rewrite) for rewriting objects, V(end) for reporting
      that everything is done.
    type: str
    choices: [start, step, rewrite, end]
    required: true
  stage:
    description: V(1) (the new key is readable), V(2) (it writes) or V(3) (the old ones are dropped). With V(end), the last one.
    type: int
  master:
    description: With V(step), the master.
    type: str
  own_url:
    description: With V(step), the address of the master's own API server.
    type: str
  asked:
    description: With V(step), the result of M(kube_storage.upgrade.encryption_config_info).
    type: dict
  stored:
    description: With V(start), the result of M(kube_storage.upgrade.stored_versions_info).
    type: dict
  reading:
    description: With V(start), the result of M(kube_storage.upgrade.readable_objects_info).
    type: dict
"""

EXAMPLES = r"""
- name: Stop if objects must not be rewritten now
  ansible.builtin.fail:
    msg: "{{ standing | kube_storage.upgrade.encryption_rotation_refused('rewrite') }}"
  when: standing | kube_storage.upgrade.encryption_rotation_refused('rewrite') | length > 0
"""

RETURN = r"""
_value:
  description: One sentence; empty if the step may be taken.
  type: str
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption.rotation_order import (
    RotationState,
    why_no_rewrite,
    why_no_start,
    why_not_ended,
    why_not_yet,
)


def encryption_rotation_refused(
    rotation_state: Mapping[str, Any],
    before: str,
    stage: int = 0,
    master: str = "",
    own_url: str = "",
    asked: Any = None,
    stored: Any = None,
    reading: Any = None,
) -> str:
    known = RotationState(
        str(rotation_state.get("run") or ""),
        rotation_state.get("plan") or {},
        rotation_state.get("states") or {},
        rotation_state.get("read"),
        rotation_state.get("proven"),
        rotation_state.get("lease"),
    )
    if before == "step":
        return why_not_yet(known, int(stage), master, own_url, asked)
    if before == "rewrite":
        return why_no_rewrite(known)
    if before == "start":
        return known.problem or why_no_start(known.plan, stored, reading)
    if before == "end":
        return why_not_ended(known, int(stage))
    raise AnsibleFilterError(f"encryption_rotation_refused: before can't be '{before}'")


class FilterModule:
    """Filters of the role's entry point rotate_encryption_key."""

    def filters(self) -> dict[str, Any]:
        return {"encryption_rotation_refused": encryption_rotation_refused}
