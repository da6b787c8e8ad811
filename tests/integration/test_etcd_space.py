# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A migration never fills etcd: it waits for compaction, or says before that it can't (issue 14).

Both clusters have a quota of 48 MiB. 320 custom resources of 75 kB need half of it, and their rewrite needs as much again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.control_plane.cluster import Cluster

from .support.controllers import IN_TREE
from .support.etcd import etcd_request
from .support.modules import Result
from .support.stock import MERGE_PATCH, Api, Stock

MIGRATE, CHECK = "storage_migrate", "upgrade_check"
QUOTA = 48 << 20
NUMBER = 320


@dataclass
class Neighbor:
    """Another client that writes all the time; ``refused`` has the answers that were no success."""

    api: Api
    written: int = 0
    refused: list[object] = field(default_factory=list)

    def write(self, ended: threading.Event) -> None:
        path = "/api/v1/namespaces/default/configmaps"
        self.api.send("POST", path, {"metadata": {"name": "neighbor"}})
        while not ended.wait(0.05):
            body = {"data": {"at": str(time.monotonic())}}
            status, document = self.api.send("PATCH", f"{path}/neighbor", body, MERGE_PATCH)
            if status == 200:
                self.written += 1
            else:
                self.refused.append(document)


@contextmanager
def neighbor(api: Api) -> Iterator[Neighbor]:
    """Writes until the block ends."""
    other, ended = Neighbor(api), threading.Event()
    thread = threading.Thread(target=other.write, args=(ended,))
    thread.start()
    try:
        yield other
    finally:
        ended.set()
        thread.join()


def alarms(cluster: Cluster) -> list[object]:
    return list(etcd_request(cluster, "/v3/maintenance/alarm", {"action": "GET"}).get("alarms") or [])


def half_full(new_cluster: Callable[..., Cluster], interval: str) -> Stock:
    cluster = new_cluster(masters=1, flags=[f"etcd-compaction-interval={interval}"])
    stock = Stock(cluster, "heavies")
    stock.fill(NUMBER, spec={"text": "x" * 75_000})
    stock.store("v1")
    return stock


def test_writes_wait_for_compaction(
    new_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch, module: Callable[..., Result]
) -> None:
    monkeypatch.setenv("ETCD_QUOTA_BACKEND_BYTES", str(QUOTA))
    stock = half_full(new_cluster, "10s")
    cluster = stock.cluster
    checked = module(cluster, CHECK, target_version="1.37", etcd=cluster.etcd)
    assert checked["safe"], checked["blockers"]
    (concern,) = [finding for finding in checked["concerns"] if finding["check"] == "etcd_space"]
    assert "48.0 MiB" in concern["what"] and "compact" in concern["why"]
    options = {"select": "stale", "resources": [stock.name], "etcd": cluster.etcd}
    refused = module(cluster, MIGRATE, engine=IN_TREE, **options)  # It would have to wait, and a controller can't.
    assert refused.failed and refused.data["error"] == "incomplete" and "engine: direct" in refused.message
    assert len(stock.stale()) == NUMBER and refused.data["etcd_space"]["outlook"] == "needs pacing"
    with neighbor(stock.api) as other:
        done = module(cluster, MIGRATE, **options)
    assert done["rewritten"] == NUMBER and stock.stale() == [] and stock.stored_versions() == ["v1"]
    assert other.refused == [] and other.written > 100 and alarms(cluster) == []
    space = done["etcd_space"]
    assert (space["source"], space["outlook"], space["unknown"]) == ("etcd", "needs pacing", None)
    assert space["held_seconds"] > 0
    (before,), (after,) = space["before"], space["after"]
    assert before["quota"] == after["quota"] == QUOTA and after["quota_from"] == "etcd"
    assert before["size"] < after["size"] < QUOTA and after["defragmentation_frees"] == after["size"] - after["in_use"]


def test_without_compaction_it_stops_before_etcd_is_full(
    new_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch, module: Callable[..., Result]
) -> None:
    """By etcd itself; then by the metrics of the API server, which know neither the quota nor what is in use."""
    monkeypatch.setenv("ETCD_QUOTA_BACKEND_BYTES", str(QUOTA))
    stock = half_full(new_cluster, "0")
    cluster = stock.cluster
    with neighbor(stock.api) as other:
        stopped = module(
            cluster, MIGRATE, select="changed", resources=[stock.name], etcd=cluster.etcd, compaction_timeout=3
        )
        assert stopped.failed and stopped.data["error"] == "incomplete"
        assert "Stopped before etcd is full" in stopped.message and "--etcd-compaction-interval" in stopped.message
        left = len(stock.stale())
        assert 0 < left < NUMBER and stopped.data["rewritten"] == NUMBER - left
        again = module(
            cluster, MIGRATE, select="changed", resources=[stock.name], etcd_quota=QUOTA, compaction_timeout=3
        )
        assert again.failed and again.data["error"] == "incomplete", again.message
        assert "Stopped before etcd is full" in again.message or "would fill etcd" in again.message
        assert again.data["etcd_space"]["source"] == "metrics"
    assert other.refused == [] and alarms(cluster) == []
