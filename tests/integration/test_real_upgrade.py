# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A whole upgrade between two real releases by the playbook, under load. Only etcd decides whether it succeeded."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.control_plane.cluster import Cluster

from .support.modules import ROOT, run_module
from .support.objects import apply, install_widgets
from .support.plays import TASKS, cluster_variables, run_playbook, write_inventory
from .support.policies import GROUP, NEW, NUMBER, OLD, POLICIES, policies, versions_of

CLUSTER = ROOT / "tests" / "control_plane" / "cluster.py"
WIDGETS = "/registry/shop.example.com/widgets/"


@dataclass
class Writer:
    """A client that counts upwards in one object, through the load balancer."""

    cluster: Cluster
    path: str
    acknowledged: int = 0
    refused: list[str] = field(default_factory=list)

    def count(self, ending: threading.Event) -> None:
        while not ending.wait(0.1):
            body = {"metadata": {"annotations": {"count": str(self.acknowledged + 1)}}}
            try:
                status, text = self._patch(json.dumps(body))
            except (OSError, http.client.HTTPException):
                continue  # Its master is being upgraded: a client tries again.
            if status == 200:
                self.acknowledged += 1
            elif status not in (409, 429, 500, 503, 504):
                self.refused.append(f"{status} {text[:200]}")

    def _patch(self, body: str) -> tuple[int, str]:
        pair = self.cluster.certificate("admin")
        context = ssl.create_default_context(cafile=str(self.cluster.certificate("ca").cert))
        context.load_cert_chain(pair.cert, pair.key)
        address = urlsplit(self.cluster.balancer_url)
        connection = http.client.HTTPSConnection(str(address.hostname), address.port, context=context, timeout=10)
        try:
            connection.request("PATCH", self.path, body, {"Content-Type": "application/merge-patch+json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@contextmanager
def load(cluster: Cluster) -> Iterator[list[Writer]]:
    """Clients that use the old and the new version of a custom resource, and one of a built-in resource."""
    widgets = "/apis/shop.example.com/{}/namespaces/default/widgets/widget-{:03d}"
    paths = (widgets.format("v1alpha1", 0), widgets.format("v1", 1), f"/apis/{GROUP}/v1/{POLICIES[0]}/policy-0")
    writers = [Writer(cluster, path) for path in paths]
    ending = threading.Event()
    threads = [threading.Thread(target=writer.count, args=(ending,), daemon=True) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        yield writers
    finally:
        ending.set()
        for thread in threads:
            thread.join(30)


def run_upgrade(cluster: Cluster, folder: Path) -> subprocess.CompletedProcess[str]:
    variables = {
        **cluster_variables(cluster, folder),
        "rolling_upgrade_version": f"v{NEW}",
        "rolling_upgrade_tasks_file": str(TASKS / "upgrade_master.yml"),
        "rolling_upgrade_kubeconfig": str(cluster.kubeconfig),
        "rolling_upgrade_etcd": cluster.etcd,
        "rolling_upgrade_stable_for": 2,
        "rolling_upgrade_wait_timeout": 120,
        "rolling_upgrade_report_path": str(folder / "report.html"),
        "rolling_upgrade_gather_facts": False,
    }
    inventory = write_inventory(folder, cluster, "kube_control_plane")
    return run_playbook("kube_storage.upgrade.upgrade", folder, "-i", inventory, variables=variables)


def managers(cluster: Cluster, resource: str) -> dict[str, list[tuple[str, str]]]:
    """By object, who manages fields, in which version."""
    listed = json.loads(cluster.kubectl("get", resource, "-A", "-o", "json", "--show-managed-fields"))
    return {
        item["metadata"]["name"]: [
            (entry["manager"], entry["apiVersion"]) for entry in item["metadata"].get("managedFields", [])
        ]
        for item in listed["items"]
    }


@dataclass
class Upgraded:
    """What was before, what the playbook said, and what is now."""

    cluster: Cluster
    before: dict[str, dict[str, int]]
    managers: dict[str, dict[str, list[tuple[str, str]]]]
    done: subprocess.CompletedProcess[str]
    report: dict[str, Any]
    steps: list[dict[str, Any]]
    writers: list[Writer]


PREFIXES = (*(f"/registry/{name}/" for name in POLICIES), WIDGETS)
RESOURCES = (*(f"{name}.{GROUP}" for name in POLICIES), "widgets.shop.example.com")


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    folder = tmp_path_factory.mktemp("real")
    cluster = Cluster.up(folder / "cluster", version=OLD, owner_pid=os.getpid())
    try:
        apply(cluster, *policies())
        install_widgets(cluster, NUMBER)
        before = {prefix: versions_of(cluster, prefix) for prefix in PREFIXES}
        managed = {resource: managers(cluster, resource) for resource in RESOURCES}
        with load(cluster) as writers:
            done = run_upgrade(cluster, folder)
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        steps = [json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in cluster.masters]
        yield Upgraded(cluster, before, managed, done, report, steps, writers)
    finally:
        cluster.down()


def test_everything_in_etcd_is_in_the_new_version(upgraded: Upgraded) -> None:
    """Issue 11, real older servers: from a real 1.36 to 1.37 by the playbook, under load."""
    said = upgraded.done.stdout
    assert upgraded.done.returncode == 0, said + upgraded.done.stderr
    old = {f"/registry/{name}/": {f"{GROUP}/v1beta1": NUMBER} for name in POLICIES}
    assert upgraded.before == {**old, WIDGETS: {"shop.example.com/v1alpha1": NUMBER}}
    new = {f"/registry/{name}/": {f"{GROUP}/v1": NUMBER} for name in POLICIES}
    now = {prefix: versions_of(upgraded.cluster, prefix) for prefix in PREFIXES}
    assert now == {**new, WIDGETS: {"shop.example.com/v1": NUMBER}}
    crd = json.loads(upgraded.cluster.kubectl("get", "crd", "widgets.shop.example.com", "-o", "json"))
    assert crd["status"]["storedVersions"] == ["v1"]
    found = run_module(upgraded.cluster, "stored_versions_info", etcd=upgraded.cluster.etcd)
    assert found["totals"]["stale"] == 0 and found["totals"]["objects"] > 3 * NUMBER
    assert "Masters are mixed now; nothing may be migrated yet" in said and "Proven from etcd" in said


def test_the_masters_went_one_at_a_time_between_real_releases(upgraded: Upgraded) -> None:
    assert [(step["from"], step["version"]) for step in upgraded.steps] == [(OLD, NEW)] * 3
    times = sorted((step["down_at"], step["up_at"]) for step in upgraded.steps)
    assert all(earlier[1] <= later[0] for earlier, later in zip(times, times[1:])), times
    servers = run_module(upgraded.cluster, "storage_version_hashes")["servers"]
    assert [(server["version"], server["emulated_version"]) for server in servers] == [(f"v{NEW}", None)] * 3


def test_the_report_says_what_etcd_says(upgraded: Upgraded) -> None:
    report = upgraded.report
    assert report["status"] == "succeeded" and report["proof"]["etcd"] is True, report["proof"]
    assert [step["state"] for step in report["steps"]] == ["done"] * 3
    assert {step["from"] for step in report["steps"]} == {OLD}
    before = report["stored"]["before"]["totals"]
    by_clients = len(upgraded.writers)  # may have been written again before the playbook looked
    assert before["stale"] >= NUMBER - by_clients and report["stored"]["after"]["totals"]["stale"] == 0
    trimmed = [crd for migration in report["migrations"] for crd in migration["trimmed"]]
    assert [crd["crd"] for crd in trimmed] == ["widgets.shop.example.com"]


def test_no_client_lost_an_update_and_no_object_its_managers(upgraded: Upgraded) -> None:
    for writer in upgraded.writers:
        assert writer.acknowledged > 20 and not writer.refused, (writer.path, writer.refused[:3])
        found = json.loads(upgraded.cluster.kubectl("get", "--raw", writer.path))
        assert int(found["metadata"]["annotations"]["count"]) >= writer.acknowledged, writer.path
    for resource, before in upgraded.managers.items():
        now = managers(upgraded.cluster, resource)
        assert set(now) == set(before)
        # Those that a client wrote meanwhile have that client's entry as well.
        assert [name for name in before if not set(before[name]) <= set(now[name])] == [], resource
