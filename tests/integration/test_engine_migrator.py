# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine kube_storage_version_migrator: its API by equivalent CRDs, its migrator played by the test."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster, ClusterError

from .conftest import Result, apply, config_maps, make_json, read_etcd, wait_until

NAME = "storage_migrate"
ENGINE = "kube_storage_version_migrator"
MIGRATIONS = "storageversionmigrations.migration.k8s.io"
STATES = "storagestates.migration.k8s.io"
CRDS = Path(__file__).with_name("migrator_crds.yml")


class Migrator:
    """Takes up migrations one after another, as the real one does: get and replace of each object, retried for ever.

    ``fails``: what it says of a migration before it tries anything. ``plural``: whose part it plays.
    """

    def __init__(self, cluster: Cluster, fails: str = "", plural: str = MIGRATIONS) -> None:
        self._cluster = cluster
        self._plural = plural
        self._fails = fails
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.states_when_running: list[dict[str, Any]] = []
        self.seen: list[dict[str, Any]] = []

    def __enter__(self) -> Migrator:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(0.2):
            try:
                for one in items(self._cluster, self._plural):
                    conditions = one.get("status", {}).get("conditions", [])
                    if not any(each["type"] in ("Succeeded", "Failed") for each in conditions):
                        self._take_up(one)
            except ClusterError:
                continue  # A server was just restarted; as any controller does, it takes that up once more.

    def _take_up(self, migration: dict[str, Any]) -> None:
        name = migration["metadata"]["name"]
        if migration["metadata"]["uid"] not in [one["metadata"]["uid"] for one in self.seen]:
            self.seen.append(migration)
        self._say(name, "Running", "")
        if self._plural == MIGRATIONS:
            self.states_when_running += items(self._cluster, STATES)
        if self._fails:
            self._say(name, "Failed", self._fails)
            return
        for item in items(self._cluster, migration["spec"]["resource"]["resource"]):
            while not self._replaced(item):
                if self._ending.wait(0.2):
                    return
        self._say(name, "Succeeded", "")

    def _replaced(self, item: dict[str, Any]) -> bool:
        try:
            self._cluster.kubectl("replace", "-f", "-", input=json.dumps(item))
        except ClusterError as error:
            return "NotFound" in str(error) or "Conflict" in str(error)
        return True

    def _say(self, name: str, kind: str, message: str) -> None:
        conditions = [{"type": kind, "status": "True", "message": message}]
        patch = json.dumps({"status": {"conditions": conditions}})
        try:
            self._cluster.kubectl("patch", self._plural, name, "--subresource=status", "--type=merge", "-p", patch)
        except ClusterError as error:
            if "NotFound" not in str(error):
                raise


def items(cluster: Cluster, plural: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cluster.kubectl("get", plural, "-n", "default", "-o", "json"))["items"]
    return found


def install(cluster: Cluster, group: str = "migration.k8s.io", version: str = "v1alpha1") -> None:
    """The CRDs, or the like of them under another name."""
    text = CRDS.read_text(encoding="utf-8").replace("migration.k8s.io", group).replace("v1alpha1", version)
    cluster.kubectl("apply", "-f", "-", input=text)
    names = [f"{plural}.{group}" for plural in ("storageversionmigrations", "storagestates")]
    cluster.kubectl("wait", "--for=condition=Established", "crd", *names, "--timeout=30s")
    wait_until(lambda: "storageversionmigrations" in cluster.kubectl("api-resources", f"--api-group={group}"))


def remove(cluster: Cluster, group: str = "migration.k8s.io") -> None:
    for plural in ("storageversionmigrations", "storagestates"):
        cluster.kubectl("delete", "crd", f"{plural}.{group}", "--ignore-not-found", "--timeout=60s")
    wait_until(lambda: "storageversionmigrations" not in cluster.kubectl("api-resources", f"--api-group={group}"))


def state(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("get", STATES, "configmaps", "-o", "json"))
    return found


