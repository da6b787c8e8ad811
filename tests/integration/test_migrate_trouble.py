# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""storage_migrate when things go wrong during the run: every object is still accounted for."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.control_plane.cluster import Cluster

from .support.etcd import etcd_request, read_etcd
from .support.modules import run_module
from .support.objects import (
    POLICIES,
    apply,
    config_maps,
    freeze,
    make_json,
    old_policies,
    policy,
    service_accounts,
    stale_accounts,
)
from .support.runs import Running, start_process
from .support.waiting import wait_until

NAME = "storage_migrate"
PREFIX = "/registry/configmaps/default/"


def stale(cluster: Cluster) -> int:
    return sum(1 for entry in read_etcd(cluster, PREFIX).values() if entry.encoding == "json")


@pytest.fixture
def loaded(single_master: Cluster) -> Cluster:
    """600 ConfigMaps stored as JSON."""
    make_json(single_master, "master-1", config_maps(600))
    wait_until(lambda: stale(single_master) == 600)
    return single_master


def patches_of_accounts(cluster: Cluster, master: str) -> int:
    """How many ServiceAccounts a master was asked to patch since its start."""
    text = cluster.kubectl("get", "--raw", "/metrics", kubeconfig=cluster.folder / f"kubeconfig-{master}")
    lines = [line for line in text.splitlines() if line.startswith("apiserver_request_total{")]
    asked = [line for line in lines if 'resource="serviceaccounts"' in line and 'verb="PATCH"' in line]
    return sum(int(float(line.rpartition(" ")[2])) for line in asked)


