# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The work of module upgrade_check: examines the cluster, etcd and the record for anything that would break an upgrade."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event, Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import utc_now
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.counts import COUNTS_DIFFER, count_problems
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.opening import open_clusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.stored_versions import Servers, read_stored
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import open_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.encryption_metrics import config_hashes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.named import names_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import open_store
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.trust import still_trusted, unknown_since
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check import (
    lists,
    plan,
    record,
    stored,
    writes,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.applied import evaluate_applied
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.components import check_components
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.each_server import (
    compare_servers,
    evaluate_readers,
    readers_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.encryption_file import (
    check_encryption_file,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.etcd_members import (
    check_etcd,
    last_snapshot,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Findings, listed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.live_crds import (
    check_built_in_managers,
    check_crds,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.observed import ObservedCluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.options import CheckOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.result import build_result
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.space import amounts_of, check_space
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.stored import WhatIsStored
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import (
    evaluate_compatibility,
    evaluate_downgrade,
    evaluate_steps,
    upgrade_path,
)

# How many names to remember for each stored version, to find the object that can't be read.
_KEPT = 2000


@names_cluster
async def upgrade_check(options: CheckOptions, check_mode: bool, report: Report) -> dict[str, Any]:
    """The module's result; raises the collection's errors. Nothing is ever written."""
    found = Findings()
    async with AsyncExitStack() as opened:
        cluster = await _observe(options, opened)
        cluster = await _read_etcd(cluster, found, report)
        report(Event("notice", f"Listing {len(cluster.served)} resources.", {}))
        listed_resources = await lists.list_all(cluster.server, cluster.served)
        await _check_lists(cluster, listed_resources, found)
        held = _check_stored(cluster, listed_resources, found)
        found.add(await check_crds(cluster, listed_resources))
        check_built_in_managers(cluster, listed_resources, found)
        found.take(evaluate_applied(listed_resources.applied, cluster.served, cluster.releases, cluster.path))
        report(Event("notice", "Rehearsing one write of each resource.", {}))
        found.add(await writes.check_writes(cluster, listed_resources))
        found.add(await check_etcd(cluster.etcd))
        # Behind a proxy, a loopback address is another host's.
        if not (options.etcd or {}).get("proxy"):
            found.take(check_encryption_file(cluster.etcd, cluster.scanned, cluster.served))
        found.add(await check_components(cluster))
        found.add(await check_space(cluster, cluster.amounts, options.etcd_quota, options.engine))
        _check_record(cluster, found)
        _check_path(cluster, found)
        snapshot = await last_snapshot(cluster.etcd, options.etcd_snapshot_path, utc_now())
        return build_result(cluster, listed_resources, held, found) | {"last_snapshot": snapshot}


async def _observe(options: CheckOptions, opened: AsyncExitStack) -> ObservedCluster:
    """Every API server, and the part of earlier migrations' record that still holds."""
    cluster = await opened.enter_async_context(open_cluster(options.cluster))
    etcd = await opened.enter_async_context(open_clusters(options.etcd)) if options.etcd else None
    store = open_store(options.store, cluster.entry)
    state, seen = await asyncio.gather(store.load(), cluster.observe())
    state, _why = still_trusted(state, seen)
    return ObservedCluster(
        server=cluster.entry,
        servers=tuple(cluster.writers(seen)),
        seen=seen,
        path=upgrade_path(seen.reports, options.target),
        served=dict(seen.resources),
        state=state,
        new_crds=options.new_crds,
        etcd=etcd,
        show_messages=options.show_server_messages,
    )


async def _read_etcd(cluster: ObservedCluster, found: Findings, report: Report) -> ObservedCluster:
    """The same with the content of etcd, if it is to be read."""
    if cluster.etcd is None:
        return cluster
    report(Event("notice", "Reading what etcd holds.", {}))
    evaluation = await read_stored(
        cluster.etcd, cluster.seen, Servers(cluster.server, cluster.servers), ask_kms=False, keep=_KEPT, report=report
    )
    found.unknown += count_problems(evaluation.uncounted)
    if not evaluation.stored.consistent:
        found.unknown.append("What etcd held at one moment, as it was compacted while it was read; check again.")
    in_doubt = {
        name: cluster.served[name] for name, doubt in evaluation.uncounted.items() if doubt.kind == COUNTS_DIFFER
    }
    uncounted = frozenset(evaluation.uncounted) - frozenset(in_doubt)
    amounts = amounts_of(cluster.etcd, evaluation, cluster.served, _changing(cluster))
    return replace(cluster, scanned=evaluation.stored, amounts=amounts, in_doubt=in_doubt, uncounted=uncounted)


def _changing(cluster: ObservedCluster) -> Collection[str]:
    """The resources whose storage version the upgrade or a new CRD changes."""
    emulated = any(report.emulated_version for report in cluster.seen.reports)
    return plan.changing(
        cluster.served, cluster.seen.other_groups, cluster.path, cluster.releases, cluster.new_crds, emulated=emulated
    )


async def _check_lists(cluster: ObservedCluster, found_lists: lists.Lists, found: Findings) -> None:
    """Whether everything can be listed at the cluster's address, and each server can read the listed objects."""
    keys: dict[str, tuple[str, ...]] = {failure.resource.name: failure.keys for failure in found_lists.failures}
    if cluster.scanned is not None:
        for failure in found_lists.failures:
            more = await lists.find_keys(cluster.server, failure, cluster.scanned)
            keys[failure.resource.name] = tuple(dict.fromkeys((*failure.keys, *more)))
    hashes = await config_hashes(cluster.servers) if len(cluster.servers) > 1 else {}
    readers = await compare_servers(cluster, found_lists, hashes, keys)
    servers = {report.url: report.name for report in cluster.seen.reports}
    silent = {url for found_readers in readers.values() for url in found_readers.silent}
    unasked = [*cluster.unasked, *sorted(silent)]
    reach = lists.Reach(cluster.scanned is not None, readers_of(readers, servers), unasked)
    found.take(lists.evaluate_lists(found_lists.failures, keys, reach))
    found.add(evaluate_readers(readers, servers))
    for names, why in (
        (found_lists.vanished, "the answer was 404, although discovery lists it; check again"),
        (found_lists.forbidden, "the permission to list is missing"),
    ):
        if names:
            found.unknown.append(f"Whether {listed(names, 10)} can be listed, as {why}.")


def _check_stored(cluster: ObservedCluster, found_lists: lists.Lists, found: Findings) -> WhatIsStored:
    """Compares what is stored with the target: from etcd if it was read, else from the record."""
    counts = found_lists.counts
    whole = WhatIsStored()
    on_record = cluster.served
    if cluster.scanned is not None:
        on_record = cluster.in_doubt
        counts = {name: number for name, number in counts.items() if name in on_record}
        whole.add(stored.stored_in_etcd(cluster.scanned, cluster.served, cluster.releases, cluster.path))
        whole.possible = {
            **stored.uncounted_versions(cluster.uncounted, cluster.served, cluster.releases, cluster.path),
            **whole.possible,
        }
    whole.add(
        stored.stored_on_record(
            on_record, cluster.state, cluster.releases, cluster.path, cluster.seen.other_groups, found_lists.counts
        )
    )
    found.take(stored.evaluate_stored(whole.versions, cluster.path, counts), whole.unknown)
    found.unknown += stored.beyond_is_unknown(whole, cluster.releases)
    if on_record:
        found.unknown += unknown_since(cluster.state, cluster.seen)
    return whole


def _check_record(cluster: ObservedCluster, found: Findings) -> None:
    """Unfinished migrations, unless another check has already found the same."""
    told = {finding.id for finding in found.found}
    here = {name: resource for name, resource in cluster.served.items() if name not in cluster.in_doubt}
    findings = record.evaluate_record(here, cluster.state, cluster.path, etcd_read=cluster.scanned is not None)
    findings += record.evaluate_record(cluster.in_doubt, cluster.state, cluster.path, etcd_read=False)
    found.take(finding for finding in findings if finding.id not in told or finding.blocks)


def _check_path(cluster: ObservedCluster, found: Findings) -> None:
    found.take(evaluate_downgrade(cluster.path, cluster.releases))
    found.take(evaluate_compatibility(cluster.seen.reports, cluster.path))
    found.take(*evaluate_steps(cluster.path, cluster.releases))
    found.unknown += cluster.seen.problems
    if cluster.seen.evidence is not None and cluster.seen.converged:
        found.unknown.append(cluster.seen.evidence.sentence())
    if cluster.seen.unchecked:
        found.unknown.append(cluster.seen.unchecked)
