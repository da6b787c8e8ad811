# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""upgrade_check on real API servers, with objects that are stored in old versions, damaged, or rejected."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.control_plane.cluster import Cluster

from .support import warm_python
from .support.etcd import delete, etcd_request, put, read_etcd
from .support.modules import ROOT, Result
from .support.objects import POLICIES, apply, config_maps, denying_policy, install_widgets, policy, widgets_crd
from .support.plays import Play, run_playbook
from .support.release_data import decoded_otherwise, holding, old_autoscaler, raw_get, stored_otherwise
from .support.waiting import wait_until

NAME = "upgrade_check"
AUTOSCALERS = "horizontalpodautoscalers.autoscaling"
WIDGETS = "widgets.shop.example.com"


@contextmanager
def applied(cluster: Cluster, *documents: Mapping[str, Any]) -> Iterator[None]:
    apply(cluster, *documents)
    try:
        yield
    finally:
        for document in documents:
            cluster.kubectl("delete", document["kind"], document["metadata"]["name"], "--wait=true")


def by_id(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {finding["id"]: finding for finding in found}


def hook(name: str, **changes: Any) -> dict[str, Any]:
    webhook = {
        "name": f"{name}.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "timeoutSeconds": 2,
        "clientConfig": {"service": {"namespace": "default", "name": "nobody"}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["configmaps"]}],
        **changes,
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [webhook],
    }


def test_a_healthy_cluster_has_no_findings(single_master: Cluster, module: Callable[..., Result]) -> None:
    before = read_etcd(single_master, "/registry/configmaps/")
    found = module(single_master, NAME, target_version="v1.37.2", etcd=single_master.etcd)
    assert (found["safe"], found["blockers"], found["unknown"]) == (True, [], [])
    assert found["safe_up_to"] == found["data"]["releases"][-1]
    assert found["upgrade_pending"] is False and found["proven_from_etcd"] is True
    assert found["data"]["target"] == "1.37"
    assert all(row["readable"] for row in found["stored"] if "." not in row["resource"]), found["stored"]
    assert read_etcd(single_master, "/registry/configmaps/") == before, "a check wrote something"


def test_the_data_say_what_a_real_server_stores(single_master: Cluster) -> None:
    """Every resource that 1.37 serves is in the data, in the version whose hash it reports."""
    assert stored_otherwise(single_master, "1.37") == {}


def test_the_data_say_what_a_real_server_can_decode(single_master: Cluster) -> None:
    """An object of every version in the data is put into etcd, and asked for: it is read, or not, as the data say."""
    asked, wrong = decoded_otherwise(single_master, "1.37")
    assert asked > 80
    assert wrong == []


def test_a_stored_version_that_the_target_cannot_read(single_master: Cluster, module: Callable[..., Result]) -> None:
    key = "/registry/horizontalpodautoscalers/default/old"
    with holding(single_master, {key: old_autoscaler()}):
        found = module(single_master, NAME, target_version="1.37", etcd=single_master.etcd)
        blockers = by_id(found["blockers"])
        assert set(blockers) == {f"undecodable/{AUTOSCALERS}", f"list_fails/{AUTOSCALERS}"}
        undecodable = blockers[f"undecodable/{AUTOSCALERS}"]
        assert undecodable["what"] == "1 object is stored as autoscaling/v2beta2."
        assert "the last release that can is 1.35" in undecodable["why"]
        assert undecodable["etcd_keys"] == [key]
        assert found["safe"] is False
        assert (found["safe_up_to"], found["safe_up_to_limited_by"]) == ("1.35", [AUTOSCALERS])
        # Without etcd, the server's own word for it.
        without = module(single_master, NAME, target_version="1.37")
        fails = by_id(without["blockers"])[f"list_fails/{AUTOSCALERS}"]
        assert fails["etcd_keys"] == [key], fails
        assert "HorizontalPodAutoscaler of version autoscaling/v2beta2" in fails["what"]
        assert "hunter2" not in found.output + without.output
        # The way out that the module's notes describe.
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "ignoreStoreReadErrorWithClusterBreakingPotential": True,
        }
        path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/old"
        single_master.kubectl("delete", "--raw", path, "-f", "-", input=json.dumps(options))
        assert key not in read_etcd(single_master, "/registry/horizontalpodautoscalers/")
    assert module(single_master, NAME, target_version="1.37", etcd=single_master.etcd)["safe"] is True


