# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a controller reports is verified before it counts as persisted or trimmed (issue 11, number 1)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster, ClusterError

from .support.controllers import CONTROLLERS, IN_TREE, MIGRATOR, Migrator, busy, install_migrator, stored_versions
from .support.etcd import delete, put, put_json, read_etcd
from .support.modules import Result
from .support.objects import apply, await_established, widgets, widgets_crd
from .support.servers import HttpsServer, webhook
from .support.waiting import wait_until

NAME = "storage_migrate"
CRD = "widgets.shop.example.com"
WIDGETS = "/registry/shop.example.com/widgets/"
GONE = "gone"
REQUEST_TIMEOUT = 10


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One master with kube-controller-manager."""
    cluster = Cluster.up(
        tmp_path_factory.mktemp("controllers") / "cluster",
        masters=1,
        controllers=CONTROLLERS,
        flags=[f"request-timeout={REQUEST_TIMEOUT}s"],
        owner_pid=os.getpid(),
    )
    yield cluster
    cluster.down()


def moved(document: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The same objects in another namespace."""
    items = [{**item, "metadata": {**item["metadata"], "namespace": namespace}} for item in document["items"]]
    return {**document, "items": items}


def asks_for_every_namespace(server: HttpsServer) -> dict[str, Any]:
    """A webhook that has to know each object's namespace, and does no harm where it can't be called."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "knows-namespaces"},
        "webhooks": [
            {
                "name": "knows.namespaces.example.com",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Ignore",
                "namespaceSelector": {"matchLabels": {"watched": "yes"}},
                "clientConfig": {"url": server.url, "caBundle": server.ca_bundle},
                "rules": [
                    {
                        "apiGroups": ["shop.example.com"],
                        "apiVersions": ["*"],
                        "operations": ["UPDATE"],
                        "resources": ["widgets"],
                    }
                ],
            }
        ],
    }


def answers_about_the_namespace(cluster: Cluster) -> bool:
    """Whether a write of a widget is answered with a 404 about its namespace."""
    try:
        cluster.kubectl("label", "widget", "-n", GONE, "widget-000", "probe=x", "--overwrite", "--dry-run=server")
    except ClusterError as error:
        return f'namespaces "{GONE}" not found' in str(error)
    return False


def left_behind(cluster: Cluster) -> list[str]:
    """Keys of the widgets that etcd holds at v1alpha1."""
    return sorted(
        key.removeprefix(WIDGETS)
        for key, entry in read_etcd(cluster, WIDGETS).items()
        if json.loads(entry.value)["apiVersion"] != "shop.example.com/v1"
    )


@pytest.mark.parametrize("engine", [IN_TREE, MIGRATOR])
def test_objects_whose_namespace_is_gone_are_not_migrated(
    managed: Cluster, module: Callable[..., Result], engine: str
) -> None:
    """A controller takes the 404 about the namespace for a deleted object, reports success, and trims the CRD."""
    apply(managed, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GONE}})
    apply(managed, widgets_crd("v1alpha1"))
    await_established(managed, "crd", CRD)
    wait_until(lambda: "widgets" in managed.kubectl("api-resources", "--api-group=shop.example.com"))
    apply(managed, widgets(5), moved(widgets(3), GONE))
    apply(managed, {**widgets(1)["items"][0], "metadata": {"name": "widget-touched", "namespace": "default"}})
    if engine == MIGRATOR:
        install_migrator(managed)
    namespace = read_etcd(managed, f"/registry/namespaces/{GONE}")[f"/registry/namespaces/{GONE}"]
    with HttpsServer(managed, webhook(lambda _review: (True, 0.0))) as server:
        apply(managed, asks_for_every_namespace(server))
        delete(managed, f"/registry/namespaces/{GONE}")
        wait_until(lambda: answers_about_the_namespace(managed))
        apply(managed, widgets_crd("v1"))
        options = {"engine": engine, "resources": [CRD], "request_timeout": REQUEST_TIMEOUT}
        if engine == MIGRATOR:
            with Migrator(managed):
                done = module(managed, NAME, **options)
        else:
            with busy(managed, "widgets"):
                done = module(managed, NAME, **options)
        managed.kubectl("delete", "validatingwebhookconfiguration", "knows-namespaces")
    assert left_behind(managed) == [f"{GONE}/widget-00{number}" for number in range(3)]
    assert done.failed and done.data["deleted"] == 0 and done.data["totals"]["failed"] == 3
    assert "namespace" in done.message and GONE in done.message
    found = done.data["resources"][CRD]
    assert found["persisted"] is False and done.data["trimmed"] == []
    assert sorted(stored_versions(managed)) == ["v1", "v1alpha1"]

    # Once the namespace is there again, the same run ends well.
    put(managed, f"/registry/namespaces/{GONE}", namespace.value)
    wait_until(lambda: GONE in managed.kubectl("get", "namespaces", "-o", "name"))
    again = module(managed, NAME, select="changed", resources=[CRD], request_timeout=REQUEST_TIMEOUT)
    assert again["rewritten"] == 3 and left_behind(managed) == []
    assert stored_versions(managed) == ["v1"]
    managed.kubectl("delete", "crd", CRD, "--timeout=60s")


def test_without_the_right_to_patch_what_was_left_alone_is_not_proven(
    managed: Cluster, module: Callable[..., Result]
) -> None:
    """The user may list ConfigMaps, not patch them: those that the controller did not write stay unproven."""
    key = put_json(managed, "stale")
    kubeconfig = managed.user_kubeconfig("half")
    rules = [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]},
        {"apiGroups": ["storagemigration.k8s.io"], "resources": ["*"], "verbs": ["list", "create", "delete"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "list", "create", "update"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]},
        {"apiGroups": ["apiregistration.k8s.io"], "resources": ["apiservices"], "verbs": ["list"]},
    ]
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "half"}
    apply(
        managed,
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "half"},
            "rules": rules,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "half"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "half"},
            "subjects": [subject],
        },
    )
    store = {"kind": "file", "path": str(managed.folder / "state.json")}
    with busy(managed, "configmaps"):
        done = module(
            managed, NAME, kubeconfig=str(kubeconfig), engine=IN_TREE, resources=["configmaps"], state_store=store
        )
    assert read_etcd(managed, key)[key].encoding == "protobuf"
    found = done["resources"]["configmaps"]
    assert done["rewritten"] >= 1 and found["persisted"] is False
    assert "were not written" in found["unproven"] and "cannot list and patch" in found["unproven"]
    assert done.message.endswith("Not proven to be migrated: configmaps (see unproven).")
