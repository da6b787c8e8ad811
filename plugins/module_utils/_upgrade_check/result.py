# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module's return values. Pure."""

from __future__ import annotations

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check import plan, stored
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Finding, Findings
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.hops import hops
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.lists import Lists
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.observed import ObservedCluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.stored import WhatIsStored


def build_result(cluster: ObservedCluster, lists: Lists, whole: WhatIsStored, found: Findings) -> dict[str, Any]:
    """``whole``: what is stored, as far as is known."""
    path, releases = cluster.path, cluster.releases
    counts, sizes = _counts(cluster, lists)
    safe, limited_by = stored.safe_up_to(whole, releases)
    return {
        "changed": False,
        "msg": _sentence(cluster, found),
        "safe": not found.blockers,
        "blockers": [finding.as_dict() for finding in found.blockers],
        # For Ansible, "warnings" are sentences, which it also prints.
        "warnings": [_warning(finding) for finding in found.warnings],
        "concerns": [finding.as_dict() for finding in found.warnings],
        "unknown": found.unknown,
        "proven_from_etcd": _read_completely(cluster),
        "cross_checked": cluster.seen.cross_checked,
        "current_version": path.current,
        "running_versions": list(path.running),
        "binary_versions": list(path.binaries),
        "target_version": path.target,
        "upgrade_pending": path.pending,
        "path": [hop.as_dict() for hop in hops(path, releases, whole.versions)],
        "safe_up_to": safe,
        "safe_up_to_limited_by": limited_by,
        "stored": [version.as_dict() for version in whole.versions],
        "objects": counts,
        "plan": plan.plan_requests(
            cluster.served,
            cluster.seen.other_groups,
            path,
            releases,
            cluster.new_crds,
            counts,
            sizes,
            _rate(cluster),
            emulated=any(report.emulated_version for report in cluster.seen.reports),
        )
        | {"trims": sorted(found.to_trim)},
        "data": {"releases": list(releases.releases), "target": releases.nearest(path.target)},
    }


def _read_completely(cluster: ObservedCluster) -> bool:
    complete = not cluster.in_doubt and not cluster.uncounted
    return cluster.scanned is not None and cluster.scanned.consistent and complete


def _counts(cluster: ObservedCluster, lists: Lists) -> tuple[dict[str, int | None], dict[str, int] | None]:
    """Objects by resource, by LIST, or by etcd if it holds them all, and the size of their values if it was read."""
    counts: dict[str, int | None] = dict(lists.counts)
    if cluster.scanned is None:
        return counts, None
    totals = {name: list(variants.values()) for name, variants in cluster.scanned.resources.items()}
    sizes = {name: sum(tally.bytes for tally in tallies) for name, tallies in totals.items()}
    for name in cluster.served:
        if name not in cluster.in_doubt:
            counts[name] = sum(tally.objects for tally in totals.get(name, ()))
    return counts, sizes


def _rate(cluster: ObservedCluster) -> float | None:
    """Objects per second, as measured by the last migration."""
    rate = (cluster.state.last_run or {}).get("rate")
    return rate if isinstance(rate, (int, float)) else None


def _warning(finding: Finding) -> str:
    return f"{finding.resource}: {finding.what} {finding.why} {finding.remediation}"


def _sentence(cluster: ObservedCluster, found: Findings) -> str:
    blockers = len(found.blockers)
    verdict = "Nothing blocks" if not blockers else "1 thing blocks" if blockers == 1 else f"{blockers} things block"
    step = "rollback" if cluster.path.back else "upgrade"
    return (
        f"{verdict} the {step} from {cluster.path.current} to {cluster.path.target} (concerns: {len(found.warnings)}, "
        f"unknown: {len(found.unknown)}); what is stored was {'' if cluster.scanned is not None else 'not '}read from etcd."
    )
