# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes the name of each module that is started to the file that MODULE_STARTS names; does nothing without it."""

from __future__ import annotations

import os
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "module_starts"

    def __init__(self) -> None:
        super().__init__()
        path = os.environ.get("MODULE_STARTS")
        if not path:
            return
        # Plugins run in processes that are forked later, so they have this, too.
        execute = ActionBase._execute_module

        def noted(action: Any, module_name: str | None = None, *arguments: Any, **named: Any) -> dict[str, Any]:
            with open(path, "a", encoding="utf-8") as file:
                file.write(f"{module_name or action._task.action}\t{action._task.name}\n")
            result: dict[str, Any] = execute(action, module_name, *arguments, **named)
            return result

        ActionBase._execute_module = noted
