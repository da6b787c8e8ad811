# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine storage_version_migration with the real kube-controller-manager."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster, ClusterError

from .conftest import (
    Result,
    apply,
    config_maps,
    make_json,
    read_etcd,
)

NAME = "storage_migrate"
IN_TREE = "storage_version_migration"
CONTROLLERS = "garbage-collector-controller,storage-version-migrator-controller"
MIGRATIONS = "storageversionmigrations.storagemigration.k8s.io"


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One master with kube-controller-manager; 300 ConfigMaps are stored as JSON, which it does not write any more."""
    folder = tmp_path_factory.mktemp("managed") / "cluster"
    cluster = Cluster.up(folder, masters=1, controllers=CONTROLLERS, owner_pid=os.getpid())
    make_json(cluster, "master-1", config_maps(300))
    yield cluster
    cluster.down()


def stale(cluster: Cluster) -> int:
    return sum(1 for one in read_etcd(cluster, "/registry/configmaps/default/").values() if one.encoding == "json")


def migrations(cluster: Cluster) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(cluster.kubectl("get", MIGRATIONS, "-o", "json"))["items"]
    return items


@contextmanager
def busy(cluster: Cluster, *plurals: str) -> Iterator[None]:
    """Writes an object of each resource now and then, as a living cluster does.

    The controller begins when the garbage collector's watch has come as far as the migration's list, which
    it learns by the next event of the resource, or by a bookmark a minute later.
    """
    ending = threading.Event()

    def write() -> None:
        number = 0
        while not ending.wait(1.0):
            number += 1
            for plural in plurals:
                name, pair = ("touched" if plural == "configmaps" else "widget-touched"), f"touched={number}"
                try:
                    cluster.kubectl("annotate", plural, name, "--overwrite", pair)
                except ClusterError:
                    continue

    apply(
        cluster, config_maps(0), {**config_maps(1)["items"][0], "metadata": {"name": "touched", "namespace": "default"}}
    )
    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


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
    assert [one["metadata"]["name"] for one in kept] == ["kube-storage-upgrade-configmaps"]
    assert kept[0]["apiVersion"] == "storagemigration.k8s.io/v1"
    assert kept[0]["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "kube-storage-upgrade"}
    assert module(managed, NAME, select="changed", engine=IN_TREE, resources=["configmaps"])["resources"] == {}

    with busy(managed, "configmaps"):
        again = module(managed, NAME, engine=IN_TREE, resources=["configmaps"])
    assert again["rewritten"] == 0 and again["changed"] is False and again["unchanged"] >= 300
    assert migrations(managed) == [], "the kept migration is replaced, and the new one deleted"
