# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""upgrade_check on real API servers, with objects that are really stored in old versions, damaged, or refused."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kube_storage.upgrade.plugins.module_utils._cluster import open_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._data import releases as data
from ansible_collections.kube_storage.upgrade.plugins.module_utils._releases import Releases
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import group_version

from tests.control_plane.cluster import Cluster
from tests.release_data.generate import differences

from .conftest import (
    ROOT,
    Result,
    apply,
    config_maps,
    environment,
    etcd_request,
    install_widgets,
    read_etcd,
    wait_until,
    widgets_crd,
)
from .test_role import Play
from .test_stored_versions import POLICIES, delete, policy, put

NAME = "upgrade_check"
AUTOSCALERS = "horizontalpodautoscalers.autoscaling"
WIDGETS = "widgets.shop.example.com"


def old_autoscaler(name: str = "old") -> bytes:
    """A HorizontalPodAutoscaler as API servers up to 1.25 stored it, but in JSON."""
    return json.dumps(
        {
            "kind": "HorizontalPodAutoscaler",
            "apiVersion": "autoscaling/v2beta2",
            "metadata": {"name": name, "namespace": "default", "uid": "11111111-1111-1111-1111-111111111111"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "hunter2"}, "maxReplicas": 3},
        }
    ).encode()


@contextmanager
def holding(cluster: Cluster, stored: Mapping[str, bytes]) -> Iterator[None]:
    """etcd with these values for that time."""
    for key, value in stored.items():
        put(cluster, key, value)
    try:
        yield
    finally:
        for key in stored:
            delete(cluster, key)


@contextmanager
def applied(cluster: Cluster, *documents: Mapping[str, Any]) -> Iterator[None]:
    apply(cluster, *documents)
    try:
        yield
    finally:
        for document in documents:
            cluster.kubectl("delete", document["kind"], document["metadata"]["name"], "--wait=true")


def by_id(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in found}


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


def observe(cluster: Cluster) -> Observation:
    async def run() -> Observation:
        async with open_cluster({"kubeconfig": str(cluster.kubeconfig)}) as opened:
            return await opened.observe()

    return asyncio.run(run())


def test_nothing_speaks_against_a_sound_cluster(one: Cluster, module: Callable[..., Result]) -> None:
    before = read_etcd(one, "/registry/configmaps/")
    found = module(one, NAME, target_version="v1.37.2", etcd=one.etcd)
    assert (found["safe"], found["blockers"], found["unknown"]) == (True, [], [])
    assert found["safe_up_to"] == found["data"]["releases"][-1]
    assert found["upgrade_pending"] is False and found["proven_from_etcd"] is True
    assert found["data"]["target"] == "1.37"
    assert all(row["readable"] for row in found["stored"] if "." not in row["resource"]), found["stored"]
    assert read_etcd(one, "/registry/configmaps/") == before, "a check wrote something"


def test_the_data_say_what_a_real_server_stores(one: Cluster) -> None:
    """Every resource that 1.37 serves is in the data, in the version whose hash it reports."""
    own = {name: Releases().storage_version(name, "1.37") or "" for name in data.STORES}
    resources = {name: one for name, one in observe(one).resources.items() if name in own}
    assert len(resources) > 40
    assert differences(own, resources) == {}
    assert [name for name in observe(one).resources if name not in own] == []


