# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Building blocks for the tests of several checks."""

from __future__ import annotations

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, Tally, Variant
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    storage_version_hash,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import Releases

RELEASES = Releases(
    releases=("1.34", "1.35", "1.36", "1.37"),
    decodes={
        "autoscaling/HorizontalPodAutoscaler": {"v1": "1.34-1.37", "v2": "1.34-1.37", "v2beta2": "1.34-1.35"},
        "new.k8s.io/Thing": {"v1": "1.36-1.37", "v1beta1": "1.34-1.34 1.36-1.37"},
        "/Secret": {"v1": "1.34-1.37"},
    },
    stores={
        "horizontalpodautoscalers.autoscaling": {"1.34": "autoscaling/v2"},
        "things.new.k8s.io": {"1.34": "new.k8s.io/v1beta1", "1.35": "", "1.36": "new.k8s.io/v1"},
        "secrets": {"1.34": "v1"},
    },
    emulated={"1.36": {"things.new.k8s.io": "new.k8s.io/v1beta1"}},
)
AUTOSCALERS = "horizontalpodautoscalers.autoscaling"
WIDGETS = "widgets.example.com"


def served(name: str, kind: str, *versions: str, stored_as: str) -> ServedResource:
    plural, _dot, group = name.partition(".")
    hashed = storage_version_hash(group, stored_as, kind)
    return ServedResource(name, group, plural, kind, True, frozenset({"list", "patch"}), versions, (hashed,))


SERVED = {
    AUTOSCALERS: served(AUTOSCALERS, "HorizontalPodAutoscaler", "v2", "v1", stored_as="v2"),
    "secrets": served("secrets", "Secret", "v1", stored_as="v1"),
    WIDGETS: served(WIDGETS, "Widget", "v1", stored_as="v1"),
}


def held(**tallies: dict[Variant, Tally]) -> Stored:
    return Stored(resources={name.replace("_", "."): found for name, found in tallies.items()})


def crd(storage: str, *versions: str, served: tuple[str, ...] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": WIDGETS},
        "spec": {
            "group": "example.com",
            "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [
                {"name": version, "served": served is None or version in served, "storage": version == storage}
                for version in versions
            ],
            **more,
        },
        "status": {"storedVersions": ["v1alpha1", "v1"]},
    }
