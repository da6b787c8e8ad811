# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures: real clusters, modules run as users run them, and raw reads of etcd to compare with."""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.control_plane.cluster import Cluster
from tests.control_plane.hosts import HostError, require_root

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE = Path(sys.executable).with_name("ansible")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without root there are no test hosts; that is said, not hidden."""
    try:
        require_root()
    except HostError as error:
        for item in items:
            if "integration" in str(item.path):
                item.add_marker(pytest.mark.skip(reason=str(error)))


@dataclass
class Result:
    """What a module returned; ``output`` is everything that Ansible printed."""

    data: dict[str, Any]
    failed: bool
    output: str

    @property
    def message(self) -> str:
        return str(self.data.get("msg", ""))

    def __getitem__(self, key: str) -> Any:
        assert not self.failed, self.message
        return self.data[key]


def environment() -> dict[str, str]:
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "K8S_AUTH_"))}
    return {**keep, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "PYTHONWARNINGS": "ignore"}


def run_module(cluster: Cluster | None, name: str, *, check: bool = False, verbose: str = "", **params: Any) -> Result:
    """Runs a module of the collection ad hoc, as users do."""
    if cluster is not None and not {"kubeconfig", "host"} & set(params):
        params["kubeconfig"] = str(cluster.kubeconfig)
    command = [str(ANSIBLE), "localhost", "-o", "-m", f"kube_storage.upgrade.{name}", "-a", json.dumps(params)]
    command += ["-e", f"ansible_python_interpreter={sys.executable}"]
    command += ["--check"] if check else []
    command += [verbose] if verbose else []
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=300
    )
    output = done.stdout + done.stderr
    found = re.search(r"localhost \| (\w+)!? (?:\| rc=\d+ )?=> (\{.*\})\s*$", done.stdout, re.DOTALL | re.MULTILINE)
    assert found, output
    return Result(json.loads(found[2]), found[1] != "SUCCESS" and found[1] != "CHANGED", output)


@pytest.fixture(scope="session")
def module() -> Callable[..., Result]:
    return run_module


@pytest.fixture
def new_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters that end with the test."""
    made: list[Cluster] = []

    def make(**options: Any) -> Cluster:
        cluster = Cluster.up(tmp_path / f"cluster-{len(made)}", owner_pid=os.getpid(), **options)
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.down()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three masters at 1.37, shared by the tests of one file, which leave it as they found it."""
    cluster = Cluster.up(tmp_path_factory.mktemp("three") / "cluster", owner_pid=os.getpid())
    yield cluster
    cluster.down()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One master at 1.37, shared by the tests of one file."""
    cluster = Cluster.up(tmp_path_factory.mktemp("one") / "cluster", masters=1, owner_pid=os.getpid())
    yield cluster
    cluster.down()


class HasEtcd(Protocol):
    """A cluster of any kind."""

    @property
    def etcd(self) -> dict[str, Any]: ...


