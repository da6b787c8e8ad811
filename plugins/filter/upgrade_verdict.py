# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_verdict
short_description: Say how an upgrade ended, and what to do next
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Composes the final message of the role P(kube_storage.upgrade.rolling_upgrade#role) from what its tasks found on this host. It is empty if
    another host prints it.
options:
  _input:
    description: The masters in order.
    type: list
    elements: str
    required: true
  outcomes:
    description: Results of tasks of this host. If one failed, the upgrade has stopped.
    type: list
    elements: dict
    default: []
  stopped:
    description: The message with which this host stopped the roll.
    type: str
    default: ""
  otherwise:
    description: The message if nothing else is known, but the upgrade has stopped here.
    type: str
    default: ""
  verified:
    description: Whether this host has verified the result.
    type: bool
    default: false
  planned:
    description: Whether this host has gone through the upgrade in check mode.
    type: bool
    default: false
  facts:
    description: >-
      For the sentences: V(version), V(emulate) (the release that is emulated), V(rollback), V(stops_before) (the step before which the run ends), V(proof),
      V(migration), V(checked), V(preview), V(select), V(done) (masters that are at the version), V(by_platform) and V(report).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Say how the upgrade ended
  kube_storage.upgrade.say:
    lines: "{{ masters | kube_storage.upgrade.upgrade_verdict(verified=true, facts={'version': '1.37', 'proof': proof}) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ansible import context
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _verdict


def upgrade_verdict(
    masters: Sequence[str],
    outcomes: Sequence[Any] = (),
    stopped: str = "",
    verified: Any = False,
    planned: Any = False,
    facts: Mapping[str, Any] | None = None,
    otherwise: str = "",
) -> list[str]:
    told = facts or {}
    report = str(told.get("report") or "")
    message = stopped or _verdict.failed_outcome(outcomes) or otherwise
    if message:
        command = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
        # As parsed: with -Kbe, --extra and the like, the words of the command don't show which of them are variables.
        given = [str(item) for item in context.CLIARGS.get("extra_vars") or ()]
        return _verdict.stopped_lines(message, report, command, given)
    asked = _verdict.Asked(
        version=str(told.get("version") or ""),
        emulate=str(told.get("emulate") or ""),
        stops_before=str(told.get("stops_before") or ""),
        rollback=bool(boolean(told.get("rollback") or False, strict=False)),
    )
    if planned:
        return _verdict.plan_lines(
            masters,
            told.get("done") or (),
            asked,
            told.get("checked") or {},
            told.get("preview") or {},
            str(told.get("select") or "all"),
            bool(told.get("by_platform")),
        )
    if verified:
        return _verdict.done_lines(masters, asked, told.get("proof") or {}, told.get("migration") or {}, report)
    return []


class FilterModule:
    """Filters of the role."""

    def filters(self) -> dict[str, Any]:
        return {"upgrade_verdict": upgrade_verdict}
