# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every encoding, every encryption provider and every odd key, as a real API server writes them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.providers import LOCAL_PROVIDERS

from tests.control_plane.cluster import Cluster

from .support.etcd import delete, put, read_etcd
from .support.kms_plugin import KmsPlugin
from .support.modules import Result
from .support.objects import apply, await_established
from .support.waiting import wait_until

NAME = "stored_versions_info"
SECRET = base64.b64encode(b"hunter2".ljust(32, b"!")).decode()
KEYS = {"keys": [{"name": "key-1", "secret": SECRET}]}
# A resource for each provider with local keys; one more provider needs one more resource, with an object in make_objects and a row in PLACES.
LOCAL = dict(zip(("secrets", "configmaps", "serviceaccounts"), LOCAL_PROVIDERS, strict=True))


@dataclass
class Sealed:
    """One master that encrypts each of several resources in another way, and stores custom resources as CBOR."""

    cluster: Cluster
    plugin: KmsPlugin


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    folder = tmp_path_factory.mktemp("sealed")
    socket = folder / "kms.sock"
    kms = {"name": "plugin", "endpoint": f"unix://{socket}", "timeout": "10s"}
    providers: dict[str, Any] = {
        **{resource: {provider: KEYS} for resource, provider in LOCAL.items()},
        "limitranges": {"kms": {"apiVersion": "v2", **kms}},
        "resourcequotas": {"kms": {"apiVersion": "v1", **kms, "name": "plugin-v1"}},
        "*.*": {"identity": {}},
    }
    config = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [
            {"resources": [name], "providers": [provider, *([] if "identity" in provider else [{"identity": {}}])]}
            for name, provider in providers.items()
        ],
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    plugin = KmsPlugin(socket, "remote-1")
    flags = [
        f"encryption-provider-config={folder / 'config.json'}",
        "feature-gates=KMSv1=true,CBORServingAndStorage=true",
    ]
    cluster = Cluster.up(folder / "cluster", masters=1, flags=flags, owner_pid=os.getpid())
    yield Sealed(cluster, plugin)
    cluster.down()
    plugin.close()


def metadata(name: str, namespace: str | None = "default") -> dict[str, Any]:
    return {"name": name, **({"namespace": namespace} if namespace else {})}


def crd(plural: str, group: str, scope: str = "Namespaced") -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"plural": plural, "kind": "Thing"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


def make_objects(cluster: Cluster) -> None:
    """At least one object of each kind that is stored in a way or a place of its own."""
    crds = [crd("things", "a.example.com"), crd("things", "b.example.com"), crd("nodes", "c.example.com", "Cluster")]
    apply(cluster, *crds)
    names = [crd["metadata"]["name"] for crd in crds]
    await_established(cluster, "crd", *names)
    apply(
        cluster,
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata("s"), "stringData": {"password": "hunter2"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("c"), "data": {"password": "hunter2"}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("a")},
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata("l"), "spec": {"limits": []}},
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata("q"), "spec": {"hard": {"pods": "9"}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata("svc"), "spec": {"ports": [{"port": 80}]}},
        {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata("ends"), "subsets": []},
        {"apiVersion": "v1", "kind": "Node", "metadata": metadata("node-1", None)},
        {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata("lease")},
        # An aggregated API whose server is not there.
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": metadata("v1.agg.example.com", None),
            "spec": {
                "group": "agg.example.com",
                "version": "v1",
                "groupPriorityMinimum": 1000,
                "versionPriority": 15,
                "insecureSkipTLSVerify": True,
                "service": {"name": "svc", "namespace": "default"},
            },
        },
    )
    wait_until(lambda: cluster.kubectl("api-resources").count(" Thing") == 3)
    apply(
        cluster,
        {"apiVersion": "a.example.com/v1", "kind": "Thing", "metadata": metadata("one")},
        {"apiVersion": "b.example.com/v1", "kind": "Thing", "metadata": metadata("one")},
        {"apiVersion": "b.example.com/v1", "kind": "Thing", "metadata": metadata("two")},
        {"apiVersion": "c.example.com/v1", "kind": "Thing", "metadata": metadata("node-1", None)},
    )


def digest(key_id: str) -> str:
    return "sha256:" + hashlib.sha256(key_id.encode()).hexdigest()


