# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prints lines on the controller."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clean_text import clean_line
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._action import people_read
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._table import fold, screen_width

display = Display()


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core is not typed for this
    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, given = self.validate_argument_spec(
            argument_spec={"lines": {"type": "list", "elements": "str", "required": True}, "diff": {"type": "dict"}}
        )
        lines = [clean_line(line) if line.strip() else "" for line in given["lines"]]
        if lines and people_read():
            display.display("\n".join(fold(lines, screen_width())))
        result.update(changed=False, lines=lines)
        if given["diff"]:
            diff = {name: "".join(f"{line}\n" for line in given["diff"][name]) for name in ("before", "after")}
            # Ansible shows only the differences of what changes.
            result.update(changed=diff["before"] != diff["after"], diff=diff)
        return result
