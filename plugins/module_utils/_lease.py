# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time: a coordination.k8s.io Lease, renewed while the run lasts.

Its expiry is judged as client-go's leader election does it: by how long *we* have seen the Lease
unchanged, or by the server's own clock at first sight, never by the local clock.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._cluster import server_time
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import (
    AlreadyRunningError,
    ApiError,
    StorageUpgradeError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._identity_leases import parse_time

_DURATION = 30
_RENEW_EVERY = 5.0


class Lease:
    """Use as an async context manager around the work; ``lost`` turns True if somebody took it over."""

    def __init__(self, server: ApiServer, namespace: str, name: str, holder: str, *, duration: int = _DURATION) -> None:
        self.lost = False
        self._server = server
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._where = f"{namespace}/{name}"
        self._name = name
        self._holder = holder
        self._duration = duration
        self._held: dict[str, Any] = {}
        self._renewing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Lease:
        found, now = await self._read()
        if found is None:
            body = {"metadata": {"name": self._name}, "spec": self._spec(now)}
            await self._write("POST", self._collection, body)
        else:
            self._refuse_if_held(found, now)
            found["spec"] = {
                **self._spec(now),
                "leaseTransitions": int((found.get("spec") or {}).get("leaseTransitions") or 0) + 1,
            }
            await self._write("PUT", self._path, found)
        self._renewing = asyncio.create_task(self._renew())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        if not self.lost:
            try:
                # Given back rather than deleted: deleting would need one more permission.
                self._held["spec"].update(holderIdentity="", leaseDurationSeconds=1)
                await self._write("PUT", self._path, self._held)
            except StorageUpgradeError:
                pass  # It expires by itself.

    def _spec(self, now: datetime) -> dict[str, Any]:
        stamp = now.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": self._duration,
            "acquireTime": stamp,
            "renewTime": stamp,
        }

    async def _read(self) -> tuple[dict[str, Any] | None, datetime]:
        answer = await self._server.request("GET", self._path)
        now = server_time(answer.headers)
        if answer.status == 404:
            return None, now
        return self._server.document(answer, "GET", self._path), now

    async def _write(self, method: str, path: str, body: dict[str, Any]) -> None:
        try:
            self._held = await self._server.json(method, path, body=body)
        except ApiError as error:
            if error.status == 409:
                raise AlreadyRunningError(
                    f"Another run took the Lease {self._where} at the same moment; wait until it ends and run again."
                ) from error
            if error.status == 404:
                namespace = self._where.split("/", maxsplit=1)[0]
                raise StorageUpgradeError(
                    f"The Lease {self._where} can't be written: namespace {namespace} does not exist; create it first."
                ) from error
            raise

    def _refuse_if_held(self, found: dict[str, Any], now: datetime) -> None:
        spec = found.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        left = lease_seconds_left(spec, now)
        if holder and holder != self._holder and left > 0:
            raise AlreadyRunningError(
                f"Another run is active: {holder} holds the Lease {self._where}. Wait until it ends; "
                f"if it died, the Lease expires in {left:.0f} s and a new run takes over.",
                {"holder": holder},
            )

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(min(_RENEW_EVERY, self._duration / 3))
            try:
                found, now = await self._read()
                if found is None or (found.get("spec") or {}).get("holderIdentity") != self._holder:
                    self.lost = True
                    return
                found["spec"]["renewTime"] = self._spec(now)["renewTime"]
                await self._write("PUT", self._path, found)
            except StorageUpgradeError:
                continue  # A server that is away for a moment; the next renewal will tell.


def lease_seconds_left(spec: dict[str, Any], now: datetime) -> float:
    """How long a Lease is still valid, in seconds of the server's clock; 0 or less once it has expired."""
    renewed = parse_time(spec.get("renewTime"))
    if renewed is None:
        return 0.0
    end = renewed + timedelta(seconds=int(spec.get("leaseDurationSeconds") or 0))
    return (end - now).total_seconds()