def test_the_data_say_what_a_real_server_can_decode(one: Cluster) -> None:
    """An object of every version in the data is put into etcd, and asked for: it is read, or not, as the data say."""
    # What the API server's own controllers act upon is left alone.
    left = ("apiservices", "customresourcedefinitions", "events", "flowschemas", "ipaddresses", "namespaces", "nodes")
    left += ("prioritylevelconfigurations", "servicecidrs")
    releases, asked, wrong = Releases(), 0, []
    for name, resource in observe(one).resources.items():
        if resource.plural in left or resource.group == "admissionregistration.k8s.io":
            continue
        if not releases.is_built_in(resource.group, resource.kind):
            continue
        prefix = {"services": "services/specs", "endpoints": "services/endpoints", "ingresses": "ingress"}
        prefix["replicationcontrollers"] = "controllers"
        for version in [*releases.versions(resource.group, resource.kind), group_version(resource.group, "v0")]:
            place = "default/decoded" if resource.namespaced else "decoded"
            metadata = {"name": "decoded", **({"namespace": "default"} if resource.namespaced else {})}
            value = {"apiVersion": version, "kind": resource.kind, "metadata": metadata}
            key = f"/registry/{prefix.get(resource.plural, resource.plural)}/{place}"
            namespace = "/namespaces/default" if resource.namespaced else ""
            path = f"{resource.path}{namespace}/{resource.plural}/decoded"
            with holding(one, {key: json.dumps(value).encode()}):
                answer = raw_get(one, path)
            asked += 1
            read = "decoded" in answer and "is registered for version" not in answer
            if read != ("1.37" in releases.readers(version, resource.kind)):
                wrong.append(f"{name} as {version}: {answer[:200]}")
    assert asked > 80
    assert wrong == []


def raw_get(cluster: Cluster, path: str) -> str:
    """The body of the answer, whatever its status."""

    async def run() -> str:
        async with open_cluster({"kubeconfig": str(cluster.kubeconfig)}) as opened:
            return (await opened.entry.request("GET", path)).body.decode()

    return asyncio.run(run())


def test_a_stored_version_that_the_target_cannot_read(one: Cluster, module: Callable[..., Result]) -> None:
    key = "/registry/horizontalpodautoscalers/default/old"
    with holding(one, {key: old_autoscaler()}):
        found = module(one, NAME, target_version="1.37", etcd=one.etcd)
        blockers = by_id(found["blockers"])
        assert set(blockers) == {f"undecodable/{AUTOSCALERS}", f"list_fails/{AUTOSCALERS}"}
        undecodable = blockers[f"undecodable/{AUTOSCALERS}"]
        assert undecodable["what"] == "1 object is stored as autoscaling/v2beta2."
        assert "the last release that can is 1.35" in undecodable["why"]
        assert undecodable["etcd_keys"] == [key]
        assert found["safe"] is False
        assert (found["safe_up_to"], found["safe_up_to_limited_by"]) == ("1.35", [AUTOSCALERS])
        # Without etcd, the server's own word for it.
        without = module(one, NAME, target_version="1.37")
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
        one.kubectl("delete", "--raw", path, "-f", "-", input=json.dumps(options))
        assert key not in read_etcd(one, "/registry/horizontalpodautoscalers/")
    assert module(one, NAME, target_version="1.37", etcd=one.etcd)["safe"] is True


def test_what_cannot_be_known_without_etcd_is_said(one: Cluster, module: Callable[..., Result], tmp_path: Path) -> None:
    store = {"kind": "file", "path": str(tmp_path / "state.json")}
    none = module(one, NAME, target_version="1.37", state_store=store)
    assert AUTOSCALERS not in " ".join(none["unknown"])
    autoscaler = json.loads(old_autoscaler("new").replace(b"v2beta2", b"v2"))
    autoscaler["spec"]["scaleTargetRef"]["apiVersion"] = "apps/v1"
    apply(one, autoscaler)
    found = module(one, NAME, target_version="1.37", state_store=store)
    assert found["proven_from_etcd"] is False
    assert any(f"{AUTOSCALERS} (autoscaling/v2beta1, autoscaling/v2beta2)" in one for one in found["unknown"])
    assert "secrets" not in " ".join(found["unknown"]), "a kind with one version only is never in doubt"
    module(one, "storage_version_hashes", state="recorded", state_store=store)
    assert module(one, NAME, target_version="1.37", state_store=store)["unknown"] == []
    one.kubectl("delete", "hpa", "new")


