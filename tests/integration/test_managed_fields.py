# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 13, number 1: server-side apply keeps working, and owners own what they owned, after a version is gone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support.etcd import put, read_etcd
from .support.modules import Result
from .support.stock import GROUP, MERGE_PATCH, Api, Stock

NAME = "storage_migrate"
APPLY = "application/apply-patch+yaml"
SCHEMA = {
    "type": "object",
    "properties": {
        "size": {"type": "integer"},
        "color": {"type": "string"},
        "parts": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "weight": {"type": "integer"}},
            },
        },
    },
}
FLUX: dict[str, Any] = {"size": 1, "parts": [{"name": "wheel", "weight": 3}]}
HELM = {"color": "red"}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real 1.36, which drops all managers of an object if it can't convert one (kubernetes/kubernetes#136919)."""
    cluster = Cluster.up(tmp_path_factory.mktemp("old") / "cluster", masters=1, version="1.36.5", owner_pid=os.getpid())
    yield cluster
    cluster.down()


class Applied:
    """Custom resources that two managers applied as v1alpha1: ``both``, and ``mixed``, which a third one edited in both versions."""

    def __init__(self, cluster: Cluster, plural: str) -> None:
        self.stock = stock = Stock(cluster, plural, schema=SCHEMA)
        for name in ("both", "mixed"):
            assert self.apply(name, "flux", FLUX, "v1alpha1")[0] == 201
            assert self.apply(name, "helm", HELM, "v1alpha1")[0] == 200
        parts = [*FLUX["parts"], {"name": "bell", "weight": 4}, {"name": "lamp", "weight": 5}]
        self.edit("mixed", "v1alpha1", {"parts": parts[:2]})
        self.edit("mixed", "v1", {"parts": parts})
        assert self.apply("newer", "flux", FLUX, "v1")[0] == 201
        stock.store("v1")

    def path(self, name: str, version: str) -> str:
        return f"/apis/{GROUP}/{version}/namespaces/default/{self.stock.plural}/{name}"

    def apply(self, name: str, manager: str, spec: dict[str, Any], version: str = "v1") -> tuple[int, dict[str, Any]]:
        """What ``kubectl apply --server-side --field-manager`` sends."""
        body = {"apiVersion": f"{GROUP}/{version}", "kind": self.stock.kind, "metadata": {"name": name}, "spec": spec}
        return self.stock.api.send("PATCH", f"{self.path(name, version)}?fieldManager={manager}", body, APPLY)

    def edit(self, name: str, version: str, spec: dict[str, Any]) -> None:
        self.stock.api.good("PATCH", f"{self.path(name, version)}?fieldManager=editor", {"spec": spec}, MERGE_PATCH)

    def managers(self, name: str) -> dict[tuple[str, str, str], Any]:
        """As etcd holds them: (manager, operation, version) to (fields, time)."""
        metadata = json.loads(self.stock.stored()[f"default/{name}"].value)["metadata"]
        return {
            (entry["manager"], entry["operation"], entry["apiVersion"].rpartition("/")[2]): (
                entry["fieldsV1"],
                entry["time"],
            )
            for entry in metadata.get("managedFields") or ()
        }

    def drop_v1alpha1(self) -> None:
        """Both versions in one CRD no longer: what a new release of the operator's chart does."""
        self.stock.update(versions=("v1",))

    def check_owners(self) -> None:
        """Server-side apply by both succeeds, with the conflicts and removals of before."""
        assert self.apply("both", "flux", FLUX)[0] == 200 and self.apply("both", "helm", HELM)[0] == 200
        status, conflict = self.apply("both", "helm", {**HELM, "size": 2})
        assert status == 409 and 'conflict with "flux"' in conflict["message"], conflict
        status, conflict = self.apply("both", "flux", {**FLUX, "color": "blue"})
        assert status == 409 and 'conflict with "helm"' in conflict["message"], conflict
        # A field that its only owner applies no longer is removed.
        _status, left = self.apply("both", "flux", {"size": 1})
        assert left["spec"] == {"size": 1, "color": "red"}


def check(module: Callable[..., Result], cluster: Cluster, *manifests: Any) -> dict[str, dict[str, Any]]:
    """The findings of upgrade_check about field managers, by id."""
    found = module(cluster, "upgrade_check", target_version="1.37", crd_manifests=list(manifests))
    every = [*found["blockers"], *({**concern, "concern": True} for concern in found["concerns"])]
    return {finding["id"]: finding for finding in every if "manage" in finding["check"]}


