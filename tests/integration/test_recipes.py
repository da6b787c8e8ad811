# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guide's recipes, verbatim, on the test control plane. Only the platforms' own commands are stand-ins."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support.modules import run_module
from .support.recipes import recipe
from .support.stand_ins import StandIns

PROVEN = "Proven from etcd: 0 "


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:
    """Two masters at 1.34, which go from recipe to recipe."""
    folder = tmp_path_factory.mktemp("recipes")
    cluster = Cluster.up(folder / "cluster", masters=2, version="1.34", owner_pid=os.getpid())
    yield StandIns(folder / "stand-ins", cluster)
    cluster.down()


def carry_out(
    two: StandIns, playbook: str, group: str, files: dict[str, str] | None = None, **variables: Any
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """(what Ansible said, what was done) of a run that must succeed."""
    before = len(two.log)
    settings = {"rolling_upgrade_stable_for": 0, "rolling_upgrade_wait_timeout": 60, **variables}
    done = two.run(playbook, group, files, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done, two.log[before:]


def to(playbook: str, minor: str) -> str:
    """The same recipe for another release."""
    return playbook.replace("1.37", minor)


def at(two: StandIns) -> set[str]:
    return {
        server["emulated_version"] or "1.37" for server in run_module(two.cluster, "storage_version_hashes")["servers"]
    }


def assert_one_at_a_time(log: list[dict[str, Any]]) -> None:
    times = sorted((call["down_at"], call["up_at"]) for call in log if call["did"] == "upgraded")
    assert len(times) == 2
    assert times[0][1] <= times[1][0], "two masters were down at the same time"


def test_kubespray(two: StandIns) -> None:
    (playbook,) = recipe("Kubespray")
    given: dict[str, Any] = {"rolling_upgrade_etcd": two.cluster.etcd, "rolling_upgrade_etcd_become": False}
    done, log = carry_out(two, to(playbook, "1.35"), "kube_control_plane", **given)
    assert [call["words"] for call in log] == [["1.35.2"]] * 2 and at(two) == {"1.35"}
    assert PROVEN in done.stdout


def test_rke2(two: StandIns) -> None:
    playbook, tasks = recipe("RKE2")
    given: dict[str, Any] = {"rolling_upgrade_etcd": two.cluster.etcd, "rolling_upgrade_etcd_become": False}
    done, log = carry_out(two, to(playbook, "1.36"), "rke2_servers", {"upgrade_one_rke2.yml": tasks}, **given)
    assert [(call["master"], call["did"]) for call in log] == [
        (master, did) for master in two.hosts for did in ("installed", "upgraded")
    ]
    assert_one_at_a_time(log)
    assert "Masters are mixed now; nothing may be migrated yet:" in done.stdout and PROVEN in done.stdout
    assert at(two) == {"1.36"}


def test_k3s_without_etcd(two: StandIns) -> None:
    """With SQLite or MySQL: what is stored is called not proven."""
    playbook, tasks = recipe("k3s")
    without = re.sub(r"(?m)^    rolling_upgrade_etcd(_\w+)?:.*\n(      .*\n)*", "", to(playbook, "1.37"))
    assert "etcd" not in without
    done, log = carry_out(two, without, "k3s_servers", {"upgrade_one_k3s.yml": tasks})
    assert [call["did"] for call in log] == ["installed", "upgraded"] * 2 and at(two) == {"1.37"}
    assert_one_at_a_time(log)
    assert "Whether etcd still holds stale objects was not checked" in " ".join(done.stdout.split())


def test_talos(two: StandIns) -> None:
    """One master is at the release already."""
    (playbook,) = recipe("Talos")
    given = {"rolling_upgrade_etcd": two.cluster.etcd, "rolling_upgrade_expected_servers": 2}
    two.cluster.upgrade("master-2", "1.36")
    done, log = carry_out(two, playbook, "masters", **given)
    words = ["--nodes", "10.0.0.11", "upgrade-k8s", "--to", "1.37.2"]
    assert [(call["words"], call["to"]) for call in log] == [(words, "1.37")] and at(two) == {"1.37"}
    assert PROVEN in done.stdout