def test_damaged_objects_are_named_and_their_data_is_not(one: Cluster, module: Callable[..., Result]) -> None:
    sound = {f"/registry/configmaps/default/sound-{number:04d}": sound_config_map(number) for number in range(600)}
    put_all(one, sound)
    stored = {
        "/registry/configmaps/default/zz-corrupt": b"k8s\x00\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff hunter2",
        "/registry/secrets/default/sealed": b"k8s:enc:aescbc:v1:gone:" + b"hunter2" * 9,
        "/registry/limitranges/default/odd": b'{"kind":"LimitRange","apiVersion":"v1","spec":{"limits":"hunter2"}}',
    }
    with holding(one, stored):
        found = module(one, NAME, target_version="1.37", etcd=one.etcd)
    fails = {one["resource"]: one for one in found["blockers"]}
    assert {name: one["etcd_keys"] for name, one in fails.items()} == {
        "configmaps": ["/registry/configmaps/default/zz-corrupt"],  # on the second page
        "secrets": ["/registry/secrets/default/sealed"],
        "limitranges": ["/registry/limitranges/default/odd"],
    }
    assert "can't be decrypted" in fails["secrets"]["what"]
    assert "hunter2" not in found.output
    delete_all(one, "/registry/configmaps/default/sound-")


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


def test_webhooks_that_do_not_answer(one: Cluster, module: Callable[..., Result]) -> None:
    cluster_roles = [
        {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["clusterroles/*", "clusterroles"]}
    ]
    url = {"url": "https://127.0.0.1:1/nobody"}
    only_create = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["*"]}]
    selective = {"matchLabels": {"no": "such-label"}}
    with applied(
        one,
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
        found = module(one, NAME, target_version="1.37", etcd=one.etcd)
    blockers, concerns = by_id(found["blockers"]), by_id(found["concerns"])
    assert set(blockers) == {"webhook/fails/fails.example.com", "webhook/by-url.example.com"}
    assert "its service default/nobody does not exist" in blockers["webhook/fails/fails.example.com"]["what"]
    assert "clusterroles.rbac.authorization.k8s.io" in blockers["webhook/by-url.example.com"]["what"]
    assert set(concerns) == {"webhook/ignored/ignored.example.com", "webhook/selective/selective.example.com"}


def test_a_policy_that_refuses_an_unchanged_object(one: Cluster, module: Callable[..., Result]) -> None:
    match = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["namespaces"]}
    spec = {
        "matchConstraints": {"resourceRules": [match]},
        "validations": [{"expression": "false", "message": "nobody may"}],
    }
    kinds = "admissionregistration.k8s.io/v1"
    refuses = {
        "apiVersion": kinds,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "refuses"},
        "spec": {**spec, "failurePolicy": "Fail"},
    }
    binding = {
        "apiVersion": kinds,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "refuses"},
        "spec": {"policyName": "refuses", "validationActions": ["Deny"]},
    }
    with applied(one, refuses, binding):
        for _attempt in range(30):  # a new policy takes a moment to come into force
            found = module(one, NAME, target_version="1.37")
            if not found["safe"]:
                break
    assert by_id(found["blockers"])["write_refused/namespaces"]["what"].endswith("nobody may.")


def test_new_crds(one: Cluster, module: Callable[..., Result], tmp_path: Path) -> None:
    install_widgets(one, 3)
    try:
        dropped = widgets_crd("v1", ("v1",))
        unserved = widgets_crd("v1beta1", ("v1alpha1", "v1", "v1beta1"))
        unserved["spec"]["versions"][1]["served"] = False
        (tmp_path / "crds.yml").write_text(
            yaml.safe_dump_all([{"apiVersion": "v1", "kind": "Namespace"}, dropped]), encoding="utf-8"
        )
        folder = module(one, NAME, target_version="1.37", crd_manifests=[str(tmp_path)], etcd=one.etcd)
        drop = by_id(folder["blockers"])[f"crd_drops_stored_version/{WIDGETS}"]
        assert "v1alpha1: 3 objects in etcd" in drop["what"]
        assert by_id(folder["concerns"])[f"outstanding_migration/{WIDGETS}"]
        inline = module(one, NAME, target_version="1.37", crd_manifests=[unserved])
        assert f"crd_stops_serving/{WIDGETS}" in by_id(inline["blockers"])
        change = [one for one in inline["plan"]["changes"] if one["resource"] == WIDGETS]
        assert [(one["from"], one["to"], one["objects"]) for one in change] == [
            ("shop.example.com/v1", "shop.example.com/v1beta1", 3)
        ]
        for client, says in (
            ({"url": "https://192.0.2.1:1/convert"}, "nobody answers at https://192.0.2.1:1"),
            ({"service": {"namespace": "default", "name": "convert"}}, "its service default/convert does not exist"),
        ):
            converting = widgets_crd("v1")
            converting["spec"]["conversion"] = {
                "strategy": "Webhook",
                "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]},
            }
            found = module(one, NAME, target_version="1.37", crd_manifests=[json.dumps(converting)])
            assert says in by_id(found["blockers"])[f"crd_conversion/{WIDGETS}"]["what"]
        apply(one, converting)
        fails = module(one, NAME, target_version="1.37")
        assert "conversion webhook" in by_id(fails["blockers"])[f"list_fails/{WIDGETS}"]["what"]
        # As good as its promise: the API server refuses what the check calls a blocker.
        with pytest.raises(Exception, match="storedVersions"):
            apply(one, dropped)
    finally:
        apply(one, widgets_crd("v1"))
        one.kubectl("delete", "crd", WIDGETS)


