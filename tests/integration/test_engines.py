# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine storage_version_migration with the real kube-controller-manager."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support.controllers import CONTROLLERS, IN_TREE, busy, stored_versions
from .support.etcd import read_etcd
from .support.modules import Result
from .support.objects import apply, config_maps, freeze, install_widgets, make_json, widgets
from .support.runs import Running, start_process
from .support.waiting import wait_until

NAME = "storage_migrate"
WIDGETS = "/registry/shop.example.com/widgets/"
MIGRATIONS = "storageversionmigrations.storagemigration.k8s.io"


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One master with kube-controller-manager; 300 ConfigMaps are stored as JSON, which it does not write anymore."""
    folder = tmp_path_factory.mktemp("managed") / "cluster"
    cluster = Cluster.up(folder, masters=1, controllers=CONTROLLERS, owner_pid=os.getpid())
    # Early, since the garbage collector takes up to half a minute to see a new CRD.
    install_widgets(cluster, 20)
    apply(cluster, {**widgets(1, "v1")["items"][0], "metadata": {"name": "widget-touched", "namespace": "default"}})
    make_json(cluster, "master-1", config_maps(300))
    yield cluster
    cluster.down()


def stale(cluster: Cluster) -> int:
    return sum(1 for entry in read_etcd(cluster, "/registry/configmaps/default/").values() if entry.encoding == "json")


def migrations(cluster: Cluster) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(cluster.kubectl("get", MIGRATIONS, "-o", "json"))["items"]
    return items


def test_the_controller_rewrites_and_everything_is_counted(managed: Cluster, module: Callable[..., Result]) -> None:
    assert stale(managed) == 300
    preview = module(managed, NAME, check=True, engine=IN_TREE, resources=["configmaps"])
    assert preview["engine"] == IN_TREE and preview["changed"] is False
    assert preview["would_visit"] >= 300 and migrations(managed) == []

    with busy(managed, "configmaps"):
        done = module(managed, NAME, engine=IN_TREE, resources=["configmaps", "events"], keep_migrations=True)
    assert stale(managed) == 0
    assert done["changed"] is True and done["rewritten"] == 300
    assert done["engine"] == IN_TREE and done["engine_reason"] == "asked for"
    assert done["resources"]["configmaps"]["engine"] == IN_TREE
    assert done["resources"]["configmaps"]["persisted"] is True
    assert done["resources"]["events"]["engine"] == "direct"
    assert "does not watch events" in done["resources"]["events"]["engine_reason"]
    kept = migrations(managed)
    assert [migration["metadata"]["name"] for migration in kept] == ["kube-storage-upgrade-configmaps"]
    assert kept[0]["apiVersion"] == "storagemigration.k8s.io/v1"
    assert kept[0]["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "kube-storage-upgrade"}
    assert module(managed, NAME, select="changed", engine=IN_TREE, resources=["configmaps"])["resources"] == {}

    with busy(managed, "configmaps"):
        again = module(managed, NAME, engine=IN_TREE, resources=["configmaps"])
    assert again["rewritten"] == 0 and again["changed"] is False and again["unchanged"] >= 300
    assert migrations(managed) == [], "the kept migration is replaced, and the new one deleted"


def test_what_the_controller_fails_at_is_finished_and_named(managed: Cluster, module: Callable[..., Result]) -> None:
    widgets = {"engine": IN_TREE, "resources": ["widgets.shop.example.com"]}
    unless = "object.metadata.name != 'widget-003'"
    is_enforced = freeze(managed, "frozen-widgets", "widgets.shop.example.com", unless, "widget-003")
    with busy(managed, "widgets"):
        stopped = module(managed, NAME, on_error="stop", **widgets)
    assert stopped.failed and "on_error=stop" in stopped.message
    assert "default/widget-003" in stopped.message and "frozen" in stopped.message
    assert migrations(managed) == []
    assert sorted(stored_versions(managed)) == ["v1", "v1alpha1"], "objects may still be stored as v1alpha1"

    with busy(managed, "widgets"):
        failed = module(managed, NAME, **widgets)
    assert failed.failed and "widgets.shop.example.com default/widget-003" in failed.message
    found = failed.data["resources"]["widgets.shop.example.com"]
    assert found["engine"] == "direct" and "frozen" in found["engine_reason"]
    assert found["failed"] == 1 and found["persisted"] is False
    assert sorted(stored_versions(managed)) == ["v1", "v1alpha1"] and failed.data["trimmed"] == []
    old = [
        key
        for key, entry in read_etcd(managed, WIDGETS).items()
        if json.loads(entry.value)["apiVersion"] != "shop.example.com/v1"
    ]
    assert old == [f"{WIDGETS}default/widget-003"]

    managed.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "frozen-widgets")
    wait_until(lambda: not is_enforced())
    with busy(managed, "widgets"):
        done = module(managed, NAME, **widgets)
    assert done["resources"]["widgets.shop.example.com"]["engine"] == IN_TREE
    assert done["trimmed"] == [{"crd": "widgets.shop.example.com", "before": ["v1alpha1", "v1"], "after": ["v1"]}]
    assert stored_versions(managed) == ["v1"] and migrations(managed) == []
    condition = json.loads(managed.kubectl("get", "crd", "widgets.shop.example.com", "-o", "json"))["status"][
        "conditions"
    ]
    assert [entry["status"] for entry in condition if entry["type"] == "StorageMigrating"] == ["False"]


def test_without_a_controller_there_is_an_error_and_nothing_remains(
    managed: Cluster, module: Callable[..., Result]
) -> None:
    managed.kill("controller-manager")
    try:
        failed = module(managed, NAME, engine=IN_TREE, resources=["configmaps"], controller_timeout=4)
    finally:
        managed.start("controller-manager")
    assert failed.failed and "No controller took up the 1 storageversionmigrations" in failed.message
    assert "storage-version-migrator-controller" in failed.message and "within 4 s" in failed.message
    assert failed.data["changed"] is False and migrations(managed) == []


def test_a_controller_restarted_during_a_run(managed: Cluster) -> None:
    make_json(managed, "master-1", config_maps(600, "again"))  # enough for the controller to be seen at work
    number = stale(managed)
    running = Running(managed, engine=IN_TREE, resources=["configmaps"])
    wait_until(lambda: any(migration.get("status", {}).get("resourceVersion") for migration in migrations(managed)))
    managed.kill("controller-manager")
    assert stale(managed) > 0
    managed.start("controller-manager")
    with busy(managed, "configmaps"):
        done = running.end()
    assert done["rewritten"] == number and stale(managed) == 0 and migrations(managed) == []


def test_an_interrupted_run_withdraws_its_migrations(managed: Cluster, module: Callable[..., Result]) -> None:
    foreign = migration("foreign", "secrets", {})
    leftover = migration("leftover", "secrets", {"app.kubernetes.io/managed-by": "kube-storage-upgrade"})
    managed.kill("controller-manager")
    try:
        apply(managed, foreign, leftover)
        process = start_process(managed, engine=IN_TREE, resources=["configmaps", "secrets"])
        wait_until(lambda: len(migrations(managed)) == 3)
        assert "leftover" not in {migration["metadata"]["name"] for migration in migrations(managed)}
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    finally:
        managed.start("controller-manager")
    assert "Interrupted by SIGTERM" in json.loads(output)["msg"] and "Traceback" not in errors
    assert [migration["metadata"]["name"] for migration in migrations(managed)] == ["foreign"]
    managed.kubectl("delete", MIGRATIONS, "foreign")


def migration(name: str, plural: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "storagemigration.k8s.io/v1",
        "kind": "StorageVersionMigration",
        "metadata": {"name": name, "labels": labels},
        "spec": {"resource": {"group": "", "resource": plural}},
    }
