# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waits until no process of a step is left: checks its run on the controller first, then the master."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clean_text import clean_line
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _playbook_process as playbook_process
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _step_shell as step_shell

_EVERY = 2.0
_TELL_EVERY = 10.0

display = Display()


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core is not typed for this
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        until = time.monotonic() + float(args.get("wait_timeout") or 0)
        told = time.monotonic() - _TELL_EVERY / 2
        while True:
            found = self._look(args, task_vars or {})
            busy = what_is_at_work(found)
            if found.get("failed") or not busy or time.monotonic() >= until:
                return {**result, **found}
            if time.monotonic() - told >= _TELL_EVERY:
                told = time.monotonic()
                left = f"at most {until - told:.0f} s more"
                message = f"{args.get('master')}: waiting for {', '.join(busy)} ({left})"
                display.display(clean_line(message), stderr=True)
            time.sleep(min(_EVERY, max(0.1, until - time.monotonic())))

    def _look(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """The controller first: a worker there may still start a module on the master, but not the reverse."""
        here = _at_work_here([*(args.get("runs") or ())])
        found: dict[str, Any] = self._without_module(args) or self._execute_module(
            module_args=args, task_vars=task_vars
        )
        if found.get("steps"):
            here = here or _at_work_here((step.get("about") or {}).get("process") for step in found["steps"])
        if not found.get("failed"):
            found["run_at_work"] = here
        return found

    def _without_module(self, args: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result if a short command in the shell tells it, since a module takes much longer to start; otherwise None."""
        command = step_shell.command(args, check_mode=bool(self._task.check_mode))
        if command is None:
            return None
        done = self._low_level_execute_command(command)
        return step_shell.result(args, str(done.get("stdout") or ""))


def _at_work_here(runs: Iterable[Any]) -> bool:
    """Whether another run is: this one always is, also after a step of its own has failed."""
    this = playbook_process.this_run()
    return any(
        isinstance(run, Mapping)
        and (run.get("pid"), run.get("started")) != (this["pid"], this["started"])
        and playbook_process.is_at_work(run) is True
        for run in runs
    )


def what_is_at_work(found: Mapping[str, Any]) -> list[str]:
    names = [f"{process['name']} (pid {process['pid']})" for process in found.get("processes") or ()]
    return ["the run that began the step", *names] if found.get("run_at_work") else names