def test_what_cannot_be_known_without_etcd_is_reported(
    single_master: Cluster, module: Callable[..., Result], tmp_path: Path
) -> None:
    store = {"kind": "file", "path": str(tmp_path / "state.json")}
    none = module(single_master, NAME, target_version="1.37", state_store=store)
    assert AUTOSCALERS not in " ".join(none["unknown"])
    autoscaler = json.loads(old_autoscaler("new").replace(b"v2beta2", b"v2"))
    autoscaler["spec"]["scaleTargetRef"]["apiVersion"] = "apps/v1"
    apply(single_master, autoscaler)
    found = module(single_master, NAME, target_version="1.37", state_store=store)
    assert found["proven_from_etcd"] is False
    assert any(f"{AUTOSCALERS} (autoscaling/v2beta1, autoscaling/v2beta2)" in gap for gap in found["unknown"])
    assert "secrets" not in " ".join(found["unknown"]), "a kind with one version only is never in doubt"
    module(single_master, "storage_version_hashes", state="recorded", state_store=store)
    recorded = module(single_master, NAME, target_version="1.37", state_store=store)
    assert recorded["unknown"] == found["unknown"], "a baseline says nothing about what was stored before"
    done = module(single_master, "storage_migrate", state_store=store)
    assert not done.failed, done.message
    assert module(single_master, NAME, target_version="1.37", state_store=store)["unknown"] == []
    single_master.kubectl("delete", "hpa", "new")


def test_damaged_objects_are_named_and_their_data_is_not(single_master: Cluster, module: Callable[..., Result]) -> None:
    sound = {f"/registry/configmaps/default/sound-{number:04d}": sound_config_map(number) for number in range(600)}
    put_all(single_master, sound)
    stored = {
        "/registry/configmaps/default/zz-corrupt": b"k8s\x00\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff hunter2",
        "/registry/secrets/default/sealed": b"k8s:enc:aescbc:v1:gone:" + b"hunter2" * 9,
        "/registry/limitranges/default/odd": b'{"kind":"LimitRange","apiVersion":"v1","spec":{"limits":"hunter2"}}',
    }
    with holding(single_master, stored):
        found = module(single_master, NAME, target_version="1.37", etcd=single_master.etcd)
    fails = {finding["resource"]: finding for finding in found["blockers"]}
    assert {name: finding["etcd_keys"] for name, finding in fails.items()} == {
        "configmaps": ["/registry/configmaps/default/zz-corrupt"],  # on the second page
        "secrets": ["/registry/secrets/default/sealed"],
        "limitranges": ["/registry/limitranges/default/odd"],
    }
    assert "can't be decrypted" in fails["secrets"]["what"]
    assert "hunter2" not in found.output
    delete_all(single_master, "/registry/configmaps/default/sound-")


def sound_config_map(number: int) -> bytes:
    metadata = {"name": f"sound-{number:04d}", "namespace": "default"}
    return json.dumps({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata}).encode()


def put_all(cluster: Cluster, stored: Mapping[str, bytes]) -> None:
    """Many values with few requests; etcd takes up to 128 operations in one."""
    operations = [
        {"requestPut": {"key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(value).decode()}}
        for key, value in stored.items()
    ]
    for at in range(0, len(operations), 100):
        etcd_request(cluster, "/v3/kv/txn", {"success": operations[at : at + 100]})


def delete_all(cluster: Cluster, prefix: str) -> None:
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    body = {"key": base64.b64encode(prefix.encode()).decode(), "range_end": base64.b64encode(end.encode()).decode()}
    etcd_request(cluster, "/v3/kv/deleterange", body)


def test_webhooks_that_do_not_answer(single_master: Cluster, module: Callable[..., Result]) -> None:
    cluster_roles = [
        {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["clusterroles/*", "clusterroles"]}
    ]
    url = {"url": "https://127.0.0.1:1/nobody"}
    only_create = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["*"]}]
    selective = {"matchLabels": {"no": "such-label"}}
    with applied(
        single_master,
        hook("fails"),
        hook("ignored", failurePolicy="Ignore"),
        hook("by-url", clientConfig=url, rules=cluster_roles),
        hook("elsewhere", rules=only_create),
        hook(
            "selective",
            objectSelector=selective,
            rules=[{**only_create[0], "operations": ["UPDATE"], "resources": ["namespaces"]}],
        ),
    ):
        found = module(single_master, NAME, target_version="1.37", etcd=single_master.etcd)
    blockers, concerns = by_id(found["blockers"]), by_id(found["concerns"])
    assert set(blockers) == {"webhook/fails/fails.example.com", "webhook/by-url.example.com"}
    assert "its service default/nobody does not exist" in blockers["webhook/fails/fails.example.com"]["what"]
    assert "clusterroles.rbac.authorization.k8s.io" in blockers["webhook/by-url.example.com"]["what"]
    assert set(concerns) == {"webhook/ignored/ignored.example.com", "webhook/selective/selective.example.com"}


