# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The test control plane does what its README promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.control_plane import hosts, releases
from tests.control_plane.cluster import Cluster, ClusterError

from .support.etcd import etcd_request, read_etcd
from .support.modules import ROOT, Result
from .support.waiting import wait_until

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


def test_masters_are_hosts_of_their_own(three_masters: Cluster) -> None:
    slices = json.loads(three_masters.kubectl("get", "endpointslice", "kubernetes", "-o", "json"))
    assert sorted(address for endpoint in slices["endpoints"] for address in endpoint["addresses"]) == sorted(
        master["address"] for master in three_masters.data["masters"].values()
    )
    leases = json.loads(
        three_masters.kubectl(
            "get", "leases", "-n", "kube-system", "-l", "apiserver.kubernetes.io/identity=kube-apiserver", "-o", "json"
        )
    )
    assert {lease["metadata"]["labels"]["kubernetes.io/hostname"] for lease in leases["items"]} == set(
        three_masters.masters
    )
    assert all(process["running"] and process.get("ready", True) for process in three_masters.status().values())


def test_real_releases_side_by_side(new_cluster: Callable[..., Cluster], module: Callable[..., Result]) -> None:
    """A patch release is that release's own binary, not the newest that emulates it; etcd and controllers likewise."""
    older = releases.release(releases.pinned("1.36"))
    cluster = new_cluster(
        masters=2,
        version=older.kubernetes,
        etcd_version=older.etcd,
        controllers="namespace-controller",
        controllers_version=older.kubernetes,
    )
    newest = (f"v{releases.NEWEST.kubernetes}", None)

    def servers() -> list[tuple[str, str | None]]:
        found = module(cluster, "storage_version_hashes")
        return [(server["version"], server["emulated_version"]) for server in found["servers"]]

    def process(name: str) -> Path:
        return Path(f"/proc/{cluster.data['processes'][name]['pid']}")

    def runs(name: str) -> str:
        return (process(name) / "exe").resolve().parent.name

    def command(name: str) -> str:
        return (process(name) / "cmdline").read_text(encoding="utf-8")

    real = (f"v{older.kubernetes}", None)
    assert servers() == [real, real]
    assert len({runs(name) for name in ("master-1", "master-2", "etcd-1", "controller-manager")}) == 1
    assert etcd_request(cluster, "/v3/maintenance/status", {})["version"] == older.etcd
    cluster.upgrade("master-1", releases.NEWEST.kubernetes)
    assert servers() == [newest, real] and runs("master-1") != runs("master-2")
    assert not [name for name in cluster.masters if "--emulated-version" in command(name)]
    assert "mutatingadmissionpolicies.admissionregistration.k8s.io" in {
        disagreement["resource"] for disagreement in module(cluster, "storage_version_hashes")["disagreements"]
    }
    back = cluster.upgrade("master-1", older.kubernetes)
    assert (back["from"], back["version"]) == (releases.NEWEST.kubernetes, older.kubernetes)
    assert servers() == [real, real]
    assert [server["version"] for server in cluster.describe()["servers"]] == [older.kubernetes] * 2
    # A version that can't run is reported while the master still runs.
    with pytest.raises(releases.VersionError, match="1.36.99"):
        cluster.upgrade("master-1", "1.36.99")
    assert cluster.status()["master-1"] == {"running": True, "version": older.kubernetes, "ready": True}


def test_a_server_that_nobody_lists_is_noticed(
    new_cluster: Callable[..., Cluster], module: Callable[..., Result]
) -> None:
    cluster = new_cluster()
    cluster.upgrade("master-3", "1.37", flags=["endpoint-reconciler-type=none"])
    own = f"{cluster.data['masters']['master-3']['address']}"
    wait_until(lambda: own not in cluster.kubectl("get", "endpointslice", "kubernetes", "-o", "json"))
    found = module(cluster, "storage_version_hashes")
    assert found["converged"] is False
    assert any("3 API servers renew their Leases" in reason for reason in found["reasons"])
    named = module(cluster, "storage_version_hashes", servers=cluster.urls)
    assert named["converged"] is True and len(named["servers"]) == 3


def test_encryption_is_switched_on_and_its_key_changed(
    single_master: Cluster, tmp_path: Path, module: Callable[..., Result]
) -> None:
    path = "/registry/secrets/default/s"
    single_master.kubectl("create", "secret", "generic", "s", "--from-literal=a=b")
    assert read_etcd(single_master, path)[path].encoding == "protobuf"
    for keys in (["first"], ["second", "first"]):
        config = tmp_path / "encryption.json"
        config.write_text(encryption(*keys), encoding="utf-8")
        single_master.encrypt("master-1", config)
        done = module(single_master, "storage_migrate", resources=["secrets"])
        assert done["rewritten"] >= 1
        assert all(
            stored.value.startswith(f"k8s:enc:aescbc:v1:{keys[0]}:".encode())
            for stored in read_etcd(single_master, "/registry/secrets/").values()
        )
    found = module(single_master, "stored_versions_info", etcd=single_master.etcd, resources=["secrets"])
    assert [(row["provider"], row["key"]) for row in found["resources"]["secrets"]["stored"]] == [("aescbc", "second")]


def writes(cluster: Cluster, name: str) -> bool:
    """Whether the ConfigMap is written; a request that timed out may still have been carried out."""
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
    # Where it led, requests in progress time out until the other two have chosen a new leader.
    wait_until(lambda: writes(cluster, "still-writes"))
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
    number = next(number for number, registered_folder in hosts.registered().items() if registered_folder == folder)
    owner.kill()
    owner.wait()
    wait_until(lambda: folder not in hosts.registered().values())
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
    unbuilt = run("up", "--dir", folder, "--version", "1.36.99")
    assert unbuilt.returncode == 2 and "1.36.99 is not built here, only 1.37." in unbuilt.stderr
    assert "Traceback" not in unbuilt.stderr and not Path(folder).exists()
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
