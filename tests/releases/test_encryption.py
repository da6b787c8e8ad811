# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every encryption provider, wildcards, reloads, masters that differ, and the way back to plain text, on each release."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster
from tests.control_plane.releases import Release
from tests.integration.support.etcd import read_etcd
from tests.integration.support.kms_plugin import KmsPlugin
from tests.integration.support.modules import Result
from tests.integration.support.objects import apply
from tests.integration.support.stock import GROUP, Stock
from tests.integration.support.waiting import wait_until

Module = Callable[..., Result]

INFO, MIGRATE = "stored_versions_info", "storage_migrate"
HASH_SINCE = 34  # the API server's metrics tell the hash of the configuration
RELOAD = 150.0  # a changed file is seen once a minute
NUMBER = 3
# The resource, as the configuration names it; the provider; the folder in etcd.
SEALED = {
    "secrets": ("aescbc", "secrets/"),
    "configmaps": ("aesgcm", "configmaps/"),
    "serviceaccounts": ("secretbox", "serviceaccounts/"),
    "limitranges": ("kms v2", "limitranges/"),
    "resourcequotas": ("kms v1", "resourcequotas/"),
    f"*.{GROUP}": ("aesgcm", f"{GROUP}/"),
    "*.*": ("secretbox", "namespaces/"),
}


