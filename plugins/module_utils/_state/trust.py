# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much of an earlier run still counts if API servers were, or may have been, restarted. Pure."""

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.processes import (
    from_dict,
    replaced,
    restarted,
    why_doubt,
)

_HOW_TO_KNOW = (
    "allow the user to get /metrics/slis or, from Kubernetes 1.35 on, to list leases in kube-system (the ClusterRole and the "
    "Role kube-storage-upgrade-cross-check grant that)"
)


def still_trusted(state: State, seen: Observation) -> tuple[State, str | None]:
    """The state, and why the work of an unfinished run was dropped from it: an unseen API server may have written since."""
    if not state.unfinished:
        return state, None
    why = why_doubt(from_dict(state.processes), seen.processes)
    return (state, None) if why is None else (state.doubted(why), why)


def reservations(why: str | None, seen: Observation) -> list[str]:
    """Sentences on that for the user."""
    told = []
    if why is not None:
        told.append(f"What the previous run had done is visited again: {why}.")
    if not seen.processes.known:
        told.append(
            f"An API server that restarts between two checks goes unnoticed: {_HOW_TO_KNOW}. Without that, a run after an "
            "interrupted one visits everything again."
        )
    return told


def unseen_since(state: State, seen: Observation) -> list[str]:
    """For select: changed, which relies on observations: whether an older release may have run unseen since the last run.

    If a server is at another release now, its restart is expected, and the storage versions show what changed.
    """
    before, now = from_dict(state.processes), seen.processes
    names = replaced(before, now)
    if not names or any(before.versions.get(url, version) != version for url, version in now.versions.items()):
        return []
    return [
        f"{restarted(names)} since the last run ({before.at}). If an older release ran there meanwhile, select: changed does not "
        "find what it wrote; select: all does, and so does select: stale with etcd."
    ]
