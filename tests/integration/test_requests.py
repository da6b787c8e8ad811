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
from .support.runs import finish, start_process
from .support.servers import Fault, FaultyServer, Seen
from .support.stock import Stock

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