def stale(cluster: Cluster) -> list[str]:
    return [key for key, one in read_etcd(cluster, "/registry/configmaps/default/").items() if one.encoding == "json"]


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One master at 1.34, which serves no storagemigration.k8s.io."""
    cluster = Cluster.up(
        tmp_path_factory.mktemp("migrated") / "cluster", masters=1, version="1.34", owner_pid=os.getpid()
    )
    yield cluster
    cluster.down()


def test_without_its_api_each_engine_says_what_to_do(migrated: Cluster, module: Callable[..., Result]) -> None:
    remove(migrated)
    refused = module(migrated, NAME, engine=ENGINE)
    assert refused.failed and "does not serve migration.k8s.io/v1alpha1" in refused.message
    refused = module(migrated, NAME, engine="storage_version_migration")
    assert refused.failed and "does not serve storagemigration.k8s.io" in refused.message
    refused = module(migrated, NAME, engine="storage_version_migration", max_rate=5)
    assert refused.failed and "can't do max_rate" in refused.message
    done = module(migrated, NAME, engine="auto", resources=["configmaps"])
    assert done["engine"] == "direct" and "may list and patch all" in done["engine_reason"]


def test_the_migrator_migrates_and_the_storage_state_stays_true(
    migrated: Cluster, module: Callable[..., Result]
) -> None:
    remove(migrated)
    install(migrated)
    make_json(migrated, "master-1", config_maps(5))
    with Migrator(migrated) as migrator:
        done = module(migrated, NAME, engine=ENGINE, resources=["configmaps"])
    assert done["rewritten"] == 5 and done["totals"]["failed"] == 0 and stale(migrated) == []
    assert done["resources"]["configmaps"]["engine"] == ENGINE
    assert done["resources"]["configmaps"]["persisted"] is True
    (made,) = migrator.seen
    assert made["spec"]["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert made["metadata"]["name"].startswith("kube-storage-upgrade-configmaps-")
    assert made["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "kube-storage-upgrade"}
    assert items(migrated, MIGRATIONS) == []
    present = module(migrated, "storage_version_hashes", resources=["configmaps"])["resources"]["configmaps"]["hash"]
    (during,) = migrator.states_when_running
    assert during["status"]["persistedStorageVersionHashes"] == ["Unknown"]
    assert during["status"]["currentStorageVersionHash"] == present
    assert state(migrated)["status"]["persistedStorageVersionHashes"] == [present]
    assert state(migrated)["spec"]["resource"] == {"group": "", "resource": "configmaps"}


def test_what_the_migrator_fails_at_is_finished_by_us(migrated: Cluster, module: Callable[..., Result]) -> None:
    install(migrated)
    make_json(migrated, "master-1", config_maps(5, "left"))
    with Migrator(migrated, fails="etcd is full"):
        done = module(migrated, NAME, engine=ENGINE, resources=["configmaps"])
    assert done["rewritten"] == 5 and stale(migrated) == [] and items(migrated, MIGRATIONS) == []
    assert done["resources"]["configmaps"]["engine"] == "direct"
    assert "etcd is full" in done["resources"]["configmaps"]["engine_reason"]


def test_a_denied_object_that_is_retried_for_ever_is_named(migrated: Cluster, module: Callable[..., Result]) -> None:
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "frozen"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["configmaps"]}
                ]
            },
            "validations": [{"expression": "object.metadata.name != 'cm-0002'", "message": "it is frozen"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "frozen"},
        "spec": {"policyName": "frozen", "validationActions": ["Deny"]},
    }
    install(migrated)
    apply(migrated, config_maps(5), policy, binding)

    def is_enforced() -> bool:
        try:
            migrated.kubectl("annotate", "configmap", "cm-0002", "probe=x", "--overwrite", "--dry-run=server")
        except ClusterError as error:
            return "frozen" in str(error)
        return False

    wait_until(is_enforced)
    before = read_etcd(migrated, "/registry/configmaps/default/cm-0002")
    with Migrator(migrated):
        stopped = module(migrated, NAME, engine=ENGINE, resources=["configmaps"], controller_timeout=4, on_error="stop")
        assert stopped.failed and "configmaps default/cm-0002" in stopped.message and "frozen" in stopped.message
        assert items(migrated, MIGRATIONS) == []
    with Migrator(migrated):
        failed = module(migrated, NAME, engine=ENGINE, resources=["configmaps"], controller_timeout=4)
    assert failed.failed and "configmaps default/cm-0002" in failed.message
    assert failed.data["totals"]["failed"] == 1 and failed.data["failures"][0]["status"] == 422
    assert "no progress for 4 s" in failed.data["resources"]["configmaps"]["engine_reason"]
    assert items(migrated, MIGRATIONS) == []
    assert read_etcd(migrated, "/registry/configmaps/default/cm-0002") == before
    migrated.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "frozen")
    wait_until(lambda: not is_enforced())


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
def test_the_in_tree_api_in_its_older_versions(migrated: Cluster, module: Callable[..., Result], version: str) -> None:
    """Served by an equivalent CRD, since a 1.37 server has but the newest ones."""
    group = "storagemigration.k8s.io"
    install(migrated, group, version)
    try:
        with Migrator(migrated, plural=f"storageversionmigrations.{group}") as migrator:
            done = module(
                migrated, NAME, engine="storage_version_migration", resources=["secrets"], controller_timeout=60
            )
    finally:
        remove(migrated, group)
    (made,) = migrator.seen
    assert made["apiVersion"] == f"{group}/{version}"
    resource = {"group": "", "resource": "secrets"}
    assert made["spec"]["resource"] == ({**resource, "version": "v1"} if version == "v1alpha1" else resource)
    assert done["resources"]["secrets"]["engine"] == "storage_version_migration"
    assert done["resources"]["secrets"]["persisted"] is True and done["totals"]["failed"] == 0
