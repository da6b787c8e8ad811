# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes the report on the controller, whose Python always has Jinja."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clean_text import clean_line
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import millis_text, utc_now
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _playbook_process as playbook_process
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._action import people_read
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.end_watch import watch
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.files import ReportFiles
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.store import in_check_mode, keep

_SPEC: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "kind": {"type": "str", "choices": ["upgrade", "key_rotation", "check", "audit"], "default": "upgrade"},
    "cluster_name": {"type": "str"},
    "cluster_uid": {"type": "str"},
    "version": {"type": "str"},
    "rotation": {
        "type": "dict",
        "no_log": False,
        "options": {
            "key": {"type": "str", "required": True, "no_log": False},
            "provider": {"type": "str"},
            "resources": {"type": "list", "elements": "str"},
            "old": {"type": "list", "elements": "list"},
            "drop_old": {"type": "bool"},
        },
    },
    "masters": {"type": "dict"},
    "begin": {"type": "bool", "default": False},
    "during": {"type": "str"},
    "step": {
        "type": "dict",
        "options": {
            "master": {"type": "str", "required": True},
            "server": {"type": "str"},
            "from": {"type": "str"},
            "to": {"type": "str"},
            "stage": {"type": "int", "choices": [1, 2, 3]},
            "state": {"type": "str", "choices": ["running", "done", "failed"], "required": True},
        },
    },
    "observed": {"type": "list", "elements": "dict"},
    "stored_before": {"type": "dict"},
    "migration": {"type": "dict"},
    "stored_after": {"type": "dict"},
    "checked": {"type": "dict"},
    "ignored": {"type": "list", "elements": "str"},
    "stored": {"type": "dict"},
    "snapshot_at": {"type": "str"},
    "fleet": {
        "type": "dict",
        "options": {
            "purpose": {"type": "str", "choices": ["audit", "check", "migrate"], "required": True},
            "version": {"type": "str"},
        },
    },
    "outcomes": {"type": "list", "elements": "dict"},
    "verified": {"type": "bool", "default": False},
    "end": {"type": "bool", "default": False},
    "say": {"type": "bool", "default": False},
}

display = Display()


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, news = self.validate_argument_spec(argument_spec=_SPEC)
        news["host"] = (task_vars or {}).get("inventory_hostname")
        news["run"] = playbook_process.run_id()
        result.update(self._kept(news))
        if news["begin"] and result.get("run") and not self._task.check_mode:
            watch(playbook_process.main_pid(), Path(result["html"]), result["run"])
        # In check mode most news is not written, and then there is nothing to say.
        if news.pop("say") and people_read() and (result.get("changed") or not self._task.check_mode):
            sentence = _about(result, news)
            if sentence:
                display.display(clean_line(sentence))
        return result

    def _kept(self, news: dict[str, Any]) -> dict[str, Any]:
        """Failures are returned: Ansible doesn't ask failed_when about exceptions, and a report must never stop an upgrade halfway."""
        try:
            check_mode = bool(self._task.check_mode)
            files = ReportFiles(str(news["path"]), check_mode=check_mode)
            return keep(files, in_check_mode(news) if check_mode else news, millis_text(utc_now()))
        except StorageUpgradeError as error:
            return {"failed": True, "msg": error.message}
        except OSError as error:
            return {"failed": True, "msg": f"The report can't be written to {news['path']}: {error.strerror}."}
        except Exception as error:
            sentence = (
                f"The report at {news['path']} could not be updated ({type(error).__name__}: {clean_line(str(error))})."
            )
            return {"failed": True, "msg": f"{sentence} Please report this as a bug."}


def _about(result: dict[str, Any], news: dict[str, Any]) -> str:
    """What a person should know about the report now; empty while a run goes on and its report could be written."""
    if result.get("failed"):
        return "" if news["begin"] else f"The report could not be written, but the playbook continues: {result['msg']}"
    if (result.get("status") or "running") == "running":
        return ""
    return f"The report shows what was found or done, and what is proven: {result['html']}"
