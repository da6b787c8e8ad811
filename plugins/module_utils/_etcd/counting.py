# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks API servers and etcd how many objects each resource has; counts.py interprets the numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    ApiError,
    StorageUpgradeError,
    UnreachableError,
    is_forbidden,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.gathering import gather_limited
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.access import CompactedError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd, EtcdClusters, end_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.counts import (
    COUNTS_DIFFER,
    NOT_COUNTED,
    Uncounted,
    revision_of,
    total_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import (
    EVENTS_TWIN,
    KeyMap,
    own_prefixes,
    stored_as,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.retry import PATIENT
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import METADATA_LIST, ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import collection_path, with_query
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

_PARALLEL = 8
_TRIES = 4
_PAUSE = 0.3
_TIMEOUT = 30.0


async def compare_counts(
    clusters: EtcdClusters,
    servers: Sequence[ApiServer],
    served: Mapping[str, ServedResource],
    resources: Iterable[str] | None = None,
) -> dict[str, Uncounted]:
    """The resources that don't fit, by name; each is compared with every server. Raises EtcdError."""
    keys = KeyMap(served)

    async def compare(pair: tuple[ServedResource, ApiServer]) -> Uncounted | None:
        resource, server = pair
        return await _compare(clusters.of(resource.name), server, resource, own_prefixes(resource.name, keys))

    wanted = [served[name] for name in _countable(served, resources)]
    pairs = [(resource, server) for resource in wanted for server in servers]
    answers = await gather_limited(_PARALLEL, compare, pairs)
    # A difference matters more than another server that could not be asked.
    doubts = sorted((doubt for doubt in answers if doubt is not None), key=lambda doubt: doubt.kind == COUNTS_DIFFER)
    return {doubt.resource: doubt for doubt in doubts}


def with_misplaced(
    uncounted: Mapping[str, Uncounted], misplaced: Mapping[str, int], held: Callable[[str], int]
) -> dict[str, Uncounted]:
    """With the resources of which some keys don't have the form of an object, so that a scan can't tell how they are stored.

    ``held``: how many of a resource's objects a scan found.
    """
    found = dict(uncounted)
    for name, number in misplaced.items():
        why = f"{number} {'key' if number == 1 else 'keys'} among them {'has' if number == 1 else 'have'} another form (see unknown of stored_versions_info)"
        found.setdefault(name, Uncounted(name, NOT_COUNTED, held(name) + number, why=why))
    return found


def _countable(served: Mapping[str, ServedResource], resources: Iterable[str] | None) -> list[str]:
    """Both names of events are one storage, which is counted once, as events."""
    wanted = {stored_as(name) if "events" in served else name for name in resources or served}
    if resources is None:
        wanted -= {EVENTS_TWIN} if "events" in served else set()
    return sorted(name for name in wanted if name in served and "list" in served[name].verbs)


async def _compare(
    etcd: Etcd, server: ApiServer, resource: ServedResource, prefixes: Sequence[str]
) -> Uncounted | None:
    name = resource.name
    found: Uncounted | None = None
    for attempt in range(_TRIES):
        if attempt:
            await asyncio.sleep(_PAUSE * 2 ** (attempt - 1))
        held, floor = await _count(etcd, prefixes)
        try:
            page = await server.get(
                with_query(collection_path(resource), limit=1), accept=METADATA_LIST, timeout=_TIMEOUT, retry=PATIENT
            )
        except (ApiError, UnreachableError) as error:
            return Uncounted(name, NOT_COUNTED, held, why=_why_no_list(error))
        listed, revision = total_of(page), revision_of(page)
        if listed is None:
            found = Uncounted(name, NOT_COUNTED, held, why="the API server gave no total")
            continue
        if not listed and not held:
            return None
        now = floor
        if revision > floor:
            held, now = await _count(etcd, prefixes)
        if not floor <= revision <= now:
            why = f"the list's revision is {revision}, and this etcd's {floor if floor == now else f'{floor} to {now}'}"
            found = Uncounted(name, COUNTS_DIFFER, held, listed, why)
            continue
        if revision != now:
            try:
                held, _revision = await _count(etcd, prefixes, revision)
            except CompactedError:
                found = Uncounted(name, NOT_COUNTED, held, listed, "etcd was compacted meanwhile")
                continue
        if held == listed:
            return None
        found = Uncounted(name, COUNTS_DIFFER, held, listed)
    return found


async def _count(etcd: Etcd, prefixes: Sequence[str], revision: int = 0) -> tuple[int, int]:
    """(keys below some prefixes, at which revision)."""
    number = 0
    for prefix in prefixes:
        start = f"{etcd.prefix}/{prefix}/".encode()
        page = await etcd.range(start, end_of(start), revision=revision, count_only=True)
        number += page.count
        revision = revision or page.revision
    return number, revision


def _why_no_list(error: StorageUpgradeError) -> str:
    """Leaves out the server's message, which may quote data."""
    if is_forbidden(error):
        return "the permission to list is missing"
    if isinstance(error, ApiError):
        return f"its list fails with {error.status}"
    return "the API server did not answer"
