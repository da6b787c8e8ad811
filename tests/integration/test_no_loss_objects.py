# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is not rewritten is never called deleted or done, field managers stay, and a full etcd is left alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support.controllers import IN_TREE
from .support.etcd import delete, etcd_request, put
from .support.modules import Result
from .support.runs import Running
from .support.servers import Fault, FaultyServer
from .support.stock import GROUP, MERGE_PATCH, Api, Stock
from .support.waiting import wait_until

NAME = "storage_migrate"
MIGRATION = "kube-storage-upgrade-configmaps"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
LOST = "its namespace lost no longer exists: create it again or delete the object"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One master that really is of an older release, not one that emulates it."""
    cluster = Cluster.up(tmp_path_factory.mktemp("old") / "cluster", masters=1, version="1.36.5", owner_pid=os.getpid())
    yield cluster
    cluster.down()


@contextmanager
def selecting_webhook(cluster: Cluster, stock: Stock) -> Iterator[None]:
    """A webhook that selects by namespace; nothing answers for it, and failurePolicy is Ignore."""
    hook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": stock.plural},
        "webhooks": [
            {
                "name": f"{stock.plural}.hooks.example.com",
                "clientConfig": {"url": f"https://{cluster.network.gateway}:1/"},
                "namespaceSelector": {"matchLabels": {"team": "shop"}},
                "rules": [
                    {"apiGroups": [GROUP], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": [stock.plural]}
                ],
                "failurePolicy": "Ignore",
                "sideEffects": "None",
                "timeoutSeconds": 1,
                "admissionReviewVersions": ["v1"],
            }
        ],
    }
    stock.api.good("POST", WEBHOOKS, hook)
    try:
        wait_until(lambda: _patch_404(stock))
        yield
    finally:
        stock.api.good("DELETE", f"{WEBHOOKS}/{stock.plural}")


def _patch_404(stock: Stock) -> bool:
    path = stock.path("lost-0000", "lost") + "?dryRun=All"
    return stock.api.send("PATCH", path, {"metadata": {}}, MERGE_PATCH)[0] == 404


def check_what_is_left_in_a_namespace_that_is_gone(
    cluster: Cluster, stock: Stock, module: Callable[..., Result]
) -> None:
    """Nothing is called deleted, nothing is trimmed, and what etcd holds is what is reported."""
    assert stock.stale() == ["here-0000", "here-0001", "lost-0000", "lost-0001", "lost-0002"]
    check = module(cluster, "upgrade_check", target_version="1.37", etcd=cluster.etcd)
    found = {finding["id"]: finding for finding in check["blockers"]}[f"missing_namespace/{stock.name}"]
    assert found["what"].startswith(f"3 objects of {stock.name} are in a namespace that no longer exists: lost (")
    assert found["etcd_keys"] == [f"/registry/{GROUP}/{stock.plural}/lost/lost-000{i}" for i in range(3)]
    without = module(cluster, "upgrade_check", target_version="1.37")
    assert f"missing_namespace/{stock.name}" in [finding["id"] for finding in without["blockers"]]

    for select in ({}, {"select": "stale", "etcd": cluster.etcd}):
        failed = module(cluster, NAME, resources=[stock.name], **select)
        assert failed.failed and failed.data["deleted"] == 0 and failed.data["trimmed"] == []
        told = {(failure["namespace"], failure["name"], failure["message"]) for failure in failed.data["failures"]}
        assert told == {("lost", f"lost-000{i}", LOST) for i in range(3)}
        counts = failed.data["resources"][stock.name]
        assert counts["persisted"] is False and counts["failed"] == 3
        assert counts["rewritten"] + counts["unchanged"] + counts["deleted"] == (0 if select else 2)
        assert stock.stale() == ["lost-0000", "lost-0001", "lost-0002"]
        assert stock.stored_versions() == ["v1alpha1", "v1"]

    stock.api.good("POST", "/api/v1/namespaces", {"metadata": {"name": "lost"}})
    wait_until(lambda: not _patch_404(stock))
    done = module(cluster, NAME, select="changed", resources=[stock.name])
    assert done["rewritten"] == 3 and stock.stale() == [] and stock.stored_versions() == ["v1"]


def left_behind(cluster: Cluster, plural: str) -> Stock:
    """Two stale objects in default, and three in a namespace whose key is gone from etcd."""
    stock = Stock(cluster, plural)
    stock.api.good("POST", "/api/v1/namespaces", {"metadata": {"name": "lost"}})
    wait_until(lambda: stock.api.send("GET", "/api/v1/namespaces/lost")[0] == 200)
    stock.fill(2, prefix="here")
    stock.fill(3, prefix="lost", namespace="lost")
    stock.store("v1")
    delete(cluster, "/registry/namespaces/lost")
    return stock


def test_a_namespace_that_is_gone_on_an_older_server(old: Cluster, module: Callable[..., Result]) -> None:
    """Issue 11, number 1: servers before 1.37 refuse on their own, without any webhook."""
    stock = left_behind(old, "strays")
    try:
        wait_until(lambda: _patch_404(stock))
        check_what_is_left_in_a_namespace_that_is_gone(old, stock, module)
    finally:
        stock.remove()


def test_a_namespace_that_is_gone_with_a_webhook(single_master: Cluster, module: Callable[..., Result]) -> None:
    """Issue 11, number 1: in every release a webhook that selects by namespace has the server answer 404."""
    stock = left_behind(single_master, "strays")
    try:
        with selecting_webhook(single_master, stock):
            check_what_is_left_in_a_namespace_that_is_gone(single_master, stock, module)
    finally:
        stock.remove()


def test_a_proxy_with_pages_of_its_own(single_master: Cluster, module: Callable[..., Result]) -> None:
    """Issue 11, number 1: a 404 that is not the API server's says nothing about the object."""
    stock = Stock(single_master, "pages")
    stock.fill(6)
    stock.store("v1")
    with FaultyServer(single_master, "master-1") as proxy:
        hidden = ("/pages/item-0001", "/pages/item-0002")
        proxy.fault = lambda seen, times: Fault(status=404) if seen.path.endswith(hidden) else None
        failed = module(
            single_master, NAME, resources=[stock.name], kubeconfig=str(proxy.kubeconfig), servers=[proxy.url]
        )
    try:
        assert failed.failed and failed.data["deleted"] == 0 and failed.data["rewritten"] == 4
        assert sorted(failure["name"] for failure in failed.data["failures"]) == ["item-0001", "item-0002"]
        assert stock.stale() == ["item-0001", "item-0002"] and stock.stored_versions() == ["v1alpha1", "v1"]
    finally:
        stock.remove()


