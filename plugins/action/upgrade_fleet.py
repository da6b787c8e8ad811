# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps the record of a fleet on the controller, and decides between its waves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clean_text import clean_line
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import millis_text, utc_now
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.folder import FleetFolder
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.record import Severity
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.store import FleetNews, keep
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._playbook_process import run_id
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._variables import SEVERITIES

_NEVER = "never"
_SPEC: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "metrics_path": {"type": "path"},
    "purpose": {"type": "str", "choices": ["audit", "check", "migrate"], "default": "audit"},
    "version": {"type": "str"},
    "clusters": {"type": "list", "elements": "str"},
    "run": {"type": "dict"},
    "waves": {"type": "list", "elements": "raw", "default": []},
    "groups": {"type": "dict", "default": {}},
    "resume_within": {"type": "float", "default": 0},
    "finished_wave": {"type": "int"},
    "stop_on": {"type": "str", "choices": list(SEVERITIES), "default": Severity.BLOCKER.value},
    "max_failures": {"type": "int", "default": 0},
    "fail_on": {"type": "str", "choices": list(SEVERITIES), "default": Severity.BLOCKER.value},
    "end": {"type": "bool", "default": False},
    "problem": {"type": "str"},
    "unreachable": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core is not typed for this
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, given = self.validate_argument_spec(argument_spec=_SPEC)
        if given["problem"]:
            if given["unreachable"]:
                raise AnsibleConnectionFailure(clean_line(given["problem"]))
            return {**result, "failed": True, "msg": clean_line(given["problem"])}
        try:
            folder = FleetFolder(str(given["path"]), given["metrics_path"])
            result.update(keep(folder, _news(given), millis_text(utc_now()), write=not self._task.check_mode))
        except StorageUpgradeError as error:
            result.update(failed=True, msg=error.message)
        except OSError as error:
            result.update(failed=True, msg=f"The fleet's page can't be written to {given['path']}: {error.strerror}.")
        return result


def _news(given: Mapping[str, Any]) -> FleetNews:
    return FleetNews(
        run=run_id(),
        purpose=given["purpose"],
        version=given["version"] or None,
        clusters=given["clusters"],
        begun=given["run"],
        waves=given["waves"],
        groups=given["groups"],
        resume_within=given["resume_within"],
        finished_wave=given["finished_wave"],
        stop_on=_severity(given["stop_on"]),
        max_failures=given["max_failures"],
        fail_on=_severity(given["fail_on"]),
        end=given["end"],
    )


def _severity(name: str) -> Severity | None:
    return None if name == _NEVER else Severity(name)
