# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Custom resources whose storage version a test can change: the cheapest way to get stale objects."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from tests.control_plane.cluster import Cluster

from .etcd import Stored, read_etcd
from .waiting import wait_until

GROUP = "stock.example.com"
MERGE_PATCH = "application/merge-patch+json"


class Api:
    """Plain requests to one API server, as its administrator."""

    def __init__(self, cluster: Cluster, url: str | None = None) -> None:
        admin = cluster.certificate("admin")
        self._context = ssl.create_default_context(cafile=str(cluster.certificate("ca").cert))
        self._context.load_cert_chain(admin.cert, admin.key)
        self._address = urlsplit(url or cluster.balancer_url).netloc

    def connect(self, timeout: float = 60) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._address, context=self._context, timeout=timeout)

    def send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, content_type: str = "application/json"
    ) -> tuple[int, dict[str, Any]]:
        """(status, the answer's document)."""
        connection = self.connect()
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": content_type, "Accept": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            is_json = (answer.getheader("Content-Type") or "").startswith("application/json")
            return answer.status, json.loads(content) if is_json else {"text": content.decode()}
        finally:
            connection.close()

    def good(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        status, document = self.send(method, path, body, content_type)
        deadline = time.monotonic() + 120
        while status == 429 and time.monotonic() < deadline:  # "storage is (re)initializing", after each edit of a CRD
            time.sleep(0.2)
            status, document = self.send(method, path, body, content_type)
        assert status < 300, (status, document)
        return document


def version_hash(group: str, version: str, kind: str) -> str:
    return base64.b64encode(hashlib.sha256(f"{group}/{version}/{kind}".encode()).digest()[:8]).decode()


class Stock:
    """One CRD, stored as the first of ``versions`` until ``store`` says otherwise."""

    def __init__(
        self,
        cluster: Cluster,
        plural: str,
        *,
        versions: tuple[str, ...] = ("v1alpha1", "v1"),
        unserved: tuple[str, ...] = (),
        schema: Mapping[str, Any] | None = None,
    ) -> None:
        self.cluster = cluster
        self.api = Api(cluster)
        self.plural = plural
        self.kind = plural.capitalize()
        self.name = f"{plural}.{GROUP}"
        self.versions = versions
        self.storage = versions[0]
        self.conversion: Mapping[str, Any] = {"strategy": "None"}
        self._unserved = unserved
        self._known: set[str] = set()
        self._schema = dict(schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True})
        self.crd_path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{self.name}"
        self.api.good("POST", self.crd_path.rpartition("/")[0], self.crd())
        self.settle()

    def crd(self) -> dict[str, Any]:
        properties = {"properties": {"spec": self._schema}}
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": self.name},
            "spec": {
                "group": GROUP,
                "scope": "Namespaced",
                "names": {"plural": self.plural, "singular": self.kind.lower(), "kind": self.kind},
                "conversion": self.conversion,
                "versions": [
                    {
                        "name": version,
                        "served": version not in self._unserved,
                        "storage": version == self.storage,
                        "schema": {"openAPIV3Schema": {"type": "object", **properties}},
                    }
                    for version in self.versions
                ],
            },
        }

    @property
    def served(self) -> str:
        return next(version for version in self.versions if version not in self._unserved)

    def update(self, **changes: Any) -> None:
        """Edits the CRD and waits until every master reports the storage version."""
        for name, value in changes.items():
            setattr(self, name if hasattr(self, name) else f"_{name}", value)
        self.edit()
        self.settle()

    def edit(self) -> None:
        self.api.good("PATCH", self.crd_path, {"spec": self.crd()["spec"]}, MERGE_PATCH)

    def settle(self) -> None:
        """Waits until every master reports the current CRD."""
        self._known |= set(self.versions)
        # Discovery leaves the hash out where the storage version is not served.
        hashed = "" if self.storage in self._unserved else version_hash(GROUP, self.storage, self.kind)
        wanted = {version: hashed for version in self.versions if version not in self._unserved}
        for url in self.cluster.urls:
            api = Api(self.cluster, url)

            def told(api: Api = api) -> bool:
                found = {}
                for version in self._known:
                    _status, document = api.send("GET", f"/apis/{GROUP}/{version}")
                    for resource in document.get("resources") or ():
                        if resource["name"] == self.plural:
                            found[version] = resource.get("storageVersionHash", "")
                return found == wanted

            wait_until(told)

    def store(self, version: str) -> None:
        """From now on objects are written in this version; those that exist are stale."""
        self.update(storage=version)

    def path(self, name: str = "", namespace: str = "default") -> str:
        path = f"/apis/{GROUP}/{self.served}/namespaces/{namespace}/{self.plural}"
        return f"{path}/{name}" if name else path

    def fill(
        self,
        number: int,
        *,
        prefix: str = "item",
        namespace: str = "default",
        spec: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Creates this many objects; returns their names."""
        names = [f"{prefix}-{i:04d}" for i in range(number)]

        def create(name: str) -> None:
            body = {
                "apiVersion": f"{GROUP}/{self.served}",
                "kind": self.kind,
                "metadata": {"name": name, **(metadata or {})},
                "spec": dict(spec or {"count": 0}),
            }
            self.api.good("POST", self.path(namespace=namespace), body)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(create, names))
        return names

    def get(self, name: str) -> dict[str, Any]:
        return self.api.good("GET", self.path(name))

    def objects(self) -> dict[str, dict[str, Any]]:
        """Every object, without its resourceVersion, by name."""
        items = self.api.good("GET", f"/apis/{GROUP}/{self.served}/{self.plural}")["items"]
        for item in items:
            del item["metadata"]["resourceVersion"]
        return {item["metadata"]["name"]: item for item in items}

    def await_older(self, seconds: float = 4) -> None:
        """Waits until the last write of every object lies this far back.

        managedFields have whole seconds, so a run that begins sooner can't know by them whose a later write is.
        """

        def age() -> float:
            found = [entry["time"] for item in self.objects().values() for entry in item["metadata"]["managedFields"]]
            return time.time() - datetime.fromisoformat(max(found).replace("Z", "+00:00")).timestamp()

        wait_until(lambda: age() > seconds)

    def stored(self) -> dict[str, Stored]:
        """What etcd holds, by ``namespace/name``."""
        prefix = f"/registry/{GROUP}/{self.plural}/"
        return {key[len(prefix) :]: entry for key, entry in read_etcd(self.cluster, prefix).items()}

    def stale(self) -> list[str]:
        """Names of the objects that etcd holds in another version than the storage version."""
        wanted = f"{GROUP}/{self.storage}"
        return sorted(
            key.partition("/")[2]
            for key, entry in self.stored().items()
            if json.loads(entry.value)["apiVersion"] != wanted
        )

    def stored_versions(self) -> list[str]:
        found: list[str] = self.api.good("GET", self.crd_path)["status"]["storedVersions"]
        return found

    def remove(self) -> None:
        self.api.send("DELETE", self.crd_path)
        wait_until(lambda: self.api.send("GET", self.crd_path)[0] == 404)


class Watcher:
    """A controller's view of a resource: every event from the beginning of the ``with`` block on."""

    def __init__(self, stock: Stock) -> None:
        self._stock = stock
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._connection = Api(stock.cluster, stock.cluster.urls[0]).connect(timeout=300)
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Watcher:
        path = f"/apis/{GROUP}/{self._stock.served}/{self._stock.plural}"
        version = self._stock.api.good("GET", path + "?limit=1")["metadata"]["resourceVersion"]

        def accepted() -> bool:
            # Just after a CRD was edited, the server says 429 for a moment.
            self._connection.request("GET", f"{path}?watch=1&resourceVersion={version}")
            self._answer = self._connection.getresponse()
            if self._answer.status == 200:
                return True
            self._answer.read()
            return False

        wait_until(accepted)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # One more object, so that all events before it are known to be here.
        self._stock.fill(1, prefix="the-end")
        wait_until(lambda: any(item["metadata"]["name"].startswith("the-end") for _kind, item in list(self.events)))
        self._stock.api.good("DELETE", self._stock.path("the-end-0000"))

    def of(self, name: str) -> list[tuple[str, dict[str, Any]]]:
        return [(kind, item) for kind, item in self.events if item["metadata"]["name"] == name]

    def _read(self) -> None:
        try:
            for line in self._answer:
                event = json.loads(line)
                self.events.append((event["type"], event["object"]))
        except (OSError, ValueError, http.client.HTTPException):
            return