def test_a_policy_that_refuses_an_unchanged_object(single_master: Cluster, module: Callable[..., Result]) -> None:
    with applied(single_master, *denying_policy("refuses", "namespaces", "false", "nobody may")):
        for _attempt in range(30):  # a new policy takes a moment to come into force
            found = module(single_master, NAME, target_version="1.37")
            if not found["safe"]:
                break
        shown = module(single_master, NAME, target_version="1.37", show_server_messages=True)
    # A policy's message may be made from the object, so it is shown only to who asks for it.
    refused = by_id(found["blockers"])["write_refused/namespaces"]["what"]
    assert (
        refused.startswith("The admission policy refuses (binding refuses) refuses to write")
        and "nobody may" not in found.output
    )
    assert "nobody may" in by_id(shown["blockers"])["write_refused/namespaces"]["what"]


def test_new_crds(single_master: Cluster, module: Callable[..., Result], tmp_path: Path) -> None:
    install_widgets(single_master, 3)
    try:
        dropped = widgets_crd("v1", ("v1",))
        unserved = widgets_crd("v1beta1", ("v1alpha1", "v1", "v1beta1"))
        unserved["spec"]["versions"][1]["served"] = False
        (tmp_path / "crds.yml").write_text(
            yaml.safe_dump_all([{"apiVersion": "v1", "kind": "Namespace"}, dropped]), encoding="utf-8"
        )
        folder = module(
            single_master, NAME, target_version="1.37", crd_manifests=[str(tmp_path)], etcd=single_master.etcd
        )
        drop = by_id(folder["blockers"])[f"crd_drops_stored_version/{WIDGETS}"]
        assert "v1alpha1: 3 objects in etcd" in drop["what"]
        managed = by_id(folder["blockers"])[f"crd_drops_managed_version/{WIDGETS}"]
        assert "v1alpha1 (3 objects), which the new CRD drops" in managed["what"]
        assert f"crd_refused/{WIDGETS}" not in by_id(folder["blockers"]), "the same as crd_drops_stored_version"
        assert by_id(folder["concerns"])[f"outstanding_migration/{WIDGETS}"]
        inline = module(single_master, NAME, target_version="1.37", crd_manifests=[unserved])
        assert f"crd_stops_serving/{WIDGETS}" in by_id(inline["blockers"])
        change = [planned for planned in inline["plan"]["changes"] if planned["resource"] == WIDGETS]
        assert [(move["from"], move["to"], move["objects"]) for move in change] == [
            ("shop.example.com/v1", "shop.example.com/v1beta1", 3)
        ]
        for client, says in (
            ({"url": "https://192.0.2.1:1/convert"}, "nothing answers at https://192.0.2.1:1"),
            ({"service": {"namespace": "default", "name": "convert"}}, "its service default/convert does not exist"),
        ):
            converting = widgets_crd("v1")
            converting["spec"]["conversion"] = {
                "strategy": "Webhook",
                "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]},
            }
            found = module(single_master, NAME, target_version="1.37", crd_manifests=[json.dumps(converting)])
            assert says in by_id(found["blockers"])[f"crd_conversion/{WIDGETS}"]["what"]
        apply(single_master, converting)
        fails = module(single_master, NAME, target_version="1.37")
        assert "conversion webhook" in by_id(fails["blockers"])[f"list_fails/{WIDGETS}"]["what"]
        # It keeps its promise: the API server refuses what the check calls a blocker.
        with pytest.raises(Exception, match="storedVersions"):
            apply(single_master, dropped)
    finally:
        apply(single_master, widgets_crd("v1"))
        single_master.kubectl("delete", "crd", WIDGETS)


