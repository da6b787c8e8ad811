# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one place where modules meet AnsibleModule: run the work, turn its outcome into exit_json or fail_json."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from types import FrameType
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._progress_file import open_report

try:
    from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
except ImportError:  # open_connection() says what is missing
    AUTH_ARG_SPEC = {}

Work = Callable[[Mapping[str, Any], bool, Report], Awaitable[dict[str, Any]]]

_LISTENER_EVERY = 1.0


def run_module(options: Mapping[str, Any], work: Work, **module_settings: Any) -> None:
    """Parses the arguments, awaits ``work(params, check_mode, report)`` and exits."""
    module = AnsibleModule(argument_spec={**AUTH_ARG_SPEC, **options}, supports_check_mode=True, **module_settings)
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, _leave)
    try:
        with open_report() as report:
            result = asyncio.run(_finish(work(module.params, module.check_mode, report)))
    except StorageUpgradeError as error:
        module.fail_json(msg=error.message, **_as_asked(module, {**error.result, "error": error.name}))
    module.exit_json(**_as_asked(module, {**result, "error": None}))


def _as_asked(module: AnsibleModule, result: Mapping[str, Any]) -> dict[str, Any]:
    """The result, its warnings told as Ansible wants them told, and the diff only where the user asked for it."""
    for sentence in result.get("warnings", ()):
        module.warn(sentence)
    left_out = {"warnings"} if module._diff else {"warnings", "diff"}
    return {key: value for key, value in result.items() if key not in left_out}


async def _finish(work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    listening = asyncio.create_task(_end_when_nobody_listens())
    try:
        return await work
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _end_when_nobody_listens() -> None:
    """Ends this process as SIGTERM does, once the other end of its standard output is gone.

    Whoever interrupts Ansible means this run too, but over ssh without a terminal no signal gets here.
    """
    output = select.poll()
    output.register(sys.__stdout__.fileno() if sys.__stdout__ else 1, 0)
    while not any(happened & (select.POLLHUP | select.POLLERR) for _fd, happened in output.poll(0)):
        await asyncio.sleep(_LISTENER_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)


def _leave(number: int, _frame: FrameType | None) -> None:
    """Ends the work through its ``finally`` clauses, so that connections and files are left clean."""
    raise SystemExit(128 + number)
