# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection's data of releases, compared with a real API server of one of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ansible_collections.kube_storage.upgrade.plugins.module_utils._data import releases as data
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import open_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.options import ClusterOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource, group_version
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import Releases

from tests.control_plane.cluster import Cluster
from tests.release_data.generate import differences

from .etcd import delete, put

# What the API server's own controllers act upon is left alone.
_LEFT = (
    "apiservices",
    "customresourcedefinitions",
    "events",
    "flowschemas",
    "ipaddresses",
    "namespaces",
    "nodes",
    "prioritylevelconfigurations",
    "servicecidrs",
)
_FOLDERS = {
    "services": "services/specs",
    "endpoints": "services/endpoints",
    "ingresses": "ingress",
    "replicationcontrollers": "controllers",
}


def old_autoscaler(name: str = "old") -> bytes:
    """A HorizontalPodAutoscaler as API servers up to 1.25 stored it, but in JSON."""
    return json.dumps(
        {
            "kind": "HorizontalPodAutoscaler",
            "apiVersion": "autoscaling/v2beta2",
            "metadata": {"name": name, "namespace": "default", "uid": "11111111-1111-1111-1111-111111111111"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "hunter2"}, "maxReplicas": 3},
        }
    ).encode()


@contextmanager
def holding(cluster: Cluster, stored: Mapping[str, bytes]) -> Iterator[None]:
    """etcd with these values for that time."""
    for key, value in stored.items():
        put(cluster, key, value)
    try:
        yield
    finally:
        for key in stored:
            delete(cluster, key)


def observe(cluster: Cluster) -> Observation:
    """What every API server serves and stores."""

    async def run() -> Observation:
        async with open_cluster(ClusterOptions(auth={"kubeconfig": str(cluster.kubeconfig)})) as opened:
            return await opened.observe()

    return asyncio.run(run())


def stored_otherwise(cluster: Cluster, minor: str) -> dict[str, str]:
    """Built-in resources that the data don't have, or in another version than the one whose hash the server reports."""
    own = {name: Releases().storage_version(name, minor) or "" for name in data.STORES}
    resources = observe(cluster).resources
    assert len(resources) > 40
    missing = {name: "not in the data" for name in resources if name not in own and _is_built_in(resources[name])}
    return {**differences(own, {name: resource for name, resource in resources.items() if name in own}), **missing}


def decoded_otherwise(cluster: Cluster, minor: str) -> tuple[int, list[str]]:
    """Puts an object of every version in the data into etcd and asks for it.

    Returns how many were asked for, and those that are read though the data deny it, or vice versa.
    """
    releases, asked, wrong = Releases(), 0, []
    for name, resource in observe(cluster).resources.items():
        if resource.plural in _LEFT or resource.group == "admissionregistration.k8s.io" or not _is_built_in(resource):
            continue
        for version in [*releases.versions(resource.group, resource.kind), group_version(resource.group, "v0")]:
            asked += 1
            answer = _stored_and_asked_for(cluster, resource, version)
            read = "decoded" in answer and "is registered for version" not in answer
            if read != (minor in releases.readers(version, resource.kind)):
                wrong.append(f"{name} as {version}: {answer[:200]}")
    return asked, wrong


def _is_built_in(resource: ServedResource) -> bool:
    return Releases().is_built_in(resource.group, resource.kind)


def _stored_and_asked_for(cluster: Cluster, resource: ServedResource, version: str) -> str:
    place = "default/decoded" if resource.namespaced else "decoded"
    metadata = {"name": "decoded", **({"namespace": "default"} if resource.namespaced else {})}
    value = {"apiVersion": version, "kind": resource.kind, "metadata": metadata}
    key = f"/registry/{_FOLDERS.get(resource.plural, resource.plural)}/{place}"
    namespace = "/namespaces/default" if resource.namespaced else ""
    with holding(cluster, {key: json.dumps(value).encode()}):
        return raw_get(cluster, f"{resource.path}{namespace}/{resource.plural}/decoded")


def raw_get(cluster: Cluster, path: str) -> str:
    """The body of the answer, whatever its status."""

    async def run() -> str:
        async with open_cluster(ClusterOptions(auth={"kubeconfig": str(cluster.kubeconfig)})) as opened:
            return (await opened.entry.request("GET", path)).body.decode()

    return asyncio.run(run())
