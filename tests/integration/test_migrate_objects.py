# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""storage_migrate and objects that can't be rewritten, CRDs of every odd kind, and APIs that are not ours."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.control_plane.cluster import Cluster

from .support.etcd import read_etcd
from .support.modules import Result
from .support.objects import apply, denying_policy
from .support.runs import during, finish, start_process
from .support.servers import HttpsServer, webhook
from .support.stock import GROUP, MERGE_PATCH, Api, Stock, version_hash
from .support.waiting import wait_until

NAME = "storage_migrate"
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


MakeStock = Callable[..., Stock]


@pytest.fixture
def new_stock(single_master: Cluster) -> Iterator[MakeStock]:
    """Makes custom resources that are gone when the test ends."""
    made: list[Stock] = []

    def make(plural: str, **options: Any) -> Stock:
        made.append(Stock(single_master, plural, **options))
        return made[-1]

    yield make
    for stock in made:
        if stock.conversion["strategy"] != "None":
            stock.update(conversion={"strategy": "None", "webhook": None})
        stock.remove()


@contextmanager
def validating(stock: Stock, decide: Callable[[dict[str, Any]], tuple[bool, float]], timeout: int) -> Iterator[None]:
    """While it lasts, a webhook decides about updates of a stock."""
    with HttpsServer(stock.cluster, webhook(decide)) as server:
        hook = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": stock.plural},
            "webhooks": [
                {
                    "name": f"{stock.plural}.hooks.example.com",
                    "clientConfig": {"url": f"{server.url}/", "caBundle": server.ca_bundle},
                    "rules": [
                        {
                            "apiGroups": [GROUP],
                            "apiVersions": ["*"],
                            "operations": ["UPDATE"],
                            "resources": [stock.plural],
                        }
                    ],
                    "failurePolicy": "Fail",
                    "sideEffects": "None",
                    "timeoutSeconds": timeout,
                    "admissionReviewVersions": ["v1"],
                }
            ],
        }
        stock.api.good("POST", HOOKS, hook)
        try:
            yield
        finally:
            stock.api.good("DELETE", f"{HOOKS}/{stock.plural}")


def is_refused(stock: Stock, name: str) -> bool:
    """Whether the server refuses to update an object now; nothing is written."""
    patch = {"metadata": {"labels": {"probe": "x"}}}
    return stock.api.send("PATCH", stock.path(name) + "?dryRun=All", patch, MERGE_PATCH)[0] >= 400


def largest(stock: Stock, name: str) -> int:
    """Creates the largest object that etcd takes, within 32 bytes; returns the length of its text."""

    def create(length: int, dry: bool) -> bool:
        body = {
            "apiVersion": f"{GROUP}/{stock.served}",
            "kind": stock.kind,
            "metadata": {"name": name},
            "spec": {"text": "x" * length},
        }
        status, answer = stock.api.send("POST", stock.path(), body)
        if status == 201 and dry:
            stock.api.good("DELETE", stock.path(name))
        assert status == 201 or "too large" in answer["message"], answer
        return status == 201

    low, high = 1_400_000, 1_600_000
    while high - low > 32:
        middle = (low + high) // 2
        low, high = (middle, high) if create(middle, dry=True) else (low, middle)
    assert create(low, dry=False)
    return low


