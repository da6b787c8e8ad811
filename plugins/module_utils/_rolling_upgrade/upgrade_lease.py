# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The work of module upgrade_lease: reads the Lease of a roll, and writes it only if nobody else has in between."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    AlreadyRunningError,
    ApiError,
    BadInputError,
    StorageUpgradeError,
    is_passing,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import require_positive
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.auth import authority
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import (
    Cluster,
    open_cluster,
    server_time,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import cluster_uid
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.options import ClusterOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._rolling_upgrade import roll_lease

_TRIES = 20
_PAUSE = 0.5

T = TypeVar("T")


@dataclass(frozen=True)
class UpgradeLeaseOptions:
    """The options of upgrade_lease.

    ``state``: held, released or queried. ``acquire``: whether to take the Lease, or only renew it if this run holds it.
    ``step``: the master on which a step begins. ``ended``: IDs of steps known to be over. ``take_over``: a holder known to have ended.
    """

    cluster: ClusterOptions
    claim: roll_lease.Claim
    state: str = "held"
    acquire: bool = True
    step: str | None = None
    ended: tuple[str, ...] = ()
    take_over: str | None = None
    name: str = roll_lease.NAME
    namespace: str = roll_lease.NAMESPACE

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> UpgradeLeaseOptions:
        """From the module's parameters. Raises BadInputError."""
        require_positive(params, ("duration",))
        return cls(
            claim=_claim(params),
            cluster=ClusterOptions.from_params(params),
            state=params["state"],
            acquire=params["acquire"],
            step=params.get("step") or None,
            ended=tuple(params.get("ended") or ()),
            take_over=params.get("take_over"),
            name=params["name"],
            namespace=params["namespace"],
        )


async def upgrade_lease(options: UpgradeLeaseOptions, check_mode: bool, report: Report) -> dict[str, Any]:
    """The module's result; raises the collection's errors."""
    step_id = uuid.uuid4().hex  # one for all tries: a write may have succeeded although its answer was lost
    async with open_cluster(options.cluster) as cluster:
        lease = _Lease(cluster, options)
        for _try in range(_TRIES):
            try:
                done = await _once(lease, options, step_id, check_mode)
                taken = options.state == "held" and options.acquire
                uid = await lease.uid_of_cluster() if taken else None
                return {**done, "cluster": authority(cluster.connection), "uid": uid}
            except ApiError as error:
                if error.status != 409:
                    raise
                await asyncio.sleep(_PAUSE)  # Another host of this play may have written it: read it again.
    raise AlreadyRunningError(
        f"The Lease {lease.where} keeps being written by something else; find out what does, and run again."
    )


def _claim(params: Mapping[str, Any]) -> roll_lease.Claim:
    about = params.get("about") or {}
    if not params.get("holder"):
        raise BadInputError(
            "holder is missing; set one that no other run has, or run the module through Ansible, which sets one."
        )
    return roll_lease.Claim(
        holder=params["holder"],
        who=str(about.get("who") or ""),
        host=str(about.get("host") or ""),
        process=about.get("process") or {},
        purpose=params.get("purpose") or "",
        doing=params.get("doing") or "",
        duration=params["duration"],
    )


async def _once(lease: _Lease, options: UpgradeLeaseOptions, step_id: str, check_mode: bool) -> dict[str, Any]:
    claim = options.claim
    found, now = await lease.read()
    roll = roll_lease.read(found, now)
    ours = roll.holder == claim.holder
    if options.state == "queried":
        return _result(roll, claim, ours, roll.step, changed=False)
    step = None if roll.step and roll.step["id"] in options.ended else roll.step
    if options.state == "released":
        if found is not None and ours and not check_mode:
            await lease.write(roll_lease.released(found, step))
        return _result(roll, claim, False, step, changed=ours)
    if options.acquire or ours:
        roll_lease.require_free(roll, claim, lease.where, options.take_over)
    elif not check_mode:
        roll_lease.require_held(roll, claim, lease.where)
    if options.step:
        if step and step["id"] != step_id:
            raise roll_lease.cut_off(step, lease.where)
        step = roll_lease.new_step(step_id, options.step, claim, now)
    if check_mode:
        return _result(roll, claim, ours, roll.step, changed=not ours)
    await lease.write(roll_lease.held(found, roll, claim, now, step))
    return _result(roll, claim, True, step, changed=True)


def _result(
    roll: roll_lease.Roll, claim: roll_lease.Claim, held: bool, step: roll_lease.Step | None, *, changed: bool
) -> dict[str, Any]:
    other = roll.told() if roll.active and roll.holder != claim.holder and not held else None
    return {"holder": claim.holder, "held": held, "other": other, "open_step": step, "changed": changed}


class _Lease:
    """The Lease, through whichever API server answers: while masters are upgraded, one of them may not."""

    def __init__(self, cluster: Cluster, options: UpgradeLeaseOptions) -> None:
        self.where = f"{options.namespace}/{options.name}"
        self._namespace, self._name = options.namespace, options.name
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases"
        self._cluster = cluster
        self._others: list[ApiServer] | None = None

    async def read(self) -> tuple[dict[str, Any] | None, datetime]:
        path = f"{self._collection}/{self._name}"

        async def ask(server: ApiServer) -> tuple[dict[str, Any] | None, datetime]:
            answer = await server.request("GET", path)
            now = server_time(answer.headers)
            return (None if answer.status == 404 else server.document(answer, "GET", path)), now

        return await self._anywhere(ask)

    async def write(self, lease: dict[str, Any]) -> None:
        """Writes it as a whole, but only if nobody else has since it was read (409)."""
        new = not (lease.get("metadata") or {}).get("resourceVersion")
        method, path = ("POST", self._collection) if new else ("PUT", f"{self._collection}/{self._name}")
        if new:
            lease = {**lease, "metadata": {**lease["metadata"], "name": self._name}}

        async def put(server: ApiServer) -> dict[str, Any]:
            return await server.json(method, path, body=lease)

        try:
            await self._anywhere(put)
        except ApiError as error:
            if error.status == 404:
                raise StorageUpgradeError(
                    f"The Lease {self.where} can't be written: namespace {self._namespace} does not exist, or the Lease was "
                    "just deleted; fix that and run again."
                ) from error
            raise

    async def uid_of_cluster(self) -> str | None:
        """None if it can't be read."""
        try:
            return await self._anywhere(cluster_uid)
        except StorageUpgradeError:
            return None

    async def _anywhere(self, ask: Callable[[ApiServer], Awaitable[T]]) -> T:
        try:
            return await ask(self._cluster.entry)
        except StorageUpgradeError as error:
            if not is_passing(error):
                raise
            first = error
        for server in await self._other_servers():
            try:
                return await ask(server)
            except StorageUpgradeError as error:
                if not is_passing(error):
                    raise
        raise first

    async def _other_servers(self) -> list[ApiServer]:
        """The servers that the user named; the cluster can't list them while its entry address is down."""
        if self._others is None:
            self._others = []
            if self._cluster.listed_by_user:
                self._others = list((await self._cluster.servers()).servers)
        return self._others
