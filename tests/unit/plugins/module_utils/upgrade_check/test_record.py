# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Migrations that are not finished."""

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import ResourceState, State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check import record
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import UpgradePath
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.upgrade_check.builders import (
    SERVED,
    WIDGETS,
)


def test_unfinished_migrations() -> None:
    now = SERVED["secrets"].hashes
    progress = ResourceState(persisted=now, progress={"failed": [["default", "a"]]})
    state = State("2026-01-01", resources={"secrets": progress, WIDGETS: ResourceState(persisted=("x",))})

    def evaluated(pending: bool, etcd_read: bool) -> dict[str, bool]:
        found = record.evaluate_record(SERVED, state, UpgradePath("1.36", "1.37", pending), etcd_read=etcd_read)
        return {finding.id: finding.blocks for finding in found}

    left = f"outstanding_migration/{WIDGETS}"
    assert evaluated(True, False) == {"unfinished_migration/secrets": True, left: False}
    assert evaluated(True, True) == {"unfinished_migration/secrets": False, left: False}
    assert evaluated(False, False) == {"unfinished_migration/secrets": False, left: False}
    assert record.evaluate_record(SERVED, State(), UpgradePath("1.36", "1.37"), etcd_read=False) == []