def test_objects_that_cannot_be_rewritten(
    single_master: Cluster, new_stock: MakeStock, module: Callable[..., Result]
) -> None:
    """Each is reported with the server's reason, the rest is migrated, and afterwards only they are visited again."""
    goods = new_stock("goods")  # a webhook denies some
    dead = new_stock("deadlines")  # its webhook never answers in time
    slow = new_stock("sloths")  # its webhook takes a second
    strict = new_stock("stricts")  # some objects don't fit the schema anymore
    broken = new_stock("converts")  # its conversion webhook is down
    long = "a-version-whose-name-makes-each-object-longer-than-it-was"
    large = new_stock("whales", versions=("v1", long))
    every = [goods, dead, slow, strict, broken, large]
    goods.fill(120)
    dead.fill(3)
    slow.fill(48)
    strict.fill(20)
    strict.fill(2, prefix="misfit", spec={"old": True})
    broken.fill(5)
    large.fill(3)
    largest(large, "largest")
    for stock in every[:-1]:
        stock.store("v1")
    large.store(long)
    strict.update(schema={"type": "object", "x-kubernetes-preserve-unknown-fields": True, "not": {"required": ["old"]}})
    broken.update(
        conversion={
            "strategy": "Webhook",
            "webhook": {
                "conversionReviewVersions": ["v1"],
                "clientConfig": {"url": f"https://{single_master.network.gateway}:1/convert"},
            },
        }
    )
    wait_until(lambda: is_refused(strict, "misfit-0000"))
    wait_until(lambda: broken.api.send("GET", f"/apis/{GROUP}/v1/converts?limit=500")[0] >= 500)
    denied = {f"item-{i:04d}" for i in range(7)}
    names = [stock.name for stock in every]
    with (
        validating(goods, lambda request: (request["name"] not in denied, 0.0), 10),
        validating(dead, lambda request: (True, 3.0), 1),
        validating(slow, lambda request: (True, 1.0), 10),
    ):
        wait_until(lambda: is_refused(goods, "item-0000") and is_refused(dead, "item-0000"))
        failed = module(single_master, NAME, resources=names, workers=16)
        shown = module(single_master, NAME, select="changed", resources=[goods.name], show_server_messages=True)
    assert failed.failed
    by_resource: dict[str, list[dict[str, Any]]] = {}
    for failure in failed.data["failures"]:
        by_resource.setdefault(failure["resource"], []).append(failure)
    assert {failure["name"] for failure in by_resource[goods.name]} == denied
    assert all(
        failure["status"] == 403
        and "denied the request" in failure["message"]
        and "frozen by its owner" not in failure["message"]  # A webhook's own words may quote the object.
        for failure in by_resource[goods.name]
    )
    assert {failure["name"] for failure in shown.data["failures"]} == denied
    assert all("frozen by its owner" in failure["message"] for failure in shown.data["failures"])
    assert len(by_resource[dead.name]) == 3
    assert all("failed calling webhook" in failure["message"] for failure in by_resource[dead.name])
    assert {failure["name"] for failure in by_resource[strict.name]} == {"misfit-0000", "misfit-0001"}
    assert all(failure["status"] == 422 for failure in by_resource[strict.name])
    assert [failure["name"] for failure in by_resource[broken.name]] == [None]
    assert "conversion webhook" in by_resource[broken.name][0]["message"]
    assert [failure["name"] for failure in by_resource[large.name]] == ["largest"]
    assert "too large" in by_resource[large.name][0]["message"]
    assert slow.name not in by_resource
    number = 7 + 3 + 2 + 1 + 1
    assert failed.data["totals"]["failed"] == number
    assert f"{number} objects or lists could not be rewritten, {113 + 48 + 20 + 3} are done" in failed.message
    assert "run it again with select: changed" in failed.message
    counts = failed.data["resources"]
    assert {name: counts[name]["rewritten"] for name in names} == {
        goods.name: 113,
        dead.name: 0,
        slow.name: 48,
        strict.name: 20,
        broken.name: 0,
        large.name: 3,
    }
    assert goods.stale() == sorted(denied) and slow.stale() == [] and large.stale() == ["largest"]
    # The slow one took its seconds; what had nothing to do with it was done long before.
    assert counts[goods.name]["seconds"] < counts[slow.name]["seconds"]
    assert counts[slow.name]["persisted"] is True and counts[goods.name]["persisted"] is False
    assert [crd["crd"] for crd in failed.data["trimmed"]] == [slow.name]

    broken.update(conversion={"strategy": "None", "webhook": None})
    wait_until(lambda: broken.api.send("GET", f"/apis/{GROUP}/v1/converts")[0] == 200)
    wait_until(lambda: not is_refused(goods, "item-0000") and not is_refused(dead, "item-0000"))
    strict.api.good("DELETE", strict.path("misfit-0000"))
    strict.api.good("PATCH", strict.path("misfit-0001"), {"spec": {"old": None}}, MERGE_PATCH)
    large.api.good("PATCH", large.path("largest"), {"spec": {"text": "short"}}, MERGE_PATCH)
    done = module(single_master, NAME, select="changed", resources=names)
    assert done["resumed"] is True and slow.name not in done["resources"]
    counts = done["resources"]
    assert counts[goods.name]["rewritten"] == 7 and counts[goods.name]["unchanged"] == 0
    assert counts[dead.name]["rewritten"] == 3 and counts[broken.name]["rewritten"] == 5
    assert counts[strict.name]["deleted"] == 1
    assert all(stock.stale() == [] for stock in every)