def test_crds_that_an_api_server_refuses(single_master: Cluster, module: Callable[..., Result], tmp_path: Path) -> None:
    """Issue 13, number 7: each passed as safe; now the verdict is the server's own."""
    install_widgets(single_master, 1)
    try:
        two = widgets_crd("v1")
        two["spec"]["versions"][0]["storage"] = True
        scope = widgets_crd("v1")
        scope["spec"]["scope"] = "Cluster"
        unknown_type = widgets_crd("v1")
        unknown_type["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["properties"]["spec"]["type"] = "strange"
        older = widgets_crd("v1alpha1", ("v1alpha1",))
        elsewhere = json.loads(json.dumps(two).replace("shop.example.com", "other.example.com"))
        folder = tmp_path / "charts" / "crds"
        folder.mkdir(parents=True)
        for name, document, says in (
            ("two", two, "in a dry run"),
            ("scope", scope, "in a dry run"),
            ("type", unknown_type, "in a dry run"),
            ("elsewhere", elsewhere, "in a dry run"),
        ):
            (folder / "crd.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
            found = module(single_master, NAME, target_version="1.37", crd_manifests=[str(tmp_path)])
            refused = by_id(found["blockers"])[f"crd_refused/{document['metadata']['name']}"]
            assert says in refused["what"], (name, refused)
            with pytest.raises(Exception, match="invalid"):
                apply(single_master, document)
        found = module(single_master, NAME, target_version="1.37", crd_manifests=[older])
        back = by_id(found["blockers"])[f"crd_drops_storage_version/{WIDGETS}"]
        assert "it is older than the CRD in the cluster" in back["what"]
        sound = module(single_master, NAME, target_version="1.37", crd_manifests=[widgets_crd("v1")])
        assert sound["blockers"] == [] and not any("accepts the new CRD" in text for text in sound["unknown"])
    finally:
        single_master.kubectl("delete", "crd", WIDGETS)


def test_a_crd_that_lost_a_version_and_one_that_is_being_deleted(
    single_master: Cluster, module: Callable[..., Result]
) -> None:
    """Issue 13, numbers 1 and 6."""
    install_widgets(single_master, 2)
    lists = "/registry/shop.example.com/widgets/default/"
    try:
        status = {"status": {"storedVersions": ["v1"]}}
        patch = ["patch", "crd", WIDGETS, "--subresource=status", "--type=merge", "-p", json.dumps(status)]
        single_master.kubectl(*patch)
        apply(single_master, widgets_crd("v1", ("v1",)))
        wait_until(lambda: "invalid group/version" in raw_get(single_master, "/apis/shop.example.com/v1/widgets"))
        found = module(single_master, NAME, target_version="1.37", etcd=single_master.etcd)
        blockers = by_id(found["blockers"])
        again = "Add the version to the CRD again (it need not be served)"
        for name in (f"undecodable/{WIDGETS}", f"list_fails/{WIDGETS}"):
            assert blockers[name]["remediation"].startswith(again), blockers[name]
        assert len(read_etcd(single_master, lists)) == 2
        # It keeps its promise.
        apply(single_master, widgets_crd("v1"))
        wait_until(lambda: "invalid group/version" not in raw_get(single_master, "/apis/shop.example.com/v1/widgets"))
        done = module(single_master, "storage_migrate", resources=[WIDGETS])
        assert not done.failed, done.message
        apply(single_master, widgets_crd("v1", ("v1",)))
        lost = module(single_master, NAME, target_version="1.37")
        gone = by_id(lost["concerns"])[f"managers_of_dropped_version/{WIDGETS}"]
        assert "v1alpha1 (2 objects), which the CRD no longer has" in gone["what"]
        apply(single_master, widgets_crd("v1"))
        finalizer = {"metadata": {"finalizers": ["example.com/held"]}}
        held = ["patch", "widget", "widget-000", "-n", "default", "--type=merge", "-p"]
        single_master.kubectl(*held, json.dumps(finalizer))
        single_master.kubectl("delete", "crd", WIDGETS, "--wait=false")
        going = module(single_master, NAME, target_version="1.37", crd_manifests=[widgets_crd("v1")])
        assert "The CRD is being deleted" in by_id(going["blockers"])[f"crd_terminating/{WIDGETS}"]["what"]
        single_master.kubectl(*held, json.dumps({"metadata": {"finalizers": None}}))
    finally:
        single_master.kubectl("delete", "crd", WIDGETS, "--ignore-not-found")


def test_a_server_without_the_key_and_a_half_upgraded_cluster(
    new_cluster: Callable[..., Cluster], module: Callable[..., Result], tmp_path: Path
) -> None:
    """Issue 13, numbers 4 and 6: what was said depended on where the kubeconfig points."""
    cluster = new_cluster(masters=2, version="1.36")
    key = {"name": "key1", "secret": base64.b64encode(b"k" * 32).decode()}
    entry = {"resources": ["secrets"], "providers": [{"aescbc": {"keys": [key]}}, {"identity": {}}]}
    document = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": [entry]}
    (tmp_path / "encryption.json").write_text(json.dumps(document), encoding="utf-8")
    cluster.encrypt("master-1", tmp_path / "encryption.json")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sealed", "namespace": "default"}}
    apply(cluster, secret, kubeconfig=cluster.folder / "kubeconfig-master-1")
    name = "servers_differ/secrets"
    for master in ("master-1", "master-2"):
        for options in ({}, {"etcd": cluster.etcd}):
            own = str(cluster.folder / f"kubeconfig-{master}")
            found = module(cluster, NAME, target_version="1.37", kubeconfig=own, **options)
            blockers = by_id(found["blockers"])
            assert cluster.url("master-2") in blockers[name]["what"].partition("can't read")[0], found.output
            assert "unsafe delete" not in found.output and "Delete nothing" in blockers[name]["remediation"]
            assert ("list_fails/secrets" in blockers) == (master == "master-2")
    cluster.encrypt("master-2", tmp_path / "encryption.json")
    assert name not in by_id(module(cluster, NAME, target_version="1.37", etcd=cluster.etcd)["blockers"])
    cluster.upgrade("master-1", "1.37")
    back = module(cluster, NAME, target_version="1.36", etcd=cluster.etcd)
    assert back["current_version"] == "1.37" and "the rollback from 1.37 to 1.36" in back["msg"]
    assert "downgrade/kube-apiserver" in by_id(back["blockers"]) and back["safe"] is False
    assert "compatibility/kube-apiserver" not in by_id(back["blockers"])
    forward = module(cluster, NAME, target_version="1.37", etcd=cluster.etcd)
    assert (forward["current_version"], forward["upgrade_pending"]) == ("1.36", True)
    assert forward["running_versions"] == ["1.36", "1.37"]
    assert "peer_proxy/kube-apiserver" in by_id(forward["concerns"])


def test_a_conversion_service_is_asked(single_master: Cluster, module: Callable[..., Result]) -> None:
    """The API server's own address stands for a webhook that answers; another port for one that is dead."""
    address = single_master.data["masters"]["master-1"]["address"]

    def service(name: str, port: int) -> list[dict[str, Any]]:
        return [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"ports": [{"port": 443, "targetPort": port}]},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": name,
                    "namespace": "default",
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": "IPv4",
                "ports": [{"name": "", "port": port}],
                "endpoints": [
                    {
                        "addresses": [address],
                        "conditions": {"ready": True},
                        "targetRef": {"kind": "Pod", "namespace": "default", "name": "webhook"},
                    }
                ],
            },
        ]

    def converted_by(name: str) -> dict[str, Any]:
        crd = widgets_crd("v1")
        config = {"service": {"namespace": "default", "name": name, "path": "/version"}}
        crd["spec"]["conversion"] = {
            "strategy": "Webhook",
            "webhook": {"clientConfig": config, "conversionReviewVersions": ["v1"]},
        }
        return crd

    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "webhook", "namespace": "default", "uid": "22222222-2222-2222-2222-222222222222"},
        "spec": {"containers": [{"name": "webhook", "image": "webhook"}]},
        "status": {"podIP": address, "podIPs": [{"ip": address}]},
    }
    put(single_master, "/registry/pods/default/webhook", json.dumps(pod).encode())
    apply(single_master, *service("alive", 6443), *service("dead", 1))
    try:
        alive = module(single_master, NAME, target_version="1.37", crd_manifests=[converted_by("alive")])
        assert alive["blockers"] == [] and not any("webhook" in gap for gap in alive["unknown"]), alive["unknown"]
        dead = module(single_master, NAME, target_version="1.37", crd_manifests=[converted_by("dead")])
        assert "does not answer" in by_id(dead["blockers"])[f"crd_conversion/{WIDGETS}"]["what"]
    finally:
        delete(single_master, "/registry/pods/default/webhook")
        single_master.kubectl("delete", "service", "alive", "dead")
        single_master.kubectl("delete", "endpointslice", "alive", "dead")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target_version": "next"}, "must be a release such as 1.37"),
        ({"target_version": "1.37", "crd_manifests": ["/nowhere/crd.yml"]}, "/nowhere/crd.yml can't be read"),
        ({"target_version": "1.37", "crd_manifests": ["a: [\n"]}, "not valid YAML"),
        (
            {
                "target_version": "1.37",
                "crd_manifests": [{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}],
            },
            "has no valid spec",
        ),
    ],
)
def test_bad_input_is_one_sentence(
    single_master: Cluster, module: Callable[..., Result], options: dict[str, Any], says: str
) -> None:
    done = module(single_master, NAME, **options)
    assert done.failed and says in done.message, done.message
    assert "Traceback" not in done.output


