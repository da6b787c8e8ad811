# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nothing is claimed about an etcd of another cluster, nor about resources that this one keeps in another etcd."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support.etcd import etcd_request, put_json, read_etcd
from .support.modules import Result
from .support.objects import apply, config_maps, install_widgets
from .support.waiting import wait_until

STORED = "stored_versions_info"
MIGRATE = "storage_migrate"
CHECK = "upgrade_check"
CRD = "widgets.shop.example.com"
# Whatever reads etcd, and with which parameters.
READERS: dict[str, dict[str, Any]] = {STORED: {}, MIGRATE: {"select": "stale"}, CHECK: {"target_version": "1.37"}}


@dataclass(frozen=True)
class Other:
    """One more etcd on the host of etcd-1, on another port and with the same certificates."""

    cluster: Cluster
    endpoint: str

    @property
    def etcd(self) -> dict[str, Any]:
        return {**self.cluster.etcd, "endpoints": [self.endpoint]}

    def override(self, *resources: str) -> dict[str, Any]:
        return {"resources": list(resources), "endpoints": [self.endpoint]}


@contextmanager
def another_etcd(cluster: Cluster, name: str, port: int, *, copy_of: Path | None = None) -> Iterator[Other]:
    """An empty one, or one that continues with a copy of another's data."""
    address = cluster.data["members"]["etcd-1"]["address"]
    client, peer = (f"https://{address}:{number}" for number in (port, port + 1))
    pair, ca = cluster.certificate("etcd-1"), cluster.certificate("etcd-ca").cert
    command = [
        str(cluster.folder / "bin" / "etcd"),
        f"--name={name}",
        f"--data-dir={copy_of or cluster.folder / 'etcd' / name}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster={name}={peer}",
        f"--cert-file={pair.cert}",
        f"--key-file={pair.key}",
        f"--trusted-ca-file={ca}",
        "--client-cert-auth=true",
        f"--peer-cert-file={pair.cert}",
        f"--peer-key-file={pair.key}",
        f"--peer-trusted-ca-file={ca}",
        "--log-level=warn",
        "--unsafe-no-fsync",
        *(["--force-new-cluster"] if copy_of else []),
    ]
    cluster._catch_up()
    cluster._spawn(name, command, host="etcd-1")
    other = Other(cluster, client)

    def answers() -> bool:
        try:
            return bool(etcd_request(other, "/v3/maintenance/status", {}).get("header"))
        except OSError:
            return False

    try:
        wait_until(answers)
        yield other
    finally:
        cluster.kill(name)


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with three stale custom resources, whose CRD a migration would trim."""
    cluster = Cluster.up(tmp_path_factory.mktemp("owner") / "cluster", masters=1, owner_pid=os.getpid())
    install_widgets(cluster, 3)
    yield cluster
    cluster.down()


def stored_versions(cluster: Cluster) -> list[str]:
    found: list[str] = json.loads(cluster.kubectl("get", "crd", CRD, "-o", "json"))["status"]["storedVersions"]
    return found


def assert_refused(
    cluster: Cluster, module: Callable[..., Result], etcd: dict[str, Any], *says: str, readers: Any = READERS
) -> None:
    """By everything that reads etcd, in one sentence, before anything is written."""
    before = read_etcd(cluster, "/registry/shop.example.com/")
    for name in readers:
        done = module(cluster, name, etcd=etcd, **READERS[name])
        assert done.failed and done.data["error"] == "etcd", (name, done.data)
        assert all(words in done.message for words in says), (name, done.message)
        assert "Traceback" not in done.output
    assert read_etcd(cluster, "/registry/shop.example.com/") == before
    assert stored_versions(cluster) == ["v1alpha1", "v1"]


def test_wrong_prefix(owner: Cluster, module: Callable[..., Result]) -> None:
    """Number 4: nothing below it was "none is stale", proven, trimmed."""
    etcd = {**owner.etcd, "prefix": "/kubernetes.io"}
    key = "/kubernetes.io/namespaces/kube-system"
    assert_refused(owner, module, etcd, owner.etcd["endpoints"][0], key, "holds nothing there", "etcd.prefix")
    # It holds keys, but none where it should.
    assert_refused(
        owner, module, {**owner.etcd, "prefix": "/registry/configmaps"}, "holds nothing there", readers=[STORED]
    )
    alone = module(None, STORED, etcd=etcd)
    assert alone.failed and "holds nothing below /kubernetes.io/" in alone.message


def test_without_credentials_nothing_is_proven(owner: Cluster, module: Callable[..., Result]) -> None:
    """Number 4: where no API server is asked, nobody knows whose etcd it is."""
    found = module(None, STORED, etcd=owner.etcd, resources=["namespaces"])
    assert found["cluster_verified"] is None
    assert "nothing is proven" in found.message and "none is stale" not in found.message
    assert len(found["problems"]) == 1 and "No API server was asked" in found["problems"][0]
    asked = module(owner, STORED, etcd=owner.etcd, resources=["namespaces"])
    assert asked["cluster_verified"] is True and "none is stale" in asked.message and asked["problems"] == []


def test_another_clusters_etcd(
    owner: Cluster, new_cluster: Callable[..., Cluster], module: Callable[..., Result]
) -> None:
    """Number 4: made in the same way, with the same objects, but another's."""
    other = new_cluster(masters=1)
    assert_refused(
        owner,
        module,
        other.etcd,
        other.etcd["endpoints"][0],
        "another uid",
        "etcd.endpoints",
        readers=[STORED, MIGRATE],
    )