def test_a_namespace_that_terminates(single_master: Cluster, new_stock: MakeStock) -> None:
    stock = new_stock("tenants")
    single_master.kubectl("create", "namespace", "leaving")
    stock.fill(40, prefix="staying")
    stock.fill(120, namespace="leaving")
    stock.store("v1")
    single_master.start("controller-manager")
    try:
        process = start_process(single_master, resources=[stock.name], max_rate=40, page_size=30)
        during(process, lambda: len(stock.stale()) < 140)
        single_master.kubectl("delete", "namespace", "leaving", "--wait=false")
        done = finish(process)
        wait_until(lambda: "leaving" not in single_master.kubectl("get", "namespaces", "-o", "name"))
    finally:
        single_master.kill("controller-manager")
    counts = done["resources"][stock.name]
    assert counts["failed"] == 0 and counts["persisted"] is True
    assert counts["rewritten"] > 20 and counts["rewritten"] + counts["deleted"] + counts["conflicts"] <= 160
    assert stock.stale() == [] and len(stock.stored()) == 40


def test_a_crd_removed_during_a_run(single_master: Cluster, new_stock: MakeStock) -> None:
    """Nothing is claimed about objects whose list was complete, either: neither that they were deleted nor that they are migrated."""
    stock = new_stock("fleetings")
    stock.fill(120)
    stock.store("v1")
    process = start_process(single_master, resources=[stock.name, "serviceaccounts"], max_rate=30, page_size=500)
    during(process, lambda: len(stock.stale()) < 100)
    stock.remove()
    done = finish(process)
    counts = done["resources"][stock.name]
    assert done["totals"]["failed"] == 0 and counts["persisted"] is False
    assert "no longer served" in counts["reason"] and f"objects of {stock.name} is unknown" in done["msg"]
    assert done["resources"]["serviceaccounts"]["persisted"] is True
    assert done["trimmed"] == done["untrimmed"] == []


def test_a_storage_version_that_is_not_served(
    single_master: Cluster, new_stock: MakeStock, module: Callable[..., Result]
) -> None:
    stock = new_stock("hiddens", versions=("v1", "internal"), unserved=("internal",))
    stock.fill(10)
    stock.store("internal")
    assert len(stock.stale()) == 10
    done = module(single_master, NAME, resources=[stock.name])
    assert done["rewritten"] == 10 and stock.stale() == []
    assert done["trimmed"] == [{"crd": stock.name, "before": ["v1", "internal"], "after": ["internal"]}]
    assert stock.stored_versions() == ["internal"]


def test_managers_are_pruned_though_clients_write(
    single_master: Cluster, new_stock: MakeStock, module: Callable[..., Result]
) -> None:
    """The patch is guarded by resourceVersion: what a client writes meanwhile stays as the server answered it."""
    stock = new_stock("managers")
    names = stock.fill(90)
    stock.store("v1")
    assert module(single_master, NAME, resources=[stock.name])["trimmed"][0]["after"] == ["v1"]
    stock.update(versions=("v1",))
    process = start_process(single_master, resources=[stock.name], managed_fields="prune", max_rate=15, page_size=500)

    def old() -> set[str]:
        return {key.partition("/")[2] for key, entry in stock.stored().items() if b"v1alpha1" in entry.value}

    during(process, lambda: len(old()) < 90)
    written = {}
    for name in names[-5:]:
        path = stock.path(name) + "?fieldManager=client"
        metadata = stock.api.good("PATCH", path, {"spec": {"count": 7}}, MERGE_PATCH)["metadata"]
        # Next to entries of versions that it doesn't know, the server may not track anything new.
        managed = metadata.get("managedFields") or []
        written[name] = [entry for entry in managed if entry["apiVersion"] == f"{GROUP}/v1"]
    done = finish(process)
    assert 85 <= done["pruned"] <= 90 and old() == set()
    for name, entries in written.items():
        found = stock.get(name)
        assert found["spec"]["count"] == 7 and (found["metadata"].get("managedFields") or []) == entries


