# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may write, and until when: the Lease, and the gate that it closes (issue 11, number 20)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clock import boottime
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    AlreadyRunningError,
    StorageUpgradeError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import (
    Headers,
    Response,
    TransportSettings,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer, WriteGate
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.auth import Connection
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.lease import Lease

URL = "https://10.0.0.1:6443"


class Cluster:
    """One Lease behind any number of addresses, with the clock of its API servers and that of the run."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.now = 1000.0
        self.away: set[str] = set()
        self.answer_lost = False
        self.sent: list[tuple[str, str]] = []

    def server(self, url: str = URL, gate: WriteGate | None = None) -> ApiServer:
        connection = Connection(url, TransportSettings(None), list)
        return ApiServer(url, connection, self, gate=gate)

    def write(self, **spec: Any) -> None:
        """Somebody else writes it."""
        assert self.lease is not None
        self.lease["spec"].update(spec)
        self._stored()

    def _stored(self) -> None:
        assert self.lease is not None
        metadata = self.lease.setdefault("metadata", {})
        metadata["resourceVersion"] = str(int(metadata.get("resourceVersion", "0")) + 1)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers,
        body: bytes | None,
        timeout: float,
        before: Callable[[], None] | None = None,
    ) -> Response:
        if before is not None:
            before()
        self.sent.append((method, url))
        if any(url.startswith(server) for server in self.away):
            raise UnreachableError("It did not answer.", kind="timeout")
        status = 200
        if method == "GET" and self.lease is None:
            status = 404
        elif method == "POST":
            self.lease = json.loads(body or b"")
            self._stored()
        elif method == "PUT":
            found = json.loads(body or b"")
            if self.lease is None:
                status = 404
            elif found["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
                status = 409
            else:
                self.lease = found
                self._stored()
                if self.answer_lost:
                    self.answer_lost = False
                    raise UnreachableError("The answer was lost.", kind="reset")
        date = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=int(self.now))
        content = self.lease if status == 200 else {"kind": "Status", "code": status}
        return Response(status, {"Date": format_datetime(date, usegmt=True)}, json.dumps(content).encode())

    async def close(self) -> None:
        pass


def lease_of(cluster: Cluster, holder: str = "me") -> Lease:
    return Lease(cluster.server(), "kube-system", "upgrade", holder, clock=lambda: cluster.now)


def test_it_is_released_at_the_end() -> None:
    cluster = Cluster()

    async def run() -> None:
        async with lease_of(cluster) as lease:
            assert lease.valid and not lease.lost and lease.why_not() is None
            with pytest.raises(AlreadyRunningError, match="me holds the Lease kube-system/upgrade"):
                async with lease_of(cluster, "other"):
                    pass
        async with lease_of(cluster, "other") as lease:
            assert lease.valid

    asyncio.run(run())
    assert cluster.lease is not None and cluster.lease["spec"]["holderIdentity"] == ""
    assert cluster.lease["spec"]["leaseTransitions"] == 1


def test_not_valid_before_anybody_may_take_it_over() -> None:
    cluster = Cluster()

    async def run() -> None:
        async with lease_of(cluster) as lease:
            cluster.now += 19
            assert lease.valid
            cluster.now += 2
            assert not lease.valid and not lease.lost
            assert "was not renewed for 21 s" in (lease.why_not() or "")
            with pytest.raises(AlreadyRunningError):
                async with lease_of(cluster, "other"):
                    pass

    asyncio.run(run())


def test_an_expired_one_is_renewed_if_it_is_still_ours() -> None:
    cluster = Cluster()

    async def run() -> None:
        async with lease_of(cluster) as lease:
            cluster.now += 3600
            assert not lease.valid
            await lease.confirm()
            assert lease.valid and not lease.lost
            with pytest.raises(AlreadyRunningError):  # It is renewed by the servers' clock.
                async with lease_of(cluster, "other"):
                    pass

    asyncio.run(run())


def test_one_that_another_run_took_over_is_lost_and_left_alone() -> None:
    cluster = Cluster()

    async def run() -> None:
        async with lease_of(cluster) as lease:
            cluster.now += 31
            async with lease_of(cluster, "other"):
                assert not lease.valid
                with pytest.raises(AlreadyRunningError):
                    await lease.confirm()
                assert lease.lost and "another run took over" in (lease.why_not() or "")
        assert cluster.lease is not None

    asyncio.run(run())
    assert cluster.lease is not None and cluster.lease["spec"]["leaseTransitions"] == 1


def test_one_that_another_run_finished_with_or_that_was_deleted_is_lost() -> None:
    for ending in ("released", "deleted"):
        cluster = Cluster()

        async def run(cluster: Cluster = cluster, ending: str = ending) -> None:
            async with lease_of(cluster) as lease:
                cluster.now += 31
                if ending == "deleted":
                    cluster.lease = None
                else:
                    async with lease_of(cluster, "other"):
                        pass
                with pytest.raises(AlreadyRunningError):
                    await lease.confirm()
                cluster.now += 1
                assert not lease.valid and lease.lost

        asyncio.run(run())
        assert ending == "released" or cluster.lease is None


def test_a_person_writing_the_lease_or_a_lost_answer_is_not_a_takeover() -> None:
    cluster = Cluster()

    async def run() -> None:
        async with lease_of(cluster) as lease:
            cluster.now += 25
            cluster.write(preferredHolder="somebody")
            await lease.confirm()
            assert lease.valid
            cluster.now += 25
            cluster.answer_lost = True
            await lease.confirm()
            assert lease.valid and not lease.lost
            cluster.write(preferredHolder="nobody")

    asyncio.run(run())
    assert cluster.lease is not None and cluster.lease["spec"]["holderIdentity"] == "", "it was not released"


def test_it_is_renewed_through_another_server_and_dated_from_the_sending() -> None:
    cluster = Cluster()
    other = "https://10.0.0.2:6443"

    async def run() -> None:
        async with lease_of(cluster) as lease:
            lease.others = lambda: [cluster.server(other)]
            cluster.away.add(URL)
            cluster.now += 25
            await lease.confirm()
            assert lease.valid and ("PUT", f"{other}{cluster.sent[0][1][len(URL) :]}") in cluster.sent
            cluster.away.add(other)
            cluster.now += 25
            with pytest.raises(StorageUpgradeError):
                await lease.confirm()
            assert not lease.valid and not lease.lost

    asyncio.run(run())


def test_nothing_that_writes_passes_a_closed_gate() -> None:
    cluster, gate = Cluster(), WriteGate()
    server = cluster.server(gate=gate)
    reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

    async def run() -> None:
        await server.request("PATCH", "/api/v1/secrets")
        gate.why_not = lambda: "Not now."
        for method in ("PATCH", "POST", "PUT", "DELETE"):
            with pytest.raises(UnreachableError, match=r"Not now\.") as refused:
                await server.request(method, "/api/v1/secrets")
            assert refused.value.kind == "held"
        await server.request("GET", "/api/v1/secrets")
        await server.request("POST", reviews, body=b"{}")
        await server.ungated().request("POST", "/api/v1/secrets", body=b"{}")

    asyncio.run(run())
    assert [method for method, _url in cluster.sent] == ["PATCH", "GET", "POST", "POST"]


@pytest.mark.parametrize("group", ["auth.example.com", "authentication.istio.io", "authorization.example.com"])
def test_a_group_whose_name_begins_like_that_of_reviews_is_held_too(group: str) -> None:
    cluster, gate = Cluster(), WriteGate()
    gate.why_not = lambda: "Not now."
    with pytest.raises(UnreachableError, match=r"Not now\."):
        asyncio.run(cluster.server(gate=gate).request("PATCH", f"/apis/{group}/v1/namespaces/shop/policies/a"))
    assert cluster.sent == []


def test_a_gate_that_closes_while_the_connection_is_made_holds_the_request() -> None:
    gate = WriteGate()

    class Slow(Cluster):
        async def request(
            self,
            method: str,
            url: str,
            *,
            headers: Headers,
            body: bytes | None,
            timeout: float,
            before: Callable[[], None] | None = None,
        ) -> Response:
            gate.why_not = lambda: "Not now."
            return await super().request(method, url, headers=headers, body=body, timeout=timeout, before=before)

    cluster = Slow()
    with pytest.raises(UnreachableError, match=r"Not now\."):
        asyncio.run(cluster.server(gate=gate).request("PATCH", "/api/v1/secrets"))
    assert cluster.sent == []


def test_the_clock_keeps_running() -> None:
    before = boottime()
    assert 0 <= boottime() - before < 60
