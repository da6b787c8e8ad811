# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The test control plane keeps what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.control_plane import hosts
from tests.control_plane.cluster import Cluster, ClusterError

from .conftest import ROOT, Result, read_etcd, wait_until

CLUSTER = str(ROOT / "tests" / "control_plane" / "cluster.py")


def encryption(*keys: str) -> str:
    import base64
    import hashlib

    named = [{"name": key, "secret": base64.b64encode(hashlib.sha256(key.encode()).digest()).decode()} for key in keys]
    return json.dumps(
        {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [{"resources": ["secrets"], "providers": [{"aescbc": {"keys": named}}, {"identity": {}}]}],
        }
    )


def test_masters_are_hosts_of_their_own(three: Cluster) -> None:
    slices = json.loads(three.kubectl("get", "endpointslice", "kubernetes", "-o", "json"))
    assert sorted(address for one in slices["endpoints"] for address in one["addresses"]) == sorted(
        master["address"] for master in three.data["masters"].values()
    )
    leases = json.loads(
        three.kubectl(
            "get", "leases", "-n", "kube-system", "-l", "apiserver.kubernetes.io/identity=kube-apiserver", "-o", "json"
        )
    )
    assert {one["metadata"]["labels"]["kubernetes.io/hostname"] for one in leases["items"]} == set(three.masters)
    assert all(one["running"] and one.get("ready", True) for one in three.status().values())


def test_a_server_that_nobody_lists_is_noticed(
    new_cluster: Callable[..., Cluster], module: Callable[..., Result]
) -> None:
    cluster = new_cluster()
    cluster.upgrade("master-3", "1.37", flags=["endpoint-reconciler-type=none"])
    own = f"{cluster.data['masters']['master-3']['address']}"
    wait_until(lambda: own not in cluster.kubectl("get", "endpointslice", "kubernetes", "-o", "json"), 60)
    found = module(cluster, "storage_version_hashes")
    assert found["converged"] is False
    assert any("3 API servers renew their Leases" in reason for reason in found["reasons"])
    named = module(cluster, "storage_version_hashes", servers=cluster.urls)
    assert named["converged"] is True and len(named["servers"]) == 3


def test_encryption_is_switched_on_and_its_key_changed(
    one: Cluster, tmp_path: Path, module: Callable[..., Result]
) -> None:
    path = "/registry/secrets/default/s"
    one.kubectl("create", "secret", "generic", "s", "--from-literal=a=b")
    assert read_etcd(one, path)[path].encoding == "protobuf"
    for keys in (["first"], ["second", "first"]):
        config = tmp_path / "encryption.json"
        config.write_text(encryption(*keys), encoding="utf-8")
        one.encrypt("master-1", config)
        done = module(one, "storage_migrate", resources=["secrets"])
        assert done["rewritten"] >= 1
        assert all(
            stored.value.startswith(f"k8s:enc:aescbc:v1:{keys[0]}:".encode())
            for stored in read_etcd(one, "/registry/secrets/").values()
        )
    found = module(one, "stored_versions_info", etcd=one.etcd, resources=["secrets"])
    assert [(x["provider"], x["key"]) for x in found["resources"]["secrets"]["stored"]] == [("aescbc", "second")]


def writes(cluster: Cluster, name: str) -> bool:
    """Whether the ConfigMap is written; a request that timed out may have been carried out all the same."""
    try:
        configmap = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}
        cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(configmap))
    except ClusterError:
        return False
    return True


def test_three_etcd_members_and_controllers(new_cluster: Callable[..., Cluster], module: Callable[..., Result]) -> None:
    cluster = new_cluster(masters=1, etcd_members=3, controllers="garbage-collector-controller,namespace-controller")
    cluster.kubectl("create", "namespace", "gone")
    cluster.kubectl("delete", "namespace", "gone", "--timeout=60s")
    cluster.kill("etcd-2")
    # Where it led, requests that are under way time out until the other two have chosen a new leader.
    wait_until(lambda: writes(cluster, "still-writes"), 60)
    cluster.start("etcd-2")
    assert module(cluster, "stored_versions_info", etcd=cluster.etcd)["totals"]["stale"] == 0


def test_a_crashed_caller_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; sys.path.insert(0, sys.argv[1]); from pathlib import Path;"
        "from tests.control_plane.cluster import Cluster;"
        "Cluster.up(Path(sys.argv[2]), masters=1, owner_pid=os.getpid()); print('up', flush=True); time.sleep(600)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(ROOT), str(tmp_path / "c")], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None and owner.stdout.readline().strip() == "up"
    folder = str((tmp_path / "c").resolve())
    number = next(number for number, one in hosts.registered().items() if one == folder)
    owner.kill()
    owner.wait()
    wait_until(lambda: folder not in hosts.registered().values(), 60)
    assert not Path(f"/sys/class/net/ksu{number}br").exists()
    assert not list(Path("/run/netns").glob(f"ksu{number}-*"))


def test_as_a_program(tmp_path: Path) -> None:
    folder = str(tmp_path / "c")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, CLUSTER, *arguments], capture_output=True, text=True, check=False, env={**os.environ}
        )

    unknown = run("status", folder)
    assert unknown.returncode == 2 and "There is no cluster" in unknown.stderr and "Traceback" not in unknown.stderr
    up = run("up", "--dir", folder, "--masters", "1", "--version", "1.36", "--owner-pid", str(os.getpid()))
    assert up.returncode == 0, up.stderr
    try:
        assert [server["name"] for server in json.loads(up.stdout)["servers"]] == ["master-1"]
        upgraded = json.loads(run("upgrade", folder, "master-1", "--version", "1.37").stdout)
        assert upgraded["from"] == "1.36" and upgraded["down_at"] < upgraded["up_at"]
        assert run("upgrade", folder, "master-9", "--version", "1.37").returncode == 2
        assert json.loads(run("status", folder).stdout)["master-1"]["ready"] is True
    finally:
        assert run("down", folder).returncode == 0
