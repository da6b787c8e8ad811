# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every request survives what the patches survive: overloaded servers, lost connections, few file descriptors (issue 13, number 21)."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable

import pytest

from tests.control_plane.cluster import Cluster

from .support.modules import Result
from .support.permissions import RBAC
from .support.runs import finish, start_process
from .support.servers import Fault, FaultyServer, Seen
from .support.stock import Stock
from .support.waiting import wait_until

_STORM = 1.0


class Storm:
    """Refuses everything for a second, then the first request to each path and half of the others; also loses some connections.

    A seeded generator decides which half: refusing every other request would hit the same one of two clients that alternate.
    """

    def __init__(self, server: FaultyServer) -> None:
        self._server = server
        self._began: float | None = None
        self._chance = random.Random(429)
        self._known: set[tuple[str, str]] = set()
        server.fault = self

    def begin(self) -> None:
        self._began = None
        self._known.clear()

    def __call__(self, seen: Seen, _times: int) -> Fault | None:
        self._began = self._began or seen.at
        if seen.at - self._began < _STORM:
            return Fault(status=429, retry_after=1)
        where = seen.method, seen.path
        first = where not in self._known
        self._known.add(where)
        if first or self._chance.random() < 0.5:
            return Fault(status=429, retry_after=0)
        stores_nothing = seen.method == "GET" or "selfsubject" in seen.path
        return Fault(reset=True) if stores_nothing and self._chance.random() < 0.05 else None


def test_a_storm_of_429(single_master: Cluster, module: Callable[..., Result]) -> None:
    """Discovery, the state, the Lease, questions about permissions, lists, patches and checks: all are refused at first."""
    stock = Stock(single_master, "storms")
    stock.fill(60)
    stock.store("v1")
    with FaultyServer(single_master, "master-1") as server:
        storm = Storm(server)
        common = server.options
        store = {"state_store": {"name": "storm"}, "resources": [stock.name]}
        for name, params in (
            ("storage_version_hashes", {"state": "recorded", **store}),
            ("storage_migrate", {"page_size": 20, "retries": 40, **store}),
            ("upgrade_check", {"target_version": "1.37"}),
        ):
            storm.begin()
            done = module(single_master, name, **common, **params)
            assert not done.failed, (name, done.message)
            if name == "storage_migrate":
                counts = done["resources"][stock.name]
                assert (counts["rewritten"], counts["failed"]) == (60, 0) and counts["persisted"] is True
                assert done["trimmed"][0]["after"] == ["v1"]
        refused = {(seen.method, seen.path) for seen in server.seen if seen.status == 0}
    assert stock.stale() == []
    for path in ("selfsubjectaccessreviews", "/configmaps", "/leases", "/version", "/apis", "/storms/"):
        assert any(path in refused_path for _method, refused_path in refused), path


@pytest.mark.parametrize("files", [40, 20])
def test_few_file_descriptors(single_master: Cluster, files: int) -> None:
    """It makes do with fewer connections."""
    stock = Stock(single_master, f"files{files}s")
    number = 300
    stock.fill(number)
    stock.store("v1")
    process = start_process(
        single_master, resources=[stock.name], page_size=100, state_store={"name": f"files-{files}"}
    )
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (files, files))
    began = time.monotonic()
    done = finish(process)
    assert done.get("failed") is not True, done["msg"]
    assert done["resources"][stock.name]["rewritten"] == number and stock.stale() == []
    assert time.monotonic() - began < 100


def _flow_control(cluster: Cluster, metric: str) -> float:
    """The sum of a metric of API Priority and Fairness about the migrations' own priority level."""
    lines = cluster.kubectl("get", "--raw", "/metrics").splitlines()
    level = 'priority_level="kube-storage-upgrade"'
    name = f"apiserver_flowcontrol_{metric}{{"
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name) and level in line)


def test_a_priority_level_holds_even_a_migration_with_high_impact(
    single_master: Cluster, module: Callable[..., Result]
) -> None:
    """The API server gives it a few seats, and lets the rest wait instead of refusing it; an exempt user is told."""
    user = "kube-storage-upgrade"
    stock = Stock(single_master, "seats")
    stock.fill(120)
    stock.store("v1")
    kubeconfig = single_master.user_kubeconfig(user)
    single_master.kubectl("create", "clusterrolebinding", user, "--clusterrole=cluster-admin", f"--user={user}")
    single_master.kubectl("apply", "-f", str(RBAC.with_name("kube-storage-upgrade-priority.yml")))
    wait_until(lambda: _flow_control(single_master, "nominal_limit_seats") == 3)
    store = {"state_store": {"name": "seats"}, "resources": [stock.name]}
    done = module(single_master, "storage_migrate", impact="high", kubeconfig=str(kubeconfig), **store)
    assert done["resources"][stock.name]["rewritten"] == 120 and stock.stale() == []
    pace = done["pace"]
    assert (pace["priority_level"], pace["flow_schema"], pace["exempt"]) == (user, user, False)
    assert pace["servers"][0]["most_in_flight"] > 3 and pace["latency_ms"]["p50"] > 0
    assert _flow_control(single_master, "dispatched_requests_total") >= 120
    assert _flow_control(single_master, "current_limit_seats") <= 3
    assert _flow_control(single_master, "rejected_requests_total") == 0
    stock.store("v1alpha1")
    admin = module(single_master, "storage_migrate", impact="low", **store)
    assert admin["resources"][stock.name]["rewritten"] == 120
    assert (admin["pace"]["priority_level"], admin["pace"]["exempt"]) == ("exempt", True)
    assert admin["pace"]["servers"][0]["most_in_flight"] == 1 and admin["pace"]["held_back"]["rest"] > 0
