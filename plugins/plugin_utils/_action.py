# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action of the long-running modules: shows their progress, and a short result if nothing reads the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible import constants as C
from ansible import context
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible.utils.display import Display
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._event_watch import progress_of
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._kubeconfig import find_cluster, find_kubeconfig
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._short_results import Short, shorten

# These print results for people and do nothing else with them.
_PRINTING_CALLBACKS = ("default", "minimal", "yaml", "debug", "unixy", "dense")
# That of ansible-runner, and so of AWX, prints them, too, but keeps them as data beside that.
_RUNNER = "awx_display"

display = Display()


class ActionForPeople(NormalAction):  # type: ignore[misc]  # ansible-core is not typed for this
    """Runs the module as the action of any ordinary module does."""

    short: Short

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        find_cluster(self, task_vars or {})
        find_kubeconfig(self)
        with progress_of(self, task_vars or {}):
            result: dict[str, Any] = super().run(tmp, task_vars)
        return result if _details_wanted(self._task) else shorten(result, self.short)


def _details_wanted(task: Any) -> bool:
    """Whether to keep the complete result: as the option says, otherwise if something can read it."""
    chosen = task.args.get("details")
    if chosen is not None:
        return bool(boolean(chosen, strict=False))
    return bool(display.verbosity or task.register or _conditions(task) or _has_rescue(task) or not only_printed())


def _conditions(task: Any) -> Any:
    """What may look at the result while the task runs."""
    return task.until or task.failed_when or task.changed_when


def _has_rescue(task: Any) -> bool:
    """Whether tasks come after a failure, as they may read ansible_failed_result."""
    above = task
    while above is not None:
        if getattr(above, "rescue", None):
            return True
        above = getattr(above, "_parent", None)
    return False


def people_read() -> bool:
    """Whether what is printed is for people, not a document."""
    return only_printed() or _callback() == _RUNNER


def only_printed() -> bool:
    """Whether results are just printed, so that nothing reads them as data."""
    arguments: Mapping[str, Any] = context.CLIARGS
    if "module_name" in arguments and not C.config.get_config_value("DEFAULT_LOAD_CALLBACK_PLUGINS"):
        return not arguments.get("one_line") and not arguments.get("tree")
    return _callback() in _PRINTING_CALLBACKS


def _callback() -> str:
    return str(C.DEFAULT_STDOUT_CALLBACK).rsplit(".", 1)[-1]
