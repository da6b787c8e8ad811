# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a real 1.35 over a real 1.36 to a real 1.37, with an object that only the first of them can read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.control_plane import releases
from tests.control_plane.cluster import Cluster

from .support.etcd import put
from .support.modules import Result
from .support.plays import PLAYBOOKS, TASKS, cluster_variables, run_playbook, write_inventory
from .test_real_upgrade import versions_of

pytestmark = pytest.mark.long

WAY = [releases.pinned(minor) for minor in ("1.35", "1.36", "1.37")]
STORED = "/registry/horizontalpodautoscalers/"


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster.up(
        tmp_path_factory.mktemp("oldest") / "cluster", version=WAY[0], masters=1, owner_pid=os.getpid()
    )
    yield cluster
    cluster.down()


def test_an_object_that_must_be_migrated_at_the_right_release(
    oldest: Cluster, module: Callable[..., Result], tmp_path: Path
) -> None:
    """As 1.26 may have stored it. 1.36 can't read it anymore, so it is rewritten at 1.35 before the first master is touched."""
    autoscaler = {
        "apiVersion": "autoscaling/v2beta2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "old", "namespace": "default", "uid": "6c1ab8c8-67d9-4a4b-a1a5-1f3f2b1c0a01"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 3},
    }
    put(oldest, f"{STORED}default/old", json.dumps(autoscaler).encode())
    checked = module(oldest, "upgrade_check", target_version=WAY[-1], etcd=oldest.etcd)
    name = "horizontalpodautoscalers.autoscaling"
    first, second = checked["path"]
    assert (first["release"], first["migrate_first"], second["migrate_first"]) == ("1.36", [name], [])
    given = {
        **cluster_variables(oldest, tmp_path),
        "rolling_upgrade_final_version": WAY[-1],
        "rolling_upgrade_releases": WAY[:-1],
        "rolling_upgrade_tasks_file": str(TASKS / "upgrade_master.yml"),
        "rolling_upgrade_kubeconfig": str(oldest.kubeconfig),
        "rolling_upgrade_etcd": oldest.etcd,
        "rolling_upgrade_stable_for": 0,
        "rolling_upgrade_wait_timeout": 60,
        "rolling_upgrade_request_timeout": 1,
    }
    playbook, inventory = PLAYBOOKS / "several_releases.yml", write_inventory(tmp_path, oldest)
    done = run_playbook(playbook, tmp_path, "-i", inventory, variables=given)
    assert done.returncode == 0 and f"The way from 1.35: {', '.join(WAY)}." in done.stdout, done.stdout
    assert versions_of(oldest, STORED) == {"autoscaling/v2": 1}
    found = json.loads(oldest.kubectl("get", "horizontalpodautoscalers", "-A", "-o", "json"))["items"]
    assert [(item["metadata"]["name"], item["spec"]["maxReplicas"]) for item in found] == [("old", 3)]
    told = json.loads(oldest.kubectl("get", "--raw", "/version"))
    assert told["gitVersion"] == f"v{WAY[-1]}"
