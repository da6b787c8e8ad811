# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys and their resources; the paths are those of k8s.io/kubernetes, test/integration/etcd/data.go."""

from __future__ import annotations

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import (
    KeyMap,
    is_custom,
    object_of,
    own_prefixes,
    prefixes_of,
    split_key,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource


def served(name: str, *, namespaced: bool = True) -> ServedResource:
    plural, _dot, group = name.partition(".")
    return ServedResource(name, group, plural, "Kind", namespaced, frozenset({"list"}), ("v1",), ("h",))


@pytest.mark.parametrize(
    ("key", "resource", "place"),
    [
        ("configmaps/ns/a", "configmaps", ("ns", "a")),
        ("services/specs/ns/a", "services", ("ns", "a")),
        ("services/endpoints/ns/a", "endpoints", ("ns", "a")),
        ("minions/node1", "nodes", (None, "node1")),
        ("controllers/ns/a", "replicationcontrollers", ("ns", "a")),
        ("ingress/ns/a", "ingresses.networking.k8s.io", ("ns", "a")),
        ("leases/kube-system/a", "leases.coordination.k8s.io", ("kube-system", "a")),
        ("deployments/ns/a", "deployments.apps", ("ns", "a")),
        ("mutatingadmissionpolicies/a", "mutatingadmissionpolicies.admissionregistration.k8s.io", (None, "a")),
        ("clustertrustbundles/example.com:s:a", "clustertrustbundles.certificates.k8s.io", (None, "example.com:s:a")),
        (
            "apiextensions.k8s.io/customresourcedefinitions/a.b.c",
            "customresourcedefinitions.apiextensions.k8s.io",
            (None, "a.b.c"),
        ),
        ("apiregistration.k8s.io/apiservices/v1.apps", "apiservices.apiregistration.k8s.io", (None, "v1.apps")),
        ("example.com/widgets/ns/a", "widgets.example.com", ("ns", "a")),
        ("awesome.bears.com/pandas/a", "pandas.awesome.bears.com", (None, "a")),
        ("masterleases/10.0.0.1", None, (None, "10.0.0.1")),
        ("ranges/serviceips", None, (None, "serviceips")),
        ("nonsense/a", None, (None, "a")),
        ("services/else/ns/a", None, ("ns", "a")),
    ],
)
def test_keys(key: str, resource: str | None, place: tuple[str | None, str]) -> None:
    prefix, rest = split_key(key)
    assert KeyMap().resource_at(prefix) == resource
    assert object_of(rest) == place


@pytest.mark.parametrize("rest", ["", "a/b/c", "/a", "a/", "//"])
def test_what_is_not_an_object(rest: str) -> None:
    assert object_of(rest) is None


def test_with_discovery_only_what_is_served_is_known() -> None:
    keys = KeyMap(
        {resource.name: resource for resource in (served("widgets.example.com"), served("news.newgroup.k8s.io"))}
    )
    assert keys.resource_at("example.com/widgets") == "widgets.example.com"
    assert keys.resource_at("example.com/gone") is None
    assert keys.resource_at("news") == "news.newgroup.k8s.io"
    assert keys.fits("widgets.example.com", "ns/a")
    assert not keys.fits("widgets.example.com", "a")


def test_a_plural_of_two_groups_is_not_guessed() -> None:
    keys = KeyMap({resource.name: resource for resource in (served("things.a.k8s.io"), served("things.b.k8s.io"))})
    assert keys.resource_at("things") is None


@pytest.mark.parametrize(
    ("names", "prefixes"),
    [
        (["services", "secrets"], ["secrets", "services/specs"]),
        (["deployments.apps"], ["deployments"]),
        (["customresourcedefinitions.apiextensions.k8s.io"], ["apiextensions.k8s.io/customresourcedefinitions"]),
        (["widgets.example.com"], ["example.com/widgets", "widgets"]),
        (["events", "events.events.k8s.io"], ["events"]),
    ],
)
def test_prefixes(names: list[str], prefixes: list[str]) -> None:
    assert prefixes_of(names) == prefixes


def test_a_custom_resource_named_like_a_shared_prefix() -> None:
    """Below /registry/services/ are Kubernetes' own Services and Endpoints, not Knative's Services."""
    name = "services.serving.knative.dev"
    keys = KeyMap({resource.name: resource for resource in (served("services"), served(name))})
    assert keys.resource_at("services") is None and prefixes_of([name]) == ["serving.knative.dev/services"]
    assert own_prefixes(name, keys) == ["serving.knative.dev/services"]
    assert own_prefixes("services", keys) == ["services/specs"]


def test_custom() -> None:
    assert is_custom("widgets.example.com")
    assert not is_custom("deployments.apps")
    assert not is_custom("apiservices.apiregistration.k8s.io")
