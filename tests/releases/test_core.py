# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hashes, migrations of all, of what changed and of what is stale, CRDs and upgrade_check on each release."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.control_plane.cluster import Cluster
from tests.control_plane.releases import NEWEST, Release
from tests.integration.support.controllers import IN_TREE, busy
from tests.integration.support.etcd import put_json, read_etcd, steady
from tests.integration.support.modules import Result
from tests.integration.support.release_data import decoded_otherwise, holding, old_autoscaler, stored_otherwise
from tests.integration.support.stock import MERGE_PATCH, Stock

from .clusters import in_tree_api

Module = Callable[..., Result]

HASHES, INFO, MIGRATE, CHECK = (
    "storage_version_hashes",
    "stored_versions_info",
    "storage_migrate",
    "upgrade_check",
)
AUTOSCALERS = "horizontalpodautoscalers.autoscaling"
MIGRATIONS = "storageversionmigrations.storagemigration.k8s.io"
LAST_WITH_V2BETA2 = 35  # autoscaling/v2beta2 is decoded up to 1.35


def stale_keys(cluster: Cluster, number: int) -> list[str]:
    """This many ConfigMaps stored as JSON, which no API server writes."""
    return [put_json(cluster, f"stale-{i}") for i in range(number)]


def still_json(cluster: Cluster) -> list[str]:
    return [key for key, stored in read_etcd(cluster, "/registry/configmaps/").items() if stored.encoding == "json"]


@contextmanager
def touching(stock: Stock, name: str) -> Iterator[None]:
    """Edits an object now and then: the garbage collector's watch must have moved on before the controller begins."""
    ending = threading.Event()

    def write() -> None:
        number = 0
        while not ending.wait(1.0):
            number += 1
            stock.api.send("PATCH", stock.path(name), {"metadata": {"annotations": {"at": str(number)}}}, MERGE_PATCH)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def minor(release: Release) -> str:
    return f"1.{release.minor}"


def target(release: Release) -> str:
    """The next minor, as far as there is one."""
    return f"1.{min(release.minor + 1, NEWEST.minor)}"


def test_the_masters_agree(cluster: Cluster, release: Release, module: Module) -> None:
    found = module(cluster, HASHES)
    assert found["converged"] is True, found["reasons"]
    assert found["proven_by"] == "each_server", found["reasons"]
    assert {server["version"] for server in found["servers"]} == {f"v{release.kubernetes}"}
    assert [server["url"] for server in found["servers"]] == cluster.urls
    shown = json.loads(cluster.kubectl("get", "--raw", "/apis/apps/v1"))["resources"]
    deployments = next(resource for resource in shown if resource["name"] == "deployments")
    assert found["resources"]["deployments.apps"]["hash"] == deployments["storageVersionHash"]
    assert [name for name, resource in found["resources"].items() if not resource["storage_version"]] == []


def test_the_data_say_what_it_stores(cluster: Cluster, release: Release) -> None:
    assert stored_otherwise(cluster, minor(release)) == {}


def test_the_data_say_what_it_can_decode(cluster: Cluster, release: Release) -> None:
    asked, wrong = decoded_otherwise(cluster, minor(release))
    assert asked > 70
    assert wrong == []


def test_everything_is_rewritten_and_nothing_else_changes(cluster: Cluster, module: Module) -> None:
    stale = stale_keys(cluster, 5)
    before = steady(read_etcd(cluster))
    done = module(cluster, MIGRATE)
    assert done["failures"] == [] and done["unchanged"] > 100
    after = steady(read_etcd(cluster))
    assert set(after) == set(before)
    changed = {key for key in before if before[key] != after[key]}
    # What is stored in an older version than it is written in (see test_upgrade.py) there is none of yet.
    assert changed == set(stale) and still_json(cluster) == []
    again = module(cluster, MIGRATE)
    assert (again["changed"], again["rewritten"]) == (False, 0)


def test_what_is_stale_is_rewritten_with_proof(cluster: Cluster, module: Module) -> None:
    stale_keys(cluster, 5)
    found = module(cluster, INFO, etcd=cluster.etcd)
    assert found["stale_resources"] == ["configmaps"]
    assert found["totals"]["stale"] == len(still_json(cluster)) == 5
    assert found["consistent"] is True and found["totals"]["unknown"] == 0, found["unknown"]
    done = module(cluster, MIGRATE, select="stale", etcd=cluster.etcd)
    assert (done["rewritten"], done["unchanged"], done["proof"]["stale"]) == (5, 0, 0)
    assert done["proof"]["problems"] == [] and still_json(cluster) == []
    assert module(cluster, MIGRATE, select="stale", etcd=cluster.etcd)["changed"] is False


