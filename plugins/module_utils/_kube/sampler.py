# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Takes samples: many fresh connections to one address, each asked who answers and what it stores."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.gathering import gather_limited
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.factory import open_client
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.retry import RetryPolicy
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.auth import Connection
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.discovery import is_ready, report_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServerReport
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.sampling import (
    Identity,
    Sample,
    SamplingSettings,
    read_identity,
)

_FLAGZ = "application/json;v=v1beta1;g=config.k8s.io;as=Flagz,text/plain"
# Some bytes where servers know the filter, a few MB where they don't.
_METRICS = ("/metrics/slis", "/metrics?name[]=process_start_time_seconds")
_TRIES = 3
# Obey a server that asks to wait, but end the sample when its connection is lost: the next may lead to another server.
_READS = RetryPolicy(tries=1)


async def take_samples(connection: Connection, settings: SamplingSettings) -> list[Sample]:
    """Takes the requested number of samples; a failed one is a report with an error. Nothing is ever written."""
    asked: set[Identity] = set()

    async def take(_number: int) -> Sample:
        for _try in range(_TRIES):
            sample = await _take(connection, asked)
            if sample is not None:
                return sample
        lost = f"No connection to {connection.url} lasted long enough for one sample."
        return Sample(Identity(), ServerReport(connection.url, connection.url, error=lost))

    return await gather_limited(settings.at_once, take, range(settings.connections))


async def _take(connection: Connection, asked: set[Identity]) -> Sample | None:
    """A sample over its own connection; None if that was lost, and then another server answered.

    A process that says when it started is asked for everything once per round, as it can't become another release.
    """
    http = open_client(replace(connection.transport, concurrency=1))
    server = ApiServer(connection.url, connection, http, reads=_READS)
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
    """The body of a successful answer; empty if the server refuses it or doesn't know the path."""
    answer = await server.request("GET", path, accept=accept)
    return answer.body.decode(errors="replace") if answer.status == 200 else ""
