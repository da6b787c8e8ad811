# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.discovery import (
    aggregated_group_versions,
    merge_resource_lists,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions import hashes as sv


def served(name: str, *versions: str, stored: str, kind: str = "Thing") -> sv.ServedResource:
    plural, _dot, group = name.partition(".")
    return sv.ServedResource(
        name=name,
        group=group,
        plural=plural,
        kind=kind,
        namespaced=True,
        verbs=frozenset({"list", "patch"}),
        versions=versions,
        hashes=(sv.storage_version_hash(group, stored, kind),),
    )


def report(url: str, *resources: sv.ServedResource, **changes: object) -> sv.ServerReport:
    fields: dict[str, object] = {"version": "v1.37.2", "ready": True, **changes}
    return sv.ServerReport(url=url, name=url, resources={resource.name: resource for resource in resources}, **fields)  # type: ignore[arg-type]


def test_hash_is_the_one_that_kubernetes_computes() -> None:
    # Both values were read from a kube-apiserver.
    assert sv.storage_version_hash("", "v1", "Pod") == "xPOwRZ+Yhw8="
    assert sv.storage_version_hash("apps", "v1", "Deployment") == "8aSe+NMegvE="


@pytest.mark.parametrize(
    ("group", "version", "kind", "served_versions", "expected"),
    [
        ("", "v1", "Pod", ("v1",), "v1"),
        ("apiextensions.k8s.io", "v1beta1", "CustomResourceDefinition", ("v1",), "apiextensions.k8s.io/v1beta1"),
        ("shop.example.com", "v20230101", "Order", ("v20230101",), "shop.example.com/v20230101"),
    ],
)
def test_decode_finds_served_and_usual_versions(
    group: str, version: str, kind: str, served_versions: tuple[str, ...], expected: str
) -> None:
    wanted = sv.storage_version_hash(group, version, kind)
    assert sv.decode_hash(wanted, group, kind, served_versions, ()) == expected


def test_decode_finds_the_group_that_a_resource_shares_its_storage_with() -> None:
    wanted = sv.storage_version_hash("", "v1", "Event")
    assert sv.decode_hash(wanted, "events.k8s.io", "Event", ("v1",), ("", "apps")) == "v1"


def test_decode_does_not_guess() -> None:
    assert sv.decode_hash("AAAAAAAAAAA=", "apps", "Deployment", ("v1",), ("", "batch")) is None


def test_missing_on_one_server_is_not_agreement() -> None:
    thing = served("things.example.com", "v1", stored="v1")
    found = sv.disagreements([report("https://a", thing), report("https://b")])
    assert [disagreement.resource for disagreement in found] == ["things.example.com"]
    assert sv.by_server_text(found[0], ()) == "things.example.com: not served on https://b, v1 on https://a"


def test_different_hashes_are_reported_with_their_versions() -> None:
    old = served("things.example.com", "v1", stored="v1beta1")
    new = served("things.example.com", "v1", stored="v1")
    found = sv.disagreements([report("https://11", new), report("https://12", old), report("https://13", old)])
    assert sv.by_server_text(found[0], ()) == "things.example.com: v1 on https://11, v1beta1 on https://12, https://13"


def test_a_server_without_an_answer_is_left_to_the_reasons_about_servers() -> None:
    thing = served("things.example.com", "v1", stored="v1")
    assert sv.disagreements([report("https://a", thing), report("https://b", error="down")]) == []


def test_versions_that_disagree_within_one_server_are_not_settled() -> None:
    lists = [
        (
            "example.com/v1",
            {"resources": [{"name": "things", "kind": "Thing", "verbs": ["list"], "storageVersionHash": "x"}]},
        ),
        (
            "example.com/v2",
            {"resources": [{"name": "things", "kind": "Thing", "verbs": ["list"], "storageVersionHash": "y"}]},
        ),
    ]
    found = merge_resource_lists(lists)
    assert found["things.example.com"].hash is None
    assert found["things.example.com"].versions == ("v1", "v2")
    same = [report("https://a", *found.values()), report("https://b", *found.values())]
    assert [disagreement.resource for disagreement in sv.disagreements(same)] == ["things.example.com"]


def test_subresources_unstored_and_unserved_are_left_out() -> None:
    lists = [
        (
            "v1",
            {
                "resources": [
                    {"name": "pods", "kind": "Pod", "namespaced": True, "verbs": ["list"], "storageVersionHash": "x"},
                    {"name": "pods/status", "kind": "Pod", "verbs": ["get"], "storageVersionHash": "x"},
                    {"name": "bindings", "kind": "Binding", "verbs": ["create"]},
                ]
            },
        ),
        ("gone.example.com/v1", None),
    ]
    assert list(merge_resource_lists(lists)) == ["pods"]