# What keys begin with, and the resource (or None and the part of the result) that they are counted under.
PLACES = {
    "services/specs/": "services",
    "services/endpoints/": "endpoints",
    "minions/": "nodes",
    "leases/": "leases.coordination.k8s.io",
    "apiextensions.k8s.io/customresourcedefinitions/": "customresourcedefinitions.apiextensions.k8s.io",
    "apiregistration.k8s.io/apiservices/": "apiservices.apiregistration.k8s.io",
    "a.example.com/things/": "things.a.example.com",
    "b.example.com/things/": "things.b.example.com",
    "c.example.com/nodes/": "nodes.c.example.com",
    "secrets/": "secrets",
    "configmaps/": "configmaps",
    "serviceaccounts/": "serviceaccounts",
}
APART = {
    "masterleases/": ("internal", "masterleases"),
    "ranges/": ("internal", "ranges"),
    "agg.example.com/": ("unknown", "agg.example.com/flunders"),
}


def test_every_envelope_and_every_place(sealed: Sealed, module: Callable[..., Result]) -> None:
    cluster = sealed.cluster
    make_objects(cluster)
    key = "/registry/agg.example.com/flunders/default/a"
    put(cluster, key, b'{"kind":"Flunder","apiVersion":"agg.example.com/v1"}')
    try:
        # Without the names one in a hundred would be unknown, as its ciphertext looks as if the name continued.
        names = [f"{provider}:key-1" for provider in LOCAL_PROVIDERS]
        found = module(cluster, NAME, etcd=cluster.etcd, encryption_keys=names)
        keys = read_etcd(cluster)
    finally:
        delete(cluster, key)
    resources = found["resources"]

    def row(name: str, *fields: str) -> set[tuple[Any, ...]]:
        return {tuple(row[field] for field in fields) for row in resources[name]["stored"]}

    sealing = ("provider", "provider_version", "key", "key_id_hash", "encoding", "version")
    for resource, provider in LOCAL.items():
        assert row(resource, *sealing) == {(provider, "v1", "key-1", None, None, None)}
    assert row("limitranges", *sealing) == {("kms", "v2", "plugin", digest("remote-1"), None, None)}
    assert row("resourcequotas", *sealing) == {("kms", "v1", "plugin-v1", None, None, None)}
    assert row("services", *sealing) == {("identity", None, None, None, "protobuf", "v1")}
    assert row("things.a.example.com", *sealing) == {("identity", None, None, None, "cbor", "a.example.com/v1")}
    assert row("apiservices.apiregistration.k8s.io", "encoding", "version") == {("json", "apiregistration.k8s.io/v1")}

    count = Counter(
        place for key in keys for place in [*PLACES, *APART] if key.removeprefix("/registry/").startswith(place)
    )
    assert set(count) == {*PLACES, *APART}, "nothing is stored there"
    for place, name in PLACES.items():
        assert resources[name]["objects"] == count[place], name
    for place, (part, prefix) in APART.items():
        rows = {row["prefix"]: row["objects"] for row in found[part]}
        assert rows[prefix] == count[place], prefix
    assert set(found["unprovable_resources"]) == {*LOCAL, "limitranges", "resourcequotas"}
    assert found["unprovable_resources"]["secrets"] == {"encrypted": count["secrets/"]}
    assert found["totals"]["stale"] == 0 and found["totals"]["unknown"] == 1
    assert "hunter2" not in found.output and SECRET not in found.output


def test_a_new_remote_key_of_a_kms_plugin(sealed: Sealed, module: Callable[..., Result]) -> None:
    """The name of the plugin stays; only the hash of the remote key's ID shows the change."""
    cluster = sealed.cluster
    apply(cluster, *({"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata(f"kms-{i}"), "spec": {"limits": []}} for i in range(5)))  # fmt: skip
    sealed.plugin.key_id = "remote-2"
    cluster.upgrade("master-1", cluster.data["masters"]["master-1"]["version"])
    stored = read_etcd(cluster, "/registry/limitranges/")
    assert len(stored) >= 5 and not any(b"remote-2" in entry.value for entry in stored.values())
    done = module(cluster, "storage_migrate", select="stale", resources=["limitranges"], etcd=cluster.etcd)
    assert (done["rewritten"], done["proof"]["stale"]) == (len(stored), 0)
    found = module(cluster, NAME, etcd=cluster.etcd, resources=["limitranges"])["resources"]["limitranges"]
    assert [row["key_id_hash"] for row in found["stored"]] == [digest("remote-2")]
    assert all(b"remote-2" in entry.value for entry in read_etcd(cluster, "/registry/limitranges/").values())