def test_a_conversion_service_is_asked(one: Cluster, module: Callable[..., Result]) -> None:
    """The API server's own address stands for a webhook that answers; another port for one that is dead."""
    address = one.data["masters"]["master-1"]["address"]

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
    put(one, "/registry/pods/default/webhook", json.dumps(pod).encode())
    apply(one, *service("alive", 6443), *service("dead", 1))
    try:
        alive = module(one, NAME, target_version="1.37", crd_manifests=[converted_by("alive")])
        assert alive["blockers"] == [] and not any("webhook" in one for one in alive["unknown"]), alive["unknown"]
        dead = module(one, NAME, target_version="1.37", crd_manifests=[converted_by("dead")])
        assert "does not answer" in by_id(dead["blockers"])[f"crd_conversion/{WIDGETS}"]["what"]
    finally:
        delete(one, "/registry/pods/default/webhook")
        one.kubectl("delete", "service", "alive", "dead")
        one.kubectl("delete", "endpointslice", "alive", "dead")


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
    one: Cluster, module: Callable[..., Result], options: dict[str, Any], says: str
) -> None:
    done = module(one, NAME, **options)
    assert done.failed and says in done.message, done.message
    assert "Traceback" not in done.output


def test_an_unfinished_migration(one: Cluster, module: Callable[..., Result], tmp_path: Path) -> None:
    store = {"kind": "file", "path": str(tmp_path / "state.json")}
    apply(one, config_maps(3, "unfinished"))
    with applied(one, hook("in-the-way")):
        done = module(one, "storage_migrate", resources=["configmaps"], state_store=store, retries=1)
        assert done.failed
    pending = module(one, NAME, target_version="1.38", state_store=store)
    assert "unfinished_migration/configmaps" in by_id(pending["blockers"])
    assert any("What 1.38 can read is not in the data" in one for one in pending["unknown"])
    read = module(one, NAME, target_version="1.38", state_store=store, etcd=one.etcd)
    assert "unfinished_migration/configmaps" in by_id(read["concerns"]) and read["safe"] is True
    # With all servers at the target, the migration is what comes next: the role must be able to go on.
    assert module(one, NAME, target_version="1.37", state_store=store)["safe"] is True
    assert not module(one, "storage_migrate", resources=["configmaps"], state_store=store, select="changed").failed
    assert module(one, NAME, target_version="1.38", state_store=store)["blockers"] == []
    one.kubectl("delete", "configmaps", "--all", "-n", "default", "--wait=false")


def test_no_way_back_for_what_is_stored_in_a_new_version(one: Cluster, module: Callable[..., Result]) -> None:
    """MutatingAdmissionPolicies are stored as v1 by 1.37; 1.35 can't read that."""
    empty = module(one, NAME, target_version="1.35", etcd=one.etcd)
    assert f"rollback/{POLICIES}" not in by_id(empty["blockers"])
    assert "rollback/kube-apiserver" in by_id(empty["concerns"])
    document = policy()
    with applied(one, document):
        for options in ({"etcd": one.etcd}, {}):
            found = module(one, NAME, target_version="1.35", **options)
            blocker = by_id(found["blockers"])[f"rollback/{POLICIES}"]
            assert "1.35 is older and can't read admissionregistration.k8s.io/v1" in blocker["why"]


