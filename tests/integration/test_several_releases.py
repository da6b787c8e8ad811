# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several minor releases in turn, emulated by the newest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support.objects import apply, config_maps
from .support.plays import PLAYBOOKS, TASKS, cluster_variables, run_playbook, write_inventory

pytestmark = pytest.mark.long


def test_one_release_after_another(new_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    """It is refused first, because the release is given in the wrong variable."""
    cluster = new_cluster(version="1.35", masters=1)
    apply(cluster, config_maps(5))
    given: dict[str, Any] = {
        **cluster_variables(cluster, tmp_path),
        "rolling_upgrade_final_version": "1.37",
        "rolling_upgrade_tasks_file": str(TASKS / "upgrade_master.yml"),
        "rolling_upgrade_kubeconfig": str(cluster.kubeconfig),
        "rolling_upgrade_etcd": cluster.etcd,
        "rolling_upgrade_stable_for": 0,
        "rolling_upgrade_wait_timeout": 60,
        "rolling_upgrade_request_timeout": 1,
    }
    playbook, inventory = PLAYBOOKS / "several_releases.yml", write_inventory(tmp_path, cluster)
    wrong = {**given, "rolling_upgrade_version": "1.37"}
    refused = run_playbook(playbook, tmp_path, "-i", inventory, variables=wrong)
    assert refused.returncode != 0 and "give only rolling_upgrade_final_version" in refused.stdout, refused.stdout
    done = run_playbook(playbook, tmp_path, "-i", inventory, variables=given)
    assert done.returncode == 0, done.stdout
    assert "Upgrading from 1.35 to 1.36, then 1.37." in done.stdout, done.stdout
    verdicts = [line.partition("DONE: ")[2] for line in done.stdout.splitlines() if "DONE: " in line]
    assert [verdict[: len("master-1 is at 1.36.")] for verdict in verdicts] == [
        "master-1 is at 1.36.",
        "master-1 is at 1.37.",
    ], done.stdout
    assert json.loads(cluster.kubectl("get", "--raw", "/version"))["emulationMinor"] == "37"
