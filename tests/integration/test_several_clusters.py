# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 18: the masters of two clusters in one play. One at a time in each, the clusters in parallel, and each ends for itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster
from tests.tools.schemas import result_violations, violations

from .support import warm_ansible, warm_python
from .support.etcd import read_etcd
from .support.modules import ANSIBLE, NO_REQUESTS, ROOT, environment, run_module
from .support.objects import install_widgets
from .support.plays import CLUSTER, PLAYBOOKS, TASKS, run_playbook

NAMES = ("north", "south")
WIDGETS = "widgets.shop.example.com"
WIDGETS_OF = {"north": 3, "south": 4}


class Readiness:
    """Samples /readyz of every master at its own address, from its start until ``end``."""

    def __init__(self, clusters: dict[str, Cluster]) -> None:
        self.down: list[tuple[float, frozenset[str]]] = []
        self._clusters, self._ended = clusters, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        masters = [(name, master) for name, cluster in self._clusters.items() for master in cluster.masters]
        with ThreadPoolExecutor(len(masters)) as pool:
            while not self._ended.is_set():
                ready = pool.map(lambda one: self._clusters[one[0]].is_ready(one[1]), masters)
                down = frozenset(
                    f"{name}-{master[-1]}" for (name, master), is_ready in zip(masters, ready) if not is_ready
                )
                self.down.append((time.time(), down))
                self._ended.wait(0.05)

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def seen_down(self) -> set[str]:
        return {name for _when, down in self.down for name in down}

    def assert_one_at_a_time(self) -> None:
        """Never two of one cluster."""
        assert len(self.down) > 20, "too few samples to mean anything"
        for name in NAMES:
            twice = [down for _when, down in self.down if sum(master.startswith(name) for master in down) > 1]
            assert twice == [], f"two masters of {name} were down at the same time"

    def assert_in_parallel(self) -> None:
        together = [down for _when, down in self.down if {master.partition("-")[0] for master in down} == set(NAMES)]
        assert together, "at no time was a master of each cluster down"


class Clusters:
    """Two clusters of two masters, which are the hosts north-1, north-2, south-1 and south-2, and the reports of the plays over them."""

    def __init__(self, folder: Path, clusters: dict[str, Cluster]) -> None:
        self.folder, self.clusters = folder, clusters
        self.variables = {
            "rolling_upgrade_tasks_file": str(TASKS / "upgrade_master_of_its_cluster.yml"),
            "rolling_upgrade_stable_for": 1,
            "rolling_upgrade_wait_timeout": 180,
            "rolling_upgrade_report_path": str(folder / "{{ rolling_upgrade_cluster_group }}.html"),
            "cluster_program": str(CLUSTER),
            "results_folder": str(folder),
        }
        groups: dict[str, Any] = {}
        for name, cluster in clusters.items():
            hosts = {
                f"{name}-{master[-1]}": {"ansible_host": cluster.data["masters"][master]["address"]}
                for master in cluster.masters
            }
            groups[f"masters_of_{name}"] = {"hosts": hosts, "vars": self.of_cluster(name)}
        self.write_inventory("masters.json", {"masters": {"children": groups}})

    def of_cluster(self, name: str) -> dict[str, Any]:
        return {
            "rolling_upgrade_cluster_group": f"masters_of_{name}",
            "rolling_upgrade_kubeconfig": str(self.clusters[name].kubeconfig),
            "rolling_upgrade_etcd": self.clusters[name].etcd,
            "cluster_folder": str(self.clusters[name].folder),
        }

    def write_inventory(self, file: str, groups: dict[str, Any]) -> None:
        common = {"ansible_connection": "local", "ansible_python_interpreter": warm_python.interpreter()}
        (self.folder / file).write_text(json.dumps({"all": {"children": groups, "vars": common}}), encoding="utf-8")

    def run(self, playbook: str, *arguments: str, inventory: str = "masters.json", **more: Any) -> Done:
        given = {**self.variables, **more}
        arguments = ("-i", inventory, "--forks", "8", *arguments)
        return run_playbook(PLAYBOOKS / playbook, self.folder, *arguments, variables=given)

    def report(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / f"masters_of_{name}.json").read_text(encoding="utf-8"))
        assert violations(found) == []
        return found

    def releases(self, name: str) -> list[str]:
        servers = run_module(self.clusters[name], "storage_version_hashes")["servers"]
        return [server["emulated_version"] or "1.37" for server in servers]

    def downtime(self, host: str) -> tuple[float, float]:
        data = json.loads((self.folder / f"{host}.json").read_text(encoding="utf-8"))
        return data["down_at"], data["up_at"]


Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    folder = tmp_path_factory.mktemp("several")
    made: dict[str, Cluster] = {}
    try:
        for name in NAMES:
            made[name] = Cluster.up(folder / name, masters=2, version="1.35", owner_pid=os.getpid())
            install_widgets(made[name], WIDGETS_OF[name])
        yield Clusters(folder, made)
    finally:
        for cluster in made.values():
            cluster.down()


