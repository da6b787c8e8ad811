# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks the API servers which remote key of each KMS v2 plugin they use now.

An API server asks a plugin for the ID of its key once a minute, and when /readyz is asked, but no sooner than 20 s after
the last time (k8s.io/apiserver, pkg/server/options/encryptionconfig/config.go: kmsv2PluginHealthzPositiveInterval,
kmsPluginHealthzPositiveTTL). Until then it writes with the previous key, and treats objects under that as current. So a
server's report counts only if it has asked the plugin after we began to ask.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import ApiError, UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event, Report, nobody_listens
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.kms_keys import (
    KeyIds,
    Told,
    agreed,
    parse_key_ids,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer, api_error

# In seconds. Polled this often, a server asks its plugin again once 20 s have passed.
_EVERY = 5.0
_AT_MOST = 90.0


async def told_key_ids(servers: Sequence[ApiServer], plugins: Iterable[str]) -> KeyIds:
    """What every server was last told, whenever that was."""
    try:
        return agreed(await _told_by(servers), plugins)
    except (ApiError, UnreachableError) as error:
        return _unread(error, plugins)


async def present_key_ids(
    servers: Sequence[ApiServer],
    plugins: Iterable[str],
    report: Report = nobody_listens,
    *,
    every: float = _EVERY,
    at_most: float = _AT_MOST,
) -> KeyIds:
    """Waits until every server has asked each plugin again, and all have got the same key."""
    wanted = sorted(set(plugins))
    if not servers:
        return agreed({}, wanted)
    deadline = time.monotonic() + at_most
    first: Mapping[str, Told] | None = None
    noticed = False
    while True:
        # A server that has not asked recently does so now. One that is just asking answers only once it has its answer, so
        # what its metrics say after ``first`` doesn't come from a question asked before this moment.
        await asyncio.gather(
            *(server.request("GET", "/readyz", accept="*/*") for server in servers), return_exceptions=True
        )
        try:
            told = await _told_by(servers)
        except (ApiError, UnreachableError) as error:
            found = _unread(error, wanted)
            waiting = isinstance(error, UnreachableError) or error.status not in (401, 403)
        else:
            first = first or told
            found = agreed(told, wanted, first)
            waiting = any(all(plugin in plugins for plugins in told.values()) for plugin in found.unknown)
        if not waiting or time.monotonic() + every > deadline:
            return found
        if not noticed:
            noticed = True
            names = ", ".join(wanted)
            report(Event("notice", f"Waiting until every API server has asked the KMS plugin {names} for its key."))
        await asyncio.sleep(every)


async def _told_by(servers: Sequence[ApiServer]) -> dict[str, Told]:
    """By each server's name, or its URL if another one has the same name: no answer may hide another."""
    names = [server.name for server in servers]
    keys = [server.url if names.count(server.name) > 1 else server.name for server in servers]
    return dict(zip(keys, await asyncio.gather(*map(_told, servers))))


async def _told(server: ApiServer) -> Told:
    answer = await server.request("GET", "/metrics", accept="text/plain")
    if answer.status >= 400:
        raise api_error(answer, server.url, "GET", "/metrics")
    return parse_key_ids(answer.body.decode(errors="replace"))


def _unread(error: ApiError | UnreachableError, plugins: Iterable[str]) -> KeyIds:
    return KeyIds(unknown=dict.fromkeys(plugins, f"only the API servers' metrics show it: {error.message.rstrip('.')}"))
