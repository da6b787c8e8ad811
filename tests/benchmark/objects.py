# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ConfigMaps and custom resources by the ten thousand, put straight into etcd, stale or current at will."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

from tests.benchmark.tools import BenchmarkError, etcd_flags, go
from tests.control_plane.cluster import Cluster
from tests.control_plane.processes import wait_for
from tests.integration.support.objects import apply, await_established, widgets_crd

NAMESPACE = "bench"
_NAME = "object-0000000"
_UID = "00000000-0000-4000-8000-000000000000"
_SETTLED = 180.0


class Objects:
    """The ConfigMaps of one cluster. They keep name and uid, so every round rewrites the same ones."""

    KEYS: ClassVar[str] = f"/registry/configmaps/{NAMESPACE}/"
    PATH: ClassVar[str] = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    STALE: ClassVar[bytes] = b"{"

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        etcd = cluster.etcd
        self._etcd_context = ssl.create_default_context(cafile=etcd["ca_cert"])
        self._etcd_context.load_cert_chain(etcd["client_cert"], etcd["client_key"])
        admin = cluster.certificate("admin")
        self._api_context = ssl.create_default_context(cafile=str(cluster.certificate("ca").cert))
        self._api_context.load_cert_chain(admin.cert, admin.key)
        self._stale = cluster.folder / "stale.template"
        self._current = cluster.folder / "current.template"
        self._make_templates()

    def _make_templates(self) -> None:
        """The current form is what an API server stores; the stale one is what it stored as JSON would be."""
        kubectl = self._cluster.kubectl
        kubectl("create", "namespace", NAMESPACE)
        kubectl("create", "configmap", _NAME, "-n", NAMESPACE, f"--from-literal=key={'value ' * 20}")
        found = json.loads(kubectl("get", "configmap", _NAME, "-n", NAMESPACE, "-o", "json", "--show-managed-fields"))
        uid = found["metadata"]["uid"]
        self._current.write_bytes(self._stored().replace(uid.encode(), _UID.encode()))
        found["metadata"] = {**found["metadata"], "uid": _UID}
        del found["metadata"]["resourceVersion"]
        order = {name: found[name] for name in ("kind", "apiVersion", "metadata", "data")}
        self._stale.write_text(json.dumps(order, separators=(",", ":")) + "\n", encoding="utf-8")
        self.clear()

    def _stored(self) -> bytes:
        """The first object as etcd holds it."""
        return base64.b64decode(self._etcd("range", {"key": _b64(self.KEYS + _NAME)})["kvs"][0]["value"])

    def put(
        self, count: int, *, stale: bool, first: int = 0, settle: bool = True, kilobytes: int | None = None
    ) -> float:
        """Writes objects in one of both forms; returns when every API server has seen it. Seconds of the writing.

        ``kilobytes``: the size of stale ones.
        """
        template, batch = self._stale if stale else self._current, 128
        if kilobytes is not None:
            template, batch = self._padded(kilobytes), max(1, 1_000 // kilobytes // 2)
        arguments = ["--template", str(template), "--prefix", self.KEYS, "--batch", str(min(128, batch))]
        arguments += ["--first", str(first), "--count", str(count)]
        done = go("fill", *etcd_flags(self._cluster), *arguments)
        if settle:
            self.settle(int(done["revision"]))
        return float(done["seconds"])

    def _padded(self, kilobytes: int) -> Path:
        """The stale form with more data."""
        stale = json.loads(self._stale.read_text(encoding="utf-8"))
        stale["data"]["key"] = "v" * (kilobytes * 1000)
        path = self._stale.with_name(f"stale-{kilobytes}.template")
        path.write_text(json.dumps(stale, separators=(",", ":")) + "\n", encoding="utf-8")
        return path

    def clear(self, first: int = 0) -> None:
        """Deletes the objects from number ``first`` on."""
        start, end = f"{self.KEYS}object-{first:07d}".encode(), self.KEYS[:-1].encode() + b"0"
        body = {"key": base64.b64encode(start).decode(), "range_end": base64.b64encode(end).decode()}
        deleted = self._etcd("deleterange", body)
        if int(deleted.get("deleted", 0)):  # Otherwise the cache has nothing to notice, and may not for a minute.
            self.settle(int(deleted["header"]["revision"]))

    def settle(self, revision: int) -> None:
        """Until every server's cache of ConfigMaps has reached that revision."""
        for url in self._cluster.urls:

            def there(url: str = url) -> bool:
                # From the cache (resourceVersion=0), with the revision at which the cache is.
                address = f"{url}{self.PATH}?resourceVersion=0&fieldSelector=metadata.name%3Dnone"
                with urllib.request.urlopen(address, context=self._api_context, timeout=60) as answer:
                    return int(json.load(answer)["metadata"]["resourceVersion"]) >= revision

            if not wait_for(there, _SETTLED, 0.5):
                raise BenchmarkError(f"{url} did not notice the new objects in {_SETTLED:g} s.")

    def count_stale(self) -> int:
        """How many are stored in their stale form now."""
        body = {"key": _b64(self.KEYS), "range_end": _b64(self.KEYS[:-1] + "0")}
        needed = len(base64.b64encode(self.STALE))
        return sum(
            base64.b64decode(pair["value"][:needed]).startswith(self.STALE)
            for pair in self._etcd("range", body).get("kvs") or []
        )

    def _etcd(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self._cluster.etcd['endpoints'][0]}/v3/kv/{what}", json.dumps(body).encode()
        )
        with urllib.request.urlopen(request, context=self._etcd_context, timeout=120) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


