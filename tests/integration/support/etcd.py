# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads and writes etcd directly, through its JSON gateway, without the API servers."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tests.control_plane.cluster import Cluster


class HasEtcd(Protocol):
    """A cluster of any kind."""

    @property
    def etcd(self) -> dict[str, Any]: ...


def etcd_request(cluster: HasEtcd, path: str, body: Mapping[str, Any], endpoint: str | None = None) -> dict[str, Any]:
    """One answer of etcd's JSON gateway, from the first member that is there."""
    etcd = cluster.etcd
    if endpoint is None:
        for member in etcd["endpoints"]:
            try:
                return etcd_request(cluster, path, body, member)
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


def put_json(cluster: Cluster, name: str, namespace: str = "default") -> str:
    """A ConfigMap as JSON, written past the API servers, so that it is stale for them; returns its key."""
    key = f"/registry/configmaps/{namespace}/{name}"
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": str(uuid.uuid4()),
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    put(cluster, key, json.dumps({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata}).encode())
    return key


def steady(stored: Mapping[str, Stored]) -> dict[str, Stored]:
    """Without what API servers write on their own all the time, and without the collection's own records."""
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
    return {key: entry for key, entry in stored.items() if not any(part in key for part in moving)}
