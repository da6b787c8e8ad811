# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects that two real releases store in different versions, and the versions in etcd."""

from __future__ import annotations

import json
from typing import Any

from tests.control_plane import releases
from tests.control_plane.cluster import Cluster

from .etcd import read_etcd

OLD, NEW = releases.pinned("1.36"), releases.NEWEST.kubernetes
GROUP = "admissionregistration.k8s.io"
POLICIES = ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings")
NUMBER = 12


def policies() -> list[dict[str, Any]]:
    """What 1.36 stores as v1beta1 and 1.37 as v1; they match nothing."""
    found: list[dict[str, Any]] = []
    rule = {"apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nothings"]}
    mutation = {
        "patchType": "ApplyConfiguration",
        "applyConfiguration": {"expression": 'Object{metadata: Object.metadata{labels: {"a": "b"}}}'},
    }
    for number in range(NUMBER):
        metadata = {"name": f"policy-{number}"}
        spec = {
            "failurePolicy": "Ignore",
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [rule]},
            "mutations": [mutation],
        }
        kind = "MutatingAdmissionPolicy"
        found.append({"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": metadata, "spec": spec})
        own = {"policyName": metadata["name"]}
        found.append({"apiVersion": f"{GROUP}/v1", "kind": f"{kind}Binding", "metadata": metadata, "spec": own})
    return found


def stored_as(value: bytes) -> str:
    """The apiVersion of a value in etcd: of JSON, or of protobuf's runtime.Unknown, whose first field is a TypeMeta."""
    if value.startswith(b"{"):
        return str(json.loads(value)["apiVersion"])
    assert value.startswith(b"k8s\0\x0a") and value[6] == 0x0A, value[:16]
    return value[8 : 8 + value[7]].decode()


def versions_of(cluster: Cluster, prefix: str) -> dict[str, int]:
    """How many objects below a prefix of etcd are stored in each version."""
    counts: dict[str, int] = {}
    for entry in read_etcd(cluster, prefix).values():
        version = stored_as(entry.value)
        counts[version] = counts.get(version, 0) + 1
    return counts