def test_an_empty_etcd_and_one_that_is_mixed_in(owner: Cluster, module: Callable[..., Result]) -> None:
    """Number 4: failover would have wandered into the other one."""
    with another_etcd(owner, "empty", 2479) as empty:
        assert_refused(owner, module, empty.etcd, empty.endpoint, "holds nothing there", readers=[MIGRATE])
        for endpoints in ([*owner.etcd["endpoints"], empty.endpoint], [empty.endpoint, *owner.etcd["endpoints"]]):
            mixed = {**owner.etcd, "endpoints": endpoints}
            assert_refused(owner, module, mixed, "different etcd clusters", readers=[STORED, MIGRATE])
        alone = module(None, STORED, etcd=empty.etcd)
        assert alone.failed and "holds nothing below /registry/" in alone.message


def test_a_copy_of_its_own_etcd(owner: Cluster, module: Callable[..., Result]) -> None:
    """Number 4: a restored backup has the same kube-system, so only its revision tells."""
    copy = owner.folder / "etcd" / "copy"
    owner.kill("master-1")
    owner.kill("etcd-1")
    shutil.copytree(owner.folder / "etcd" / "etcd-1", copy)
    owner.start("etcd-1")
    owner.start("master-1")
    with another_etcd(owner, "copy", 2579, copy_of=copy) as clone:
        key = "/registry/namespaces/kube-system"
        assert read_etcd(clone, key) == read_etcd(owner, key) != {}
        assert_refused(owner, module, clone.etcd, clone.endpoint, "a copy or a backup", readers=[STORED, MIGRATE])
        mixed = {**owner.etcd, "endpoints": [*owner.etcd["endpoints"], clone.endpoint]}
        assert_refused(owner, module, mixed, readers=[STORED, MIGRATE])


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Other]:
    """A cluster that keeps ConfigMaps in another etcd now; as many of them remain in the first one, all of them current."""
    cluster = Cluster.up(tmp_path_factory.mktemp("split") / "cluster", masters=1, owner_pid=os.getpid())
    apply(cluster, config_maps(12))
    with another_etcd(cluster, "other", 2479) as other:
        cluster.upgrade(
            "master-1",
            cluster.data["masters"]["master-1"]["version"],
            flags=[f"etcd-servers-overrides=/configmaps#{other.endpoint}"],
        )
        wait_until(lambda: len(read_etcd(other, "/registry/configmaps/kube-system/")) > 0)
        yield other
    cluster.down()


def make_stale(other: Other, number: int) -> list[str]:
    """ConfigMaps as JSON, written past the API servers into the etcd that has them."""
    return [put_json(other, f"stale-{i}") for i in range(number)]  # type: ignore[arg-type]


def test_a_resource_that_is_kept_elsewhere_is_not_proven(split: Other, module: Callable[..., Result]) -> None:
    """Number 15: what was read, and is current, is not what the API servers have."""
    cluster = split.cluster
    keys = make_stale(split, 4)
    found = module(cluster, STORED, etcd=cluster.etcd)
    assert found["cluster_verified"] is True
    listed = len(read_etcd(split, "/registry/configmaps/"))
    assert found["totals"]["unprovable"] >= listed
    assert found["unprovable_resources"].keys() == {"configmaps"}
    assert found["unprovable_resources"]["configmaps"]["counts_differ"] >= listed
    (problem,) = found["problems"]
    assert f"configmaps ({listed} listed, " in problem and "etcd.overrides" in problem

    done = module(cluster, MIGRATE, select="stale", etcd=cluster.etcd)
    assert {split_one.encoding for key, split_one in read_etcd(split).items() if key in keys} == {"protobuf"}
    assert done["resources"]["configmaps"]["rewritten"] == 4
    assert done["proof"]["unprovable_resources"]["configmaps"] >= listed
    assert any("configmaps" in problem for problem in done["proof"]["problems"])

    check = module(cluster, CHECK, etcd=cluster.etcd, target_version="1.37")
    assert check["proven_from_etcd"] is False and any("configmaps" in gap for gap in check["unknown"])
    assert check["objects"]["configmaps"] == len(read_etcd(split, "/registry/configmaps/"))