def etcd_request(cluster: HasEtcd, path: str, body: Mapping[str, Any], endpoint: str | None = None) -> dict[str, Any]:
    """One answer of etcd's JSON gateway, from the first member that is there."""
    etcd = cluster.etcd
    if endpoint is None:
        for one in etcd["endpoints"]:
            try:
                return etcd_request(cluster, path, body, one)
            except OSError:
                continue
        raise OSError("No etcd member answers.")
    context = None
    if "ca_cert" in etcd:
        context = ssl.create_default_context(cafile=etcd["ca_cert"])
        context.load_cert_chain(etcd["client_cert"], etcd["client_key"])
    request = urllib.request.Request(endpoint + path, json.dumps(body).encode())
    with urllib.request.urlopen(request, context=context, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


@dataclass(frozen=True)
class Stored:
    """One value in etcd: its revision, and its bytes."""

    mod_revision: int
    value: bytes

    @property
    def encoding(self) -> str:
        for prefix, name in ((b"k8s\0", "protobuf"), (b"{", "json"), (b"k8s:enc:", "encrypted")):
            if self.value.startswith(prefix):
                return name
        return "other"


def read_etcd(cluster: HasEtcd, prefix: str = "/registry/") -> dict[str, Stored]:
    """Every key under a prefix, by nothing but etcd's JSON gateway."""
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    body = {"key": base64.b64encode(prefix.encode()).decode(), "range_end": base64.b64encode(end.encode()).decode()}
    pairs = etcd_request(cluster, "/v3/kv/range", body).get("kvs") or []
    return {
        base64.b64decode(pair["key"]).decode(): Stored(
            int(pair["mod_revision"]), base64.b64decode(pair.get("value", ""))
        )
        for pair in pairs
    }


def put(cluster: Cluster, key: str, value: bytes) -> None:
    """Writes past the API servers."""
    body = {"key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(value).decode()}
    etcd_request(cluster, "/v3/kv/put", body)


def delete(cluster: Cluster, key: str) -> None:
    etcd_request(cluster, "/v3/kv/deleterange", {"key": base64.b64encode(key.encode()).decode()})


def put_json(cluster: Cluster, name: str) -> str:
    """A ConfigMap as JSON, written past the API servers, so that it is stale for them; returns its key."""
    key = f"/registry/configmaps/default/{name}"
    metadata = {
        "name": name,
        "namespace": "default",
        "uid": str(uuid.uuid4()),
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    put(cluster, key, json.dumps({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata}).encode())
    return key


def steady(stored: Mapping[str, Stored]) -> dict[str, Stored]:
    """Without what API servers write by themselves all the time, and without the collection's own records."""
    moving = (
        "/default/kubernetes",
        "/apiregistration.k8s.io/",
        "/flowschemas/",
        "/prioritylevelconfigurations/",
        "/leases/",
        "/masterleases/",
        "/events/",
        "kube-storage-upgrade",
        "/peerserverleases/",
    )
    return {key: one for key, one in stored.items() if not any(part in key for part in moving)}


def apply(cluster: Cluster, *documents: Mapping[str, Any], kubeconfig: Path | None = None) -> None:
    text = "\n---\n".join(json.dumps(document) for document in documents)
    cluster.kubectl("apply", "-f", "-", input=text, kubeconfig=kubeconfig)


def config_maps(number: int, prefix: str = "cm", namespace: str = "default") -> dict[str, Any]:
    items = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{prefix}-{i:04d}", "namespace": namespace, "annotations": {"note": "kept"}},
            "data": {"key": "value"},
        }
        for i in range(number)
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def make_json(cluster: Cluster, master: str, *documents: Mapping[str, Any]) -> None:
    """Writes objects through one master that stores JSON for that time, so that they are stale for the others."""
    version = cluster.data["masters"][master]["version"]
    cluster.upgrade(master, version, flags=["storage-media-type=application/json"])
    text = "\n---\n".join(json.dumps(document) for document in documents)
    own = cluster.folder / f"kubeconfig-{master}"
    cluster.kubectl("apply", "--server-side", "-f", "-", input=text, kubeconfig=own)
    cluster.upgrade(master, version, flags=["storage-media-type=application/vnd.kubernetes.protobuf"])


def widgets_crd(storage: str, versions: tuple[str, ...] = ("v1alpha1", "v1")) -> dict[str, Any]:
    schema = {
        "openAPIV3Schema": {
            "type": "object",
            "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
        }
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.shop.example.com"},
        "spec": {
            "group": "shop.example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [
                {"name": one, "served": True, "storage": one == storage, "schema": schema} for one in versions
            ],
        },
    }


def widgets(number: int, version: str = "v1alpha1") -> dict[str, Any]:
    items = [
        {
            "apiVersion": f"shop.example.com/{version}",
            "kind": "Widget",
            "metadata": {"name": f"widget-{i:03d}", "namespace": "default"},
            "spec": {"size": i},
        }
        for i in range(number)
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def install_widgets(cluster: Cluster, number: int) -> None:
    """A CRD with objects stored as v1alpha1, whose storage version is then v1."""
    apply(cluster, widgets_crd("v1alpha1"))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "widgets.shop.example.com", "--timeout=30s")
    for master in cluster.masters:
        own = cluster.folder / f"kubeconfig-{master}"
        wait_until(
            lambda own=own: (  # type: ignore[misc]
                "widgets" in cluster.kubectl("api-resources", "--api-group=shop.example.com", kubeconfig=own)
            )
        )
    apply(cluster, widgets(number))
    apply(cluster, widgets_crd("v1"))


def wait_until(condition: Callable[[], bool], timeout: float = 30.0) -> None:
    from tests.control_plane.processes import wait_for

    assert wait_for(condition, timeout, 0.2), "the condition did not come true in time"