class CustomObjects(Objects):
    """Custom resources that are stored as v1alpha1 while their storage version is v1."""

    NAME: ClassVar[str] = "widgets.shop.example.com"
    KEYS: ClassVar[str] = "/registry/shop.example.com/widgets/default/"
    PATH: ClassVar[str] = "/apis/shop.example.com/v1/namespaces/default/widgets"
    STALE: ClassVar[bytes] = b'{"apiVersion":"shop.example.com/v1alpha1"'

    def _make_templates(self) -> None:
        """The stored bytes of one object before and after the storage version changes."""
        widget = {
            "apiVersion": "shop.example.com/v1",
            "kind": "Widget",
            "metadata": {"name": _NAME, "namespace": "default"},
            "spec": {"key": "value " * 20},
        }
        apply(self._cluster, widgets_crd("v1alpha1"))
        await_established(self._cluster, "crd", self.NAME)
        if not wait_for(lambda: "widgets" in self._cluster.kubectl("api-resources", "-o", "name"), _SETTLED):
            raise BenchmarkError("The custom resource was not served.")
        apply(self._cluster, widget)
        first = self._stored()
        apply(self._cluster, widgets_crd("v1"))
        if not wait_for(self._is_rewritten, _SETTLED):
            raise BenchmarkError("The storage version of the custom resource did not change.")
        uid = json.loads(first)["metadata"]["uid"].encode()
        self._stale.write_bytes(first.replace(uid, _UID.encode()))
        self._current.write_bytes(self._stored().replace(uid, _UID.encode()))
        self.clear()

    def _is_rewritten(self) -> bool:
        self._cluster.kubectl("patch", self.NAME, _NAME, "--type=merge", "--patch={}")
        return not self._stored().startswith(self.STALE)

    def put_all_stale(self, count: int) -> None:
        """As before any migration, the CRD's status included."""
        self.put(count, stale=True)
        status = json.dumps({"status": {"storedVersions": ["v1alpha1", "v1"]}})
        self._cluster.kubectl("patch", "crd", self.NAME, "--subresource=status", "--type=merge", f"--patch={status}")

    def stored_versions(self) -> list[str]:
        """What the CRD says about its objects."""
        crd = json.loads(self._cluster.kubectl("get", "crd", self.NAME, "-o", "json"))
        found: list[str] = crd["status"]["storedVersions"]
        return found


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
