# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook rotate_encryption_key on masters that really encrypt; what counts is what etcd holds."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.control_plane.cluster import Cluster

from .support import browser
from .support.etcd import delete, put, read_etcd
from .support.modules import ROOT, Result
from .support.plays import TASKS, cluster_variables, run_playbook, write_inventory

CLUSTER = ROOT / "tests" / "control_plane" / "cluster.py"
OLD_SECRET = base64.b64encode(b"old".ljust(32, b"!")).decode()


@dataclass
class Rotation:
    """A play over the masters of a cluster that encrypts everything with the key ``old``."""

    cluster: Cluster
    folder: Path

    def file(self, master: str) -> Path:
        return self.cluster.folder / "encryption" / f"{master}.yaml"

    def keys(self, master: str) -> list[str]:
        """Names of the keys in a master's file, the one that writes first."""
        (entry,) = yaml.safe_load(self.file(master).read_text(encoding="utf-8"))["resources"]
        return [
            key["name"] for provider in entry["providers"] for key in (provider.get("aescbc") or {}).get("keys", ())
        ]

    def secrets(self) -> set[str]:
        """Every key that is in a master's file now."""
        return {
            key["secret"]
            for master in self.cluster.masters
            for provider in yaml.safe_load(self.file(master).read_text(encoding="utf-8"))["resources"][0]["providers"]
            for key in (provider.get("aescbc") or {}).get("keys", ())
        }

    def run(self, *, restart: str = "restart_master", **variables: Any) -> subprocess.CompletedProcess[str]:
        """Runs the playbook; ``restart`` (a file in playbooks/tasks) restarts one master."""
        given = {
            **cluster_variables(self.cluster, self.folder),
            "rolling_upgrade_gather_facts": False,
            "rolling_upgrade_encryption_key": "new",
            "rolling_upgrade_encryption_reload_tasks_file": str(TASKS / f"{restart}.yml"),
            "rolling_upgrade_kubeconfig": str(self.cluster.kubeconfig),
            "rolling_upgrade_etcd": self.cluster.etcd,
            "rolling_upgrade_wait_timeout": 30,
            "rolling_upgrade_report_path": str(self.folder / "rotation.html"),
            **variables,
        }
        config = f"rolling_upgrade_encryption_config={self.file('{name}')}"
        inventory = write_inventory(self.folder, self.cluster, "kube_control_plane", each=config)
        playbook = "kube_storage.upgrade.rotate_encryption_key"
        return run_playbook(playbook, self.folder, "-vvv", "-i", inventory, timeout=1200, variables=given)

    def stored(self) -> Counter[str]:
        """Secrets in etcd by the first words of their values: ``k8s:enc:aescbc:v1:new``."""
        values = [entry.value for entry in read_etcd(self.cluster, "/registry/secrets/").values()]
        return Counter(b":".join(value.split(b":", 5)[:5]).decode(errors="replace")[:40] for value in values)

    def under_old(self) -> list[str]:
        """Everything in etcd that needs the old key, whatever it is."""
        return [
            key for key, entry in read_etcd(self.cluster).items() if entry.value.startswith(b"k8s:enc:aescbc:v1:old:")
        ]


