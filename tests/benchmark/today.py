# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people use today: kubectl, and the in-tree controller."""

from __future__ import annotations

import json
import os
import subprocess
import time

from tests.benchmark.objects import NAMESPACE, Objects
from tests.benchmark.tools import BenchmarkError
from tests.control_plane.cluster import Cluster
from tests.control_plane.processes import wait_for


def kubectl_replace(cluster: Cluster) -> float:
    """Seconds of what many upgrade notes recommend."""
    kubectl = f"{cluster.folder}/bin/kubectl --kubeconfig {cluster.kubeconfig} -n {NAMESPACE}"
    started = time.monotonic()
    script = f"{kubectl} get configmaps -o json | {kubectl} replace -f - >/dev/null"
    subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], check=True, env={**os.environ, "HOME": str(cluster.folder)}
    )
    return time.monotonic() - started


def in_tree_rate(cluster: Cluster, objects: Objects) -> float:
    """Objects per second of the in-tree controller, from its first patch to its last, as etcd shows them."""
    name = "bench"
    cluster.kubectl("delete", "storageversionmigration", name, "--ignore-not-found")
    migration = {
        "apiVersion": "storagemigration.k8s.io/v1",
        "kind": "StorageVersionMigration",
        "metadata": {"name": name},
        "spec": {"resource": {"group": "", "resource": "configmaps"}},
    }
    before = objects.count_stale()
    cluster.kubectl("apply", "-f", "-", input=json.dumps(migration))
    # Its status says that it runs only when it has ended; and what it needs until it begins isn't counted.
    if not wait_for(lambda: objects.count_stale() < before, 120.0, 0.05):
        raise BenchmarkError("The in-tree migration did not begin in 120 s.")
    started, first = time.monotonic(), objects.count_stale()
    if not wait_for(lambda: objects.count_stale() == 0, 600.0, 0.1):
        raise BenchmarkError("The in-tree migration did not end in 600 s.")
    return first / (time.monotonic() - started)