# Field managers


class Managed:
    """Custom resources with managers of every kind: of a version that is gone, unserved, served, and of a misfit."""

    def __init__(self, cluster: Cluster) -> None:
        self.stock = stock = Stock(cluster, "owners", versions=("v1beta1", "v1alpha1", "v1beta2", "v1"))
        self.create("misfit", "v1beta1", {"size": "big"})
        self.create("beta", "v1beta2")
        self.create("fine", "v1beta1")
        self.create("gone", "v1alpha1")
        self.create("both", "v1alpha1")
        path = stock.path("both").replace("/v1beta1/", "/v1/") + "?fieldManager=newer"
        stock.api.good("PATCH", path, {"spec": {"more": 1}}, MERGE_PATCH)
        schema = {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
            "properties": {"size": {"type": "integer"}},
        }
        stock.update(versions=("v1beta1", "v1beta2", "v1"), unserved=("v1beta2",), schema=schema, storage="v1")

    def create(self, name: str, version: str, spec: dict[str, Any] | None = None) -> None:
        path = f"/apis/{GROUP}/{version}/namespaces/default/owners?fieldManager=its-owner"
        metadata = {"name": name}
        body = {"apiVersion": f"{GROUP}/{version}", "kind": "Owners", "metadata": metadata, "spec": spec or {"a": 1}}
        self.stock.api.good("POST", path, body)

    def managers(self) -> dict[str, Any]:
        """As etcd holds them."""
        return {
            key.partition("/")[2]: json.loads(entry.value)["metadata"].get("managedFields")
            for key, entry in self.stock.stored().items()
        }


def test_field_managers_that_an_older_server_would_drop(old: Cluster, module: Callable[..., Result]) -> None:
    """Issue 11, number 7: kubernetes/kubernetes#136919, on a real server that has the fault."""
    managed = Managed(old)
    stock, before = managed.stock, managed.managers()
    in_danger = {"both", "gone", "misfit"}
    try:
        for select in ({"select": "stale", "etcd": old.etcd}, {}):
            failed = module(old, NAME, resources=[stock.name], **select)
            assert failed.failed, failed.message
            told = {failure["name"]: failure["message"] for failure in failed.data["failures"]}
            assert set(told) == in_danger
            for name in ("both", "gone"):
                assert f"its field managers refer to {GROUP}/v1alpha1, which is no longer served" in told[name]
                assert "kubernetes/kubernetes#136919" in told[name] and "managed_fields: rewrite or prune" in told[name]
            assert "its schema" in told["misfit"]
            assert managed.managers() == before
            assert stock.stale() == sorted(in_danger) and stock.stored_versions() == ["v1beta1", "v1"]
        failed = module(old, NAME, resources=[stock.name], managed_fields="prune")
        assert [failure["name"] for failure in failed.data["failures"]] == ["misfit"]
        assert failed.data["pruned"] == 3 and stock.stale() == ["misfit"]
        after = managed.managers()
        assert after["both"] == [entry for entry in before["both"] if entry["manager"] == "newer"]
        assert not after["gone"] and not after["beta"]
        assert after["fine"] == before["fine"] and after["misfit"] == before["misfit"]
    finally:
        stock.remove()