def test_a_master_rolled_back_during_a_run_stops_it(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster()
    make_json(cluster, "master-1", service_accounts(600))
    apply(cluster, policy("first"), policy("second"))
    running = Running(cluster, max_rate=15)
    wait_until(lambda: stale_accounts(cluster) < 580)
    back = cluster.upgrade("master-3", "1.36")
    stopped = running.end()
    noticed = time.time() - back["up_at"]
    assert stopped.failed and "no longer agree" in stopped.message, stopped.message
    assert f"{POLICIES}: v1 on" in stopped.message
    assert noticed < 15
    assert patches_of_accounts(cluster, "master-3") == 0, "it was readmitted though its hashes differ"
    left = stale_accounts(cluster)
    assert left > 0
    # A client of the old master: what it writes is stored in the old version.
    old = cluster.folder / "kubeconfig-master-3"
    cluster.kubectl("annotate", "mutatingadmissionpolicy", "second", "touched=x", kubeconfig=old)
    assert old_policies(cluster) == ["second"]
    found = run_module(cluster, "storage_version_hashes", servers=[cluster.url("master-1")])
    assert POLICIES in [resource["resource"] for resource in found["changed_resources"]]
    cluster.upgrade("master-3", "1.37")
    assert run_module(cluster, "storage_version_hashes", state="converged", wait_timeout=60, stable_for=1)["converged"]
    again = run_module(cluster, NAME)
    assert again["resources"]["serviceaccounts"]["rewritten"] == left
    assert again["resources"][POLICIES]["persisted"] is True and again["resources"][POLICIES]["rewritten"] == 1
    assert stale_accounts(cluster) == 0 and old_policies(cluster) == []


def lead_etcd(cluster: Cluster) -> str:
    """The member that leads; its name."""
    for name, endpoint in zip(cluster.data["members"], cluster.etcd["endpoints"]):
        try:
            status = etcd_request(cluster, "/v3/maintenance/status", {}, endpoint)
        except OSError:
            continue
        if status.get("leader", "0") == status["header"]["member_id"]:
            return str(name)
    return ""


def test_an_api_server_dies_and_etcd_changes_its_leader(new_cluster: Callable[..., Cluster]) -> None:
    """The others do its work, and it is readmitted when it is ready and agrees; etcd loses its leader meanwhile."""
    cluster = new_cluster(etcd_members=3)
    make_json(cluster, "master-1", service_accounts(600))
    running = Running(cluster, resources=["serviceaccounts"], max_rate=15)
    wait_until(lambda: stale_accounts(cluster) < 590)
    cluster.kill("master-2")
    wait_until(lambda: stale_accounts(cluster) < 570)
    cluster.start("master-2")
    wait_until(lambda: patches_of_accounts(cluster, "master-2") > 0)
    leader = lead_etcd(cluster)
    cluster.kill(leader)
    wait_until(lambda: lead_etcd(cluster) not in ("", leader))
    left = stale_accounts(cluster)
    assert left > 0
    wait_until(lambda: stale_accounts(cluster) < left)
    cluster.start(leader)
    done = running.end()
    assert done["totals"]["failed"] == 0
    assert done["rewritten"] + done["conflicts"] + done["unchanged"] >= 600
    assert done["resources"]["serviceaccounts"]["persisted"] is True
    assert stale_accounts(cluster) == 0


def test_the_only_api_server_is_down_for_a_while(loaded: Cluster) -> None:
    running = Running(loaded, resources=["configmaps"], max_rate=100)
    wait_until(lambda: stale(loaded) < 500)
    loaded.kill("master-1")
    loaded.start("master-1")
    done = running.end()
    assert done["totals"]["failed"] == 0 and stale(loaded) == 0
    assert done["rewritten"] + done["conflicts"] + done["unchanged"] >= 600


def test_etcd_hangs_for_ten_seconds(loaded: Cluster) -> None:
    running = Running(loaded, resources=["configmaps"], max_rate=100)
    wait_until(lambda: stale(loaded) < 500)
    loaded.pause("etcd-1")
    threading.Timer(10, loaded.resume, ("etcd-1",)).start()
    done = running.end()
    assert done["totals"]["failed"] == 0 and stale(loaded) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_is_resumed(loaded: Cluster, number: signal.Signals) -> None:
    loaded.kubectl("delete", "configmap", "kube-storage-upgrade", "-n", "kube-system", "--ignore-not-found")
    process = start_process(loaded, resources=["configmaps"], max_rate=60, page_size=50)
    wait_until(lambda: stale(loaded) < 200)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    left = stale(loaded)
    assert 0 < left < 200
    if number is not signal.SIGKILL:
        told = json.loads(output)
        assert f"Interrupted by {number.name}" in told["msg"] and "Traceback" not in errors
        assert told["rewritten"] == 600 - left
    else:
        # Its Lease is left behind: the next run is refused until that has expired.
        refused = run_module(loaded, NAME, resources=["configmaps"])
        assert refused.failed and "Another run is active" in refused.message
        loaded.kubectl("delete", "lease", "kube-storage-upgrade", "-n", "kube-system")
    done = run_module(loaded, NAME, resources=["configmaps"])
    assert done["resumed"] is True
    assert done["rewritten"] == left and stale(loaded) == 0
    assert done["unchanged"] < 400, "what was finished was visited again"


def test_a_list_outlives_a_compaction(loaded: Cluster) -> None:
    running = Running(loaded, resources=["configmaps"], max_rate=80, page_size=20)
    wait_until(lambda: stale(loaded) < 550)
    for _round in range(3):
        before = stale(loaded)
        revision = etcd_request(loaded, "/v3/kv/range", {"key": "AA=="})["header"]["revision"]
        etcd_request(loaded, "/v3/kv/compaction", {"revision": revision, "physical": True})
        wait_until(lambda before=before: stale(loaded) < before - 40)
    done = running.end()
    assert done["totals"]["failed"] == 0 and stale(loaded) == 0
    assert done["resources"]["configmaps"]["rewritten"] >= 600


def test_denied_objects_are_named_and_only_they_are_retried(loaded: Cluster, tmp_path: Path) -> None:
    unless = "!object.metadata.name.startsWith('cm-000')"
    is_enforced = freeze(loaded, "no-updates", "configmaps", unless, "cm-0001", "these are frozen")
    failures_file = tmp_path / "failures.jsonl"
    failed = run_module(loaded, NAME, resources=["configmaps"], failures_file=str(failures_file))
    assert failed.failed
    assert "10 objects or lists could not be rewritten" in failed.message and "select: changed" in failed.message
    assert failed.data["totals"]["failed"] == 10 and failed.data["rewritten"] == 590
    lines = [json.loads(line) for line in failures_file.read_text(encoding="utf-8").splitlines()]
    assert {line["name"] for line in lines} == {f"cm-000{i}" for i in range(10)}
    assert all("'no-updates'" in line["message"] and line["status"] == 422 for line in lines)
    assert not any("frozen" in line["message"] for line in lines), "a policy's own words may quote the object"
    assert os.stat(failures_file).st_mode & 0o777 == 0o600
    assert stale(loaded) == 10
    loaded.kubectl("delete", "validatingadmissionpolicybinding", "no-updates")
    loaded.kubectl("delete", "validatingadmissionpolicy", "no-updates")
    wait_until(lambda: not is_enforced())
    done = run_module(loaded, NAME, select="changed", resources=["configmaps"])
    assert done["rewritten"] == 10 and done["unchanged"] == 0 and done["resumed"] is True
    assert stale(loaded) == 0


def test_a_resource_removed_during_a_run(single_master: Cluster) -> None:
    from .support.objects import install_widgets

    install_widgets(single_master, 150)
    running = Running(single_master, resources=["widgets.shop.example.com"], max_rate=30, page_size=20)
    wait_until(
        lambda: any(
            b'"apiVersion":"shop.example.com/v1",' in stored.value
            for stored in read_etcd(single_master, "/registry/shop.example.com/widgets/").values()
        )
    )
    single_master.kubectl("delete", "crd", "widgets.shop.example.com", "--wait=false")
    done = running.end()
    assert done["totals"]["failed"] == 0 and done["trimmed"] == []
    assert done["resources"]["widgets.shop.example.com"]["persisted"] is False
    wait_until(lambda: not read_etcd(single_master, "/registry/shop.example.com/widgets/"))