def test_a_crd_that_may_not_be_trimmed(
    single_master: Cluster, new_stock: MakeStock, module: Callable[..., Result]
) -> None:
    """A policy forbids it: that is a failure with the server's reason, and the next run tries it again."""
    stock = new_stock("locks")
    stock.fill(8)
    stock.store("v1")
    policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    resource = "customresourcedefinitions/status.apiextensions.k8s.io"
    unless = "object.metadata.name != 'locks.stock.example.com'"
    apply(single_master, *denying_policy("no-trimming", resource, unless, "locked"))
    touch = {"metadata": {"labels": {"touched": "x"}}}
    status = f"{stock.crd_path}/status?dryRun=All"
    wait_until(lambda: stock.api.send("PATCH", status, touch, MERGE_PATCH)[0] == 422)
    failed = module(single_master, NAME, resources=[stock.name])
    assert failed.failed and failed.data["rewritten"] == 8 and stock.stale() == []
    assert "storedVersions not trimmed" in failed.message and "no-trimming" in failed.message
    assert failed.data["failures"][0]["name"] == stock.name and "locked" not in failed.message
    shown = module(single_master, NAME, select="changed", resources=[stock.name], show_server_messages=True)
    assert "denied request: locked" in shown.data["failures"][0]["message"]
    assert stock.stored_versions() == ["v1alpha1", "v1"]
    stock.api.good("DELETE", policies.replace("policies", "policybindings") + "/no-trimming")
    stock.api.good("DELETE", f"{policies}/no-trimming")
    wait_until(lambda: stock.api.send("PATCH", status, touch, MERGE_PATCH)[0] == 200)
    done = module(single_master, NAME, select="changed", resources=[stock.name])
    assert done["rewritten"] == 0 and done["trimmed"][0]["after"] == ["v1"]


def test_aggregated_apis_are_left_alone(single_master: Cluster, module: Callable[..., Result]) -> None:
    """One extension server answers, and its objects are not touched; another is down, which does no harm."""
    asked: list[str] = []
    verbs = ["list", "get", "patch"]
    samples = {
        "name": "samples",
        "singularName": "sample",
        "namespaced": True,
        "kind": "Sample",
        "verbs": verbs,
        "storageVersionHash": version_hash("stats.example.com", "v1", "Sample"),
    }
    version = {"groupVersion": "stats.example.com/v1", "version": "v1"}
    documents: Mapping[str, Any] = {
        "/apis": {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [{"name": "stats.example.com", "versions": [version], "preferredVersion": version}],
        },
        "/apis/stats.example.com/v1": {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": "stats.example.com/v1",
            "resources": [samples],
        },
    }

    async def extension(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path)
        if request.path not in documents:
            return web.Response(status=404)
        return web.json_response(documents[request.path])

    api = Api(single_master)
    with HttpsServer(single_master, extension) as server:
        for name, port in (("stats", server.port), ("down", 1)):
            where = "/api/v1/namespaces/default/services"
            api.good("POST", where, {"metadata": {"name": name}, "spec": {"ports": [{"port": 443, "name": "https"}]}})
            endpoints = {
                "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "ports": [{"name": "https", "port": port}],
                "endpoints": [{"addresses": [server.address], "conditions": {"ready": True}}],
            }
            api.good("POST", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", endpoints)
            service = {
                "metadata": {"name": f"v1.{name}.example.com"},
                "spec": {
                    "group": f"{name}.example.com",
                    "version": "v1",
                    "groupPriorityMinimum": 1000,
                    "versionPriority": 15,
                    "insecureSkipTLSVerify": True,
                    "service": {"name": name, "namespace": "default"},
                },
            }
            api.good("POST", "/apis/apiregistration.k8s.io/v1/apiservices", service)
        try:
            wait_until(lambda: api.send("GET", "/apis/stats.example.com/v1")[0] == 200)
            wait_until(lambda: api.send("GET", "/apis/down.example.com/v1")[0] == 503)
            done = module(single_master, NAME)
            assert done["totals"]["failed"] == 0 and done["resources"]["secrets"]["persisted"] is True
            named = set(done["resources"]) | {skipped["resource"] for skipped in done["skipped_resources"]}
            assert not any("stats.example.com" in resource or "down.example.com" in resource for resource in named)
            assert not any("samples" in path for path in asked)
        finally:
            for name in ("stats", "down"):
                api.good("DELETE", f"/apis/apiregistration.k8s.io/v1/apiservices/v1.{name}.example.com")


RECORD = "own-record"
# Each update changes the object: it counts them in a label.
COUNTS_UPDATES = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "MutatingAdmissionPolicy",
    "metadata": {"name": "counts-updates"},
    "spec": {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": ["", "coordination.k8s.io"],
                    "apiVersions": ["v1"],
                    "operations": ["UPDATE"],
                    "resources": ["configmaps", "leases"],
                }
            ]
        },
        "matchConditions": [{"name": "own", "expression": f"object.metadata.name == '{RECORD}'"}],
        "mutations": [
            {
                "patchType": "ApplyConfiguration",
                "applyConfiguration": {
                    "expression": "Object{metadata: Object.metadata{labels: {'updates': "
                    "has(object.metadata.labels) && 'updates' in object.metadata.labels"
                    " ? string(int(object.metadata.labels['updates']) + 1) : '1'}}}"
                },
            }
        ],
    },
}
COUNTS_THEM = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "MutatingAdmissionPolicyBinding",
    "metadata": {"name": "counts-updates"},
    "spec": {"policyName": "counts-updates"},
}


