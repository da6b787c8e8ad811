# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Three masters from a real 1.34 to a real 1.37, each release in two steps, with an object that 1.36 can't read. The tests run in this order."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane import releases
from tests.control_plane.cluster import Cluster

from .support.etcd import put
from .support.modules import Result
from .support.objects import apply, config_maps
from .support.plays import PLAYBOOKS, TASKS, cluster_variables, run_playbook, write_inventory
from .support.policies import versions_of

pytestmark = pytest.mark.long

WAY = [releases.pinned(minor) for minor in ("1.34", "1.35", "1.36", "1.37")]
STORED = "/registry/horizontalpodautoscalers/"
NAME = "horizontalpodautoscalers.autoscaling"
# As 1.25 may have stored it. 1.36 can't read it anymore.
AUTOSCALER = {
    "apiVersion": "autoscaling/v2beta2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "old", "namespace": "default", "uid": "6c1ab8c8-67d9-4a4b-a1a5-1f3f2b1c0a01"},
    "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 3},
}


@dataclass
class Masters:
    """Three masters at a real 1.34, and plays over them to 1.37."""

    cluster: Cluster
    folder: Path

    def play(self, **variables: Any) -> subprocess.CompletedProcess[str]:
        given: dict[str, Any] = {
            **cluster_variables(self.cluster, self.folder),
            "rolling_upgrade_final_version": WAY[-1],
            "rolling_upgrade_releases": WAY[1:-1],
            "rolling_upgrade_tasks_file": str(TASKS / "upgrade_master_in_two_steps.yml"),
            "rolling_upgrade_kubeconfig": str(self.cluster.kubeconfig),
            "rolling_upgrade_etcd": self.cluster.etcd,
            "rolling_upgrade_etcd_snapshot_path": str(self.folder / "snapshots"),
            "rolling_upgrade_stable_for": 0,
            "rolling_upgrade_wait_timeout": 60,
            "rolling_upgrade_request_timeout": 1,
            **variables,
        }
        inventory = write_inventory(self.folder, self.cluster)
        return run_playbook(PLAYBOOKS / "several_releases.yml", self.folder, "-i", inventory, variables=given)

    def versions(self) -> set[tuple[str, str]]:
        """What the masters are, and as what they run."""
        found = set()
        for name in self.cluster.masters:
            told = json.loads(self.cluster.kubectl("get", "--raw", "/version", "--server", self.cluster.url(name)))
            found.add((told["gitVersion"], f"{told['emulationMajor']}.{told['emulationMinor']}"))
        return found

    def stored(self) -> dict[str, int]:
        return versions_of(self.cluster, STORED)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masters]:
    folder = tmp_path_factory.mktemp("three")
    cluster = Cluster.up(folder / "cluster", version=WAY[0], masters=3, owner_pid=os.getpid())
    apply(cluster, config_maps(5))
    put(cluster, f"{STORED}default/old", json.dumps(AUTOSCALER).encode())
    yield Masters(cluster, folder)
    cluster.down()


def test_it_must_be_migrated_before_a_server_of_1_36_is_there(three: Masters, module: Callable[..., Result]) -> None:
    checked = module(three.cluster, "upgrade_check", target_version=WAY[-1], etcd=three.cluster.etcd)
    must = [(hop["release"], hop["must_migrate"], hop["unreadable"]) for hop in checked["path"]]
    assert must == [("1.35", [NAME], []), ("1.36", [], []), ("1.37", [], [])]
    assert checked["running_versions"] == checked["binary_versions"] == ["1.34"]


def test_the_first_run_ends_while_the_next_release_emulates_this_one(three: Masters) -> None:
    overridden = three.play(rolling_upgrade_stop_before="finalize", rolling_upgrade_emulate="")
    assert overridden.returncode != 0 and "leave out the extra variable" in overridden.stdout, overridden.stdout
    first = three.play(rolling_upgrade_stop_before="finalize")
    assert first.returncode == 0, first.stdout
    assert f"Upgrading from 1.34 to {', then '.join(WAY[1:])}." in first.stdout, first.stdout
    assert "emulates 1.34, so it stores what 1.34 stores" in first.stdout, first.stdout
    assert f"This run ends before the second step to {WAY[1]}. The next one begins with it" in first.stdout
    assert three.versions() == {(f"v{WAY[1]}", "1.34")} and three.stored() == {"autoscaling/v2beta2": 1}


def test_the_next_one_finishes_that_release_and_begins_with_another(
    three: Masters, module: Callable[..., Result]
) -> None:
    checked = module(three.cluster, "upgrade_check", target_version=WAY[-1], etcd=three.cluster.etcd)
    assert (checked["running_versions"], checked["binary_versions"]) == (["1.34"], ["1.35"])
    second = three.play(rolling_upgrade_stop_before="finalize")
    assert second.returncode == 0 and "Proven from etcd" in second.stdout, second.stdout
    assert three.versions() == {(f"v{WAY[2]}", "1.35")} and three.stored() == {"autoscaling/v2": 1}


def test_without_a_stop_it_goes_on_to_the_last_release(three: Masters) -> None:
    done = three.play()
    assert done.returncode == 0 and "DONE: " in done.stdout, done.stdout
    assert three.versions() == {(f"v{WAY[3]}", "1.37")} and three.stored() == {"autoscaling/v2": 1}
    for name in three.cluster.masters:
        listed = ("get", "horizontalpodautoscalers", "-A", "-o", "json", "--server", three.cluster.url(name))
        found = json.loads(three.cluster.kubectl(*listed))["items"]
        assert [(item["metadata"]["name"], item["spec"]["maxReplicas"]) for item in found] == [("old", 3)]