def test_an_unfinished_migration(single_master: Cluster, module: Callable[..., Result], tmp_path: Path) -> None:
    store = {"kind": "file", "path": str(tmp_path / "state.json")}
    apply(single_master, config_maps(3, "unfinished"))
    with applied(single_master, hook("in-the-way")):
        done = module(single_master, "storage_migrate", resources=["configmaps"], state_store=store, retries=1)
        assert done.failed
    pending = module(single_master, NAME, target_version="1.38", state_store=store)
    assert "unfinished_migration/configmaps" in by_id(pending["blockers"])
    assert any("What 1.38 can read is not in the data" in gap for gap in pending["unknown"])
    read = module(single_master, NAME, target_version="1.38", state_store=store, etcd=single_master.etcd)
    assert "unfinished_migration/configmaps" in by_id(read["concerns"]) and read["safe"] is True
    # With all servers at the target, the migration is what comes next: the role must be able to continue.
    assert module(single_master, NAME, target_version="1.37", state_store=store)["safe"] is True
    assert not module(
        single_master, "storage_migrate", resources=["configmaps"], state_store=store, select="changed"
    ).failed
    assert module(single_master, NAME, target_version="1.38", state_store=store)["blockers"] == []
    single_master.kubectl("delete", "configmaps", "--all", "-n", "default", "--wait=false")


