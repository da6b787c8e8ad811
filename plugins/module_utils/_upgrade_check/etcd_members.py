# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether each etcd is healthy: all members answer, agree on a leader, run the same version, and hold the same."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import EtcdError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import seconds_text
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd, EtcdClusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.membership import (
    Hashes,
    Membership,
    hashes,
    membership,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.snapshot_files import SnapshotFolder
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import (
    Finding,
    Findings,
    count,
    listed,
)

# The JSON gateway has an address of its own for hashes since then (go.etcd.io/etcd, api/etcdserverpb/rpc.proto).
_HASHES_SINCE = (3, 6)
# Before that, members that were removed may come back in 3.6 (etcd.io/blog, 2025: zombie members).
_BEFORE_3_6 = (3, 5, 26)


async def last_snapshot(clusters: EtcdClusters | None, folder: str | None, now: datetime) -> dict[str, Any] | None:
    """The newest snapshot of the default etcd in a folder, as the module returns it; None if there is none, or if that isn't known."""
    if clusters is None or not folder:
        return None
    try:
        members = await membership(clusters.default)
    except EtcdError:
        return None
    now_at = max(state.revision for state in members.states)
    taken = SnapshotFolder(folder).newest(members.states[0].cluster_id, now_at)
    if taken is None:
        return None
    return {
        "path": taken.path,
        "taken_at": seconds_text(taken.taken_at),
        "age": max(0, int((now - taken.taken_at).total_seconds())),
        "revision": taken.revision,
    }


async def check_etcd(clusters: EtcdClusters | None) -> Findings:
    """Asks every member of each etcd; finds nothing if it is not given."""
    found = Findings()
    if clusters is None:
        return found
    for etcd in (clusters.default, *(etcd for _patterns, etcd in clusters.overrides)):
        found.add(await _check(etcd))
    return found


async def _check(etcd: Etcd) -> Findings:
    name = f"etcd at {etcd.endpoints[0]}"
    try:
        members = await membership(etcd)
    except EtcdError as error:
        return Findings(unknown=[f"Whether {name} is healthy: {error.message}"])
    if members.is_kine:
        return Findings(unknown=[f"Whether the database behind {name} is healthy, as that is kine, which doesn't say."])
    found = Findings(evaluate_members(members))
    if not members.listed:
        found.unknown.append(f"Whether {name} has other members, as it doesn't list them to this user.")
    if len(members.states) < 2:
        return found
    old = sorted({state.version for state in members.states if _numbers(state.version) < _HASHES_SINCE})
    if old:
        found.unknown.append(
            f"Whether all members of {name} hold the same data, as the JSON gateway of etcd {listed(old)} doesn't report their hashes (etcdctl "
            "endpoint hashkv --cluster does)."
        )
        return found
    try:
        seen = await hashes(etcd, members.states)
    except (EtcdError, asyncio.TimeoutError) as error:
        why = error.message if isinstance(error, EtcdError) else "they took too long."
        found.unknown.append(f"Whether all members of {name} hold the same: {why}")
        return found
    found.add(evaluate_hashes(seen, name))
    return found


def evaluate_members(members: Membership) -> list[Finding]:
    """What is wrong with the members, apart from space and alarms, which etcd_space judges. Pure."""
    found = []
    if members.down:
        down = members.down
        reasons = list(dict.fromkeys(members.silent.values()))
        found.append(
            Finding(
                "etcd_member_down",
                "etcd",
                f"{count(len(down), 'member')} of etcd did not answer: {listed(down)}.",
                "While the next master is upgraded its own member may stop, too, and without a majority etcd serves no requests."
                + (f" {reasons[0]}" if reasons else ""),
                "Bring it back, or remove it from the cluster (etcdctl member remove) if it doesn't exist anymore. If it only can't be reached "
                "from where the check runs, run it on a master.",
            )
        )
    leaders = {state.leader for state in members.states}
    if None in leaders or len(leaders) > 1:
        lost = [state.address for state in members.states if state.leader is None]
        found.append(
            Finding(
                "etcd_no_leader",
                "etcd",
                f"{listed(lost)} {'knows' if len(lost) == 1 else 'know'} no leader of etcd."
                if lost
                else "The members of etcd don't agree on a leader.",
                "etcd accepts no writes without a leader; an election may be in progress.",
                "Check again; if nothing changes, find out which members can't reach each other (etcdctl endpoint status --cluster).",
            )
        )
    learners = [member.text for member in members.listed if member.learner]
    if learners:
        found.append(
            Finding(
                "etcd_learner",
                "etcd",
                f"{count(len(learners), 'member')} of etcd {'is a learner' if len(learners) == 1 else 'are learners'}: {listed(learners)}.",
                "A learner doesn't vote, so etcd survives the loss of fewer members than their number suggests.",
                "Wait until it has caught up and promote it (etcdctl member promote), or remove it.",
                blocks=False,
            )
        )
    return found + _versions({state.address: state.version for state in members.states})


def _versions(versions: Mapping[str, str]) -> list[Finding]:
    found = []
    different = sorted(set(versions.values()), key=_numbers)
    if len(different) > 1:
        found.append(
            Finding(
                "etcd_versions_differ",
                "etcd",
                f"The members of etcd run different versions: {', '.join(f'{url}: {version}' for url, version in sorted(versions.items()))}.",
                "An upgrade of etcd was not finished. Until all run the newer version, the cluster works as the older one.",
                "Finish that upgrade of etcd first.",
                blocks=False,
            )
        )
    if any(_numbers(version)[:2] == (3, 5) and _numbers(version) < _BEFORE_3_6 for version in different):
        found.append(
            Finding(
                "etcd_before_3_6",
                "etcd",
                f"etcd runs {different[0]}.",
                "Members that were removed long ago may reappear when a version of 3.5 before 3.5.26 is upgraded to 3.6, and then there may be no "
                "majority (etcd.io/blog, zombie members). kubeadm installs 3.6 with Kubernetes 1.34 and newer.",
                "Upgrade etcd to 3.5.26 or newer before 3.6.",
                blocks=False,
            )
        )
    return found


def evaluate_hashes(seen: Hashes, name: str) -> Findings:
    """Whether all members hold the same at one revision. Pure."""
    if not seen.comparable:
        return Findings(
            unknown=[
                f"Whether all members of {name} hold the same data, as they were compacting while they were asked; check again."
            ]
        )
    if not seen.differ:
        return Findings()
    shown = ", ".join(f"{url}: {number:x}" for url, number in sorted(seen.by_address.items()))
    return Findings(
        [
            Finding(
                "etcd_hashes_differ",
                "etcd",
                f"The members of etcd hold different data at revision {seen.revision} ({shown}).",
                "API servers read from any of them, so what is stored, and what was migrated, depends on the member.",
                "Find the member that is wrong and replace it (etcd.io/docs, Operating etcd clusters, Data corruption), then check again.",
            )
        ]
    )


def _numbers(version: str) -> tuple[int, ...]:
    """``(3, 5, 26)``; a pre-release counts as its release."""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("-")[0])[:3])
