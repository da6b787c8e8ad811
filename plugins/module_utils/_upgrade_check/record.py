# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unfinished migrations, according to storage_migrate's record. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Finding
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import UpgradePath
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    changed_since,
)


def evaluate_record(
    served: Mapping[str, ServedResource], state: State, upgrade_path: UpgradePath, *, etcd_read: bool
) -> list[Finding]:
    """What an interrupted or forgotten migration left behind.

    An unfinished one blocks an upgrade that has not begun if etcd was not read, as it is then unknown how its
    objects are stored. If all servers are at the target, finishing it is simply the next step.
    """
    found = []
    blocks = upgrade_path.pending and not etcd_read
    unfinished = {name for name, known in state.resources.items() if known.progress is not None and name in served}
    for name in sorted(unfinished):
        failed = state.of(name).progress or {}
        left = len(failed.get("failed") or ())
        found.append(
            Finding(
                "unfinished_migration",
                name,
                f"A migration of {name} was not finished"
                + (f": {left} {'object' if left == 1 else 'objects'} could not be rewritten." if left else "."),
                "Objects may be stored in an old version, and after one more upgrade in a third."
                + (" What etcd holds was read, and is checked separately." if etcd_read else ""),
                "Run storage_migrate with select: changed; it resumes there.",
                blocks=blocks,
            )
        )
    if not state.known:
        return found
    for change in changed_since(served, state.persisted):
        name = change.resource
        if name in unfinished or not change.before:
            continue
        found.append(
            Finding(
                "outstanding_migration",
                name,
                f"The storage version of {name} has changed since the last complete migration.",
                "Objects may be stored in an old version.",
                "Run storage_migrate with select: changed before the upgrade.",
                blocks=False,
            )
        )
    return found
