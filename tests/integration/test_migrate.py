# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""storage_migrate against real API servers: what it reports is compared with what etcd holds."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.control_plane.cluster import Cluster, ClusterError

from .support.etcd import read_etcd, steady
from .support.modules import Result, run_module
from .support.objects import apply, config_maps, install_widgets, make_json, widgets_crd

NAME = "storage_migrate"


def stale_json(cluster: Cluster, prefix: str) -> list[str]:
    return [key for key, entry in read_etcd(cluster, prefix).items() if entry.encoding == "json"]


@pytest.fixture(scope="module")
def stale(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One master; 700 ConfigMaps and 20 Secrets are stored as JSON, which it does not write anymore."""
    cluster = Cluster.up(tmp_path_factory.mktemp("stale") / "cluster", masters=1, owner_pid=os.getpid())
    secrets = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": f"s-{i}", "namespace": "default"},
                "stringData": {"password": "hunter2"},
            }
            for i in range(20)
        ],
    }
    make_json(cluster, "master-1", config_maps(700), secrets)
    yield cluster
    cluster.down()


def objects(cluster: Cluster) -> dict[str, object]:
    """Everything about every ConfigMap and Secret, except for its resourceVersion."""
    items = json.loads(
        cluster.kubectl("get", "configmaps,secrets", "-n", "default", "--show-managed-fields", "-o", "json")
    )["items"]
    for item in items:
        del item["metadata"]["resourceVersion"]
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in items}


def test_everything_stale_is_rewritten_and_nothing_else_changes(stale: Cluster, module: Callable[..., Result]) -> None:
    before, before_etcd = objects(stale), steady(read_etcd(stale))
    assert len(stale_json(stale, "/registry/configmaps/default/")) == 700

    preview = module(stale, NAME, check=True, resources=["configmaps", "secrets"])
    assert preview["changed"] is False
    assert preview["resources"]["configmaps"]["would_visit"] == len(read_etcd(stale, "/registry/configmaps/"))
    assert steady(read_etcd(stale)) == before_etcd, "check mode wrote something"

    done = module(stale, NAME, page_size=100)
    assert done["changed"] is True
    after_etcd = steady(read_etcd(stale))
    rewritten = {key for key, entry in after_etcd.items() if entry.mod_revision != before_etcd[key].mod_revision}
    assert rewritten == {key for key, entry in before_etcd.items() if entry.encoding == "json"}
    assert done["rewritten"] == len(rewritten) == 720
    assert done["resources"]["configmaps"]["rewritten"] == 700
    assert done["resources"]["secrets"]["rewritten"] == 20
    assert done["totals"]["failed"] == 0 and done["failures"] == []
    assert stale_json(stale, "/registry/configmaps/") == []
    assert objects(stale) == before
    assert "hunter2" not in done.output

    again = module(stale, NAME)
    assert again["changed"] is False and again["rewritten"] == 0
    assert steady(read_etcd(stale)) == after_etcd, "the second run wrote something"
    assert module(stale, NAME, select="changed")["totals"]["unchanged"] == 0


def test_select_stale_visits_only_what_is_stale(single_master: Cluster, module: Callable[..., Result]) -> None:
    apply(single_master, config_maps(200, "current"))
    make_json(single_master, "master-1", config_maps(40, "stale"))
    done = module(single_master, NAME, select="stale", etcd=single_master.etcd)
    assert done["rewritten"] == 40 and done["resources"]["configmaps"]["rewritten"] == 40
    assert done["unchanged"] + done["conflicts"] <= 5
    assert stale_json(single_master, "/registry/configmaps/") == []
    again = module(single_master, NAME, select="stale", etcd=single_master.etcd)
    assert again["changed"] is False and again["rewritten"] == 0
    found = module(single_master, "stored_versions_info", etcd=single_master.etcd)
    assert found["totals"]["stale"] == 0
    stored = found["resources"]["configmaps"]["stored"]
    assert sum(variant["objects"] for variant in stored) == len(read_etcd(single_master, "/registry/configmaps/"))


def test_events_are_left_out_unless_named(single_master: Cluster, module: Callable[..., Result]) -> None:
    done = module(single_master, NAME)
    assert {"events", "events.events.k8s.io"} <= {skipped["resource"] for skipped in done["skipped_resources"]}
    named = module(single_master, NAME, resources=["events", "events.events.k8s.io"])
    assert list(named["resources"]) == ["events"]
    assert "stored together with events" in named["skipped_resources"][0]["reason"]


def test_migrating_while_masters_are_mixed_is_refused(
    new_cluster: Callable[..., Cluster], module: Callable[..., Result]
) -> None:
    cluster = new_cluster(version="1.36")
    cluster.upgrade("master-1", "1.37")
    before = steady(read_etcd(cluster))
    refused = module(cluster, NAME)
    assert refused.failed
    assert "mutatingadmissionpolicies.admissionregistration.k8s.io: v1 on" in refused.message
    assert steady(read_etcd(cluster)) == before
    assert not any("kube-storage-upgrade" in key for key in read_etcd(cluster))
    cluster.upgrade("master-2", "1.37")
    cluster.upgrade("master-3", "1.37")
    assert (
        module(cluster, "storage_version_hashes", state="converged", wait_timeout=60, stable_for=1)["converged"] is True
    )
    assert module(cluster, NAME)["changed"] is False


def test_writers_lose_nothing(three_masters: Cluster, module: Callable[..., Result]) -> None:
    make_json(three_masters, "master-2", config_maps(300, "busy"))
    ending = threading.Event()
    acknowledged = dict.fromkeys(range(4), 0)
    annotations = threading.Lock()

    def write(number: int) -> None:
        while not ending.is_set():
            value = acknowledged[number] + 1
            patch = json.dumps({"data": {"count": str(value)}})
            try:
                three_masters.kubectl("patch", "configmap", f"busy-{number:04d}", "--type=merge", "-p", patch)
            except ClusterError:
                continue
            with annotations:
                acknowledged[number] = value

    threads = [threading.Thread(target=write, args=(number,)) for number in acknowledged]
    for thread in threads:
        thread.start()
    try:
        done = module(three_masters, NAME, resources=["configmaps"], max_rate=60)
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    assert done["totals"]["failed"] == 0
    assert done["rewritten"] + done["conflicts"] + done["unchanged"] + done["deleted"] >= 300
    assert stale_json(three_masters, "/registry/configmaps/default/") == []
    for number, value in acknowledged.items():
        found = json.loads(three_masters.kubectl("get", "configmap", f"busy-{number:04d}", "-o", "json"))
        assert value > 0 and int(found["data"]["count"]) == value
    # 300 objects at 60 a second take five seconds, minus the burst.
    assert done["seconds"] >= 4.5


def test_an_operator_can_drop_an_old_version_afterwards(three_masters: Cluster, module: Callable[..., Result]) -> None:
    install_widgets(three_masters, 30)
    only_v1 = widgets_crd("v1", versions=("v1",))
    with pytest.raises(ClusterError, match="missing from spec.versions"):
        apply(three_masters, only_v1)
    old = [
        key
        for key, entry in read_etcd(three_masters, "/registry/shop.example.com/widgets/").items()
        if b"v1alpha1" in entry.value
    ]
    assert len(old) == 30
    done = module(three_masters, NAME, resources=["widgets.shop.example.com"])
    assert done["rewritten"] == 30
    assert done["trimmed"] == [{"crd": "widgets.shop.example.com", "before": ["v1alpha1", "v1"], "after": ["v1"]}]
    stored = read_etcd(three_masters, "/registry/shop.example.com/widgets/").values()
    assert {json.loads(entry.value)["apiVersion"] for entry in stored} == {"shop.example.com/v1"}
    apply(three_masters, only_v1)
    # Its managers' entries still name the version that is gone.
    pruned = module(three_masters, NAME, resources=["widgets.shop.example.com"], prune_managed_fields=True)
    assert pruned["pruned"] == 30 and pruned["changed"] is True
    items = json.loads(three_masters.kubectl("get", "widgets", "--show-managed-fields", "-o", "json"))["items"]
    assert all(
        entry["apiVersion"] == "shop.example.com/v1"
        for item in items
        for entry in item["metadata"].get("managedFields", [])
    )
    assert (
        module(three_masters, NAME, resources=["widgets.shop.example.com"], prune_managed_fields=True)["changed"]
        is False
    )
    three_masters.kubectl("delete", "crd", "widgets.shop.example.com")


def test_select_changed_after_a_baseline(new_cluster: Callable[..., Cluster], module: Callable[..., Result]) -> None:
    cluster = new_cluster(version="1.36", masters=1)
    assert module(cluster, "storage_version_hashes", state="recorded")["changed"] is True
    assert module(cluster, NAME, select="changed")["resources"] == {}
    cluster.upgrade("master-1", "1.37")
    done = module(cluster, NAME, select="changed")
    assert {
        "mutatingadmissionpolicies.admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
    } <= set(done["resources"])
    assert "secrets" not in done["resources"]
    assert module(cluster, NAME, select="changed")["resources"] == {}
    assert module(cluster, "storage_version_hashes")["changed_resources"] == []


def test_the_same_run_through_module_and_lease(single_master: Cluster, module: Callable[..., Result]) -> None:
    """While another run holds the Lease, one is refused; when that has expired, it takes over."""
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "kube-storage-upgrade", "namespace": "kube-system"},
        "spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 30, "renewTime": now()},
    }
    single_master.kubectl("delete", "lease", "kube-storage-upgrade", "-n", "kube-system", "--ignore-not-found")
    apply(single_master, lease)
    refused = run_module(single_master, NAME, resources=["secrets"])
    assert refused.failed and "somebody holds the Lease kube-system/kube-storage-upgrade" in refused.message
    from .support.waiting import wait_until

    wait_until(lambda: not run_module(single_master, NAME, resources=["secrets"]).failed)


def now() -> str:
    from datetime import datetime, timezone

    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_a_large_resource_does_not_hold_up_a_small_one(stale: Cluster, module: Callable[..., Result]) -> None:
    apply(stale, config_maps(1200, "many"))
    stale.kubectl("create", "serviceaccount", "few")
    done = module(stale, NAME, max_rate=300, resources=["configmaps", "serviceaccounts"])
    assert done["resources"]["configmaps"]["seconds"] > 3
    assert done["resources"]["serviceaccounts"]["seconds"] < 1