@dataclass
class Sealed:
    """A release's cluster, whose masters each have a configuration file of their own."""

    cluster: Cluster
    plugins: dict[str, KmsPlugin]
    folder: Path

    def file(self, master: str) -> Path:
        return self.folder / f"{master}.json"

    def write(self, document: dict[str, Any], *masters: str) -> None:
        for master in masters or self.cluster.masters:
            new = self.folder / "new.json"
            new.write_text(json.dumps(document), encoding="utf-8")
            new.replace(self.file(master))

    def restart(self, master: str, *, reload: bool) -> None:
        flags = [
            f"encryption-provider-config={self.file(master)}",
            f"encryption-provider-config-automatic-reload={str(reload).lower()}",
        ]
        self.cluster.upgrade(master, self.cluster.data["masters"][master]["version"], flags=flags)

    def provider(self, kind: str, *keys: str) -> list[dict[str, Any]]:
        """The provider with these keys, the first of which is written with; each key of a KMS plugin is a plugin."""
        if kind.startswith("kms"):
            return [
                {
                    "kms": {
                        "apiVersion": kind.split()[1],
                        "name": f"{key}-{kind.split()[1]}",
                        "endpoint": f"unix://{self.folder / key}.sock",
                        "timeout": "10s",
                    }
                }
                for key in keys
            ]
        secrets = [{"name": key, "secret": base64.b64encode(key.encode().ljust(32, b"!")).decode()} for key in keys]
        return [{kind: {"keys": secrets}}]

    def configuration(self, *keys: str, identity_first: bool = False) -> dict[str, Any]:
        plain: list[dict[str, Any]] = [{"identity": {}}]
        rows = []
        for resource, (kind, _place) in SEALED.items():
            providers = self.provider(kind, *keys)
            rows.append(
                {
                    "resources": [resource],
                    "providers": [*plain, *providers] if identity_first else [*providers, *plain],
                }
            )
        return {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": rows}

    def found(self) -> dict[str, Counter[str]]:
        """How etcd's values begin, by the resource that SEALED names."""
        return {
            resource: Counter(
                _envelope(stored.value) for stored in read_etcd(self.cluster, f"/registry/{place}").values()
            )
            for resource, (_kind, place) in SEALED.items()
        }

    def wanted(self, key: str) -> dict[str, set[str]]:
        """How they begin where everything is under one key."""
        found = {}
        for resource, (kind, _place) in SEALED.items():
            provider, _space, version = kind.partition(" ")
            name = f"{key}-{version}" if version else key
            found[resource] = {f"k8s:enc:{provider}:{version or 'v1'}:{name}:"}
        return found


def _envelope(value: bytes) -> str:
    return ":".join(value.split(b":", 5)[:5][i].decode("latin-1") for i in range(5)) + ":" if value.startswith(b"k8s:enc:") else "plain"  # fmt: skip


@pytest.fixture(scope="session")  # The masters still ask the plugins when test_upgrade.py restarts them.
def sealed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    folder = tmp_path_factory.mktemp("sealed")
    plugins = {key: KmsPlugin(folder / f"{key}.sock", f"remote-{key}") for key in ("first", "second")}
    made = Sealed(cluster, plugins, folder)
    stock = Stock(cluster, "seals")
    stock.fill(NUMBER)
    apply(cluster, *_objects())
    yield made
    stock.remove()
    for plugin in plugins.values():
        plugin.close()


def _objects() -> list[dict[str, Any]]:
    kinds: dict[str, dict[str, Any]] = {
        "Secret": {},
        "ConfigMap": {},
        "ServiceAccount": {},
        "LimitRange": {"spec": {"limits": []}},
        "ResourceQuota": {"spec": {}},
    }
    return [
        {"apiVersion": "v1", "kind": kind, "metadata": {"name": f"sealed-{i}", "namespace": "default"}, **more}
        for kind, more in kinds.items()
        for i in range(NUMBER)
    ]


def assert_all_under(sealed: Sealed, key: str) -> None:
    found = sealed.found()
    assert {resource: set(envelopes) for resource, envelopes in found.items()} == sealed.wanted(key)
    assert all(sum(envelopes.values()) >= NUMBER for envelopes in found.values()), found


def rewrite(sealed: Sealed, module: Module) -> Result:
    """Rewrites all that is stale: also events, which have to be named, as they expire on their own."""
    options = {"select": "stale", "etcd": sealed.cluster.etcd, "encryption_config": str(sealed.file("master-1"))}
    done = module(sealed.cluster, MIGRATE, **options)
    assert done["failures"] == [] and set(done["proof"]["resources"]) <= {"events"}, done.message
    events = module(sealed.cluster, MIGRATE, resources=["events"], **options)
    assert events["failures"] == [] and events["proof"]["stale"] == 0, events.message
    return done


def test_every_provider_from_plain_text(sealed: Sealed, module: Module) -> None:
    cluster = sealed.cluster
    # Both keys from the beginning, as the masters reload at different times and must read what the others write by then.
    sealed.write(sealed.configuration("first", "second"))
    for master in cluster.masters:
        sealed.restart(master, reload=True)
    config = str(sealed.file("master-1"))
    found = module(cluster, INFO, etcd=cluster.etcd, encryption_config=config)
    assert set(found["stale_resources"]) >= {"secrets", "configmaps", "limitranges", "resourcequotas", "namespaces"}
    rewrite(sealed, module)
    assert_all_under(sealed, "first")
    again = module(cluster, MIGRATE, select="stale", etcd=cluster.etcd, encryption_config=config)
    assert (again["changed"], again["rewritten"]) == (False, 0)


def test_a_configuration_that_is_reloaded(sealed: Sealed, release: Release, module: Module) -> None:
    """Another key of every provider to write with, without a restart."""
    cluster = sealed.cluster
    sealed.write(sealed.configuration("second", "first"))
    written = time.time()

    def loaded() -> bool:
        servers = module(cluster, "encryption_config_info")["servers"]
        if release.minor >= HASH_SINCE:
            assert all(server["config_hash"] for server in servers), servers
        return all((server["reloaded"] or 0.0) >= written - 1 for server in servers)

    wait_until(loaded, RELOAD)
    assert rewrite(sealed, module)["rewritten"] > 5 * NUMBER
    assert_all_under(sealed, "second")


def test_masters_that_differ_and_identity_first(sealed: Sealed, module: Module) -> None:
    cluster = sealed.cluster
    plain = sealed.configuration("second", "first", identity_first=True)
    sealed.write(plain, "master-2")
    sealed.restart("master-2", reload=False)
    refused = module(cluster, MIGRATE, select="stale", resources=["secrets"], etcd=cluster.etcd)
    assert refused.failed and "write objects differently" in refused.message, refused.message
    assert all(url in refused.message for url in cluster.urls)
    assert_all_under(sealed, "second")

    sealed.write(plain, "master-1")
    sealed.restart("master-1", reload=False)
    rewrite(sealed, module)
    assert {resource: set(envelopes) for resource, envelopes in sealed.found().items()} == dict.fromkeys(
        SEALED, {"plain"}
    )
