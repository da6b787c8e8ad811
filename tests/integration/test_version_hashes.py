# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""storage_version_hashes against real API servers."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support import warm_python
from .support.modules import Result, run_module
from .support.objects import POLICIES, apply, widgets_crd
from .support.plays import PLAYBOOKS, run_playbook

BINDINGS = "mutatingadmissionpolicybindings.admissionregistration.k8s.io"
NAME = "storage_version_hashes"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three masters that were all at 1.36 when a baseline was taken; the first one is at 1.37 now."""
    cluster = Cluster.up(tmp_path_factory.mktemp("mixed") / "cluster", version="1.36", owner_pid=os.getpid())
    assert run_module(cluster, NAME, state="recorded")["changed"] is True
    cluster.upgrade("master-1", "1.37")
    yield cluster
    cluster.down()


def test_three_masters_agree(three_masters: Cluster, module: Callable[..., Result]) -> None:
    found = module(three_masters, NAME)
    assert found["converged"] is True and found["changed"] is False
    assert [server["url"] for server in found["servers"]] == three_masters.urls
    assert all(server["ready"] and server["error"] is None for server in found["servers"])
    # The hashes are those that the server shows, and the versions those that the hashes were made of.
    shown = json.loads(three_masters.kubectl("get", "--raw", "/apis/apps/v1"))["resources"]
    deployments = next(resource for resource in shown if resource["name"] == "deployments")
    assert found["resources"]["deployments.apps"]["hash"] == deployments["storageVersionHash"]
    assert found["resources"]["deployments.apps"]["storage_version"] == "apps/v1"
    crds = found["resources"]["customresourcedefinitions.apiextensions.k8s.io"]
    assert crds["storage_version"] == "apiextensions.k8s.io/v1beta1"
    assert all(resource["storage_version"] for resource in found["resources"].values())


def test_mixed_masters_are_not_converged(mixed: Cluster, module: Callable[..., Result]) -> None:
    found = module(mixed, NAME)
    assert found["converged"] is False
    by_server = {disagreement["resource"]: disagreement["by_server"] for disagreement in found["disagreements"]}
    versions = [by_server[POLICIES][url]["storage_version"].rpartition("/")[2] for url in mixed.urls]
    assert versions == ["v1", "v1beta1", "v1beta1"]
    waited = module(mixed, NAME, state="converged", wait_timeout=2)
    first, second, third = mixed.urls
    assert waited.failed
    assert f"{POLICIES}: v1 on {first}, v1beta1 on {second}, {third}" in waited.message
    assert waited.data["converged"] is False


def test_what_changed_since_the_baseline(mixed: Cluster, module: Callable[..., Result]) -> None:
    found = module(
        mixed, NAME, servers=[mixed.url("master-1")], resources=[POLICIES, BINDINGS, "secrets", "configmaps"]
    )
    assert found["baseline_found"] is True
    assert found["changed_resources"] == [
        {"resource": name, "before": "admissionregistration.k8s.io/v1beta1", "after": "admissionregistration.k8s.io/v1"}
        for name in (POLICIES, BINDINGS)
    ]


def test_recording_again_in_the_mixed_cluster_forgets_nothing(mixed: Cluster, module: Callable[..., Result]) -> None:
    module(mixed, NAME, state="recorded")
    again = module(mixed, NAME, state="recorded")
    assert again["changed"] is False
    assert POLICIES in [resource["resource"] for resource in again["changed_resources"]]


def test_without_a_baseline_everything_counts(
    three_masters: Cluster, module: Callable[..., Result], tmp_path: Path
) -> None:
    store = {"kind": "file", "path": str(tmp_path / "state.json")}
    found = module(three_masters, NAME, state_store=store)
    assert found["baseline_found"] is False
    assert len(found["changed_resources"]) == len(found["resources"])
    assert module(three_masters, NAME, state="recorded", state_store=store, check=True)["changed"] is True
    assert not (tmp_path / "state.json").exists()
    assert module(three_masters, NAME, state="recorded", state_store=store)["changed"] is True
    assert module(three_masters, NAME, state_store=store)["changed_resources"] == []
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


def test_a_baseline_in_a_newer_format_is_refused(
    three_masters: Cluster, module: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"formatVersion": 99}', encoding="utf-8")
    found = module(three_masters, NAME, state="recorded", state_store={"kind": "file", "path": str(path)})
    assert found.failed and "format 99" in found.message
    assert path.read_text(encoding="utf-8") == '{"formatVersion": 99}'


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"expected_servers": 4}, "4 API servers are expected, 3 are known"),
        ({"expected_servers": 2}, "2 API servers are expected, 3 are known"),
        ({"expected_version": "1.38"}, "not at 1.38"),
    ],
)
def test_expectations(three_masters: Cluster, module: Callable[..., Result], params: dict[str, Any], says: str) -> None:
    found = module(three_masters, NAME, state="converged", wait_timeout=0, **params)
    assert found.failed and says in found.message
    assert module(three_masters, NAME, expected_servers=3, expected_version="1.37")["converged"] is True


def test_a_listed_server_that_is_down_is_named(
    new_cluster: Callable[..., Cluster], module: Callable[..., Result]
) -> None:
    cluster = new_cluster()
    cluster.kill("master-2")
    found = module(cluster, NAME)
    assert found["converged"] is False
    assert any(cluster.url("master-2") in reason for reason in found["reasons"])
    # It comes back while somebody waits for all, or for just this one.
    for number, params in (
        (3, {"expected_servers": 3}),
        (1, {"servers": [cluster.url("master-2")], "ignored_servers": ["*"]}),
    ):
        starter = threading.Thread(target=cluster.start, args=("master-2",))
        starter.start()
        waited = module(cluster, NAME, state="converged", wait_timeout=60, stable_for=1, **params)
        starter.join()
        assert waited["converged"] is True and len(waited["servers"]) == number
        cluster.kill("master-2")


def test_an_aggregated_api_that_is_down_does_not_matter(three_masters: Cluster, module: Callable[..., Result]) -> None:
    service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1.down.example.com"},
        "spec": {
            "group": "down.example.com",
            "version": "v1",
            "service": {"name": "nobody", "namespace": "default"},
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
        },
    }
    apply(three_masters, service)
    try:
        assert module(three_masters, NAME)["converged"] is True
    finally:
        three_masters.kubectl("delete", "apiservice", "v1.down.example.com")


def test_a_crd_may_come_and_go_during_the_wait(three_masters: Cluster, module: Callable[..., Result]) -> None:
    ending = threading.Event()

    def churn() -> None:
        while not ending.is_set():
            apply(three_masters, widgets_crd("v1"))
            three_masters.kubectl("delete", "crd", "widgets.shop.example.com", "--wait=false", "--ignore-not-found")

    thread = threading.Thread(target=churn)
    thread.start()
    threading.Timer(3, ending.set).start()
    try:
        assert (
            module(three_masters, NAME, state="converged", wait_timeout=40, wait_interval=0.5, stable_for=2)[
                "converged"
            ]
            is True
        )
    finally:
        ending.set()
        thread.join()


def test_certificates_are_verified_by_another_name_if_asked(
    three_masters: Cluster, module: Callable[..., Result]
) -> None:
    assert module(three_masters, NAME, tls_server_name="kubernetes.default.svc")["converged"] is True
    wrong = module(three_masters, NAME, tls_server_name="nobody.example.com")
    assert wrong.failed and "can't be verified" in wrong.message and "tls_server_name" in wrong.message


def test_group_defaults_reach_the_modules(three_masters: Cluster, tmp_path: Path) -> None:
    variables = {
        "kubeconfig_of_the_group": str(three_masters.kubeconfig),
        "ansible_python_interpreter": warm_python.interpreter(),
    }
    done = run_playbook(PLAYBOOKS / "group_defaults.yml", tmp_path, variables=variables)
    assert done.returncode == 0, done.stdout + done.stderr
