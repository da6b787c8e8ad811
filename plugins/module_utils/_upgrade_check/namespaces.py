# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects whose namespace no longer exists.

They can be listed and read, but API servers before 1.37 refuse to write them (k8s.io/apiserver,
pkg/admission/plugin/namespace/lifecycle), and so does every release if a webhook selects by namespace. So they
can't be migrated, and stay in the version that they are stored in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.gathering import gather_limited
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import METADATA, ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import object_path, path_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import (
    About,
    Verdict,
    error_outcome,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Finding, count, listed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.lists import Lists, places
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

_PARALLEL = 8
_REFUSED = "The API server refuses to write them, so they can't be migrated and stay in the version that they have."
_REMEDIATION = "Create the namespace again, or delete the objects."


@dataclass(frozen=True)
class Orphans:
    """Objects of one resource in one namespace that is gone; ``objects`` is None if they could not be counted."""

    resource: ServedResource
    namespace: str
    objects: int | None
    sample: ObjectKey
    keys: tuple[str, ...] = ()


async def find(
    server: ApiServer, served: Mapping[str, ServedResource], lists: Lists, scanned: Stored | None
) -> tuple[list[Orphans], list[str]]:
    """(objects in namespaces that the API server does not list, sentences about what could not be seen)."""
    known = lists.namespace_names
    if known is None:
        return [], ["Whether objects remain in namespaces that are gone, as the namespaces could not be listed."]
    suspects = [
        Orphans(served[name], namespace, number, sample)
        for name, spaces in sorted(lists.namespaces.items())
        for namespace, (number, sample) in sorted(spaces.items())
        if namespace not in known
    ]
    suspects = [*_with_keys(suspects, scanned), *_only_in_etcd(served, lists, scanned, known)]

    async def is_gone(namespace: str) -> bool:
        """Asks again, as it may have been created since; without permission for that, only the list counts."""
        try:
            answer = await server.request("GET", path_of("/api/v1", "namespaces", name=namespace), accept=METADATA)
        except UnreachableError:
            return True
        return answer.status != 200

    async def exists(orphans: Orphans) -> bool:
        """Asks again, as the object may be gone with its namespace by now; objects that only etcd has are not checked."""
        return orphans.objects is None or not await _does_not_exist(server, orphans)

    names = sorted({orphans.namespace for orphans in suspects})
    answers = await gather_limited(_PARALLEL, is_gone, names)
    gone = {name for name, answer in zip(names, answers) if answer}
    suspects = [orphans for orphans in suspects if orphans.namespace in gone]
    there = await gather_limited(_PARALLEL, exists, suspects)
    return [orphans for orphans, answer in zip(suspects, there) if answer], []


def _with_keys(found: Iterable[Orphans], scanned: Stored | None) -> list[Orphans]:
    """Adds the keys that the scan of etcd kept."""
    if scanned is None:
        return list(found)
    return [replace(orphans, keys=_keys(orphans.resource, orphans.namespace, scanned)) for orphans in found]


def _keys(resource: ServedResource, namespace: str, scanned: Stored) -> tuple[str, ...]:
    tallies = scanned.resources.get(resource.name, {}).values()
    return tuple(sorted(key for place, key in places(tallies, resource).items() if place[0] == namespace))


def _only_in_etcd(
    served: Mapping[str, ServedResource], lists: Lists, scanned: Stored | None, known: frozenset[str]
) -> list[Orphans]:
    """If the API server can't list a resource, its objects in etcd are used."""
    if scanned is None:
        return []
    found = []
    for name, resource in sorted(served.items()):
        if not resource.namespaced or lists.counts.get(name) is not None:
            continue
        by_namespace: dict[str, str] = {}
        for namespace, object_name in places(scanned.resources.get(name, {}).values(), resource):
            if namespace is not None and namespace not in known:
                by_namespace.setdefault(namespace, object_name)
        found += [
            Orphans(resource, namespace, None, ObjectKey(namespace, first), _keys(resource, namespace, scanned))
            for namespace, first in sorted(by_namespace.items())
        ]
    return found


async def _does_not_exist(server: ApiServer, orphans: Orphans) -> bool:
    resource, name = orphans.resource, orphans.sample.name
    path = object_path(resource, orphans.namespace, name)
    about = About(resource.group, resource.plural, orphans.namespace, name)
    try:
        answer = await server.request("GET", path, accept=METADATA)
    except UnreachableError:
        return False
    return answer.status == 404 and error_outcome(answer, about).verdict is Verdict.DELETED


def evaluate_namespaces(found: Iterable[Orphans], refused: Mapping[str, str]) -> list[Finding]:
    """One finding for each resource.

    ``refused``: resources of which the API server would not write an object, for its namespace, which is named.
    """
    by_resource: dict[str, list[Orphans]] = {}
    for orphans in found:
        by_resource.setdefault(orphans.resource.name, []).append(orphans)
    findings = [_finding(name, group, blocks=name in refused) for name, group in sorted(by_resource.items())]
    findings += [_refused(name, namespace) for name, namespace in refused.items() if name not in by_resource]
    return findings


def _refused(name: str, namespace: str) -> Finding:
    """Where only the rehearsal found it."""
    what = f"Objects of {name} are in a namespace that no longer exists: {namespace}."
    return Finding("missing_namespace", name, what, _REFUSED, _REMEDIATION)


def _finding(name: str, found: list[Orphans], *, blocks: bool) -> Finding:
    namespaces = [orphans.namespace for orphans in found]
    numbers = [orphans.objects for orphans in found]
    number = "Objects" if None in numbers else count(sum(objects or 0 for objects in numbers), "object")
    are = "is" if number == "1 object" else "are"
    which = "a namespace that no longer exists" if len(namespaces) == 1 else "namespaces that no longer exist"
    keys = tuple(key for orphans in found for key in orphans.keys)
    shown = f" ({listed(keys)})" if keys else f" (such as {found[0].namespace}/{found[0].sample.name})"
    return Finding(
        "missing_namespace",
        name,
        f"{number} of {name} {are} in {which}: {listed(namespaces)}{shown}.",
        _REFUSED
        if blocks
        else "API servers before 1.37, and any with a webhook that selects by namespace, refuse to write them; "
        "then they can't be migrated.",
        _REMEDIATION,
        blocks=blocks,
        keys=keys,
    )
