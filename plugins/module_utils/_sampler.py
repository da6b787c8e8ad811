# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Takes samples: many fresh connections to one address, each asked who answers and what it stores."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._connection import Connection
from ansible_collections.kube_storage.upgrade.plugins.module_utils._discovery import is_ready, report_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import open_client
from ansible_collections.kube_storage.upgrade.plugins.module_utils._sampling import (
    Identity,
    Sample,
    SamplingSettings,
    read_identity,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import ServerReport

_FLAGZ = "application/json;v=v1beta1;g=config.k8s.io;as=Flagz,text/plain"
# Some bytes where servers know the filter, a few MB where they don't.
_METRICS = ("/metrics/slis", "/metrics?name[]=process_start_time_seconds")
_TRIES = 3


async def take_samples(connection: Connection, settings: SamplingSettings) -> list[Sample]:
    """As many samples as asked for; what can't be asked is a report with an error. Nothing is ever written."""
    slots = asyncio.Semaphore(settings.at_once)
    asked: set[Identity] = set()

    async def one() -> Sample:
        async with slots:
            for _try in range(_TRIES):
                sample = await _take(connection, asked)
                if sample is not None:
                    return sample
            lost = f"No connection to {connection.url} lasted for the time of one sample."
            return Sample(Identity(), ServerReport(connection.url, connection.url, error=lost))

    return list(await asyncio.gather(*(one() for _number in range(settings.connections))))


async def _take(connection: Connection, asked: set[Identity]) -> Sample | None:
    """A sample over a connection of its own; None if that was lost meanwhile, and another server answered then.

    A process that says when it started is asked for everything once in a look, as it can't become another release.
    """
    http = open_client(replace(connection.transport, concurrency=1))
    server = ApiServer(connection.url, connection, http)
    try:
        identity = await _identity_of(server)
        if identity.started is not None and identity in asked and await is_ready(server):
            return Sample(identity, None)
        asked.add(identity)
        report = await report_of(server)
        if await _identity_of(server) != identity:
            asked.discard(identity)
            return None
        return Sample(identity, report)
    except StorageUpgradeError as error:
        return Sample(Identity(), ServerReport(server.url, server.name, error=error.message))
    finally:
        await http.close()


async def _identity_of(server: ApiServer) -> Identity:
    flags = await _text(server, "/flagz", _FLAGZ)
    for path in _METRICS:
        metrics = await _text(server, path, "text/plain")
        identity = read_identity(flags, metrics)
        if identity.started is not None:
            break
    return identity


async def _text(server: ApiServer, path: str, accept: str) -> str:
    """The body of a good answer; empty where it is refused or unknown there."""
    answer = await server.request("GET", path, accept=accept)
    return answer.body.decode(errors="replace") if answer.status == 200 else ""
