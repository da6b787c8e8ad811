# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role may claim: only what this run has seen, wherever in a play somebody begins."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support.etcd import read_etcd, steady
from .support.plays import PLAYBOOKS, run_playbook

VERIFY = str(PLAYBOOKS / "verify_alone.yml")
MIGRATE_HERE_VERIFY_THERE = str(PLAYBOOKS / "migrate_here_verify_there.yml")


@pytest.fixture(scope="module")
def single_master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One master at 1.36, which no test of this file upgrades."""
    folder = tmp_path_factory.mktemp("single") / "cluster"
    cluster = Cluster.up(folder, version="1.36", masters=1, owner_pid=os.getpid())
    yield cluster
    cluster.down()


def run(
    cluster: Cluster, folder: Path, playbook: str, *arguments: str, **variables: Any
) -> subprocess.CompletedProcess[str]:
    """ansible-playbook on one host, which stands for the master."""
    given = {
        "rolling_upgrade_kubeconfig": str(cluster.kubeconfig),
        "rolling_upgrade_report_path": str(folder / "report.html"),
        "rolling_upgrade_stable_for": 0,
        "rolling_upgrade_request_timeout": 1,
        "rolling_upgrade_hosts": "all",
        "ansible_python_interpreter": sys.executable,
        **variables,
    }
    if "here" in variables:
        del given["rolling_upgrade_kubeconfig"]  # the playbook sets it
    return run_playbook(playbook, folder, "-i", "localhost,", "-c", "local", *arguments, timeout=300, variables=given)


def assert_nothing_is_claimed(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert done.returncode != 0, done.stdout
    assert "Proven from etcd" not in done.stdout and "visited every" not in done.stdout, done.stdout
    page = folder / "report.html"
    assert not page.exists() or "Done and proven" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("playbook", "arguments"),
    [(VERIFY, ()), ("kube_storage.upgrade.migrate", ("--start-at-task", "Prove the result"))],
    ids=["verify alone", "migrate from its middle"],
)
def test_no_master_is_at_the_version(
    single_master: Cluster, tmp_path: Path, playbook: str, arguments: tuple[str, ...]
) -> None:
    """Number 17: etcd holds nothing stale, but the upgrade to 1.37 never took place."""
    done = run(
        single_master,
        tmp_path,
        playbook,
        *arguments,
        rolling_upgrade_version="1.37",
        rolling_upgrade_etcd=single_master.etcd,
    )
    assert_nothing_is_claimed(done, tmp_path)
    assert "not at 1.37" in done.stdout, done.stdout


def test_an_upgrade_from_its_middle(single_master: Cluster, tmp_path: Path) -> None:
    """Number 17: whatever is skipped, the play doesn't end as if all were done."""
    done = run(
        single_master,
        tmp_path,
        "kube_storage.upgrade.upgrade",
        "--start-at-task",
        "*Prove the result",
        rolling_upgrade_version="1.37",
        rolling_upgrade_tasks_file="never_run.yml",
    )
    assert_nothing_is_claimed(done, tmp_path)
    assert "--start-at-task" in done.stdout


def test_a_report_that_cannot_be_written_is_found_before_the_first_write(
    single_master: Cluster, tmp_path: Path
) -> None:
    """Number 11."""
    before = steady(read_etcd(single_master))
    done = run(single_master, tmp_path, "kube_storage.upgrade.migrate", rolling_upgrade_report_path="/proc/report.html")
    assert done.returncode != 0 and "/proc/report.json can't be written" in done.stdout, done.stdout
    assert "Take or renew the Lease" not in done.stdout
    assert steady(read_etcd(single_master)) == before


def test_verified_at_the_version_that_is_there(single_master: Cluster, tmp_path: Path) -> None:
    done = run(single_master, tmp_path, VERIFY, rolling_upgrade_version="1.36", rolling_upgrade_etcd=single_master.etcd)
    assert done.returncode == 0 and re.search(r"Proven from etcd: 0 of \d+ objects are", done.stdout), done.stdout


def test_visited_is_said_only_about_a_migration_of_this_run(single_master: Cluster, tmp_path: Path) -> None:
    """Number 17: without etcd."""
    alone = run(single_master, tmp_path, VERIFY)
    assert alone.returncode == 0, alone.stdout
    assert "visited every" not in alone.stdout and "This run migrated nothing" in alone.stdout, alone.stdout
    whole = run(single_master, tmp_path, "kube_storage.upgrade.migrate")
    assert whole.returncode == 0, whole.stdout
    assert "The migration of this run visited every object." in whole.stdout, whole.stdout
    other = tmp_path / "other-cluster"
    other.write_bytes(single_master.kubeconfig.read_bytes())
    given = {"here": str(single_master.kubeconfig), "there": str(other)}
    elsewhere = run(single_master, tmp_path, MIGRATE_HERE_VERIFY_THERE, **given)
    assert elsewhere.returncode == 0, elsewhere.stdout
    assert "visited every" not in elsewhere.stdout and "This run migrated nothing" in elsewhere.stdout, elsewhere.stdout
    changed = run(single_master, tmp_path, "kube_storage.upgrade.migrate", rolling_upgrade_select="changed")
    assert changed.returncode == 0, changed.stdout
    assert "visited every object of the resources that changed" in changed.stdout, changed.stdout
