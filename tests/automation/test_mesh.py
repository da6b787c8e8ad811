# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 18: a fleet in slices over the nodes of a real automation mesh. One node dies in the middle; its slice is taken again, and nothing is done twice."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.automation.mesh import Job, Mesh, find_receptor
from tests.automation.programs import installed
from tests.control_plane.cluster import Cluster
from tests.integration.support.etcd import etcd_request, read_etcd
from tests.integration.support.modules import NO_REQUESTS
from tests.integration.support.objects import install_widgets
from tests.integration.support.waiting import wait_until
from tests.tools.schemas import violations

# By AWX's way of slicing, berlin and lima are the first slice, one after the other, delhi and oslo the second, hanoi and paris the third.
NAMES = ("berlin", "delhi", "hanoi", "lima", "oslo", "paris")
NODES = ("exec-1", "exec-2", "exec-3")
WIDGETS = 60
PREFIX = "/registry/shop.example.com/widgets/"


@dataclass
class Fleet:
    mesh: Mesh
    clusters: dict[str, Cluster]
    folder: Path
    jobs: int = 0

    def slice(self, number: int, node: str, limit: str = "", **more: Any) -> Job:
        """As AWX cuts an inventory: of all hosts in the order of their names, each slice takes every third. ``limit``: only that host."""
        self.jobs += 1
        common = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
        }
        hosts = {
            name: {
                **common,
                "rolling_upgrade_kubeconfig": str(self.clusters[name].kubeconfig),
                "rolling_upgrade_etcd": self.clusters[name].etcd,
            }
            for name in NAMES[number - 1 :: len(NODES)]
            if limit in ("", name)
        }
        variables = {
            "ansible_python_interpreter": common["ansible_python_interpreter"],
            "rolling_upgrade_fleet_path": str(self.folder / "fleet"),
            "rolling_upgrade_fleet_purpose": "migrate",
            "rolling_upgrade_fleet_waves": [1],
            "rolling_upgrade_etcd_snapshot_path": "",
            "rolling_upgrade_request_timeout": NO_REQUESTS,
            # Slow enough for a node to die in the middle.
            "rolling_upgrade_max_rate": 30,
            **more,
        }
        folder = self.folder / "jobs" / f"job-{self.jobs}"
        return self.mesh.submit(node, folder, {"all": {"hosts": hosts}}, variables)

    def writes(self, name: str) -> list[int]:
        """How often each widget was written, its creation included, as etcd counts."""
        body = {"key": _coded(PREFIX), "range_end": _coded(PREFIX[:-1] + "0"), "keys_only": True}
        return [int(found["version"]) for found in etcd_request(self.clusters[name], "/v3/kv/range", body)["kvs"]]

    def lease_has_expired(self, name: str) -> bool:
        """Of storage_migrate, which renews it every few seconds."""
        lease = self.clusters[name].kubectl("get", "lease", "kube-storage-upgrade", "-n", "kube-system", "-o", "json")
        spec = json.loads(lease)["spec"]
        end = datetime.fromisoformat(spec["renewTime"]) + timedelta(seconds=spec["leaseDurationSeconds"])
        return end < datetime.now(timezone.utc)

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "fleet" / "fleet.json").read_text(encoding="utf-8"))
        assert violations(found) == []
        return found

    def row(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(row for row in self.record()["clusters"] if row["host"] == name)
        return found

    def rewritten(self, name: str) -> int:
        """By the report of the cluster's last migration."""
        path = self.folder / "fleet" / "clusters" / name / "migration.json"
        report = json.loads(path.read_text(encoding="utf-8"))
        assert violations(report) == [] and report["proof"]["etcd"] is True
        return int(report["migrations"][-1]["totals"]["rewritten"])


def _coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    receptor = find_receptor()
    if receptor is None:
        pytest.skip(
            "The mesh needs the program receptor on the PATH; it is at https://github.com/ansible/receptor/releases."
        )
    folder = tmp_path_factory.mktemp("mesh")
    clusters: dict[str, Cluster] = {}

    def start(name: str) -> None:
        clusters[name] = Cluster.up(folder / "clusters" / name, masters=1, owner_pid=os.getpid())
        install_widgets(clusters[name], WIDGETS)

    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(start, NAMES))
        with Mesh(folder / "mesh", receptor, installed("mesh"), NODES, list(clusters.values())) as mesh:
            yield Fleet(mesh, clusters, folder)
    finally:
        for cluster in clusters.values():
            cluster.down()


def test_a_node_dies_and_another_one_takes_its_slice(fleet: Fleet) -> None:
    first, second, third = (fleet.slice(number, node) for number, node in enumerate(NODES, 1))
    wait_until(lambda: 5 < fleet.writes("lima").count(2) < WIDGETS, timeout=300)
    fleet.mesh.kill("exec-1")
    done = fleet.writes("lima").count(2)
    assert 5 < done < WIDGETS and fleet.mesh.state(first) == "Running", "AWX finds it by the node's missing heartbeat"
    assert fleet.mesh.finish(second) == 0, second.output
    assert fleet.mesh.finish(third) == 0, third.output
    berlin = fleet.row("berlin")
    assert berlin["state"] == "fine" and set(fleet.writes("berlin")) == {2}

    # The Lease of the run on exec-1 says who held it; that it has ended, only people and AWX know.
    refused = fleet.slice(1, "exec-2")
    assert fleet.mesh.finish(refused) == 2, refused.output
    assert "Resumed: 1 cluster done by an earlier run, and left alone." in refused.output
    why = fleet.row("lima")["why"][0]
    assert "Another roll is active" in why and " on exec-1 since " in why, why
    assert fleet.writes("lima").count(2) == done
    holder = why.partition("set rolling_upgrade_take_over to '")[2].partition("'")[0]

    wait_until(lambda: fleet.lease_has_expired("lima"))
    # Relaunched on the hosts that failed.
    again = fleet.slice(1, "exec-3", "lima", rolling_upgrade_take_over=holder)
    assert fleet.mesh.finish(again) == 0, again.output
    assert fleet.row("berlin")["observed"] == berlin["observed"], "it was done"
    # What the killed run had written, the next one found written.
    assert {name: fleet.rewritten(name) for name in NAMES} == {**dict.fromkeys(NAMES, WIDGETS), "lima": WIDGETS - done}
    for name, cluster in fleet.clusters.items():
        row = fleet.row(name)
        assert (row["state"], row["stale"]) == ("fine", 0) and row["migrated"], row
        assert fleet.writes(name) == [2] * WIDGETS, "each object was written once after its creation"
        assert all(b'"shop.example.com/v1"' in stored.value for stored in read_etcd(cluster, PREFIX).values())
    assert_merged(fleet)


def assert_merged(fleet: Fleet) -> None:
    """The three nodes have made one page, with the results of all slices."""
    record, target = fleet.record(), fleet.folder / "fleet"
    assert record["status"] == "finished" and record["unfinished"] == []
    page = (target / "index.html").read_text(encoding="utf-8")
    assert sorted(set(re.findall(r'data-host="([^"]+)"', page))) == sorted(NAMES)
    for name in NAMES:
        link = fleet.row(name)["pages"]["migration"]
        assert f'href="{link}"' in page and (target / link).is_file()
    samples = (target / "metrics.prom").read_text(encoding="utf-8").splitlines()
    assert {f'kube_storage_stale_objects{{cluster="{name}"}} 0' for name in NAMES} <= set(samples)
