# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Adds what only the controller knows: who this run is, whether the holder of the Lease or of a step has ended, and what the play forces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _playbook_process as playbook_process
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._kubeconfig import find_kubeconfig


class ActionModule(NormalAction):  # type: ignore[misc]  # ansible-core is not typed for this
    """Runs the module, and runs it again to take the Lease over from a holder that has certainly ended."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        find_kubeconfig(self)
        group = playbook_process.cluster_group(self, task_vars or {})
        given = {**playbook_process.claim(task_vars or {}, group), **self._task.args}
        self._task.args = given
        result: dict[str, Any] = super().run(tmp, task_vars)
        other = result.get("other")
        if (
            result.get("failed")
            and isinstance(other, Mapping)
            and playbook_process.has_ended(other.get("process") or {})
        ):
            self._task.args = {**given, "take_over": other["holder"]}
            result = super().run(tmp, task_vars)
        step = result.get("open_step")
        if isinstance(step, Mapping):
            at_work = playbook_process.is_at_work(step.get("process") or {})
            says = {True: "working", False: "ended", None: "unknown"}[at_work]
            result["open_step"] = {**step, "on_controller": says}
        play = self._task.get_play()
        result["forces_handlers"] = bool(play.force_handlers and play.handlers)
        return result
