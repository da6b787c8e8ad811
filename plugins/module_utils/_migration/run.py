# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The main road of storage_migrate.

Look at all API servers, make sure that they agree, plan, rewrite every object through them, look again,
and write down what is proven.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._cluster import open_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._diff import versions_on_record
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import MigrationIncompleteError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.account import (
    Account,
    done_sentence,
    failed_sentence,
    result_of,
    with_result,
    write_failures,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.conditions import (
    needs,
    one_at_a_time,
    refuse_nonsense,
    require_convergence,
    require_servers,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engine import Control
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines import choose_engine, direct_needs
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.interrupt import interruptible
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.job import Job
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.ledger import Ledger
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Plan, Selection, make_plan
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.preview import preview
from ansible_collections.kube_storage.upgrade.plugins.module_utils._permissions import require
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state_store import open_store
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import changed_since

if TYPE_CHECKING:
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.from_etcd import EtcdTruth


async def storage_migrate(params: Mapping[str, Any], check_mode: bool, report: Report) -> dict[str, Any]:
    """The module's result; raises the collection's errors, with the result so far where something was done."""
    refuse_nonsense(params)
    control = Control()
    with interruptible(control):
        return await _migrate(params, check_mode, report, control)


async def _migrate(params: Mapping[str, Any], check_mode: bool, report: Report, control: Control) -> dict[str, Any]:
    started = time.monotonic()
    async with open_cluster(params) as cluster, _open_truth(params) as truth:
        store = open_store(params.get("state_store"), cluster.entry)
        state, seen = await asyncio.gather(store.load(), cluster.observe())
        selection = Selection(
            params["select"], tuple(params.get("resources") or ()), tuple(params.get("exclude") or ())
        )
        if selection.resources:
            cluster = cluster.expecting(resources=selection.resources)
        require_servers(seen)
        resources = _all_stored(seen)
        everything = make_plan(resources, state, replace(selection, select="all"), seen.other_groups)
        if params["require_convergence"]:
            require_convergence(replace(seen, expectation=cluster.expectation))
        if truth is not None:
            await truth.read(seen, selection.resources, report)
        plan = _plan(resources, state, selection, seen, truth)
        chosen = await choose_engine(cluster.entry, params, plan.targets)
        recorded = versions_on_record(resources, state.persisted, seen.other_groups)
        if check_mode:
            return await preview(cluster, Account(plan, engine=chosen.choice, recorded=recorded, agreement=seen))
        account = Account(plan, engine=chosen.choice, recorded=recorded, agreement=seen)
        if not plan.targets and truth is None:
            account.seconds = time.monotonic() - started
            return {**result_of(account), "msg": done_sentence(account), "warnings": seen.reservations}
        await require(cluster.entry, needs(plan, chosen, store, params))
        if truth is not None:
            await require(
                cluster.entry, direct_needs(everything.targets)
            )  # Each is asked by a patch how it is written.
        async with one_at_a_time(cluster, store, params) as lease:
            state = await store.load()
            if truth is not None:
                await truth.probe(cluster.writers(seen), [target.name for target in everything.targets])
            account.plan = plan = chosen.whole(_plan(resources, state, selection, seen, truth))
            ledger = Ledger(store, state, selection)
            job = Job(cluster, params, chosen, ledger, lease, report, account, truth, control)
            control.begun = True
            try:
                await job.run(seen, plan)
            finally:
                account.seconds = time.monotonic() - started
                account.proven = ledger.done
                await job.close()
    write_failures(params.get("failures_file"), account.failures)
    result = result_of(account)
    if control.stopped is not None:
        raise with_result(control.stopped, result)
    if account.failures:
        raise MigrationIncompleteError(failed_sentence(account), result)
    return {**result, "msg": done_sentence(account), "warnings": account.reservations}


def _open_truth(params: Mapping[str, Any]) -> AbstractAsyncContextManager[EtcdTruth | None]:
    """What etcd holds, where that is asked for."""
    if params["select"] != "stale":
        return nullcontext()
    # Ansible has the module compiled anew in each run; all that reads etcd is a quarter of it.
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.from_etcd import open_truth

    return open_truth(params)


def _plan(
    resources: Mapping[str, Any], state: State, selection: Selection, seen: Observation, truth: EtcdTruth | None
) -> Plan:
    """The plan; where etcd was read, of what it holds."""
    changed = {change.resource for change in changed_since(resources, state.persisted)}
    stale = None if truth is None else truth.select(changed)
    return make_plan(resources, state, selection, seen.other_groups, stale)


def _all_stored(seen: Observation) -> Mapping[str, Any]:
    """All stored resources, whatever the observation was limited to."""
    return replace(seen, expectation=replace(seen.expectation, resources=None)).resources
