# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Between a real 1.36 and a real 1.37: whether the new API server starts, and whether a snapshot leads back, as the guide says."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.control_plane import releases
from tests.control_plane.cluster import Cluster, ClusterError

from .support.etcd import Stored, etcd_request, read_etcd
from .support.modules import Result
from .support.objects import apply, config_maps
from .support.policies import GROUP, NEW, OLD, POLICIES, policies, versions_of

pytestmark = pytest.mark.long

STORED = f"/registry/{POLICIES[0]}/"
# Known to 1.36 and not to 1.37.
GONE = "feature-gates=SidecarContainers=true"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster.up(
        tmp_path_factory.mktemp("old") / "cluster",
        version=OLD,
        masters=1,
        etcd_version=releases.ETCDUTL.etcd,
        flags=[GONE],
        owner_pid=os.getpid(),
    )
    yield cluster
    cluster.down()


def static_pod(cluster: Cluster) -> dict[str, object]:
    """As kubeadm's kubelet shows it; no kubelet runs here."""
    command = [
        "kube-apiserver",
        *(f"--{name}={value}" for name, value in cluster.data["masters"]["master-1"]["flags"].items()),
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "kube-apiserver-m1", "namespace": "kube-system", "labels": {"tier": "control-plane"}},
        "spec": {"containers": [{"name": "kube-apiserver", "image": "none", "command": command}]},
    }


def test_a_gate_that_is_gone_keeps_the_new_api_server_from_starting(
    old: Cluster, module: Callable[..., Result]
) -> None:
    """First by /flagz alone, as no pod shows the flags; in the end the new API server really doesn't start."""
    for shows in ("/flagz", "pod"):
        if shows == "pod":
            account = {"name": "default", "namespace": "kube-system"}
            apply(old, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}, static_pod(old))
        found = module(old, "upgrade_check", target_version="1.37")
        assert [blocker["id"] for blocker in found["blockers"]] == ["feature_gate/SidecarContainers"], shows
    with pytest.raises(ClusterError, match="SidecarContainers"):
        old.upgrade("master-1", NEW)
    old.start("master-1", version=OLD, flags=["feature-gates="])
    old.kubectl("delete", "pod", "kube-apiserver-m1", "-n", "kube-system", "--force")
    assert module(old, "upgrade_check", target_version="1.37")["blockers"] == []


def at_revision(cluster: Cluster, revision: int) -> dict[str, Stored]:
    """Every key that API servers keep in etcd, as it was."""
    encoded = {
        name: base64.b64encode(key).decode() for name, key in (("key", b"/registry/"), ("range_end", b"/registry0"))
    }
    found = etcd_request(cluster, "/v3/kv/range", {**encoded, "revision": str(revision)})["kvs"]
    return {
        base64.b64decode(pair["key"]).decode(): Stored(int(pair["mod_revision"]), base64.b64decode(pair["value"]))
        for pair in found
    }


def test_a_snapshot_leads_back(old: Cluster, module: Callable[..., Result], tmp_path: Path) -> None:
    number = len(policies()) // 2
    apply(old, *policies(), config_maps(20, "old"))
    taken = module(old, "etcd_snapshot", path=str(tmp_path), etcd=old.etcd)
    before = at_revision(old, taken["revision"])
    assert len([key for key in before if key.startswith(STORED)]) == number

    old.upgrade("master-1", NEW, flags=["feature-gates="])
    done = module(old, "storage_migrate", resources=[f"{name}.{GROUP}" for name in POLICIES])
    assert done["rewritten"] == 2 * number and set(versions_of(old, STORED)) == {f"{GROUP}/v1"}
    apply(old, config_maps(5, "new"))
    old.kubectl("delete", "configmap", "old-0003")

    old.restore(Path(taken["path"]))
    assert read_etcd(old) == before
    old.start("master-1", version=OLD)
    listed = json.loads(old.kubectl("get", f"{POLICIES[0]}.{GROUP},configmaps", "-A", "-o", "json"))["items"]
    revisions = {item["metadata"]["name"]: int(item["metadata"]["resourceVersion"]) for item in listed}
    assert {name for name in revisions if name.startswith(("old-", "new-"))} == {
        f"old-{number:04d}" for number in range(20)
    }
    assert len([name for name in revisions if name.startswith("policy-")]) == number
    assert revisions["policy-0"] == before[STORED + "policy-0"].mod_revision
    assert set(versions_of(old, STORED)) == {f"{GROUP}/v1beta1"}
    assert module(old, "upgrade_check", target_version="1.36", etcd=old.etcd)["blockers"] == []
