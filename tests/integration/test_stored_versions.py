# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""stored_versions_info and select: stale, each compared with what etcd really holds."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Page
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.opening import open_etcd
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, changes_since, scan

from tests.control_plane.cluster import Cluster

from .support.etcd import delete, etcd_request, put, put_json, read_etcd
from .support.modules import Result
from .support.objects import POLICIES, apply, config_maps, install_widgets, make_json, policy
from .support.waiting import wait_until

NAME = "stored_versions_info"


def compact(cluster: Cluster) -> None:
    """Drops the whole history of etcd except for the present."""
    put(cluster, "/elsewhere", b"1")
    revision = put_revision(cluster)
    etcd_request(cluster, "/v3/kv/compaction", {"revision": str(revision)})


def put_revision(cluster: Cluster) -> int:
    return int(etcd_request(cluster, "/v3/kv/range", {"key": "Lw=="})["header"]["revision"])


def encryption(*keys: str) -> str:
    named = [{"name": key, "secret": base64.b64encode(key.encode().ljust(32, b".")).decode()} for key in keys]
    rule = {"resources": ["secrets"], "providers": [{"aescbc": {"keys": named}}, {"identity": {}}]}
    return json.dumps(
        {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": [rule]}
    )


def test_every_key_is_counted_once_and_in_the_right_place(
    single_master: Cluster, module: Callable[..., Result]
) -> None:
    apply(single_master, config_maps(30, "counted"))
    single_master.kubectl("create", "service", "clusterip", "odd-prefix", "--tcp=80")
    install_widgets(single_master, 3)
    strange = {
        "/registry/configmaps/default/empty": b"",
        "/registry/configmaps/default/corrupt": b"k8s\x00\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff hunter2",
        "/registry/configmaps/too/many/parts": b"{}",
        "/registry/gone.example.com/things/default/a": b'{"apiVersion":"gone.example.com/v1","kind":"Thing"}',
        "/registry/nonsense": b"hunter2",
    }
    for key, value in strange.items():
        put(single_master, key, value)
    try:
        # Leases and events come and go, so only what stands still is compared one by one.
        found = module(single_master, NAME, etcd=single_master.etcd, samples=1)
        keys = read_etcd(single_master)
    finally:
        for key in strange:
            delete(single_master, key)
    count = Counter(key.removeprefix("/registry/").rsplit("/", 2)[0] for key in keys)
    resources = found["resources"]
    assert (
        resources["configmaps"]["objects"] == len([key for key in keys if key.startswith("/registry/configmaps/")]) - 1
    )
    assert resources["services"]["objects"] == count["services/specs"]
    assert resources["widgets.shop.example.com"]["objects"] == 3
    crds = resources["customresourcedefinitions.apiextensions.k8s.io"]
    assert (crds["objects"], crds["stale"], crds["stored"][0]["version"]) == (1, 0, "apiextensions.k8s.io/v1beta1")
    assert {row["prefix"]: row["objects"] for row in found["unknown"]} == {
        "configmaps": 1,
        "gone.example.com/things": 1,
        "nonsense": 1,
    }
    assert {"ranges"} <= {row["prefix"] for row in found["internal"]}
    encodings = Counter({row["encoding"]: row["objects"] for row in resources["configmaps"]["stored"]})
    assert (encodings["empty"], encodings["unknown"]) == (1, 1)
    assert found["consistent"] is True
    totals = found["totals"]
    counted = sum(resource["objects"] for resource in resources.values()) + totals["unknown"] + totals["internal"]
    assert totals["objects"] == counted
    assert resources["widgets.shop.example.com"]["stale_reasons"] == {"version": 3, "encoding": 0, "encryption": 0}
    assert "hunter2" not in found.output and '"key": "value"' not in found.output


def test_one_resource_and_no_credentials(single_master: Cluster, module: Callable[..., Result], tmp_path: Path) -> None:
    found = module(None, NAME, etcd=single_master.etcd, resources=["namespaces"])
    assert list(found["resources"]) == ["namespaces"]
    expected = found["resources"]["namespaces"]["expected"]
    assert (expected["version"], expected["version_source"], expected["encoding"]) == ("v1", "newest", "protobuf")
    assert found["converged"] is None


def test_all_three_reasons(single_master: Cluster, module: Callable[..., Result], tmp_path: Path) -> None:
    single_master.kubectl("create", "secret", "generic", "reasons", "--from-literal=password=hunter2")
    make_json(single_master, "master-1", config_maps(7, "reasons"))
    config = tmp_path / "encryption.json"
    config.write_text(encryption("second"), encoding="utf-8")
    found = module(single_master, NAME, etcd=single_master.etcd, encryption_config=str(config))
    assert found["resources"]["configmaps"]["stale_reasons"] == {"version": 0, "encoding": 7, "encryption": 0}
    secrets = found["resources"]["secrets"]
    assert (
        secrets["stale_reasons"]["encryption"]
        == secrets["objects"]
        == len(read_etcd(single_master, "/registry/secrets/"))
    )
    assert secrets["expected"]["key"] == "second" and secrets["expected"]["encryption_source"] == "configuration"
    assert base64.b64encode(b"second".ljust(32, b".")).decode() not in found.output
    assert "hunter2" not in found.output


def test_a_new_key_is_found_by_asking_the_servers(
    single_master: Cluster, module: Callable[..., Result], tmp_path: Path
) -> None:
    """No configuration is given, and nothing was written under the new key: only the servers know of it."""
    for number in range(5):
        single_master.kubectl("create", "secret", "generic", f"rotated-{number}", "--from-literal=a=b")
    config = tmp_path / "encryption.json"
    config.write_text(encryption("third"), encoding="utf-8")
    single_master.encrypt("master-1", config)
    before = read_etcd(single_master, "/registry/secrets/")
    done = module(single_master, "storage_migrate", select="stale", etcd=single_master.etcd)
    assert done["resources"]["secrets"]["rewritten"] == len(before)
    assert done["proof"]["stale"] == 0
    assert all(
        s.value.startswith(b"k8s:enc:aescbc:v1:third:") for s in read_etcd(single_master, "/registry/secrets/").values()
    )
    assert module(single_master, "storage_migrate", select="stale", etcd=single_master.etcd)["changed"] is False


def test_masters_that_write_differently_are_refused(
    new_cluster: Callable[..., Cluster], module: Callable[..., Result], tmp_path: Path
) -> None:
    cluster = new_cluster(masters=2)
    cluster.kubectl("create", "secret", "generic", "a", "--from-literal=a=b")
    config = tmp_path / "encryption.json"
    config.write_text(encryption("fourth"), encoding="utf-8")
    cluster.encrypt("master-2", config)
    done = module(cluster, "storage_migrate", select="stale", resources=["secrets"], etcd=cluster.etcd)
    assert done.failed
    assert "write objects differently" in done.message and "aescbc v1 fourth" in done.message
    assert cluster.url("master-1") in done.message and cluster.url("master-2") in done.message
    # master-2 wrote it under its key, so master-1 could not even read it to put it back.
    (stored,) = read_etcd(cluster, "/registry/secrets/default/a").values()
    assert stored.value.startswith(b"k8s:enc:aescbc:v1:fourth:")
    assert (
        "secrets default/a was stored as protobuf without encryption as v1 and could not be put back (" in done.message
    )
    assert "it is now stored as aescbc v1 fourth." in done.message
    assert "every API server needs the key that encrypts it now" in done.message


def test_versions_of_an_older_release(new_cluster: Callable[..., Cluster], module: Callable[..., Result]) -> None:
    cluster = new_cluster(masters=1, version="1.36")
    apply(cluster, policy("stored"))
    assert b"v1beta1" in read_etcd(cluster, "/registry/mutatingadmissionpolicies/").popitem()[1].value[:80]
    assert module(cluster, NAME, etcd=cluster.etcd)["totals"]["stale"] == 0
    cluster.upgrade("master-1", "1.37")
    found = module(cluster, NAME, etcd=cluster.etcd)
    assert found["stale_resources"] == [POLICIES]
    resource = found["resources"][POLICIES]
    assert resource["stored"][0]["version"] == "admissionregistration.k8s.io/v1beta1"
    assert resource["expected"]["version"] == "admissionregistration.k8s.io/v1"
    assert resource["samples"] == ["/registry/mutatingadmissionpolicies/stored"]
    done = module(cluster, "storage_migrate", select="stale", etcd=cluster.etcd)
    assert (done["rewritten"], done["proof"]["stale"]) == (1, 0)
    assert module(cluster, NAME, etcd=cluster.etcd)["totals"]["stale"] == 0


@pytest.mark.parametrize("compactions", [1, 2])
def test_a_scan_outlives_compactions(single_master: Cluster, compactions: int) -> None:
    """One makes it start over, at one revision; after a second one it continues and says so."""
    apply(single_master, config_maps(400, "compacted"))
    expected = len(read_etcd(single_master, "/registry/configmaps/"))

    reads = 0

    async def run() -> Stored:
        async with open_etcd(single_master.etcd) as etcd:
            really = etcd.range

            async def range_after_compaction(start: bytes, end: bytes | None, **options: Any) -> Page:
                """Lets etcd forget the scan's revision just before each second page, as often as the test says."""
                nonlocal reads
                if options.get("revision"):
                    reads += 1
                    if reads in (2, 4)[:compactions]:
                        await asyncio.to_thread(compact, single_master)
                return await really(start, end, **options)

            etcd.range = range_after_compaction  # type: ignore[method-assign]
            return await scan(etcd, resources=["configmaps"])

    stored = asyncio.run(run())
    assert sum(stored.versions("configmaps").values()) == expected
    assert stored.consistent is (compactions == 1)


def test_what_another_writer_leaves_behind_is_found(single_master: Cluster) -> None:
    apply(single_master, config_maps(50, "behind"))
    key = "/registry/configmaps/default/behind-0007"

    async def run() -> tuple[Stored, Stored]:
        async with open_etcd(single_master.etcd) as etcd:
            before = await scan(etcd, resources=["configmaps"])
            await asyncio.to_thread(put, single_master, key, b'{"kind":"ConfigMap","apiVersion":"v0"}')
            return before, await changes_since(etcd, before, keep=10)

    before, changes = asyncio.run(run())
    delete(single_master, key)
    assert "v0" not in before.versions("configmaps")
    assert changes.versions("configmaps")["v0"] == 1
    kept = [place for tally in changes.resources["configmaps"].values() for place in tally.kept or ()]
    assert ("default", "behind-0007") in [(place.namespace, place.name) for place in kept]


def test_what_another_writer_leaves_stale_during_a_run_is_redone(
    single_master: Cluster, module: Callable[..., Result]
) -> None:
    def rewritten() -> list[str]:
        stored = read_etcd(single_master, "/registry/configmaps/default/mid-run-")
        return [key for key in keys if stored[key].encoding == "protobuf"]

    keys = [put_json(single_master, f"mid-run-{number}") for number in range(60)]
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(
            module,
            single_master,
            "storage_migrate",
            select="stale",
            resources=["configmaps"],
            etcd=single_master.etcd,
            max_rate=10,
        )
        wait_until(lambda: bool(rewritten()) or run.done())
        redone = rewritten()[0]
        put_json(single_master, redone.rpartition("/")[2])
        assert not run.done()
        done = run.result()
    assert (done["rewritten"], done["failures"], done["proof"]["stale"]) == (len(keys), [], 0)
    assert len(rewritten()) == len(keys)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"endpoints": ["https://127.0.0.1:1"]}, "refuses connections; check etcd.endpoints"),
        ({"endpoints": ["10.0.0.1:2379"]}, "is not an etcd endpoint"),
        ({"ca_cert": "/nowhere/ca.crt"}, "does not exist"),
        ({"ca_cert": "/etc/hostname"}, "not a PEM certificate"),
        ({"client_key": None}, "etcd.client_key is missing"),
        ({"client_cert": None, "client_key": None}, "etcd.client_cert and client_key belong to etcd's own CA"),
    ],
)
def test_bad_etcd_is_one_sentence(
    single_master: Cluster, module: Callable[..., Result], change: dict[str, Any], says: str
) -> None:
    etcd = {name: value for name, value in {**single_master.etcd, **change}.items() if value is not None}
    for name, more in ((NAME, {}), ("storage_migrate", {"select": "stale"})):
        done = module(single_master, name, etcd=etcd, **more)
        assert done.failed and says in done.message, done.message
        assert "Traceback" not in done.output


def test_an_api_server_instead_of_etcd(single_master: Cluster, module: Callable[..., Result]) -> None:
    done = module(single_master, NAME, etcd={**single_master.etcd, "endpoints": [single_master.url("master-1")]})
    assert done.failed and ("check etcd.ca_cert" in done.message or "JSON gateway" in done.message), done.message
    assert "Traceback" not in done.output
