# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one place where modules meet AnsibleModule: run the work, turn its outcome into exit_json or fail_json."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Report, nobody_listens

try:
    from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
except ImportError:  # open_connection() says what is missing
    AUTH_ARG_SPEC = {}

Work = Callable[[Mapping[str, Any], bool, Report], Awaitable[dict[str, Any]]]


def run_module(options: Mapping[str, Any], work: Work, **module_settings: Any) -> None:
    """Parses the arguments, awaits ``work(params, check_mode, report)`` and exits."""
    module = AnsibleModule(argument_spec={**AUTH_ARG_SPEC, **options}, supports_check_mode=True, **module_settings)
    try:
        result = asyncio.run(_finish(work(module.params, module.check_mode, nobody_listens)))
    except StorageUpgradeError as error:
        module.fail_json(msg=error.message, **error.result)
    for sentence in result.pop("warnings", ()):
        module.warn(sentence)
    module.exit_json(**result)


async def _finish(work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    return await work
