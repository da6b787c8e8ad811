# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""storage_migrate when things go wrong in mid-run: every object is accounted for all the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .conftest import (
    ROOT,
    Result,
    apply,
    config_maps,
    environment,
    etcd_request,
    make_json,
    read_etcd,
    run_module,
    wait_until,
)

NAME = "storage_migrate"
PREFIX = "/registry/configmaps/default/"


def stale(cluster: Cluster) -> int:
    return sum(1 for one in read_etcd(cluster, PREFIX).values() if one.encoding == "json")


class Running:
    """A run of the module in the background."""

    def __init__(self, cluster: Cluster, **params: Any) -> None:
        self.result: Result | None = None
        self._thread = threading.Thread(target=self._run, args=(cluster, params))
        self._thread.start()

    def _run(self, cluster: Cluster, params: dict[str, Any]) -> None:
        self.result = run_module(cluster, NAME, **params)

    def end(self) -> Result:
        self._thread.join(200)
        assert self.result is not None, "the run did not end"
        return self.result


def start_process(cluster: Cluster, **params: Any) -> subprocess.Popen[str]:
    """The module as a process of its own, to send signals to: the file with its arguments on standard input."""
    params["kubeconfig"] = str(cluster.kubeconfig)
    process = subprocess.Popen(
        [sys.executable, "-m", "ansible_collections.kube_storage.upgrade.plugins.modules.storage_migrate"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**environment(), "PYTHONPATH": str(ROOT / ".ansible" / "collections")},
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": params}))
    process.stdin.close()
    process.stdin = None
    return process


@pytest.fixture
def loaded(one: Cluster) -> Cluster:
    """600 ConfigMaps stored as JSON."""
    make_json(one, "master-1", config_maps(600))
    wait_until(lambda: stale(one) == 600)
    return one


def test_a_master_rolled_back_in_mid_run_stops_it(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster()
    make_json(cluster, "master-1", config_maps(600))
    running = Running(cluster, max_rate=15)
    wait_until(lambda: stale(cluster) < 580)
    back = cluster.upgrade("master-3", "1.36")
    stopped = running.end()
    noticed = time.time() - back["up_at"]
    assert stopped.failed and "no longer agree" in stopped.message, stopped.message
    assert "mutatingadmissionpolicies.admissionregistration.k8s.io: v1 on" in stopped.message
    assert noticed < 15
    left = stale(cluster)
    assert left > 0
    found = run_module(cluster, "storage_version_hashes", servers=[cluster.url("master-1")])
    assert "mutatingadmissionpolicies.admissionregistration.k8s.io" in [
        one["resource"] for one in found["changed_resources"]
    ]
    cluster.upgrade("master-3", "1.37")
    assert run_module(cluster, "storage_version_hashes", state="converged", wait_timeout=60, stable_for=1)["converged"]
    again = run_module(cluster, NAME)
    assert again["resources"]["configmaps"]["rewritten"] == left
    assert again["resources"]["mutatingadmissionpolicies.admissionregistration.k8s.io"]["persisted"] is True
    assert stale(cluster) == 0


def test_an_api_server_that_dies_is_worked_around(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster()
    make_json(cluster, "master-1", config_maps(600))
    running = Running(cluster, resources=["configmaps"], max_rate=60)
    wait_until(lambda: stale(cluster) < 550)
    cluster.kill("master-2")
    wait_until(lambda: stale(cluster) < 400)
    cluster.start("master-2")
    done = running.end()
    assert done["totals"]["failed"] == 0
    assert done["rewritten"] + done["conflicts"] >= 600
    assert done["resources"]["configmaps"]["persisted"] is True
    assert stale(cluster) == 0


def test_the_only_api_server_is_away_for_a_while(loaded: Cluster) -> None:
    running = Running(loaded, resources=["configmaps"], max_rate=100)
    wait_until(lambda: stale(loaded) < 500)
    loaded.kill("master-1")
    loaded.start("master-1")
    done = running.end()
    assert done["totals"]["failed"] == 0 and stale(loaded) == 0
    assert done["rewritten"] + done["conflicts"] >= 600


def test_etcd_hangs_for_ten_seconds(loaded: Cluster) -> None:
    running = Running(loaded, resources=["configmaps"], max_rate=100)
    wait_until(lambda: stale(loaded) < 500)
    loaded.pause("etcd-1")
    threading.Timer(10, loaded.resume, ("etcd-1",)).start()
    done = running.end()
    assert done["totals"]["failed"] == 0 and stale(loaded) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_is_gone_on_with(loaded: Cluster, number: signal.Signals) -> None:
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
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "no-updates"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["configmaps"]}
                ]
            },
            "validations": [
                {"expression": "!object.metadata.name.startsWith('cm-000')", "message": "these are frozen"}
            ],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "no-updates"},
        "spec": {"policyName": "no-updates", "validationActions": ["Deny"]},
    }
    apply(loaded, policy, binding)

    def is_enforced() -> bool:
        try:
            loaded.kubectl("annotate", "configmap", "cm-0001", "probe=x", "--overwrite", "--dry-run=server")
        except Exception as error:
            return "frozen" in str(error)
        return False

    wait_until(is_enforced)
    failures_file = tmp_path / "failures.jsonl"
    failed = run_module(loaded, NAME, resources=["configmaps"], failures_file=str(failures_file))
    assert failed.failed
    assert "10 objects or lists could not be rewritten" in failed.message and "select: changed" in failed.message
    assert failed.data["totals"]["failed"] == 10 and failed.data["rewritten"] == 590
    lines = [json.loads(line) for line in failures_file.read_text(encoding="utf-8").splitlines()]
    assert {line["name"] for line in lines} == {f"cm-000{i}" for i in range(10)}
    assert all("frozen" in line["message"] and line["status"] == 422 for line in lines)
    assert os.stat(failures_file).st_mode & 0o777 == 0o600
    assert stale(loaded) == 10
    loaded.kubectl("delete", "validatingadmissionpolicybinding", "no-updates")
    loaded.kubectl("delete", "validatingadmissionpolicy", "no-updates")
    wait_until(lambda: not is_enforced())
    done = run_module(loaded, NAME, select="changed", resources=["configmaps"])
    assert done["rewritten"] == 10 and done["unchanged"] == 0 and done["resumed"] is True
    assert stale(loaded) == 0


def test_a_resource_that_is_removed_in_mid_run(one: Cluster) -> None:
    from .conftest import install_widgets

    install_widgets(one, 150)
    running = Running(one, resources=["widgets.shop.example.com"], max_rate=30, page_size=20)
    wait_until(
        lambda: any(
            b'"apiVersion":"shop.example.com/v1",' in x.value
            for x in read_etcd(one, "/registry/shop.example.com/widgets/").values()
        )
    )
    one.kubectl("delete", "crd", "widgets.shop.example.com", "--wait=false")
    done = running.end()
    assert done["totals"]["failed"] == 0 and done["trimmed"] == []
    assert done["resources"]["widgets.shop.example.com"]["persisted"] is False
    wait_until(lambda: not read_etcd(one, "/registry/shop.example.com/widgets/"))
