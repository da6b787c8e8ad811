# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _playbook_process as playbook_process
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._action import ActionForPeople
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._short_results import HASHES


class ActionModule(ActionForPeople):
    """Runs module upgrade_turn as this run of ansible-playbook, and shows its progress."""

    short = HASHES

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        group = playbook_process.cluster_group(self, task_vars or {})
        self._task.args = {**playbook_process.claim(task_vars or {}, group), **self._task.args}
        return super().run(tmp, task_vars)
