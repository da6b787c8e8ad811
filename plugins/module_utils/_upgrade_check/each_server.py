# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether every API server can read what the others can: each has its own encryption configuration.

A GET without resourceVersion is read from etcd and decrypted on the spot, whereas a LIST may come from a server's memory
(k8s.io/apiserver, pkg/storage/cacher/delegator.go). So each server is asked for one object for each key and version found in
etcd, plain ones included (a configuration without identity can't read these), or for each resource if etcd was not read; and for
whole lists if the servers' configurations are known to differ.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.gathering import gather_limited
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.retry import PASSING
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import METADATA, ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import object_path
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import (
    Finding,
    Findings,
    listed,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.lists import (
    KMS_FAILS,
    NO_KIND,
    UNCLEAR,
    WEBHOOK_FAILS,
    Lists,
    bring_back_kms,
    failure_of,
    list_all,
    places,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.observed import ObservedCluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

_PARALLEL = 8
_SAMPLES = 2
_FAILED_KEYS = 20
_CLEAR = "identity"

Place = tuple[Optional[str], str]


class _Question(NamedTuple):
    server: ApiServer
    resource: ServedResource
    place: Place


@dataclass
class Readers:
    """Which API servers, by URL, can read objects of one resource, and which can't, with the cause."""

    can: set[str] = field(default_factory=set)
    cannot: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)

    @property
    def only_here(self) -> list[str]:
        """Servers that can't read what others can."""
        return sorted(self.cannot) if self.can - set(self.cannot) else []


async def compare_servers(
    cluster: ObservedCluster, lists: Lists, hashes: Mapping[str, str | None], bad_keys: Mapping[str, Iterable[str]]
) -> dict[str, Readers]:
    """By resource. ``hashes``: of each server's encryption configuration. ``bad_keys``: those of objects that made a LIST fail."""
    if len(cluster.servers) < 2:
        return {}
    found: dict[str, Readers] = {}
    questions = [
        _Question(server, cluster.served[name], place)
        for name, wanted in _places(cluster, lists, bad_keys).items()
        for place in wanted
        for server in cluster.servers
    ]
    # Each object is judged separately: one that no server can read says nothing about the servers.
    by_object: dict[tuple[str, Place], Readers] = {}

    async def ask(question: _Question) -> None:
        await _ask(question, by_object.setdefault((question.resource.name, question.place), Readers()))

    await gather_limited(_PARALLEL, ask, questions)
    for (name, place), readers in by_object.items():
        _merge(found.setdefault(name, Readers()), readers, "/".join(part for part in place if part))
    if len(set(hashes.values())) > 1:
        await _list_on_each(cluster, lists, found)
    return found


def _merge(into: Readers, readers: Readers, place: str) -> None:
    into.silent |= readers.silent
    if readers.only_here:
        into.can |= readers.can
        into.cannot.update(readers.cannot)
        into.keys.add(place)


def _places(cluster: ObservedCluster, lists: Lists, bad_keys: Mapping[str, Iterable[str]]) -> dict[str, list[Place]]:
    """The objects to ask for, by resource."""
    found: dict[str, list[Place]] = {}
    for name, resource in cluster.served.items():
        if "get" not in resource.verbs:
            continue
        wanted = [_place_of(key, resource) for key in list(bad_keys.get(name, ()))[:_FAILED_KEYS]]
        if cluster.scanned is not None and name not in cluster.in_doubt:
            for variant, tally in cluster.scanned.resources.get(name, {}).items():
                wanted += list(places([tally], resource))[: _SAMPLES if variant.provider != _CLEAR else 1]
        if not wanted and name in lists.samples:
            wanted.append((lists.samples[name].namespace, lists.samples[name].name))
        if wanted:
            found[name] = list(dict.fromkeys(wanted))
    return found


def _place_of(key: str, resource: ServedResource) -> Place:
    parts = key.rsplit("/", 2)
    return (parts[-2], parts[-1]) if resource.namespaced else (None, parts[-1])


async def _ask(question: _Question, readers: Readers) -> None:
    server, resource, (namespace, name) = question
    url = server.url
    try:
        answer = await server.request("GET", object_path(resource, namespace, name), accept=METADATA, timeout=30)
    except UnreachableError:
        readers.silent.add(url)
        return
    if answer.status == 200:
        readers.can.add(url)
    elif answer.status in PASSING:
        readers.silent.add(url)
    elif answer.status >= 500:
        cause = failure_of(resource, resource.request_version, answer).cause
        if cause.startswith(UNCLEAR):
            readers.silent.add(url)
        else:
            readers.cannot[url] = cause


async def _list_on_each(cluster: ObservedCluster, lists: Lists, found: dict[str, Readers]) -> None:
    """Whole lists, if the servers' configurations differ."""
    with_objects = {name: resource for name, resource in cluster.served.items() if lists.counts.get(name) != 0}
    for server in cluster.servers:
        there = await list_all(server, with_objects)
        failed = {failure.resource.name: failure for failure in there.failures if failure.status >= 500}
        for name in with_objects:
            readers = found.setdefault(name, Readers())
            if name in failed:
                readers.cannot.setdefault(server.url, failed[name].cause)
            elif there.counts.get(name) is not None and server.url not in readers.cannot:
                readers.can.add(server.url)


def evaluate_readers(found: Mapping[str, Readers], names: Mapping[str, str]) -> Findings:
    """``names``: of the servers, by URL."""
    told = Findings()
    for resource, readers in sorted(found.items()):
        if readers.only_here:
            told.found.append(_differ(resource, readers, names))
    silent = sorted({names.get(url, url) for readers in found.values() for url in readers.silent})
    if silent:
        told.unknown.append(
            f"Whether {listed(silent)} can read all objects that other API servers can, as no clear answer came."
        )
    return told


def _differ(resource: str, readers: Readers, names: Mapping[str, str]) -> Finding:
    unable = [f"{names.get(url, url)} ({url})" for url in readers.only_here]
    able = [names.get(url, url) for url in sorted(readers.can - set(readers.cannot))]
    some = f" ({listed(sorted(readers.keys))})" if readers.keys else ""
    causes = {readers.cannot[url] for url in readers.only_here}
    older = all(cause.startswith(NO_KIND) for cause in causes)
    return Finding(
        "servers_differ",
        resource,
        f"{listed(unable)} can't read objects of {resource}{some} that {listed(able)} can: {readers.cannot[readers.only_here[0]]}.",
        "Clients get errors from one server and answers from another, and what is written by one may be unreadable for the next.",
        _remediation(resource, causes, listed(unable), able[0], older=older),
        # Older releases among newer ones: what remains of the upgrade ends it.
        blocks=not older,
    )


def _remediation(resource: str, causes: Collection[str], unable: str, able: str, *, older: bool) -> str:
    """``unable``, ``able``: the servers that can't read the objects, and one that can. ``older``: those are of an older release."""
    if causes == {KMS_FAILS}:
        return bring_back_kms(f" of {unable}")
    if older:
        return f"Finish the upgrade or the rollback, so that all run one release. Delete nothing: {able} can read the objects."
    fix = (
        f"Let {unable} reach the conversion webhook of {resource}"
        if causes == {WEBHOOK_FAILS}
        else f"Give each API server the encryption configuration that {able} has"
    )
    return f"{fix}, and check again. Delete nothing: the objects are not damaged."


def readers_of(found: Mapping[str, Readers], names: Mapping[str, str]) -> dict[str, list[str]]:
    """The servers that read what others can't, by resource."""
    return {
        resource: [names.get(url, url) for url in sorted(readers.can - set(readers.cannot))]
        for resource, readers in found.items()
        if readers.only_here
    }
