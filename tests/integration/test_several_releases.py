# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several minor releases in turn on three masters, emulated by the newest, with a stop at each. The tests run in this order."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support.modules import run_module
from .support.objects import apply, config_maps
from .support.plays import PLAYBOOKS, TASKS, cluster_variables, run_playbook, write_inventory
from .support.policies import GROUP, POLICIES, policies, versions_of

pytestmark = pytest.mark.long

STORED = f"/registry/{POLICIES[0]}/"


@dataclass
class Masters:
    """Three masters as 1.34, and plays over them to 1.37."""

    cluster: Cluster
    folder: Path

    def play(self, **variables: Any) -> subprocess.CompletedProcess[str]:
        given: dict[str, Any] = {
            **cluster_variables(self.cluster, self.folder),
            "rolling_upgrade_final_version": "1.37",
            "rolling_upgrade_tasks_file": str(TASKS / "upgrade_master.yml"),
            "rolling_upgrade_kubeconfig": str(self.cluster.kubeconfig),
            "rolling_upgrade_etcd": self.cluster.etcd,
            "rolling_upgrade_stable_for": 0,
            "rolling_upgrade_wait_timeout": 60,
            "rolling_upgrade_request_timeout": 1,
            **variables,
        }
        inventory = write_inventory(self.folder, self.cluster)
        return run_playbook(PLAYBOOKS / "several_releases.yml", self.folder, "-i", inventory, variables=given)

    def minors(self) -> list[str]:
        """What each runs as."""
        kubectl = self.cluster.kubectl
        asked = [
            kubectl("get", "--raw", "/version", "--server", self.cluster.url(name)) for name in self.cluster.masters
        ]
        return [json.loads(told)["emulationMinor"] for told in asked]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masters]:
    folder = tmp_path_factory.mktemp("three")
    cluster = Cluster.up(folder / "cluster", version="1.34", masters=3, owner_pid=os.getpid())
    apply(cluster, config_maps(5))
    yield Masters(cluster, folder)
    cluster.down()


def test_the_release_in_the_wrong_variable_is_refused(three: Masters) -> None:
    refused = three.play(rolling_upgrade_version="1.37")
    assert refused.returncode != 0 and "give only rolling_upgrade_final_version" in refused.stdout, refused.stdout
    assert three.minors() == ["34"] * 3


def test_each_run_that_stops_before_the_migration_gets_one_release_further(three: Masters) -> None:
    first = three.play(rolling_upgrade_stop_before="migrate")
    assert first.returncode == 0 and "Upgrading from 1.34 to 1.35, then 1.36, then 1.37." in first.stdout, first.stdout
    assert three.minors() == ["35"] * 3 and "This run ends before the migration at 1.35." in first.stdout, first.stdout
    second = three.play(rolling_upgrade_stop_before="migrate")
    assert second.returncode == 0 and three.minors() == ["36"] * 3, second.stdout
    assert "Every API server is at 1.36 and stores new objects in its versions" in second.stdout, second.stdout


def test_it_goes_on_after_a_roll_that_ended_with_mixed_masters(three: Masters) -> None:
    """What 1.37 would write differently is nothing that 1.36 left undone: no master goes back for it."""
    apply(three.cluster, *policies())
    run_module(three.cluster, "storage_version_hashes", state="recorded")
    assert set(versions_of(three.cluster, STORED)) == {f"{GROUP}/v1beta1"}
    three.cluster.upgrade("master-1", "1.37")
    done = three.play()
    assert done.returncode == 0, done.stdout
    assert "Upgrading from 1.36 to 1.37." in done.stdout and "DONE: " in done.stdout, done.stdout
    assert three.minors() == ["37"] * 3 and set(versions_of(three.cluster, STORED)) == {f"{GROUP}/v1"}