def test_what_changed_is_rewritten_and_its_crd_trimmed(cluster: Cluster, module: Module) -> None:
    stock = Stock(cluster, "gadgets")
    try:
        names = stock.fill(5)
        # A resource that has no record yet counts as changed.
        assert list(module(cluster, MIGRATE, select="changed")["resources"]) == [stock.name]
        assert module(cluster, MIGRATE, select="changed")["resources"] == {}
        stock.store("v1")
        before = stock.objects()
        assert len(stock.stale()) == 5 and sorted(stock.stored_versions()) == ["v1", "v1alpha1"]
        done = module(cluster, MIGRATE, select="changed", etcd=cluster.etcd)
        assert list(done["resources"]) == [stock.name] and done["rewritten"] == len(names)
        assert [crd["crd"] for crd in done["trimmed"]] == [stock.name]
        assert stock.stale() == [] and stock.stored_versions() == ["v1"]
        assert stock.objects() == before, "more than the storage version changed"
        assert module(cluster, MIGRATE, select="changed")["resources"] == {}
    finally:
        stock.remove()


def test_the_controller_migrates(cluster: Cluster, release: Release, module: Module) -> None:
    """kube-controller-manager of the same release, by the version of the API that it has."""
    stale_keys(cluster, 5)
    with busy(cluster, "configmaps"):
        done = module(cluster, MIGRATE, engine=IN_TREE, resources=["configmaps"], keep_migrations=True)
    try:
        assert still_json(cluster) == []
        assert (done["engine"], done["rewritten"]) == (IN_TREE, 5)
        assert done["resources"]["configmaps"]["engine"] == IN_TREE
        assert done["resources"]["configmaps"]["persisted"] is True
        path = f"/apis/storagemigration.k8s.io/{in_tree_api(release)}/storageversionmigrations"
        (kept,) = json.loads(cluster.kubectl("get", "--raw", path))["items"]
        assert kept["metadata"]["name"] == "kube-storage-upgrade-configmaps"
    finally:
        cluster.kubectl("delete", MIGRATIONS, "--all")


def test_the_controller_migrates_a_crd_that_is_then_trimmed(cluster: Cluster, module: Module) -> None:
    """By the controller since 1.36, by the module before."""
    stock = Stock(cluster, "gears")
    try:
        names = stock.fill(3)
        stock.store("v1")
        before = stock.objects()
        with touching(stock, names[0]):
            done = module(cluster, MIGRATE, engine=IN_TREE, resources=[stock.name])
        assert (done["engine"], done["resources"][stock.name]["engine"]) == (IN_TREE, IN_TREE), done["resources"]
        assert stock.stale() == [] and stock.stored_versions() == ["v1"]
        assert done["trimmed"] == [{"crd": stock.name, "before": ["v1alpha1", "v1"], "after": ["v1"]}]
        assert {name: stock.objects()[name] for name in names[1:]} == {name: before[name] for name in names[1:]}
    finally:
        stock.remove()


def test_a_snapshot_of_its_etcd(cluster: Cluster, release: Release, module: Module, tmp_path: Path) -> None:
    done = module(cluster, "etcd_snapshot", etcd=cluster.etcd, path=str(tmp_path / "snapshots"))
    assert (done["version"], Path(done["path"]).stat().st_size) == (release.etcd, done["bytes"])


def test_a_healthy_cluster_may_be_upgraded(cluster: Cluster, release: Release, module: Module) -> None:
    before = read_etcd(cluster, "/registry/configmaps/")
    found = module(cluster, CHECK, target_version=target(release), etcd=cluster.etcd)
    assert (found["safe"], found["blockers"]) == (True, []), found["blockers"]
    # Without kubeadm's pods only /flagz shows what the API servers were started with; it is on by default since 1.36.
    hidden = [] if release.minor >= 36 else ["accepts the feature gates and flags of the API servers"]
    assert [any(part in unknown for part in hidden) for unknown in found["unknown"]] == [True] * len(hidden)
    assert found["current_version"] == minor(release)
    assert found["upgrade_pending"] is (target(release) != minor(release))
    assert found["proven_from_etcd"] is True
    assert read_etcd(cluster, "/registry/configmaps/") == before, "a check wrote something"


def test_what_the_next_release_cannot_read_is_found(cluster: Cluster, release: Release, module: Module) -> None:
    key = "/registry/horizontalpodautoscalers/default/old"
    with holding(cluster, {key: old_autoscaler()}):
        found = module(cluster, CHECK, target_version=target(release), etcd=cluster.etcd)
    assert (found["safe_up_to"], found["safe_up_to_limited_by"]) == ("1.35", [AUTOSCALERS])
    blockers: set[Any] = {blocker["id"] for blocker in found["blockers"]}
    expected = set()
    if release.minor >= LAST_WITH_V2BETA2:
        expected.add(f"undecodable/{AUTOSCALERS}")
    if release.minor > LAST_WITH_V2BETA2:
        expected.add(f"list_fails/{AUTOSCALERS}")
    assert blockers == expected
