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
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import minor_of

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
    """For select: changed, which relies on observations: whether an older release may have run unseen since the last run."""
    clause = _unseen_restart(state, seen)
    if clause is None:
        return []
    return [
        f"{clause}. If an older release ran there meanwhile, select: changed does not find what it wrote; select: all does, and so does "
        "select: stale with etcd."
    ]


def unknown_since(state: State, seen: Observation) -> list[str]:
    """The same for what is concluded from the record."""
    clause = _unseen_restart(state, seen)
    return [] if clause is None else [f"Whether an older release wrote objects since the record was made: {clause}."]


def _unseen_restart(state: State, seen: Observation) -> str | None:
    """A clause; None if no process is new. A server that is at another minor now had to be restarted, and its storage versions show what changed.

    A patch release doesn't change them, so a restart for one may hide a rollback between the two.
    """
    before, now = from_dict(state.processes), seen.processes
    names = replaced(before, now)
    if not names or any(
        _minors(before.versions.get(url, version)) != _minors(version) for url, version in now.versions.items()
    ):
        return None
    return f"{restarted(names)} since the last run ({before.at})"


def _minors(version: str) -> list[str]:
    """Of the binary and of the release that it emulates: ``v1.37.2 1.36``."""
    return [minor_of(part) for part in version.split()]