def test_no_way_back_for_what_is_stored_in_a_new_version(single_master: Cluster, module: Callable[..., Result]) -> None:
    """MutatingAdmissionPolicies are stored as v1 by 1.37; 1.35 can't read that, and 1.37 writes for 1.36 and newer."""
    (server,) = module(single_master, "storage_version_hashes")["servers"]
    assert server["min_compatibility_version"] == "1.36"
    empty = module(single_master, NAME, target_version="1.35", etcd=single_master.etcd)
    assert f"rollback/{POLICIES}" not in by_id(empty["blockers"])
    assert {"downgrade/kube-apiserver", "compatibility/kube-apiserver"} <= set(by_id(empty["blockers"]))
    document = policy("stored")
    with applied(single_master, document):
        for options in ({"etcd": single_master.etcd}, {}):
            found = module(single_master, NAME, target_version="1.35", **options)
            blocker = by_id(found["blockers"])[f"rollback/{POLICIES}"]
            assert "1.35 is older and can't read admissionregistration.k8s.io/v1" in blocker["why"]


def test_a_user_with_few_permissions_learns_what_was_not_checked(
    single_master: Cluster, module: Callable[..., Result]
) -> None:
    little = single_master.user_kubeconfig("little")
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "little"},
        "rules": [
            {"apiGroups": ["apiregistration.k8s.io"], "resources": ["apiservices"], "verbs": ["list"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]},
            {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["list"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]},
        ],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "little"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "little"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "little"}],
    }
    with applied(single_master, role, binding):
        found = module(single_master, NAME, target_version="1.37", kubeconfig=str(little))
    said = " ".join(found["unknown"])
    assert "the permission to list is missing" in said
    assert "configmaps" in said and "the permission to patch is missing" in said
    assert "Whether webhooks would refuse" in said