def test_what_cannot_work_is_refused_before_anything(two: Clusters) -> None:
    refusals: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("has the strategy free and 2 masters of masters_of_north", "all", {"play_strategy": "free"}),
        ("for the clusters of masters_of_north, masters_of_south", "all", {"rolling_upgrade_report_path": "one.html"}),
        ("has no rolling_upgrade_cluster_group", "all", {"rolling_upgrade_cluster_group": ""}),
        ("north-1 is not among the masters", "masters_of_north", {"rolling_upgrade_cluster_group": "masters_of_south"}),
    )
    for said, limit, variables in refusals:
        done = two.run("clusters.yml", "--limit", limit, rolling_upgrade_version="1.36", **variables)
        assert done.returncode == 2 and said in done.stdout, done.stdout
        assert "-> localhost" not in done.stdout and "Traceback" not in done.stdout + done.stderr
    one = two.run("roll.yml", rolling_upgrade_version="1.36")
    assert "kube_storage.upgrade.upgrade_clusters" in one.stdout and one.returncode == 2
    assert not list(two.folder.glob("*-*.json")), "a master was touched"


def ad_hoc(two: Clusters, pattern: str, module: str, **options: Any) -> tuple[int, dict[str, dict[str, Any]]]:
    """Ansible's exit status, and what the module returned for each host."""
    command = [str(ANSIBLE), pattern, "-i", "clusters.json", "-o", "-m", f"kube_storage.upgrade.{module}"]
    command += ["-a", json.dumps(options)]
    env = {**environment(), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections")}
    done = warm_ansible.run(command, cwd=two.folder, env=env, timeout=300)
    told = re.findall(r"(?m)^(\S+) \| \w+!? => (\{.*\})$", done.stdout)
    assert told, done.stdout + done.stderr
    return done.returncode, {name: json.loads(result) for name, result in told}


def test_ad_hoc_each_host_is_its_own_cluster(two: Clusters) -> None:
    """``ansible clusters -m kube_storage.upgrade.storage_migrate``: two real clusters, and one that doesn't answer."""
    gone = two.folder / "gone.kubeconfig"
    north = two.clusters["north"]
    # Nothing listens at this port of its address.
    nowhere = north.balancer_url.rpartition(":")[0] + ":9"
    gone.write_text(north.kubeconfig.read_text(encoding="utf-8").replace(north.balancer_url, nowhere), encoding="utf-8")
    hosts = {name: two.of_cluster(name) for name in NAMES}
    two.write_inventory(
        "clusters.json", {"clusters": {"hosts": {**hosts, "gone": {"rolling_upgrade_kubeconfig": str(gone)}}}}
    )
    # The CRDs have just been edited, so their masters may not agree yet.
    status, told = ad_hoc(two, "clusters:!gone", "storage_version_hashes", state="converged", wait_timeout=180)
    assert status == 0 and set(told) == set(NAMES), [(result["msg"], result.get("reasons")) for result in told.values()]
    status, told = ad_hoc(two, "clusters", "storage_migrate", request_timeout=NO_REQUESTS, resources=[WIDGETS])
    assert status == 2 and set(told) == {*NAMES, "gone"}
    assert "refuses connections" in told["gone"]["msg"]
    for name, objects in WIDGETS_OF.items():
        assert told[name].get("rewritten") == objects, told[name]["msg"]
        assert result_violations("storage_migrate", told[name]) == []
        stored = read_etcd(two.clusters[name], "/registry/shop.example.com/widgets/").values()
        assert [json.loads(entry.value)["apiVersion"] for entry in stored] == ["shop.example.com/v1"] * objects


def test_two_groups_that_are_the_same_cluster(two: Clusters) -> None:
    """By mistake south's group has north's kubeconfig, and hosts that claim to be north's second master."""
    north = two.clusters["north"]
    hosts = {
        group: {
            "hosts": {f"{group}-{number}": {"ansible_host": north.data["masters"][f"master-{number}"]["address"]}},
            "vars": {**two.of_cluster("north"), "rolling_upgrade_cluster_group": group},
        }
        for group, number in (("left", 1), ("right", 2))
    }
    two.write_inventory("twins.json", {"masters": {"children": hosts}})
    # Without these two, the number of API servers would tell at once.
    lenient = {"rolling_upgrade_expected_servers": 2, "rolling_upgrade_accept_unchecked": True}
    done = two.run("clusters.yml", inventory="twins.json", rolling_upgrade_version="1.36", **lenient)
    assert done.returncode == 2 and done.stdout.count("Another roll is active") >= 1, done.stdout
    assert not list(two.folder.glob("*-*.json")), "a master was touched"
    assert two.releases("north") == ["1.35", "1.35"]


def test_one_at_a_time_in_each_cluster_and_a_lost_master_ends_its_own_cluster_only(two: Clusters) -> None:
    readiness = Readiness(two.clusters)
    try:
        done = two.run("clusters.yml", rolling_upgrade_version="1.36", lose="south-2")
    finally:
        readiness.end()
    assert done.returncode not in (0, 1), done.stdout + done.stderr
    readiness.assert_one_at_a_time()
    readiness.assert_in_parallel()
    assert readiness.seen_down() == {"north-1", "north-2", "south-1"}
    north, south = (two.downtime(f"{name}-1") for name in NAMES)
    assert max(north[0], south[0]) < min(north[1], south[1]), "the first masters were not upgraded at the same time"
    assert two.releases("north") == ["1.36", "1.36"] and two.releases("south") == ["1.36", "1.35"]
    assert "DONE: north-1, north-2 are at 1.36." in done.stdout, done.stdout
    assert "The upgrade of south-2 (" in done.stdout and "Ansible can't reach the host anymore" in done.stdout
    report = two.report("north")
    assert report["status"] == "succeeded" and report["proof"]["etcd"] is True
    assert [step["master"] for step in report["steps"]] == ["north-1", "north-2"]
    report = two.report("south")
    assert report["status"] == "failed" and report["migrations"] == []
    assert [(step["master"], step["state"]) for step in report["steps"]] == [("south-1", "done"), ("south-2", "failed")]


@pytest.mark.long
def test_a_master_that_fails_and_the_run_that_goes_on(two: Clusters) -> None:
    failed = two.run("clusters.yml", rolling_upgrade_version="1.36", fail_on="south-2")
    assert failed.returncode == 2, failed.stdout + failed.stderr
    assert "The upgrade of south-2 (" in failed.stdout and "The disk is full." in failed.stdout
    assert failed.stdout.count("fatal: [south-1]") == 0, "it ends silently with the one that failed"
    assert "DONE: north-1, north-2 are at 1.36." in failed.stdout
    done = two.run("clusters.yml", "--limit", "masters_of_south", rolling_upgrade_version="1.36")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DONE: south-1, south-2 are at 1.36." in done.stdout
    assert two.report("south")["status"] == "succeeded" and two.releases("south") == ["1.36", "1.36"]


@pytest.mark.long
def test_slices_of_an_inventory_of_clusters_each_at_its_own_pace(two: Clusters) -> None:
    """As AWX cuts an inventory: each slice has the hosts of its clusters only. Both slices run at the same time."""
    for name in NAMES:
        masters = [
            {"name": f"{name}-{number}", "turn": number, "address": master["address"]}
            for number, master in enumerate(two.clusters[name].data["masters"].values(), 1)
        ]
        host = {**two.of_cluster(name), "cluster_masters": masters}
        two.write_inventory(f"{name}.json", {"clusters": {"hosts": {name: host}}})
    readiness = Readiness(two.clusters)
    try:
        with ThreadPoolExecutor() as pool:
            slices = [
                pool.submit(
                    two.run, "clusters_of_a_slice.yml", inventory=f"{name}.json", rolling_upgrade_version="1.37"
                )
                for name in NAMES
            ]
            results = [run.result() for run in slices]
    finally:
        readiness.end()
    for name, done in zip(NAMES, results):
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"DONE: {name}-1, {name}-2 are at 1.37." in done.stdout, done.stdout
        assert two.releases(name) == ["1.37", "1.37"]
        assert two.report(name)["proof"]["etcd"] is True
    readiness.assert_one_at_a_time()
