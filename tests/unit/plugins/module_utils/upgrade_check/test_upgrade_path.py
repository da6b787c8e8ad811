# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which way an upgrade goes."""

from __future__ import annotations

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import (
    UpgradePath,
    evaluate_rollback,
    evaluate_steps,
    upgrade_path,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServerReport
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.upgrade_check.builders import RELEASES


def test_steps() -> None:
    assert [one.check for one in evaluate_steps(UpgradePath("1.34", "1.37"), RELEASES)[0]] == ["skipped_minors"]
    assert evaluate_steps(UpgradePath("1.36", "1.37"), RELEASES) == ([], [])
    assert "1.38 can read is not in the data" in evaluate_steps(UpgradePath("1.37", "1.38"), RELEASES)[1][0]


@pytest.mark.parametrize(
    ("minors", "target", "current", "back", "pending"),
    [
        (("1.36", "1.36"), "1.37", "1.36", False, True),
        (("1.36", "1.37"), "1.37", "1.36", False, True),
        (("1.37", "1.37"), "1.37", "1.37", False, False),
        # Issue 13, number 6: it was reported as "the upgrade from 1.36 to 1.36".
        (("1.36", "1.37"), "1.36", "1.37", True, True),
        (("1.37", "1.37"), "1.36", "1.37", True, True),
        (("1.35", "1.37"), "1.36", "1.37", True, True),
    ],
)
def test_where_an_upgrade_starts_from(
    minors: tuple[str, ...], target: str, current: str, back: bool, pending: bool
) -> None:
    reports = [ServerReport(f"https://{at}", "", f"v{minor}.1", ready=True) for at, minor in enumerate(minors)]
    path = upgrade_path(reports, target)
    assert (path.current, path.back, path.pending) == (current, back, pending)
    assert [finding.blocks for finding in evaluate_rollback(path)] == ([False] if back else [])
