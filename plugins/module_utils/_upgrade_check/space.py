# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether etcd has room for the migration after the upgrade."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import EtcdError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import EtcdClusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.maintenance import AllMaintenance, name_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.space import (
    INSTEAD_OF_WAITING,
    NO_WAIT,
    Amount,
    Fit,
    Member,
    Outlook,
    outlook,
    with_quotas,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.stale import Evaluation, amount_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.storage_size import storage_sizes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import (
    Finding,
    Findings,
    listed,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.observed import ObservedCluster

# The engines that wait; a controller doesn't.
_DIRECT, _AUTO = "direct", "auto"


def amounts_of(
    etcd: EtcdClusters, evaluation: Evaluation, served: Collection[str], changing: Collection[str]
) -> dict[str, Amount]:
    """What a migration will have to write to each etcd: what is stale now, and all of the resources that will be."""
    live = {name_of(part_of): part.bytes for part_of, part in evaluation.stored.parts}
    return {
        name_of(part_of): amount_of(evaluation, names, live.get(name_of(part_of)), changing)
        for part_of, names in etcd.split(sorted(served))
    }


async def check_space(
    cluster: ObservedCluster, amounts: Mapping[str, Amount], quota: int | None, engine: str = _DIRECT
) -> Findings:
    """Asks every member of each etcd if it was given, else an API server's metrics. ``quota``: as the user gave it."""
    found = Findings()
    if cluster.etcd is not None:
        try:
            statuses = await AllMaintenance.of(cluster.etcd, cluster.served).statuses()
        except EtcdError as error:
            found.unknown.append(f"How much of etcd's database is in use, and its quota: {error.message}")
        else:
            silent = [url for status in statuses.values() for url in status.silent]
            if silent:
                found.unknown.append(
                    f"Whether every member of etcd has room for the migration, as {listed(silent)} did not answer."
                )
            members = with_quotas({name: status.members for name, status in statuses.items()}, quota)
            found.add(evaluate_space(outlook(members, amounts), engine, scanned=bool(amounts)))
            return found
    sizes = await storage_sizes(cluster.server)
    if sizes is None:
        found.unknown.append(
            "Whether etcd has room for the migration, as neither etcd nor an API server's metrics (/metrics) could be read."
        )
        return found
    by_metrics = {
        name: (Member(f"{name} (by the metrics of {cluster.server.url})", size),) for name, size in sizes.items()
    }
    found.add(evaluate_space(outlook(with_quotas(by_metrics, quota), {}), engine, scanned=False))
    return found


def evaluate_space(seen: Outlook, engine: str = _DIRECT, *, scanned: bool = False) -> Findings:
    """What to tell about it. ``engine``: of the migration. ``scanned``: whether it is known how much it will have to write. Pure."""
    if seen.fit is Fit.UNKNOWN:
        return Findings(unknown=[f"{seen.why} {seen.remedy}".strip()])
    if seen.fit is Fit.FITS:
        return Findings()
    never, waits = seen.fit is Fit.NEVER, engine in (_DIRECT, _AUTO)
    if never:
        effect = "At its quota etcd refuses every write of every client of the cluster."
    elif waits:
        effect = "So a migration has to wait until the API servers have compacted etcd."
    else:
        refused = ", and storage_migrate with select: stale refuses that engine" if scanned else ""
        effect = f"A migration has to wait for compaction, and {NO_WAIT.format(engine=engine)}, so it may fill etcd{refused}."
    return Findings(
        [
            Finding(
                "etcd_space",
                "etcd",
                seen.why,
                effect,
                seen.remedy if never or waits else INSTEAD_OF_WAITING,
                blocks=never or (scanned and not waits),
            )
        ]
    )
