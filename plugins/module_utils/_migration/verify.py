# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether custom resources really are written in the storage version that discovery reports.

After a CRD's storage version changes, its hash can change before writes do (kubernetes/kubernetes#130235).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    EtcdFullError,
    StorageUpgradeError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import (
    PAGE_SIZE,
    collection_path,
    pages,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import Verdict, outcome_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.probe import Unpatched, patch_once

if TYPE_CHECKING:
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.dropped import Place

# Both follow from the same watch event in an API server; two seconds are a hundred times the observed delay.
_SETTLED_AFTER = 2.0
_TRIES = 3
_SAMPLE = 5


class _Others(NamedTuple):
    """A few objects that may be written, and whether there are ``any`` at all."""

    keys: list[ObjectKey]
    any: bool


async def stored_as_served(run: ResourceRun, servers: Collection[ApiServer], withheld: Collection[Place] = ()) -> bool:
    """Patches the objects that were visited first again, through every server; a rewrite means that they were stale.

    Every server must have answered for at least one object: a sample that is gone, or a server that doesn't
    answer, proves nothing. In that case other objects are tried; only if no object is left at all, there is
    nothing to prove. Objects that are ``withheld``, as a write would drop fields, are never patched; if there are no others,
    the time that has passed since the CRD was edited must suffice.

    It waits long enough for writes to have followed a hash that was new when the run began.
    """
    if run.started is not None and not run.settled:
        await asyncio.sleep(max(0.0, run.started + _SETTLED_AFTER - time.monotonic()))
    answered: set[str] = set()
    sample = [key for key in run.sample if (key.namespace, key.name) not in withheld]
    for _try in range(_TRIES):
        good = True
        for key in sample:
            good = await _ask(run, key, servers, answered) and good
        if not good:
            return False
        if servers and answered >= {server.url for server in servers}:
            return True
        others = await _others(run, servers, withheld)
        if others is not None and not others.keys:
            return run.settled or not others.any
        sample = [] if others is None else others.keys
    return False


async def _ask(run: ResourceRun, key: ObjectKey, servers: Collection[ApiServer], answered: set[str]) -> bool:
    """Whether no server wrote the object; adds the servers that gave a conclusive answer."""
    good = True
    for server in servers:
        patched = await patch_once(server, run.target.resource, key.namespace, key.name)
        if isinstance(patched, Unpatched):
            continue
        if patched.answer is None:
            run.visits.again()
            run.count(key, Verdict.UNCERTAIN)
            continue
        outcome = outcome_of(patched.answer, patched.resource_version)
        if outcome.full:
            raise EtcdFullError()
        if outcome.verdict in (Verdict.REWRITTEN, Verdict.UNCHANGED):
            answered.add(server.url)
        if outcome.verdict is Verdict.REWRITTEN:
            good = False
            run.visits.again()
            run.count(key, Verdict.REWRITTEN)
    return good


async def _others(run: ResourceRun, servers: Collection[ApiServer], withheld: Collection[Place]) -> _Others | None:
    """What exists now; None if that is unknown."""
    limit = PAGE_SIZE if withheld else _SAMPLE
    for server in servers:
        found: list[ObjectKey] = []
        any_at_all = False
        try:
            async for page in pages(server, collection_path(run.target.resource), limit=limit):
                any_at_all = any_at_all or bool(page.items)
                keys = (ObjectKey(item["metadata"].get("namespace"), item["metadata"]["name"]) for item in page.items)
                found += [key for key in keys if (key.namespace, key.name) not in withheld]
                if found:
                    break
        except StorageUpgradeError:
            continue
        return _Others(found[:_SAMPLE], any_at_all)
    return None