@pytest.fixture(scope="module")
def rotation(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("rotation")
    config = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [
            {
                "resources": ["*.*"],
                "providers": [{"aescbc": {"keys": [{"name": "old", "secret": OLD_SECRET}]}}, {"identity": {}}],
            }
        ],
    }
    cluster = Cluster.up(folder / "cluster", masters=2, owner_pid=os.getpid())
    try:
        (folder / "old.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        for master in cluster.masters:
            cluster.encrypt(master, folder / "old.yaml")
        found = Rotation(cluster, folder)
        for number in range(20):
            cluster.kubectl("create", "secret", "generic", f"s-{number}", f"--from-literal=password=hunter{number}")
        assert found.stored() == {"k8s:enc:aescbc:v1:old": 20}
        yield found
    finally:
        cluster.down()


def changed(output: str) -> list[int]:
    return [int(number) for number in re.findall(r" changed=(\d+) ", output)]


def assert_no_secret(rotation: Rotation, done: subprocess.CompletedProcess[str]) -> None:
    output = done.stdout + done.stderr
    for secret in {OLD_SECRET, *rotation.secrets()}:
        assert secret not in output and base64.b64encode(secret.encode()).decode() not in output
    assert "hunter" not in output


def test_the_whole_rotation_with_a_failure_in_its_middle(rotation: Rotation, module: Callable[..., Result]) -> None:
    """One story, as each part needs what the one before left."""
    cluster = rotation.cluster

    # master-2 fails before it loads the new key: master-1 has it, nobody writes with it, nothing is lost.
    failed = rotation.run(restart="restart_master_but_fail_on_master_2")
    assert failed.returncode != 0
    assert re.search(r"master-2 \(\S+\) has not loaded \S+: no power\. The masters", " ".join(failed.stdout.split())), (
        failed.stdout
    )
    assert rotation.keys("master-1") == rotation.keys("master-2") == ["old", "new"], failed.stdout
    assert rotation.stored() == {"k8s:enc:aescbc:v1:old": 20}
    assert_no_secret(rotation, failed)
    (new_secret,) = rotation.secrets() - {OLD_SECRET}

    # Continued from there, with the same key, up to the proof: the old one stays, as that was asked for.
    cluster = rotation.cluster = Cluster(cluster.folder)
    kept = rotation.run(rolling_upgrade_encryption_drop_old=False)
    assert kept.returncode == 0, kept.stdout + kept.stderr
    assert rotation.keys("master-1") == rotation.keys("master-2") == ["new", "old"]
    assert rotation.stored() == {"k8s:enc:aescbc:v1:new": 20}
    assert rotation.under_old() == []
    assert rotation.secrets() == {OLD_SECRET, new_secret}

    # Something that can't be rewritten is still under the old key: it stays.
    key, value = "/registry/secrets/default/corrupt", b"k8s:enc:aescbc:v1:old:" + bytes(32)
    put(cluster, key, value)
    refused = rotation.run()
    assert refused.returncode != 0
    assert rotation.keys("master-1") == rotation.keys("master-2") == ["new", "old"]
    delete(cluster, key)

    snapshots = rotation.folder / "snapshots"
    done = rotation.run(rolling_upgrade_etcd_snapshot_path=str(snapshots))
    assert done.returncode == 0, done.stdout + done.stderr
    (snapshot,) = snapshots.glob("*.db")
    assert snapshot.stat().st_mode & 0o777 == 0o600
    assert re.search(r"Proven from etcd: all \d+ objects of \d+ resources are under\s+aescbc\s+new", done.stdout), (
        done.stdout
    )
    assert rotation.keys("master-1") == rotation.keys("master-2") == ["new"]
    assert rotation.secrets() == {new_secret}
    assert_no_secret(rotation, done)
    cluster = rotation.cluster = Cluster(cluster.folder)
    for master in cluster.masters:
        own = cluster.folder / f"kubeconfig-{master}"
        found = cluster.kubectl("get", "secret", "s-7", "-o", "jsonpath={.data.password}", kubeconfig=own)
        assert base64.b64decode(found) == b"hunter7"
    servers = module(cluster, "encryption_config_info")["servers"]
    assert [server["ready"] for server in servers] == [True, True]
    assert len({server["config_hash"] for server in servers}) == 1

    report = json.loads((rotation.folder / "rotation.json").read_text(encoding="utf-8"))
    assert [run["status"] for run in report["runs"]] == ["failed", "succeeded", "failed", "succeeded"]
    assert "no power" in report["runs"][0]["failures"][0]["message"]
    assert report["rotation"]["old"] == [["aescbc", "old"]] and report["proof"]["etcd"] is True
    assert {(step["master"], step["stage"]) for step in report["steps"] if step["state"] == "done"} == {
        (master, stage) for master in cluster.masters for stage in (1, 2, 3)
    }
    pages = "".join(path.read_text(encoding="utf-8") for path in rotation.folder.glob("rotation.*"))
    for secret in {OLD_SECRET, new_secret}:
        assert secret not in pages and "/registry/" not in pages
    if browser.find() is not None:  # test_plain_output.py says if there is none
        text = browser.read(
            rotation.folder / "rotation.html", Path(os.environ.get("PICTURES") or rotation.folder / "pictures")
        )
        for part in (
            "Rotation to the encryption key new",
            "Done and proven",
            "Keep the old keys (aescbc old)",
            "in 4 runs",
        ):
            assert part in text, text

    before = read_etcd(cluster, "/registry/secrets/")
    processes = dict(cluster.data["processes"])
    again = rotation.run(rolling_upgrade_report_path="")
    assert again.returncode == 0, again.stdout + again.stderr
    assert changed(again.stdout) == [0, 0]
    assert read_etcd(cluster, "/registry/secrets/") == before
    assert Cluster(cluster.folder).data["processes"] == processes, "a master was restarted for nothing"
