# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 18: twenty real clusters, among them a stale, a mixed, a dead, a blocked and a full one, end in exactly the right page, metrics and status.

About 8 GiB of memory, and ten minutes of two cores.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster, ClusterError
from tests.tools.schemas import violations

from .support.modules import NO_REQUESTS
from .support.objects import apply, install_widgets
from .support.plays import run_playbook

pytestmark = pytest.mark.long

WIDGETS = "widgets.shop.example.com"
# Fewer of them show the same, where a machine is too small: FINE=1.
FINE = [f"fine-{number:02d}" for number in range(1, 1 + int(os.environ.get("FINE", "15")))]
TWENTY = [*FINE, "stale", "mixed", "dead", "blocked", "full"]
QUOTA = 24 << 20
# Two cores start so many clusters side by side.
AT_ONCE = 4
NOBODY = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "gate"},
    "webhooks": [
        {
            "name": "gate.example.com",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "timeoutSeconds": 2,
            "clientConfig": {"service": {"namespace": "default", "name": "nobody"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["configmaps"]}],
        }
    ],
}  # fmt: skip


@dataclass
class Fleet:
    folder: Path
    clusters: dict[str, Cluster] = field(default_factory=dict)

    def start(self, name: str) -> None:
        options: dict[str, Any] = {"masters": 2, "version": "1.36"} if name == "mixed" else {"masters": 1}
        if name == "full":
            options["flags"] = ["etcd-compaction-interval=0"]
        self.clusters[name] = Cluster.up(self.folder / "clusters" / name, owner_pid=os.getpid(), **options)

    def spoil(self) -> None:
        """What is wrong with five of them."""
        install_widgets(self.clusters["stale"], 7)
        self.clusters["mixed"].upgrade("master-1", "1.37")
        self.clusters["dead"].kill("master-1")
        self.clusters["dead"].kill("balancer")
        apply(self.clusters["blocked"], NOBODY)
        fill(self.clusters["full"])

    def run(self) -> subprocess.CompletedProcess[str]:
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        hosts = {
            name: {
                **here,
                "rolling_upgrade_kubeconfig": str(self.clusters[name].kubeconfig),
                "rolling_upgrade_etcd": self.clusters[name].etcd,
            }
            for name in TWENTY
        }
        (self.folder / "inventory.yml").write_text(json.dumps({"all": {"hosts": hosts}}), encoding="utf-8")
        variables = {
            "rolling_upgrade_request_timeout": NO_REQUESTS,
            "rolling_upgrade_fleet_purpose": "check",
            "rolling_upgrade_version": "1.37",
        }
        arguments = ("-i", "inventory.yml", "--forks", "6")
        return run_playbook("kube_storage.upgrade.fleet", self.folder, *arguments, timeout=1800, variables=variables)

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "fleet" / "fleet.json").read_text(encoding="utf-8"))
        assert violations(found) == []
        return found


def fill(cluster: Cluster) -> None:
    """Writes until etcd refuses every write."""
    text = "x" * 900_000
    for number in range(2 * QUOTA // len(text)):
        document = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"heavy-{number}", "namespace": "default"},
            "data": {"text": text},
        }
        try:
            cluster.kubectl("create", "-f", "-", input=json.dumps(document))
        except ClusterError as error:
            assert "database space exceeded" in str(error)
            return
    raise AssertionError("etcd takes more than its quota")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("twenty"))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ETCD_QUOTA_BACKEND_BYTES", str(QUOTA))
            made.start("full")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(made.start, [name for name in TWENTY if name != "full"]))
        made.spoil()
        yield made
    finally:
        for cluster in made.clusters.values():
            cluster.down()


def samples(text: str) -> dict[str, float]:
    """Each series, without those of times and sizes."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found = {series: float(value) for series, _space, value in (line.rpartition(" ") for line in lines)}
    return {
        series: value for series, value in found.items() if not re.search(r"_seconds|_bytes|stored_objects", series)
    }


STATES = ("fine", "concern", "stale", "disagreement", "blocker", "failure", "not_reached", "not_begun")
EXPECTED = {
    **dict.fromkeys(FINE, "fine"),
    "stale": "stale",
    "mixed": "disagreement",
    "dead": "not_reached",
    "blocked": "blocker",
    "full": "blocker",
}


def expected_samples() -> dict[str, float]:
    found: dict[str, float] = {}
    for name, state in EXPECTED.items():
        label = f'cluster="{name}"'
        found[f"kube_storage_cluster_reached{{{label}}}"] = float(name != "dead")
        found.update({f'kube_storage_cluster_state{{{label},state="{one}"}}': float(one == state) for one in STATES})
        if name == "dead":
            continue
        masters = {"master-1": "v1.37.2"} if name != "mixed" else {"master-1": "v1.37.2", "master-2": "1.36"}
        found[f"kube_storage_api_servers{{{label}}}"] = len(masters)
        found[f"kube_storage_api_servers_ready{{{label}}}"] = len(masters)
        found[f"kube_storage_releases{{{label}}}"] = len(set(masters.values()))
        found[f"kube_storage_api_servers_agree{{{label}}}"] = float(name != "mixed")
    return found


def test_twenty_clusters(fleet: Fleet) -> None:
    done = fleet.run()
    print(done.stdout[-6000:])
    record = fleet.record()
    rows = {row["host"]: row for row in record["clusters"]}
    print(
        json.dumps(
            {
                name: {
                    key: row[key]
                    for key in (
                        "state",
                        "why",
                        "stale",
                        "blockers",
                        "concerns",
                        "agree",
                        "servers",
                        "safe_up_to",
                        "untrimmed",
                        "plain_secrets",
                        "unprovable",
                    )
                }
                for name, row in rows.items()
                if name not in FINE[1:]
            },
            indent=1,
        )
    )
    print((fleet.folder / "fleet" / "metrics.prom").read_text())
    assert {name: row["state"] for name, row in rows.items()} == EXPECTED
    assert done.returncode == 2, done.stdout + done.stderr
