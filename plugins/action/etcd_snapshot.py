# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._event_watch import progress_of


class ActionModule(NormalAction):  # type: ignore[misc]  # ansible-core is not typed for this
    """Runs module etcd_snapshot and shows its progress."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        with progress_of(self, task_vars or {}):
            result: dict[str, Any] = super().run(tmp, task_vars)
        return result