def test_field_managers_that_a_newer_server_keeps(single_master: Cluster, module: Callable[..., Result]) -> None:
    """Issue 11, number 7: from 1.37 on such objects are rewritten, and their managers stay."""
    managed = Managed(single_master)
    stock, before = managed.stock, managed.managers()
    try:
        done = module(single_master, NAME, resources=[stock.name])
        assert done["rewritten"] == 5 and managed.managers() == before
        assert stock.stale() == [] and stock.stored_versions() == ["v1"]
    finally:
        stock.remove()


# A full etcd


def _is_refused(api: Api) -> bool:
    body = {"metadata": {"generateName": "probe-"}}
    status, document = api.send("POST", "/api/v1/namespaces/default/configmaps", body)
    return status == 500 and "database space exceeded" in document["message"]


def test_a_full_etcd_stops_the_run_at_once(
    new_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch, module: Callable[..., Result]
) -> None:
    """Issue 11, number 9: one message with the remedy, and no request that writes after the first refusal."""
    monkeypatch.setenv("ETCD_QUOTA_BACKEND_BYTES", "50331648")
    cluster = new_cluster(masters=1)
    stock = Stock(cluster, "heavies")
    stock.fill(325, spec={"text": "x" * 75_000})
    stock.store("v1")
    with FaultyServer(cluster, "master-1") as proxy:
        failed = module(
            cluster,
            NAME,
            resources=[stock.name],
            kubeconfig=str(proxy.kubeconfig),
            servers=[proxy.url],
            workers=8,
        )
        writes = [request for request in proxy.seen if request.method != "GET" and "authorization" not in request.path]
    assert failed.failed and failed.data["error"] == "etcd_full", failed.message
    order = ["compact etcd", "defragment every member", "disarm the alarm", "--quota-backend-bytes", "Then run again"]
    places = [failed.message.find(words) for words in order]
    assert -1 not in places and places == sorted(places), failed.message
    refused = [request for request in writes if request.status == 500]
    patches = [request for request in refused if f"/{stock.plural}/" in request.path]
    assert 1 <= len(patches) <= 8, "more than what was in flight"
    # The only later write is the release of the Lease. The state is not saved, as nothing can be.
    later = [request for request in writes if request.at > min(request.answered for request in patches) + 0.5]
    assert {(request.method, request.path.rpartition("/")[0].rpartition("/")[2]) for request in later} <= {
        ("PUT", "leases")
    }
    stale = stock.stale()
    assert 0 < len(stale) < 325 and failed.data["rewritten"] == 325 - len(stale)
    assert failed.data["resources"][stock.name]["persisted"] is False and failed.data["trimmed"] == []

    assert _is_refused(stock.api)
    follow_the_remedy(cluster)
    assert not _is_refused(stock.api)
    cluster.kubectl("delete", "lease", "-n", "kube-system", "kube-storage-upgrade")  # Else it expires in half a minute.
    done = module(cluster, NAME, select="changed", resources=[stock.name])
    assert done["rewritten"] == len(stale) and stock.stale() == [] and stock.stored_versions() == ["v1"]

    # A controller's migration must not stay, as the controller would go on once there is space.
    running = Running(cluster, engine=IN_TREE, resources=["configmaps"])
    wait_until(lambda: MIGRATION in migrations(cluster))
    fill(stock.api, cluster)
    full = running.end()
    assert full.failed and full.data["error"] == "etcd_full", full.message
    assert _is_refused(stock.api) and migrations(cluster) == ""


def migrations(cluster: Cluster) -> str:
    return cluster.kubectl("get", "storageversionmigrations.storagemigration.k8s.io", "-o", "name")


def fill(api: Api, cluster: Cluster) -> None:
    """With something that no API server knows."""
    with suppress(OSError):  # By then etcd refuses it.
        for number in range(64):
            put(cluster, f"/filler/{number}", os.urandom(1 << 20))
    wait_until(lambda: _is_refused(api))


def follow_the_remedy(cluster: Cluster) -> None:
    """What the message says, in its order."""
    revision = etcd_request(cluster, "/v3/maintenance/status", {})["header"]["revision"]
    etcd_request(cluster, "/v3/kv/compaction", {"revision": revision, "physical": True})
    etcd_request(cluster, "/v3/maintenance/defragment", {})
    for alarm in etcd_request(cluster, "/v3/maintenance/alarm", {"action": "GET"})["alarms"]:
        etcd_request(cluster, "/v3/maintenance/alarm", {**alarm, "action": "DEACTIVATE"})
