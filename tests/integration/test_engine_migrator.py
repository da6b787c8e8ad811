# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine kube_storage_version_migrator, with equivalent CRDs for its API and a stand-in for the migrator."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support.controllers import (
    MIGRATOR,
    MIGRATOR_MIGRATIONS,
    MIGRATOR_STATES,
    Migrator,
    install_migrator,
    items,
    remove_migrator,
)
from .support.etcd import read_etcd
from .support.modules import Result
from .support.objects import apply, config_maps, freeze, make_json
from .support.waiting import wait_until

NAME = "storage_migrate"


def state(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("get", MIGRATOR_STATES, "configmaps", "-o", "json"))
    return found


def stale(cluster: Cluster) -> list[str]:
    return [
        key for key, entry in read_etcd(cluster, "/registry/configmaps/default/").items() if entry.encoding == "json"
    ]


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One master at 1.34, which serves no storagemigration.k8s.io."""
    cluster = Cluster.up(
        tmp_path_factory.mktemp("migrated") / "cluster", masters=1, version="1.34", owner_pid=os.getpid()
    )
    yield cluster
    cluster.down()


def test_without_its_api_each_engine_says_what_to_do(migrated: Cluster, module: Callable[..., Result]) -> None:
    remove_migrator(migrated)
    refused = module(migrated, NAME, engine=MIGRATOR)
    assert refused.failed and "does not serve migration.k8s.io/v1alpha1" in refused.message
    refused = module(migrated, NAME, engine="storage_version_migration")
    assert refused.failed and "does not serve storagemigration.k8s.io" in refused.message
    refused = module(migrated, NAME, engine="storage_version_migration", max_rate=5)
    assert refused.failed and "does not support max_rate" in refused.message
    done = module(migrated, NAME, engine="auto", resources=["configmaps"])
    assert done["engine"] == "direct" and "can list and patch everything" in done["engine_reason"]


def test_the_migrator_migrates_and_the_storage_state_stays_correct(
    migrated: Cluster, module: Callable[..., Result]
) -> None:
    remove_migrator(migrated)
    install_migrator(migrated)
    make_json(migrated, "master-1", config_maps(5))
    with Migrator(migrated) as migrator:
        done = module(migrated, NAME, engine=MIGRATOR, resources=["configmaps"])
    assert done["rewritten"] == 5 and done["totals"]["failed"] == 0 and stale(migrated) == []
    assert done["resources"]["configmaps"]["engine"] == MIGRATOR
    assert done["resources"]["configmaps"]["persisted"] is True
    (made,) = migrator.seen
    assert made["spec"]["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert made["metadata"]["name"].startswith("kube-storage-upgrade-configmaps-")
    assert made["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "kube-storage-upgrade"}
    assert items(migrated, MIGRATOR_MIGRATIONS) == []
    present = module(migrated, "storage_version_hashes", resources=["configmaps"])["resources"]["configmaps"]["hash"]
    (during,) = migrator.states_when_running
    assert during["status"]["persistedStorageVersionHashes"] == ["Unknown"]
    assert during["status"]["currentStorageVersionHash"] == present
    assert state(migrated)["status"]["persistedStorageVersionHashes"] == [present]
    assert state(migrated)["spec"]["resource"] == {"group": "", "resource": "configmaps"}


def test_what_the_migrator_fails_at_is_finished_by_us(migrated: Cluster, module: Callable[..., Result]) -> None:
    install_migrator(migrated)
    make_json(migrated, "master-1", config_maps(5, "left"))
    with Migrator(migrated, fails="etcd is full"):
        done = module(migrated, NAME, engine=MIGRATOR, resources=["configmaps"])
    assert done["rewritten"] == 5 and stale(migrated) == [] and items(migrated, MIGRATOR_MIGRATIONS) == []
    assert done["resources"]["configmaps"]["engine"] == "direct"
    assert "etcd is full" in done["resources"]["configmaps"]["engine_reason"]


def test_a_controller_that_goes_on_after_it_was_given_up(migrated: Cluster, module: Callable[..., Result]) -> None:
    """Issue 13, number 10: it stalls, is given up, and goes on beside the direct engine; what is told is what etcd holds."""
    install_migrator(migrated)
    make_json(migrated, "master-1", config_maps(60, "woken"))
    before = read_etcd(migrated, "/registry/configmaps/")
    left = [key for key, entry in before.items() if entry.encoding == "json"]
    with Migrator(migrated, stalls_at=20) as migrator:
        done = module(migrated, NAME, engine=MIGRATOR, resources=["configmaps"], controller_timeout=4, workers=1)
    after = read_etcd(migrated, "/registry/configmaps/")
    moved = [key for key in left if after[key].mod_revision != before[key].mod_revision]
    assert len(left) == 60 and moved == left and stale(migrated) == []
    assert len(migrator.seen) == 1 and items(migrated, MIGRATOR_MIGRATIONS) == []
    found = done["resources"]["configmaps"]
    assert found["engine"] == "direct" and "no progress for 4 s" in found["engine_reason"]
    assert (found["rewritten"], found["uncertain"]) == (60, 0)
    # The run's own record comes up meanwhile, and may be saved just when it is visited: a conflict.
    visited = found["rewritten"] + found["unchanged"] + found["conflicts"]
    assert found["conflicts"] <= 1 and len(before) <= visited <= len(after)


def test_a_denied_object_that_is_retried_forever_is_named(migrated: Cluster, module: Callable[..., Result]) -> None:
    install_migrator(migrated)
    apply(migrated, config_maps(5))
    is_enforced = freeze(migrated, "frozen", "configmaps", "object.metadata.name != 'cm-0002'", "cm-0002")
    before = read_etcd(migrated, "/registry/configmaps/default/cm-0002")
    with Migrator(migrated):
        stopped = module(
            migrated, NAME, engine=MIGRATOR, resources=["configmaps"], controller_timeout=4, on_error="stop"
        )
        assert stopped.failed and "configmaps default/cm-0002" in stopped.message and "frozen" in stopped.message
        assert items(migrated, MIGRATOR_MIGRATIONS) == []
    with Migrator(migrated):
        failed = module(migrated, NAME, engine=MIGRATOR, resources=["configmaps"], controller_timeout=4)
    assert failed.failed and "configmaps default/cm-0002" in failed.message
    assert failed.data["totals"]["failed"] == 1 and failed.data["failures"][0]["status"] == 422
    assert "no progress for 4 s" in failed.data["resources"]["configmaps"]["engine_reason"]
    assert items(migrated, MIGRATOR_MIGRATIONS) == []
    assert read_etcd(migrated, "/registry/configmaps/default/cm-0002") == before
    migrated.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "frozen")
    wait_until(lambda: not is_enforced())


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
def test_the_in_tree_api_in_its_older_versions(migrated: Cluster, module: Callable[..., Result], version: str) -> None:
    """Served by an equivalent CRD, since a 1.37 server has but the newest ones."""
    group = "storagemigration.k8s.io"
    install_migrator(migrated, group, version)
    try:
        with Migrator(migrated, plural=f"storageversionmigrations.{group}") as migrator:
            done = module(
                migrated, NAME, engine="storage_version_migration", resources=["secrets"], controller_timeout=60
            )
    finally:
        remove_migrator(migrated, group)
    (made,) = migrator.seen
    assert made["apiVersion"] == f"{group}/{version}"
    resource = {"group": "", "resource": "secrets"}
    assert made["spec"]["resource"] == ({**resource, "version": "v1"} if version == "v1alpha1" else resource)
    assert done["resources"]["secrets"]["engine"] == "storage_version_migration"
    assert done["resources"]["secrets"]["persisted"] is True and done["totals"]["failed"] == 0
