# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects that tests create, and how they become stale."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.control_plane.cluster import Cluster, ClusterError

from .etcd import read_etcd
from .waiting import wait_until

POLICIES = "mutatingadmissionpolicies.admissionregistration.k8s.io"


def apply(cluster: Cluster, *documents: Mapping[str, Any], kubeconfig: Path | None = None) -> None:
    text = "\n---\n".join(json.dumps(document) for document in documents)
    cluster.kubectl("apply", "-f", "-", input=text, kubeconfig=kubeconfig)


def config_maps(number: int, prefix: str = "cm", namespace: str = "default") -> dict[str, Any]:
    items = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{prefix}-{i:04d}", "namespace": namespace, "annotations": {"note": "kept"}},
            "data": {"key": "value"},
        }
        for i in range(number)
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def denying_policy(
    name: str, resource: str, unless: str, message: str = "it is frozen"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A policy, and its binding, that denies updates of a resource, such as ``widgets.shop.example.com``, ``unless`` the expression holds."""
    kinds = "admissionregistration.k8s.io/v1"
    plural, _dot, group = resource.partition(".")
    rule = {"apiGroups": [group], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": [plural]}
    denies = {
        "apiVersion": kinds,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": unless, "message": message}],
        },
    }
    binding = {
        "apiVersion": kinds,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    return denies, binding


def freeze(
    cluster: Cluster, name: str, resource: str, unless: str, frozen: str, message: str = "it is frozen"
) -> Callable[[], bool]:
    """Applies such a policy and waits until it denies updates of the object ``frozen``.

    Returns a function that says whether it still does.
    """
    apply(cluster, *denying_policy(name, resource, unless, message))

    def is_enforced() -> bool:
        try:
            cluster.kubectl("annotate", resource, frozen, "probe=x", "--overwrite", "--dry-run=server")
        except ClusterError as error:
            return message in str(error)
        return False

    wait_until(is_enforced)
    return is_enforced


def make_json(cluster: Cluster, master: str, *documents: Mapping[str, Any]) -> None:
    """Writes objects through one master that stores JSON for that time, so that they are stale for the others."""
    version = cluster.data["masters"][master]["version"]
    cluster.upgrade(master, version, flags=["storage-media-type=application/json"])
    text = "\n---\n".join(json.dumps(document) for document in documents)
    own = cluster.folder / f"kubeconfig-{master}"
    cluster.kubectl("apply", "--server-side", "-f", "-", input=text, kubeconfig=own)
    cluster.upgrade(master, version, flags=["storage-media-type=application/vnd.kubernetes.protobuf"])


def await_established(cluster: Cluster, *which: str) -> None:
    """Until CRDs, named as for kubectl get, are served; kubectl wait fails on one that has no conditions yet."""

    def established() -> bool:
        found = json.loads(cluster.kubectl("get", *which, "-o", "json"))
        of_crds = [crd.get("status", {}).get("conditions") or [] for crd in found.get("items", [found])]
        return all(
            {"Established": "True"}.items()
            <= {condition["type"]: condition["status"] for condition in conditions}.items()
            for conditions in of_crds
        )

    wait_until(established)


def widgets_crd(storage: str, versions: tuple[str, ...] = ("v1alpha1", "v1")) -> dict[str, Any]:
    schema = {
        "openAPIV3Schema": {
            "type": "object",
            "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
        }
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.shop.example.com"},
        "spec": {
            "group": "shop.example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [
                {"name": version, "served": True, "storage": version == storage, "schema": schema}
                for version in versions
            ],
        },
    }


def widgets(number: int, version: str = "v1alpha1") -> dict[str, Any]:
    items = [
        {
            "apiVersion": f"shop.example.com/{version}",
            "kind": "Widget",
            "metadata": {"name": f"widget-{i:03d}", "namespace": "default"},
            "spec": {"size": i},
        }
        for i in range(number)
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def install_widgets(cluster: Cluster, number: int) -> None:
    """A CRD with objects stored as v1alpha1, whose storage version is then v1."""
    apply(cluster, widgets_crd("v1alpha1"))
    await_established(cluster, "crd", "widgets.shop.example.com")
    for master in cluster.masters:
        own = cluster.folder / f"kubeconfig-{master}"
        wait_until(
            lambda own=own: (  # type: ignore[misc]
                "widgets" in cluster.kubectl("api-resources", "--api-group=shop.example.com", kubeconfig=own)
            )
        )
    apply(cluster, widgets(number))
    apply(cluster, widgets_crd("v1"))


def service_accounts(number: int) -> dict[str, Any]:
    items = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": f"sa-{i:04d}", "namespace": "default"}}
        for i in range(number)
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def stale_accounts(cluster: Cluster) -> int:
    return sum(1 for entry in read_etcd(cluster, "/registry/serviceaccounts/").values() if entry.encoding == "json")


def policy(name: str) -> dict[str, Any]:
    """A policy without a binding, so that it mutates nothing; 1.36 stores it differently from 1.37."""
    expression = 'Object{metadata: Object.metadata{labels: {"a": "b"}}}'
    rule = {"apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["none"]}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Ignore",
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [rule]},
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
        },
    }


def old_policies(cluster: Cluster) -> list[str]:
    found = read_etcd(cluster, "/registry/mutatingadmissionpolicies/")
    return [key.rpartition("/")[2] for key, entry in found.items() if b"k8s.io/v1beta1" in entry.value[:80]]