def test_aggregated_group_versions_are_those_with_a_service() -> None:
    services = {
        "items": [
            {"spec": {"group": "metrics.k8s.io", "version": "v1beta1", "service": {"name": "m"}}},
            {"spec": {"group": "apps", "version": "v1", "service": None}},
        ]
    }
    assert aggregated_group_versions(services) == {"metrics.k8s.io/v1beta1"}


@pytest.mark.parametrize(
    ("version", "emulated", "release", "is_there"),
    [
        ("v1.37.2", None, "1.37", True),
        ("v1.37.2", None, "v1.37", True),
        ("v1.37.2", None, "v1.37.2", True),
        ("v1.37.2", None, "1.37.3", False),
        ("v1.37.20", None, "1.37.2", False),
        ("v1.37.2", None, "1.3", False),
        ("v1.37.2", None, "1.36", False),
        # What distributions add.
        ("v1.37.2-eks-1a2b3c", None, "1.37", True),
        ("v1.37.2-eks-1a2b3c", None, "1.37.2", True),
        ("v1.37.2-eks-1a2b3c", None, "1.37.1", False),
        ("v1.37.2-gke.100", None, "1.37.2", True),
        ("v1.37.2+k3s1", None, "1.37.2", True),
        ("v1.37.2+rke2r1", None, "v1.37.2+rke2r1", True),
        ("v1.37.2+rke2r1", None, "v1.37.2+rke2r2", False),
        ("v1.37.2", None, "v1.37.2+rke2r1", False),
        # Before the release.
        ("v1.37.0-rc.1", None, "1.37", True),
        ("v1.37.0-rc.1", None, "1.37.0", False),
        ("v1.37.0-rc.1", None, "v1.37.0-rc.1", True),
        ("v1.37.0-rc.1+k3s1", None, "v1.37.0-rc.1", True),
        ("v1.37.0-rc.2", None, "v1.37.0-rc.1", False),
        ("v1.37.0", None, "v1.37.0-rc.1", False),
        ("v1.37.0-alpha.0.12+ab12cd", None, "1.37.0", False),
        # Emulating.
        ("v1.37.2", "1.36", "1.37", False),
        ("v1.37.2", "1.36", "1.37.2", False),
        ("v1.37.2", "1.36", "1.36", True),
        ("v1.37.2", "1.36", "1.36.4", True),
        ("v1.37.2+rke2r1", "1.36", "1.36.4+rke2r1", True),
        ("v1.36.4", "1.36", "1.36.4", True),
        ("v1.36.3", "1.36", "1.36.4", False),
        # Exactly one of the two steps, or the older release itself.
        ("v1.37.2", "1.36", "1.37 emulating 1.36", True),
        ("v1.37.2", "1.36", "v1.37.2 emulating 1.36", True),
        ("v1.37.2", "1.36", "v1.37.1 emulating 1.36", False),
        ("v1.37.2", "1.35", "1.37 emulating 1.36", False),
        ("v1.37.2", None, "1.37 emulating 1.36", False),
        ("v1.36.5", None, "1.37 emulating 1.36", False),
        ("v1.37.2", "1.36", "1.36 itself", False),
        ("v1.36.5", None, "1.36 itself", True),
        ("v1.36.5", None, "v1.36.5 itself", True),
        ("v1.36.4", None, "v1.36.5 itself", False),
        # Nothing known.
        (None, None, "1.37", False),
        ("", None, "1.37", False),
        ("v1.37.2", None, "", False),
        ("unknown", None, "1.37", False),
    ],
)
def test_whether_a_server_is_at_a_release(
    version: str | None, emulated: str | None, release: str, is_there: bool
) -> None:
    assert sv.at_release(version, release, emulated) is is_there
    assert sv.version_matches(report("https://a", version=version, emulated_version=emulated), release) is is_there


def test_changed_since() -> None:
    thing = served("things.example.com", "v1", stored="v1")
    old = sv.storage_version_hash("example.com", "v1beta1", "Thing")
    now = thing.hash
    assert now is not None
    resources = {thing.name: thing}
    assert sv.changed_since(resources, {thing.name: (now,)}) == []
    assert sv.changed_since(resources, {thing.name: (old,)}) == [sv.Change(thing.name, (old,), now)]
    assert sv.changed_since(resources, {thing.name: (old, now)}) == [sv.Change(thing.name, (old, now), now)]
    assert sv.changed_since(resources, {}) == [sv.Change(thing.name, (), now)]
    assert sv.changed_since(resources, None) == [sv.Change(thing.name, (), now)]
