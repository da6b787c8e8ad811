# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role rolling_upgrade: one master at a time, whatever the play looks like."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .conftest import ROOT, environment, read_etcd, run_module

CLUSTER = ROOT / "tests" / "control_plane" / "cluster.py"


@dataclass
class Play:
    """A play over the masters, and when each was down."""

    cluster: Cluster
    folder: Path

    def run(
        self,
        *,
        head: str = "",
        tasks: str = "",
        strategy: str = "linear",
        reverse: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        masters = self.cluster.masters[::-1] if reverse else self.cluster.masters
        hosts = "\n".join(f"{name} ansible_host={self.cluster.data['masters'][name]['address']}" for name in masters)
        (self.folder / "inventory.ini").write_text(
            f"[masters]\n{hosts}\n[masters:vars]\nansible_connection=local\nansible_python_interpreter={sys.executable}\n",
            encoding="utf-8",
        )
        (self.folder / "one.yml").write_text(tasks or self.upgrade_tasks(), encoding="utf-8")
        (self.folder / "play.yml").write_text(
            f"- hosts: masters\n  gather_facts: false\n  strategy: {strategy}\n{head}  roles:\n    - kube_storage.upgrade.rolling_upgrade\n",
            encoding="utf-8",
        )
        given = {
            "rolling_upgrade_version": "1.37",
            "rolling_upgrade_tasks_file": str(self.folder / "one.yml"),
            "rolling_upgrade_kubeconfig": str(self.cluster.kubeconfig),
            "rolling_upgrade_etcd": self.cluster.etcd,
            "rolling_upgrade_stable_for": 1,
            "rolling_upgrade_wait_timeout": 15,
            "rolling_upgrade_report_path": str(self.folder / "report.json"),
            **(variables or {}),
        }
        command = [
            str(Path(sys.executable).with_name("ansible-playbook")),
            "-i",
            "inventory.ini",
            "play.yml",
            "-e",
            json.dumps(given),
        ]
        settings = {**environment(), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections")}
        return subprocess.run(
            command, cwd=self.folder, env=settings, capture_output=True, text=True, check=False, timeout=400
        )

    def upgrade_tasks(self, before: str = "") -> str:
        command = (
            f"{sys.executable} {CLUSTER} upgrade {self.cluster.folder} {{{{ inventory_hostname }}}} --version 1.37"
        )
        return before + (
            f"- ansible.builtin.shell: {command} > {self.folder}/{{{{ inventory_hostname }}}}.json\n  changed_when: true\n"
        )

    def downtimes(self) -> list[tuple[float, float]]:
        found = []
        for name in self.cluster.masters:
            path = self.folder / f"{name}.json"
            if path.exists():
                data = json.loads(path.read_text(encoding="utf-8"))
                found.append((data["down_at"], data["up_at"]))
        return sorted(found)


@pytest.fixture
def play(new_cluster: Callable[..., Cluster], tmp_path: Path) -> Play:
    return Play(new_cluster(version="1.36"), tmp_path)


def assert_one_at_a_time(play: Play) -> None:
    times = play.downtimes()
    assert len(times) == 3
    for earlier, later in zip(times, times[1:]):
        assert earlier[1] <= later[0], "two masters were down at the same time"


def changed(output: str) -> list[int]:
    import re

    return [int(number) for number in re.findall(r" changed=(\d+) ", output)]


def versions(cluster: Cluster) -> list[str]:
    servers = run_module(cluster, "storage_version_hashes")["servers"]
    return [server["emulated_version"] or "1.37" for server in servers]


@pytest.mark.parametrize(("head", "reverse"), [("", False), ("  serial: 1\n", False), ("  serial: 2\n", True)])
def test_one_master_at_a_time_and_nothing_on_the_second_run(play: Play, head: str, reverse: bool) -> None:
    done = play.run(head=head, reverse=reverse)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_one_at_a_time(play)
    assert "Masters are mixed now; nothing may be migrated yet" in done.stdout
    assert "Proven from etcd" in done.stdout
    assert versions(play.cluster) == ["1.37"] * 3
    report = json.loads((play.folder / "report.json").read_text(encoding="utf-8"))
    assert report["stored"]["stale"] == 0 and report["proven_from_etcd"] is True
    if not head:
        again = play.run()
        assert again.returncode == 0, again.stdout + again.stderr
        assert changed(again.stdout) == [0, 0, 0], again.stdout


def test_a_master_that_does_not_come_back_stops_the_roll(play: Play) -> None:
    broken = (
        play.upgrade_tasks(
            f"- ansible.builtin.command: {sys.executable} {CLUSTER} kill {play.cluster.folder} master-2\n"
            "  when: inventory_hostname == 'master-2'\n  changed_when: true\n"
            "- ansible.builtin.meta: end_host\n  when: false\n"
        )
        .replace("  changed_when: true\n", "  changed_when: true\n  when: inventory_hostname != 'master-2'\n", 2)
        .replace("  when: inventory_hostname != 'master-2'\n", "", 1)
    )
    failed = play.run(tasks=broken)
    assert failed.returncode != 0
    assert "master-2" in failed.stdout and "did not come through its upgrade" in failed.stdout, failed.stdout
    assert "is down" in failed.stdout
    assert "master-3 was not touched" in failed.stdout
    assert not (play.folder / "master-3.json").exists()
    assert not (play.folder / "report.json").exists()
    play.cluster.start("master-2")
    assert versions(play.cluster) == ["1.37", "1.36", "1.36"]
    (play.folder / "master-1.json").unlink()
    done = play.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (play.folder / "master-1.json").exists(), "a master that was done was touched again"
    assert versions(play.cluster) == ["1.37"] * 3


def test_with_the_free_strategy_never_two_at_a_time(play: Play) -> None:
    failed = play.run(strategy="free")
    assert failed.returncode != 0
    assert len(play.downtimes()) <= 1
    assert "linear strategy" in failed.stdout


def test_not_begun_while_a_master_is_down(play: Play) -> None:
    play.cluster.kill("master-3")
    before = read_etcd(play.cluster, "/registry/configmaps/kube-system/")
    failed = play.run()
    assert failed.returncode != 0
    assert "The upgrade can't begin" in failed.stdout and play.cluster.url("master-3") in failed.stdout
    assert play.downtimes() == []
    assert read_etcd(play.cluster, "/registry/configmaps/kube-system/") == before