def check_rewrite(cluster: Cluster, module: Callable[..., Result]) -> None:
    applied = Applied(cluster, "moves")
    stock = applied.stock
    try:
        before = {name: applied.managers(name) for name in ("both", "mixed", "newer")}
        spec = stock.get("both")["spec"]
        done = module(cluster, NAME, resources=[stock.name], managed_fields="rewrite")
        assert (done["rewritten"], done["moved"], done["pruned"]) == (3, 2, 0), done.message
        assert done["trimmed"] == [{"crd": stock.name, "before": ["v1alpha1", "v1"], "after": ["v1"]}]
        assert done["managers_left"] == [] and stock.stale() == []
        assert applied.managers("newer") == before["newer"]
        assert applied.managers("both") == {
            (manager, operation, "v1"): owned for (manager, operation, _version), owned in before["both"].items()
        }
        mixed = applied.managers("mixed")
        assert set(mixed) == {("flux", "Apply", "v1"), ("helm", "Apply", "v1"), ("editor", "Update", "v1")}
        edited = mixed["editor", "Update", "v1"][0]["f:spec"]["f:parts"]
        for version in ("v1alpha1", "v1"):
            assert before["mixed"]["editor", "Update", version][0]["f:spec"]["f:parts"].items() <= edited.items()
        assert stock.get("both")["spec"] == spec
        again = module(cluster, NAME, resources=[stock.name], managed_fields="rewrite")
        assert again["changed"] is False and again["moved"] == 0
        only_v1 = {**stock.crd(), "spec": {**stock.crd()["spec"], "versions": stock.crd()["spec"]["versions"][1:]}}
        assert check(module, cluster, only_v1) == {}
        applied.drop_v1alpha1()
        applied.check_owners()
    finally:
        stock.remove()


def test_managers_move_before_their_version_goes(single_master: Cluster, module: Callable[..., Result]) -> None:
    check_rewrite(single_master, module)


def test_managers_move_on_an_older_server(old: Cluster, module: Callable[..., Result]) -> None:
    check_rewrite(old, module)


def test_managers_that_are_kept_are_named_until_they_move(
    single_master: Cluster, module: Callable[..., Result]
) -> None:
    applied = Applied(single_master, "keeps")
    stock = applied.stock
    rewrite = f"run storage_migrate with resources: [{stock.name}] and managed_fields: rewrite"
    try:
        done = module(single_master, NAME, resources=[stock.name])
        assert (done["rewritten"], done["moved"], done["pruned"]) == (3, 0, 0)
        (left,) = done["managers_left"]
        assert (left["resource"], left["objects"], left["versions"]) == (stock.name, 2, {"v1alpha1": 2})
        assert rewrite in left["remediation"] and "managers_left" in done["msg"]
        only_v1 = {**stock.crd(), "spec": {**stock.crd()["spec"], "versions": stock.crd()["spec"]["versions"][1:]}}
        live = check(module, single_master)[f"managers_of_older_version/{stock.name}"]
        assert live["concern"] and "v1alpha1 (2 objects)" in live["what"] and rewrite in live["remediation"]
        found = check(module, single_master, only_v1)
        assert list(found) == [f"crd_drops_managed_version/{stock.name}"]
        new = found[f"crd_drops_managed_version/{stock.name}"]
        assert "concern" not in new and "v1alpha1 (2 objects)" in new["what"] and rewrite in new["remediation"]

        applied.drop_v1alpha1()
        status, refusal = applied.apply("both", "flux", FLUX)
        assert status == 500 and "invalid group/version" in refusal["message"], refusal
        dead = check(module, single_master)[f"managers_of_dropped_version/{stock.name}"]
        assert dead["concern"] and rewrite in dead["remediation"].replace("Run ", "run ")
        # As good as its promise: the outage ends, and nobody lost what they own.
        repaired = module(single_master, NAME, resources=[stock.name], managed_fields="rewrite")
        assert (repaired["rewritten"], repaired["moved"], repaired["managers_left"]) == (2, 2, [])
        applied.check_owners()
        assert check(module, single_master) == {}
    finally:
        stock.remove()