def test_who_may_little_is_told_what_was_not_checked(one: Cluster, module: Callable[..., Result]) -> None:
    little = one.user_kubeconfig("little")
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
    with applied(one, role, binding):
        found = module(one, NAME, target_version="1.37", kubeconfig=str(little))
    said = " ".join(found["unknown"])
    assert "the permission to list is missing" in said
    assert "configmaps" in said and "the permission to patch is missing" in said
    assert "Whether webhooks would refuse" in said


def test_from_an_older_server_to_the_next_release(
    new_cluster: Callable[..., Cluster], module: Callable[..., Result], tmp_path: Path
) -> None:
    """The plan, the role that refuses to begin and goes on where it is told to, and the playbooks' tables."""
    cluster = new_cluster(masters=1, version="1.36")
    wait_until(lambda: "mutating" in cluster.kubectl("api-resources", "--api-group=admissionregistration.k8s.io"))
    apply(cluster, policy())
    install_widgets(cluster, 2)
    unknown = module(cluster, NAME, target_version="1.37", etcd=cluster.etcd)
    change = {one["resource"]: one for one in unknown["plan"]["changes"]}[POLICIES]
    assert (change["from"], change["to"]) == ("admissionregistration.k8s.io/v1beta1", "admissionregistration.k8s.io/v1")
    stored = read_etcd(cluster, "/registry/mutatingadmissionpolicies/")
    assert (change["objects"], change["bytes"]) == (1, sum(len(one.value) for one in stored.values()))
    assert change["seconds"] is None and unknown["plan"]["rate"] is None
    assert (unknown["current_version"], unknown["upgrade_pending"]) == ("1.36", True)

    (tmp_path / "crd.yml").write_text(yaml.safe_dump(widgets_crd("v1", ("v1",))), encoding="utf-8")
    variables = {
        "rolling_upgrade_version": "1.37",
        "rolling_upgrade_kubeconfig": str(cluster.kubeconfig),
        "rolling_upgrade_etcd": cluster.etcd,
        "rolling_upgrade_crd_manifests": [str(tmp_path / "crd.yml")],
        "ansible_python_interpreter": sys.executable,
    }
    checked = playbook("check", variables)
    assert checked.returncode != 0
    blocker = f"crd_drops_stored_version/{WIDGETS}"
    lines = checked.stdout.splitlines()
    title = next(line for line in lines if "How to mend it" in line)
    row = next(line for line in lines if line.strip().strip('"').startswith(blocker))
    assert row.index("The new CRD drops") == title.index("What"), "the columns are not aligned"
    assert "something blocks the upgrade to 1.37" in checked.stdout
    # Concerns are printed as Ansible's warnings too.
    assert f"[WARNING]: {WIDGETS}: status.storedVersions still has v1alpha1" in " ".join(checked.stderr.split())
    audited = playbook("audit", variables)
    assert audited.returncode == 0, audited.stdout + audited.stderr
    assert any(
        line.strip().strip('",').split()[:3] == [WIDGETS, "v1alpha1", "json"] for line in audited.stdout.splitlines()
    ), audited.stdout

    play = Play(cluster, tmp_path)
    refused = play.run(variables=variables)
    assert refused.returncode != 0 and "No master was touched" in refused.stdout
    assert play.downtimes() == []
    done = play.run(variables={**variables, "rolling_upgrade_ignore_blockers": [blocker]})
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(play.downtimes()) == 1
    assert "Proven from etcd" in done.stdout
    again = module(cluster, NAME, target_version="1.37", etcd=cluster.etcd)
    assert again["safe"] is True and again["upgrade_pending"] is False
    rate = again["plan"]["rate"]
    assert rate > 0
    assert again["plan"]["all"]["seconds"] == pytest.approx(again["plan"]["all"]["objects"] / rate, abs=0.1)


def playbook(name: str, variables: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        f"kube_storage.upgrade.{name}",
        "-e",
        json.dumps(variables),
    ]
    settings = {**environment(), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections")}
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False, timeout=300)
