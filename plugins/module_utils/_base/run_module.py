# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where modules meet AnsibleModule: runs the work and turns its outcome into exit_json or fail_json."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from types import FrameType
from typing import Any, NoReturn, TypeVar

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clean_text import (
    clean_text,
    cleaned,
    without_credentials,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.event_file import open_report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.kubeconfig_secrets import (
    public_texts,
    texts_named,
)

try:
    from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
except ImportError:  # open_connection() says what is missing
    AUTH_ARG_SPEC = {}

Options = TypeVar("Options")

_LISTENER_EVERY = 1.0


def run_module(
    spec: Mapping[str, Any],
    parse: Callable[[Mapping[str, Any]], Options],
    work: Callable[[Options, bool, Report], Awaitable[dict[str, Any]]],
    **module_settings: Any,
) -> None:
    """Parses the module's parameters into its options, awaits ``work(options, check_mode, report)`` and exits.

    ``parse`` refuses parameters that make no sense (BadInputError), and is the only one that sees them.
    """
    module = _Module(argument_spec={**AUTH_ARG_SPEC, **spec}, supports_check_mode=True, **module_settings)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        with open_report() as report:
            options = parse(module.params)
            result = asyncio.run(_finish(work(options, module.check_mode, report)))
    except StorageUpgradeError as error:
        module.fail_json(**_as_asked(module, {**error.result, "msg": error.message, "error": error.name}))
    module.exit_json(**_as_asked(module, {**result, "error": None}))


class _Module(AnsibleModule):  # type: ignore[misc]  # ansible-core is not typed for this
    """An AnsibleModule that shows no password of a URL, even if it refuses its parameters itself.

    kubernetes.core declares the whole kubeconfig secret, so that Ansible would replace each of its texts by asterisks in the whole
    result, ``v1`` and a path included. Only what is secret in it is.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        elsewhere = texts_named(self.params, ("api_key", "password", "proxy_basic_auth", "basic_auth"))
        self.no_log_values -= public_texts(self.params.get("kubeconfig")) - elsewhere

    def fail_json(self, msg: str, **result: Any) -> NoReturn:
        super().fail_json(**cleaned({**result, "msg": msg, "invocation": _invocation(self.params)}))
        raise SystemExit(1)  # AnsibleModule has exited; a type checker doesn't know.


def _as_asked(module: AnsibleModule, result: Mapping[str, Any]) -> dict[str, Any]:
    """The result as it may be printed, with warnings passed to Ansible, and with the diff only if it was requested.

    ``invocation`` is set here because Ansible would otherwise add it with passwords in URLs.
    """
    for sentence in result.get("warnings", ()):
        module.warn(clean_text(sentence))
    left_out = {"warnings"} if module._diff else {"warnings", "diff"}
    kept = {key: value for key, value in result.items() if key not in left_out}
    return {**cleaned(kept), "invocation": _invocation(module.params)}


def _invocation(params: Mapping[str, Any]) -> dict[str, Any]:
    return {"module_args": without_credentials(cleaned(params))}


async def _finish(work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    listening = asyncio.create_task(_end_when_nobody_listens())
    try:
        return await work
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _end_when_nobody_listens() -> None:
    """Ends this process like SIGTERM once the other end of its standard output is closed.

    Interrupting Ansible should end this run, too, but over ssh without a terminal no signal arrives here.
    """
    output = select.poll()
    output.register(sys.__stdout__.fileno() if sys.__stdout__ else 1, 0)
    while not any(happened & (select.POLLHUP | select.POLLERR) for _fd, happened in output.poll(0)):
        await asyncio.sleep(_LISTENER_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)


def _leave(number: int, _frame: FrameType | None) -> None:
    """Ends the work through its ``finally`` clauses, so that connections are closed and files are complete."""
    raise SystemExit(128 + number)