def test_managers_are_pruned_once_their_version_is_gone(single_master: Cluster, module: Callable[..., Result]) -> None:
    applied = Applied(single_master, "prunes")
    stock = applied.stock
    try:
        assert module(single_master, NAME, resources=[stock.name])["managers_left"]
        applied.drop_v1alpha1()
        done = module(single_master, NAME, resources=[stock.name], managed_fields="prune")
        assert (done["rewritten"], done["moved"], done["pruned"]) == (2, 0, 2)
        assert applied.managers("both") == {} and set(applied.managers("mixed")) == {("editor", "Update", "v1")}
        status, conflict = applied.apply("both", "helm", {**HELM, "size": 2})
        assert status == 409 and 'conflict with "before-first-apply"' in conflict["message"], "flux owns nothing now"
        assert applied.apply("both", "helm", HELM)[0] == 200
    finally:
        stock.remove()


def test_managers_stay_where_a_webhook_converts(single_master: Cluster, module: Callable[..., Result]) -> None:
    """Only the webhook knows which field of v1alpha1 is which of v1."""
    applied = Applied(single_master, "converts")
    stock = applied.stock
    try:
        assert module(single_master, NAME, resources=[stock.name])["trimmed"]
        before = applied.managers("both")
        client = {"url": f"https://{single_master.network.gateway}:1/convert"}
        webhook = {"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]}}
        stock.update(conversion=webhook)
        done = module(single_master, NAME, resources=[stock.name], managed_fields="rewrite")
        assert done["moved"] == 0 and applied.managers("both") == before
        (left,) = done["managers_left"]
        assert (left["objects"], left["versions"]) == (2, {"v1alpha1": 2})
        assert "have their owners apply them at v1" in left["remediation"] and "webhook" in left["remediation"]
        live = check(module, single_master)[f"managers_of_older_version/{stock.name}"]
        assert "have their owners apply them at v1" in live["remediation"]
    finally:
        stock.update(conversion={"strategy": "None", "webhook": None})
        stock.remove()


def dead_managers(cluster: Cluster, *names: str) -> None:
    """ConfigMaps in etcd as they are written now, but with managers of a version that no API server knows."""
    api = Api(cluster)
    for name in names:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": "value"}}
        api.good("PATCH", f"/api/v1/namespaces/default/configmaps/{name}?fieldManager=its-owner", body, APPLY)
        key = f"/registry/configmaps/default/{name}"
        value = read_etcd(cluster, key)[key].value
        version, dead = b"\x1a\x02v1", b"\x1a\x02v0"  # apiVersion is field 3 of a ManagedFieldsEntry
        assert value.count(version) == 1
        put(cluster, key, value.replace(version, dead))


def test_managers_of_built_in_objects_are_counted(single_master: Cluster, module: Callable[..., Result]) -> None:
    """API servers drop entries of versions that they don't know; not "rewritten, pruned 0", nor "nothing is stale" before."""
    api = Api(single_master)

    def managers(name: str) -> list[tuple[str, str]]:
        found = api.good("GET", f"/api/v1/namespaces/default/configmaps/{name}")["metadata"].get("managedFields") or []
        return [(entry["manager"], entry["apiVersion"]) for entry in found]

    module(single_master, NAME, resources=["configmaps"])
    options = {"resources": ["configmaps"], "select": "stale", "etcd": single_master.etcd}
    dead_managers(single_master, "moves-1", "moves-2", "drops-1", "drops-2", "loses-1")
    found = check(module, single_master)["managers_of_dropped_version/configmaps"]
    assert found["concern"] and "v0 (5 objects), which Kubernetes 1.37 does not know" in found["what"]
    assert module(single_master, NAME, check=True, **options)["would_visit"] == 0
    planned = module(single_master, NAME, check=True, managed_fields="rewrite", **options)
    assert planned["would_visit"] == 5
    assert planned["resources"]["configmaps"]["reason"] == "field managers at other versions"
    for name in ("drops-1", "drops-2", "loses-1"):
        api.good("DELETE", f"/api/v1/namespaces/default/configmaps/{name}")
    moved = module(single_master, NAME, managed_fields="rewrite", **options)
    assert (moved["rewritten"], moved["moved"], moved["pruned"]) == (2, 2, 0), moved.message
    assert managers("moves-1") == managers("moves-2") == [("its-owner", "v1")]
    dead_managers(single_master, "drops-1", "drops-2")
    pruned = module(single_master, NAME, managed_fields="prune", **options)
    assert (pruned["rewritten"], pruned["moved"], pruned["pruned"]) == (2, 0, 2), pruned.message
    assert managers("drops-1") == []
    dead_managers(single_master, "loses-1")
    lost = module(single_master, NAME, resources=["configmaps"])
    assert (lost["rewritten"], lost["pruned"]) == (1, 1), lost.message
