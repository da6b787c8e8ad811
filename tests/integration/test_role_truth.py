# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role may claim: only what this run has seen, wherever in a play somebody begins."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support import warm_python
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
        "ansible_python_interpreter": warm_python.interpreter(),
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


def test_without_a_snapshot_nothing_is_touched(single_master: Cluster, tmp_path: Path) -> None:
    """The first folder can't be written, the second one can."""
    (tmp_path / "file").write_bytes(b"")
    before = steady(read_etcd(single_master))
    done = run(
        single_master,
        tmp_path,
        str(PLAYBOOKS / "snapshot_twice.yml"),
        rolling_upgrade_version="1.37",
        rolling_upgrade_etcd=single_master.etcd,
        folders=[str(tmp_path / "file"), str(tmp_path / "snapshots")],
    )
    assert done.returncode == 0, done.stdout
    assert "file is not a folder" in done.stdout and "Nothing was changed" in done.stdout, done.stdout
    assert f"is in {tmp_path}/snapshots/etcd-" in done.stdout, done.stdout
    (taken,) = (tmp_path / "snapshots").iterdir()
    assert (taken.stat().st_mode & 0o777, taken.suffix) == (0o600, ".db")
    assert steady(read_etcd(single_master)) == before
    assert "file is not a folder" in (tmp_path / "report.json").read_text(encoding="utf-8")


def test_the_audit_of_two_clusters_and_of_one_that_is_listed_twice(single_master: Cluster, tmp_path: Path) -> None:
    """Issue 15, number 2: it ran for the first host only. The one cluster here is reached in two ways, which stand for two clusters."""
    other = tmp_path / "other-cluster"
    other.write_bytes(single_master.kubeconfig.read_bytes())
    hosts = {"a": single_master.kubeconfig, "b": other, "c": other, "d": "/nowhere"}
    lines = [f"{name} rolling_upgrade_kubeconfig={path} ansible_connection=local" for name, path in hosts.items()]
    (tmp_path / "hosts").write_text("\n".join(lines), encoding="utf-8")
    given = {"rolling_upgrade_hosts": "all", "ansible_python_interpreter": warm_python.interpreter()}
    audit = "kube_storage.upgrade.audit"
    done = run_playbook(audit, tmp_path, "-i", "hosts", timeout=300, variables=given)
    shown = done.stdout[done.stdout.index("TASK [Show the state of the API servers]") :].partition("TASK [Read")[0]
    assert sorted(re.findall(r"(?m)^ok: \[(\w)\]", shown)) == ["a", "b"] and shown.count("URL") == 2, done.stdout
    assert "c reaches the same cluster as b" in done.stdout and "/nowhere" in done.stdout
    assert done.returncode == 2 and re.search(r"(?m)^d +: .* failed=1 ", done.stdout), done.stdout
    given["rolling_upgrade_report_path"] = "{{ {'b': './report.json'}.get(inventory_hostname, 'report.html') }}"
    refused = run_playbook(audit, tmp_path, "-i", "hosts", timeout=300, variables=given)
    assert "for the clusters of a, b, d; each needs a report of its own" in refused.stdout, refused.stdout
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("playbook", ["check", "migrate"])
def test_the_other_playbooks_run_for_each_cluster_too(single_master: Cluster, tmp_path: Path, playbook: str) -> None:
    """Issue 15, number 2. In check mode, as it is one cluster, and so one Lease."""
    other = tmp_path / "other-cluster"
    other.write_bytes(single_master.kubeconfig.read_bytes())
    hosts = {"a": single_master.kubeconfig, "b": other, "c": other}
    lines = [f"{name} rolling_upgrade_kubeconfig={path} ansible_connection=local" for name, path in hosts.items()]
    (tmp_path / "hosts").write_text("\n".join(lines), encoding="utf-8")
    given = {"rolling_upgrade_hosts": "all", "ansible_python_interpreter": warm_python.interpreter()}
    done = run_playbook(
        f"kube_storage.upgrade.{playbook}", tmp_path, "-i", "hosts", "--check", timeout=300, variables=given
    )
    assert done.returncode == 0 and "c reaches the same cluster as b" in done.stdout, done.stdout
    task = "Ask every API server" if playbook == "check" else "Rewrite stored objects in the new storage versions"
    shown = done.stdout[done.stdout.index(f"rolling_upgrade : {task}]") :].partition("TASK [")[0]
    ran = re.findall(r"(?m)^(?:ok|changed): \[(\w)", shown)
    assert sorted(set(ran)) == ["a", "b"], done.stdout


def test_after_a_failure_the_state_from_before_is_not_passed_off_as_the_present(
    single_master: Cluster, tmp_path: Path
) -> None:
    """The step that fails also takes away what API servers can be asked with."""
    kubeconfig, tasks = tmp_path / "kubeconfig", tmp_path / "tasks.yml"
    kubeconfig.write_bytes(single_master.kubeconfig.read_bytes())
    tasks.write_text(
        f"- ansible.builtin.file: {{path: '{kubeconfig}', state: absent}}\n- ansible.builtin.fail: {{msg: It broke.}}\n",
        encoding="utf-8",
    )
    done = run(
        single_master,
        tmp_path,
        "kube_storage.upgrade.upgrade",
        rolling_upgrade_kubeconfig=str(kubeconfig),
        rolling_upgrade_version="1.37",
        rolling_upgrade_tasks_file=str(tasks),
        rolling_upgrade_server=single_master.url(single_master.masters[0]),
    )
    assert_nothing_is_claimed(done, tmp_path)
    said = " ".join(done.stdout.split())
    assert "failed: It broke. The state of the API servers now is unknown: " in said, done.stdout
    assert f"{single_master.url(single_master.masters[0])} is ready" not in said, done.stdout
