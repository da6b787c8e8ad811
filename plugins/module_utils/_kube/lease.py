# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time: a coordination.k8s.io Lease, renewed while the run lasts.

Its expiry is decided as in client-go's leader election: by how long *we* have seen the Lease
unchanged, or by the server's own clock at first sight, never by the local clock. As there, a holder stops
writing before anybody else may take over: it counts from when it *sent* its last successful renewal, by a clock
that keeps running while the process or the machine is suspended (client-go: LeaseDuration 15 s, RenewDeadline 10 s).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clock import boottime
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    AlreadyRunningError,
    ApiError,
    EtcdFullError,
    StorageUpgradeError,
    UnreachableError,
    UnreachableKind,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import micros_text, parse_time
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.retry import RetryPolicy
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import server_time
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import path_of

_DURATION = 30
# The part of the duration after which the holder itself no longer relies on the Lease.
_DEADLINE = 2 / 3
_RENEW_EVERY = 5.0
_TRY_AGAIN_AFTER = 1.0
_ANSWER_WITHIN = 8.0
# How long to obey an overloaded server while taking the Lease.
_OVERLOADED_FOR = 60.0
_TRIES = 4


class Lease:
    """Use as an async context manager around the work; check ``valid`` right before each write.

    ``lost`` becomes True permanently if somebody took it over or deleted it. While it is neither ``valid`` nor ``lost``, it
    could not be renewed for too long; the next renewal makes it valid again, if it is still ours.
    ``full``: a renewal was refused because etcd is at its quota, so nothing else can be written either.
    ``others``: servers to renew it through if ``server`` does not answer.
    """

    def __init__(
        self,
        server: ApiServer,
        namespace: str,
        name: str,
        holder: str,
        *,
        duration: int = _DURATION,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self.lost = False
        self.full: EtcdFullError | None = None
        self.where = f"{namespace}/{name}"
        self.others: Callable[[], Iterable[ApiServer]] = lambda: ()
        self._server = server.ungated()
        self._collection = path_of("/apis/coordination.k8s.io/v1", "leases", namespace=namespace)
        self._path = path_of("/apis/coordination.k8s.io/v1", "leases", namespace=namespace, name=name)
        self._name = name
        self._holder = holder
        self._duration = duration
        self._deadline = duration * _DEADLINE
        self._clock = clock
        self._held: dict[str, Any] = {}
        self._renewed_at: float | None = None
        self._server_clock: tuple[datetime, float] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    @property
    def valid(self) -> bool:
        """Whether nobody else can have taken it over yet."""
        return not self.lost and self.unconfirmed_for < self._deadline

    @property
    def unconfirmed_for(self) -> float:
        """Seconds since the last renewal that succeeded was sent."""
        return float("inf") if self._renewed_at is None else self._clock() - self._renewed_at

    def why_not(self) -> str | None:
        """Why nothing may be written now, in one sentence; None if the Lease is valid."""
        if self.valid:
            return None
        if self.lost:
            return (
                f"Stopped: another run took over the Lease {self.where}, or it was deleted, while this one was suspended or "
                "disconnected from the API servers. Nothing has been written or saved since. Wait until the other run ends, and run again."
            )
        return (
            f"Nothing was written, because the Lease {self.where} was not renewed for {self.unconfirmed_for:.0f} s, so another "
            "run may have begun; run again when the API servers can be reached."
        )

    async def confirm(self) -> None:
        """Returns once the Lease is valid, after a renewal if that is due.

        Raises AlreadyRunningError if it was lost, another error if it can't be renewed now.
        """
        if not self.valid:
            async with self._lock:
                if not self.valid:
                    await self._renew()

    async def __aenter__(self) -> Lease:
        found, sent = await self._read(), self._clock()
        if found is None:
            await self._take("POST", self._collection, {"metadata": {"name": self._name}, "spec": self._spec()})
        else:
            self._refuse_if_held(found)
            transitions = int((found.get("spec") or {}).get("leaseTransitions") or 0) + 1
            found["spec"] = {**self._spec(), "leaseTransitions": transitions}
            await self._take("PUT", self._path, found)
        self._renewed_at = sent
        self._renewing = asyncio.create_task(self._keep_renewing())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        try:
            # Released rather than deleted: deleting would need one more permission.
            await self._update({"holderIdentity": "", "leaseDurationSeconds": 1})
        except StorageUpgradeError:
            pass  # It will expire, or already belongs to somebody else.

    def _spec(self) -> dict[str, Any]:
        stamp = self._stamp()
        return {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": self._duration,
            "acquireTime": stamp,
            "renewTime": stamp,
        }

    def _stamp(self) -> str:
        """Now, by the clock of the API servers."""
        now = datetime.now(timezone.utc)
        if self._server_clock is not None:
            at, heard = self._server_clock
            now = at + timedelta(seconds=self._clock() - heard)
        return micros_text(now)

    def _refuse_if_held(self, found: dict[str, Any]) -> None:
        spec = found.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        left = lease_seconds_left(spec, parse_time(self._stamp()) or datetime.now(timezone.utc))
        if holder and holder != self._holder and left > 0:
            raise AlreadyRunningError(
                f"Another run is active: {holder} holds the Lease {self.where}. Wait until it ends; "
                f"if it died, the Lease expires in {left:.0f} s and a new run takes over.",
                {"holder": holder},
            )

    async def _take(self, method: str, path: str, body: dict[str, Any]) -> None:
        try:
            self._held = self._server.document(await self._ask(method, path, body), method, path)
        except ApiError as error:
            if error.status == 409:
                found = await self._read()
                if found is not None and self._is_ours(found):
                    self._held = found  # The answer to the first try was lost.
                    return
                raise AlreadyRunningError(
                    f"Another run took the Lease {self.where} at the same moment; wait until it ends and run again."
                ) from error
            if error.status == 404:
                namespace = self.where.split("/", maxsplit=1)[0]
                raise StorageUpgradeError(
                    f"The Lease {self.where} can't be written: namespace {namespace} does not exist; create it first."
                ) from error
            raise

    async def _keep_renewing(self) -> None:
        while not self.lost:
            due = self.unconfirmed_for >= min(_RENEW_EVERY, self._duration / 3)
            await asyncio.sleep(_TRY_AGAIN_AFTER if due else min(_RENEW_EVERY, self._duration / 3))
            try:
                async with self._lock:
                    await self._renew()
            except EtcdFullError as error:
                self.full = error
            except StorageUpgradeError:
                continue  # No server answered; the next renewal will show why.

    async def _renew(self) -> None:
        sent = self._clock()
        await self._update({"renewTime": self._stamp()})
        self._renewed_at = sent

    async def _update(self, changes: dict[str, Any]) -> None:
        """Writes to the Lease if it is still ours; raises AlreadyRunningError if it is not."""
        for _try in range(_TRIES):
            if self.lost:
                break
            body = {**self._held, "spec": {**(self._held.get("spec") or {}), **changes}}
            answer = await self._ask("PUT", self._path, body)
            if answer.status not in (404, 409):
                self._held = self._server.document(answer, "PUT", self._path)
                return
            # Somebody wrote it: another run, a person with kubectl, or a request of ours whose answer was lost.
            found = await self._read()
            if found is None or not self._is_ours(found):
                self.lost = True
            else:
                self._held = found
        if self.lost:
            raise AlreadyRunningError(self.why_not() or "")
        raise UnreachableError(
            f"The Lease {self.where} could not be renewed, because something else keeps writing it.",
            kind=UnreachableKind.RESET,
        )

    def _is_ours(self, found: dict[str, Any]) -> bool:
        return bool((found.get("spec") or {}).get("holderIdentity") == self._holder)

    async def _read(self) -> dict[str, Any] | None:
        answer = await self._ask("GET", self._path)
        return None if answer.status == 404 else self._server.document(answer, "GET", self._path)

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Response:
        """The answer of the first server that gives one.

        Everything may be repeated: writes are conditional, and after a failed one the holder shows whether it was ours.
        """
        within = min(_ANSWER_WITHIN, self._deadline / 2)
        retry = RetryPolicy(obeys_for=_OVERLOADED_FOR if self._renewed_at is None else within)
        servers = [self._server, *(other.ungated() for other in self.others() if other.url != self._server.url)]
        for number, server in enumerate(servers, start=1):
            last = number == len(servers)
            try:
                answer = await server.request(method, path, body=body, timeout=within, retry=retry)
            except UnreachableError:
                if last:
                    raise
                continue
            if last or (answer.status < 500 and answer.status != 429):
                break
        self._server_clock = server_time(answer.headers), self._clock()
        return answer


def lease_seconds_left(spec: dict[str, Any], now: datetime) -> float:
    """How long a Lease is still valid, in seconds of the server's clock; 0 or less once it has expired."""
    renewed = parse_time(spec.get("renewTime"))
    if renewed is None:
        return 0.0
    end = renewed + timedelta(seconds=int(spec.get("leaseDurationSeconds") or 0))
    return (end - now).total_seconds()
