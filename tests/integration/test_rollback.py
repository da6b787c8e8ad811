# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An upgrade in two steps and the ways back, between a real 1.36 and a real 1.37, by the role. The tests run in this order."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support.etcd import put
from .support.modules import Result
from .support.objects import apply
from .support.plays import PLAYBOOKS, TASKS, cluster_variables, run_playbook, write_inventory
from .support.policies import GROUP, NEW, OLD, POLICIES, policies, versions_of

pytestmark = pytest.mark.long

STORED = f"/registry/{POLICIES[0]}/"


@dataclass
class Two:
    """Two masters at a real 1.36, and plays over them."""

    cluster: Cluster
    folder: Path

    def play(self, version: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        given = {
            **cluster_variables(self.cluster, self.folder),
            "rolling_upgrade_version": f"v{version}",
            "rolling_upgrade_tasks_file": str(TASKS / "upgrade_master_as_asked.yml"),
            "rolling_upgrade_kubeconfig": str(self.cluster.kubeconfig),
            "rolling_upgrade_etcd": self.cluster.etcd,
            "rolling_upgrade_etcd_snapshot_path": str(self.folder / "snapshots"),
            "rolling_upgrade_stable_for": 1,
            "rolling_upgrade_wait_timeout": 60,
            "rolling_upgrade_request_timeout": 1,
            "rolling_upgrade_report_path": str(self.folder / "report.html"),
            **variables,
        }
        inventory = write_inventory(self.folder, self.cluster)
        return run_playbook(PLAYBOOKS / "roll.yml", self.folder, "-i", inventory, variables=given)

    def versions(self) -> list[tuple[str, str | None]]:
        """Each master's own release, and the one that it emulates if that differs."""
        found = []
        for name in self.cluster.masters:
            kubectl = ("get", "--raw", "/version", "--server", self.cluster.url(name))
            told = json.loads(self.cluster.kubectl(*kubectl))
            emulated = f"{told['emulationMajor']}.{told['emulationMinor']}"
            own = told["gitVersion"].removeprefix("v")
            found.append((own, None if own.startswith(emulated + ".") else emulated))
        return found

    def readable(self) -> int:
        """How many policies each master can list."""
        counts = {
            len(self.cluster.kubectl("get", POLICIES[0], "-o", "name", "--server", self.cluster.url(name)).split())
            for name in self.cluster.masters
        }
        (count,) = counts
        return count

    def snapshots(self) -> list[Path]:
        return sorted((self.folder / "snapshots").glob("*.db"))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("two")
    cluster = Cluster.up(folder / "cluster", version=OLD, masters=2, owner_pid=os.getpid())
    apply(cluster, *policies())
    yield Two(cluster, folder)
    cluster.down()


def test_half_way_and_back(two: Two) -> None:
    """What master-1 wrote as 1.37 is readable and written back; without being asked for, nothing goes back."""
    two.cluster.upgrade("master-1", NEW)
    rewrite = ("annotate", POLICIES[0], "policy-0", "written=by-1.37", "--server", two.cluster.url("master-1"))
    two.cluster.kubectl(*rewrite)
    assert versions_of(two.cluster, STORED)[f"{GROUP}/v1"] == 1
    refused = two.play(OLD)
    assert refused.returncode != 0 and "downgrade/kube-apiserver" in refused.stdout, refused.stdout
    assert two.versions() == [(NEW, None), (OLD, None)] and two.snapshots() == []
    done = two.play(OLD, rolling_upgrade_rollback=True)
    assert done.returncode == 0 and "Proven from etcd" in done.stdout, done.stdout
    assert two.versions() == [(OLD, None)] * 2 and len(two.snapshots()) == 1
    assert two.readable() == len(policies()) // 2 and set(versions_of(two.cluster, STORED)) == {f"{GROUP}/v1beta1"}


def test_the_first_step_and_back(two: Two) -> None:
    minor = OLD.rpartition(".")[0]
    first = two.play(NEW, rolling_upgrade_emulate=minor)
    assert first.returncode == 0, first.stdout
    assert f"is at v{NEW} and emulates {minor}, so it stores" in first.stdout, first.stdout
    assert two.versions() == [(NEW, minor)] * 2 and set(versions_of(two.cluster, STORED)) == {f"{GROUP}/v1beta1"}
    assert json.loads((two.folder / "report.json").read_text(encoding="utf-8"))["status"] == "unfinished"
    back = two.play(OLD, rolling_upgrade_rollback=True)
    assert back.returncode == 0, back.stdout
    assert two.versions() == [(OLD, None)] * 2 and two.readable() == len(policies()) // 2


def test_the_second_step_and_no_way_back(two: Two, module: Callable[..., Result]) -> None:
    """An object that only 1.37 can read is stored. The refusal names the snapshot from before."""
    module(two.cluster, "etcd_snapshot", path=str(two.folder / "snapshots"), etcd=two.cluster.etcd)
    newest = two.snapshots()[-1]
    for name in two.cluster.masters:
        two.cluster.upgrade(name, NEW)
    group = {
        "apiVersion": "scheduling.k8s.io/v1beta1",
        "kind": "PodGroup",
        "metadata": {"name": "g", "namespace": "default"},
    }
    put(two.cluster, "/registry/podgroups/default/g", json.dumps(group).encode())
    refused = two.play(OLD, rolling_upgrade_rollback=True)
    assert refused.returncode != 0 and two.versions() == [(NEW, None)] * 2
    assert "rollback/podgroups.scheduling.k8s.io" in refused.stdout and str(newest) in refused.stdout, refused.stdout
    assert "1 object is stored as scheduling.k8s.io/v1beta1" in refused.stdout