def test_the_runs_own_record_and_lease_are_among_the_objects(
    single_master: Cluster, module: Callable[..., Result], tmp_path: Path
) -> None:
    """Issue 13, number 2: with a new encryption key, and with a policy that changes them with every update."""
    names = ["configmaps", "leases.coordination.k8s.io"]
    options: dict[str, Any] = {"resources": names, "state_store": {"name": RECORD}}
    keys = [f"/registry/{plural}/kube-system/{RECORD}" for plural in ("configmaps", "leases")]
    module(single_master, NAME, **options)
    single_master.kubectl("create", "configmap", "zzz-last", "--namespace=kube-system")
    secret = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
    providers = [{"aescbc": {"keys": [{"name": "one", "secret": secret}]}}, {"identity": {}}]
    document = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": names, "providers": providers}],
    }
    config = tmp_path / "encryption.json"
    config.write_text(json.dumps(document), encoding="utf-8")
    single_master.encrypt("master-1", config)

    def is_done(found: Result) -> None:
        assert [found["resources"][name]["persisted"] for name in names] == [True, True]
        assert found["failures"] == [] and found["totals"]["failed"] == 0
        assert module(single_master, NAME, select="changed", **options)["resources"] == {}

    done = module(single_master, NAME, **options)
    is_done(done)
    for plural in ("configmaps", "leases"):
        stored = read_etcd(single_master, f"/registry/{plural}/")
        assert {entry.encoding for entry in stored.values()} == {"encrypted"}
    apply(single_master, COUNTS_UPDATES, COUNTS_THEM)
    api = Api(single_master)
    record = f"/api/v1/namespaces/kube-system/configmaps/{RECORD}"
    no_op = f"{record}?dryRun=All"
    wait_until(lambda: "updates" in (api.good("PATCH", no_op, {}, MERGE_PATCH)["metadata"].get("labels") or {}))
    try:
        before = read_etcd(single_master)
        is_done(module(single_master, NAME, **options))
        after = read_etcd(single_master)
    finally:
        single_master.kubectl("delete", "mutatingadmissionpolicybinding,mutatingadmissionpolicy", "counts-updates")
    assert all(after[key].mod_revision > before[key].mod_revision for key in keys)
    assert int(api.good("GET", record)["metadata"]["labels"]["updates"]) >= 2, "visited, and saved afterwards"