def test_equal_numbers_are_not_enough(split: Other, module: Callable[..., Result]) -> None:
    """Number 15: as many ConfigMaps were left behind in the first etcd as the API servers list from the other."""
    cluster = split.cluster
    wait_until(lambda: not cluster.kubectl("get", "configmap", "-n", "kube-system", "none", "--ignore-not-found"))
    here, there = (len(read_etcd(either, "/registry/configmaps/")) for either in (cluster, split))
    if here > there:
        apply(cluster, config_maps(here - there, "even"))
    else:
        for number in range(there - here):
            key = base64.b64encode(f"/registry/configmaps/default/even-{number}".encode()).decode()
            etcd_request(cluster, "/v3/kv/put", {"key": key, "value": base64.b64encode(b"{}").decode()})
    here, there = (len(read_etcd(either, "/registry/configmaps/")) for either in (cluster, split))
    assert here == there
    found = module(cluster, STORED, etcd=cluster.etcd, resources=["configmaps", "secrets"])
    assert found["unprovable_resources"].keys() == {"configmaps"}
    assert "revision" in found["problems"][0]


def test_an_override_is_read_and_proven(split: Other, module: Callable[..., Result]) -> None:
    """Number 15: with the other etcd named, its objects are counted, rewritten by name, and proven there."""
    cluster = split.cluster
    etcd = {**cluster.etcd, "overrides": [split.override("configmaps")]}
    keys = make_stale(split, 6)
    found = module(cluster, STORED, etcd=etcd)
    there = read_etcd(split, "/registry/configmaps/")
    assert found["problems"] == [] and found["unprovable_resources"] == {}
    assert found["resources"]["configmaps"]["objects"] == len(there)
    assert found["resources"]["configmaps"]["stale_reasons"]["encoding"] == 6
    assert found["etcd"]["overrides"][0]["endpoints"] == [split.endpoint]
    # What was left behind belongs to nobody now.
    assert [row["prefix"] for row in found["unknown"]] == ["configmaps"]

    done = module(cluster, MIGRATE, select="stale", etcd=etcd)
    assert (done["rewritten"], done["proof"]["stale"], done["proof"]["unprovable"]) == (6, 0, 0)
    assert done["proof"]["problems"] == []
    stored = read_etcd(split, "/registry/configmaps/")
    assert {stored[key].encoding for key in keys} == {"protobuf"}
    assert module(cluster, MIGRATE, select="stale", etcd=etcd)["changed"] is False
    assert module(cluster, CHECK, etcd=etcd, target_version="1.37")["proven_from_etcd"] is True


def test_a_wrong_override_is_refused(split: Other, module: Callable[..., Result]) -> None:
    """Number 15: what is named as another etcd must be one that the API servers write to, too."""
    cluster = split.cluster
    wrong = {**cluster.etcd, "overrides": [split.override("configmaps", "secrets")]}
    apply(cluster, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "here", "namespace": "default"}})
    found = module(cluster, STORED, etcd=wrong)
    assert found["unprovable_resources"]["secrets"]["counts_differ"] >= 1
    swapped = {**cluster.etcd, "overrides": [{"resources": ["configmaps"], "endpoints": cluster.etcd["endpoints"]}]}
    for name in (STORED, MIGRATE):
        done = module(cluster, name, etcd=swapped, **READERS[name])
        assert done.failed and "etcd.overrides" in done.message, (name, done.data)
    for override, says in (
        ({"resources": ["configmap"], "endpoints": [split.endpoint]}, "did you mean configmaps"),
        ({"resources": [], "endpoints": [split.endpoint]}, "needs resources and endpoints"),
    ):
        done = module(cluster, STORED, etcd={**cluster.etcd, "overrides": [override]})
        assert done.failed and done.data["error"] == "bad_input" and says in done.message, done.message


def test_everything_is_encrypted(split: Other, module: Callable[..., Result], tmp_path: Path) -> None:
    """Number 4: where encryption hides kube-system's uid, the revisions must go together while etcd moves on."""
    cluster = split.cluster
    key = {"name": "all", "secret": base64.b64encode(b"all".ljust(32, b".")).decode()}
    rule = {"resources": ["*.*"], "providers": [{"aescbc": {"keys": [key]}}, {"identity": {}}]}
    config = tmp_path / "encryption.json"
    kind = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration"}
    config.write_text(json.dumps({**kind, "resources": [rule]}), encoding="utf-8")
    cluster.encrypt("master-1", config)
    cluster.kubectl("label", "namespace", "kube-system", "hidden=yes")
    cluster.kubectl("annotate", "configmap", "-n", "default", "--all", "hidden=yes")
    assert read_etcd(cluster, "/registry/namespaces/kube-system").popitem()[1].encoding == "encrypted"
    etcd = {**cluster.etcd, "overrides": [split.override("configmaps")]}
    found = module(cluster, STORED, etcd=etcd, resources=["configmaps", "namespaces"])
    assert found["cluster_verified"] is True and found["problems"] == []
    assert found["resources"]["configmaps"]["objects"] == len(read_etcd(split, "/registry/configmaps/"))
    refused = module(cluster, STORED, etcd=split.etcd)
    assert refused.failed and "holds nothing there" in refused.message