def test_a_manifest_in_a_version_that_the_target_does_not_serve(
    new_cluster: Callable[..., Cluster], module: Callable[..., Result]
) -> None:
    """Only its version is read from the annotation in which kubectl keeps it."""
    cluster = new_cluster(masters=1, version="1.36", flags=["runtime-config=networking.k8s.io/v1beta1=true"])
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": "hunter2"}}
    spec = {"cidrs": ["10.200.0.0/24"]}
    manifest = {"kind": "ServiceCIDR", "metadata": {"name": "more"}, "spec": spec}
    apply(cluster, secret, {**manifest, "apiVersion": "networking.k8s.io/v1beta1"})
    found = module(cluster, NAME, target_version="1.37")
    concern = by_id(found["concerns"])["last_applied/servicecidrs.networking.k8s.io"]
    assert concern["what"] == (
        "1 object was last applied by kubectl from a manifest with apiVersion networking.k8s.io/v1beta1, which 1.37 does not serve."
    )
    assert found["safe"] is True and "hunter2" not in found.output
    apply(cluster, {**manifest, "apiVersion": "networking.k8s.io/v1"})
    again = module(cluster, NAME, target_version="1.37")
    assert not [finding for finding in again["concerns"] if finding["check"] == "last_applied"]


def test_from_an_older_server_to_the_next_release(
    new_cluster: Callable[..., Cluster], module: Callable[..., Result], tmp_path: Path
) -> None:
    """The plan, the role that refuses to begin unless it is told to ignore a blocker, and the playbooks' tables."""
    cluster = new_cluster(masters=1, version="1.36")
    wait_until(lambda: "mutating" in cluster.kubectl("api-resources", "--api-group=admissionregistration.k8s.io"))
    apply(cluster, policy("stored"))
    install_widgets(cluster, 2)
    unknown = module(cluster, NAME, target_version="1.37", etcd=cluster.etcd)
    change = {planned["resource"]: planned for planned in unknown["plan"]["changes"]}[POLICIES]
    assert (change["from"], change["to"]) == ("admissionregistration.k8s.io/v1beta1", "admissionregistration.k8s.io/v1")
    stored = read_etcd(cluster, "/registry/mutatingadmissionpolicies/")
    assert (change["objects"], change["bytes"]) == (1, sum(len(entry.value) for entry in stored.values()))
    assert change["seconds"] is None and unknown["plan"]["rate"] is None
    assert (unknown["current_version"], unknown["upgrade_pending"]) == ("1.36", True)

    (tmp_path / "crd.yml").write_text(yaml.safe_dump(widgets_crd("v1", ("v1",))), encoding="utf-8")
    variables = {
        "rolling_upgrade_version": "1.37",
        "rolling_upgrade_kubeconfig": str(cluster.kubeconfig),
        "rolling_upgrade_etcd": cluster.etcd,
        "rolling_upgrade_crd_manifests": [str(tmp_path / "crd.yml")],
        "ansible_python_interpreter": warm_python.interpreter(),
    }
    checked = playbook("check", variables)
    assert checked.returncode != 0
    blocker = f"crd_drops_stored_version/{WIDGETS}"
    lines = checked.stdout.splitlines()
    found = lines[lines.index(f"BLOCKER {blocker}") :]
    assert found[1].startswith("  The new CRD drops") and "  To upgrade despite it, add:" in found, checked.stdout
    assert (
        max(len(line) for line in found[: found.index("Storage versions that will change:")] if line[:4] != "    ") < 80
    )
    assert "something blocks the upgrade to 1.37" in checked.stdout
    # Concerns are printed as Ansible's warnings too.
    assert f"[WARNING]: {WIDGETS}: status.storedVersions still has v1alpha1" in " ".join(checked.stderr.split())
    audited = playbook("audit", variables)
    assert audited.returncode == 0, audited.stdout + audited.stderr
    lines = audited.stdout.splitlines()
    rows = [after for line, after in zip(lines, lines[1:]) if line == WIDGETS]
    assert any(row.startswith("  Version: v1alpha1, Encoding: json, ") for row in rows), audited.stdout

    play = Play(cluster, tmp_path)
    refused = play.run(variables=variables)
    assert refused.returncode != 0 and "No master was touched" in refused.stdout
    assert play.downtimes() == []
    done = play.run(
        variables={**variables, "rolling_upgrade_ignore_blockers": [blocker, f"crd_drops_managed_version/{WIDGETS}"]}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(play.downtimes()) == 1
    assert "Proven from etcd" in done.stdout
    again = module(cluster, NAME, target_version="1.37", etcd=cluster.etcd)
    assert again["safe"] is True and again["upgrade_pending"] is False
    rate = again["plan"]["rate"]
    assert rate > 0
    assert again["plan"]["all"]["seconds"] == pytest.approx(again["plan"]["all"]["objects"] / rate, abs=0.1)


def playbook(name: str, variables: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    return run_playbook(f"kube_storage.upgrade.{name}", ROOT, timeout=300, variables=variables)
