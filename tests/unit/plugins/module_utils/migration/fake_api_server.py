# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An API server in memory, just enough of one for a whole run: discovery, objects with resourceVersions, a no-op patch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response, TransportSettings
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.auth import Connection
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import Cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Expectation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import storage_version_hash

URL = "https://10.0.0.1"
STATE = "/api/v1/namespaces/kube-system/configmaps/kube-storage-upgrade"
# Years from now, so it is always fresh.
_IDENTITY = {
    "metadata": {"name": "apiserver-1"},
    "spec": {"holderIdentity": "one", "renewTime": "2999-01-01T00:00:00.0Z"},
}
_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


def _answer(document: Any, status: int = 200) -> Response:
    return Response(status, {}, json.dumps(document).encode())


def _error(status: int, reason: str) -> Response:
    return _answer({"kind": "Status", "code": status, "reason": reason, "message": f"the fake says {reason}"}, status)


class FakeApiServer:
    """Implements HttpClient. ``objects``: by path. ``stale``: paths of objects that a write, even a no-op, rewrites.

    ``before``: called with each request's method and path, before it is answered; what it returns is the answer.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.stale: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.before: Callable[[str, str], Response | None] = lambda method, path: None
        self._revision = 100

    def add(self, path: str, *, stale: bool = False, **content: Any) -> None:
        namespace, name = path.split("/namespaces/")[1].split("/")[0], path.rpartition("/")[2]
        self.objects[path] = {"metadata": {"name": name, "namespace": namespace}, **content}
        self._bump(path)
        if stale:
            self.stale.add(path)

    def cluster(self, **expected: Any) -> Cluster:
        connection = Connection(URL, TransportSettings(ssl_context=None), lambda: [])
        return Cluster(connection, self, urls=None, expectation=Expectation(**expected))

    @property
    def patched(self) -> list[str]:
        return [path for method, path in self.requests if method == "PATCH"]

    async def request(
        self, method: str, url: str, *, headers: Any, body: bytes | None, timeout: float, before: Any = None
    ) -> Response:
        await asyncio.sleep(0)
        if before is not None:
            before()
        path = urlsplit(url).path
        self.requests.append((method, path))
        special = self.before(method, path)
        if special is not None:
            return special
        if method == "GET":
            return self._get(path)
        return self._write(method, path, json.loads(body or b"{}"))

    async def close(self) -> None:
        pass

    def _get(self, path: str) -> Response:
        if path in self.objects:
            return _answer(self.objects[path])
        discovered = self._discovery(path)
        if discovered is not None:
            return _answer(discovered)
        if path == "/readyz":
            return Response(200, {}, b"ok")
        if path == "/metrics/slis":
            return Response(200, {}, b"process_start_time_seconds 1.5\n")
        if "/namespaces/" in path and path.rpartition("/")[0].rpartition("/")[2] in ("configmaps", "leases", "secrets"):
            return _error(404, "NotFound")
        plural = path.rpartition("/")[2]
        items = [found for where, found in sorted(self.objects.items()) if where.rpartition("/")[0].endswith(plural)]
        return _answer({"kind": "PartialObjectMetadataList", "metadata": {}, "items": items})

    def _discovery(self, path: str) -> dict[str, Any] | None:
        def resource(plural: str, kind: str, group: str) -> dict[str, Any]:
            hashed = storage_version_hash(group, "v1", kind)
            return {"name": plural, "kind": kind, "namespaced": True, "verbs": _VERBS, "storageVersionHash": hashed}

        versions = [{"groupVersion": "coordination.k8s.io/v1", "version": "v1"}]
        endpoint = {"ports": [{"name": "https", "port": 443}], "endpoints": [{"addresses": ["10.0.0.1"]}]}
        known: dict[str, dict[str, Any]] = {
            "/version": {"gitVersion": "v1.37.2"},
            "/apis": {"kind": "APIGroupList", "groups": [{"name": "coordination.k8s.io", "versions": versions}]},
            "/api/v1": {
                "kind": "APIResourceList",
                "resources": [resource("configmaps", "ConfigMap", ""), resource("secrets", "Secret", "")],
            },
            "/apis/coordination.k8s.io/v1": {
                "kind": "APIResourceList",
                "resources": [resource("leases", "Lease", "coordination.k8s.io")],
            },
            "/apis/apiregistration.k8s.io/v1/apiservices": {"kind": "APIServiceList", "items": []},
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices": {"items": [endpoint]},
            "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases": {"items": [_IDENTITY]},
        }
        return known.get(path)

    def _write(self, method: str, path: str, body: dict[str, Any]) -> Response:
        if "selfsubject" in path:
            return _answer({"status": {"allowed": True}}, 201)
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                return _error(409, "AlreadyExists")
            self.add(path, **{key: value for key, value in body.items() if key != "metadata"})
            return _answer(self.objects[path], 201)
        found = self.objects.get(path)
        if found is None:
            return _error(404, "NotFound")
        wanted = body.get("metadata", {}).get("resourceVersion")
        if wanted is not None and wanted != found["metadata"]["resourceVersion"]:
            return _error(409, "Conflict")
        changed = {key: value for key, value in body.items() if key != "metadata" and found.get(key) != value}
        found.update(changed)
        if changed or path in self.stale:
            self.stale.discard(path)
            self._bump(path)
        return _answer(found)

    def _bump(self, path: str) -> None:
        self._revision += 1
        self.objects[path]["metadata"]["resourceVersion"] = str(self._revision)
