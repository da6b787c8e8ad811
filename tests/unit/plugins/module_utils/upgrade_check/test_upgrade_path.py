# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which way an upgrade goes."""

from __future__ import annotations

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import (
    UpgradePath,
    evaluate_compatibility,
    evaluate_downgrade,
    evaluate_steps,
    upgrade_path,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServerReport
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.upgrade_check.builders import RELEASES


def test_steps() -> None:
    assert [finding.check for finding in evaluate_steps(UpgradePath("1.34", "1.37"), RELEASES)[0]] == ["skipped_minors"]
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
    assert path.running == tuple(sorted(set(minors)))
    assert [finding.id for finding in evaluate_downgrade(path, RELEASES) if finding.blocks] == (
        ["downgrade/kube-apiserver"] if back else []
    )


@pytest.mark.parametrize(
    ("current", "target", "check", "meant"),
    [
        ("1.36", "1.3.7", "impossible_release", "; did you mean 1.36 or 1.37?"),
        ("1.37", "1.3.7", "impossible_release", "; did you mean 1.37 or 1.38?"),
        ("1.39", "1.4", "impossible_release", "; did you mean 1.40?"),
        ("1.37", "1.1", "impossible_release", ""),
        ("1.37", "2.0", "impossible_release", ""),
        ("1.37", "0.37", "impossible_release", ""),
        ("1.36", "1.73", "skipped_minors", ""),
        ("1.36", "1.38", "skipped_minors", ""),
        ("1.37", "1.36", "downgrade", ""),
    ],
)
def test_a_release_to_which_no_upgrade_goes_blocks(current: str, target: str, check: str, meant: str) -> None:
    """Issue 15, number 3: each blocks, by one finding that can be ignored by its name."""
    path = UpgradePath(current, ".".join(target.split(".")[:2]))
    findings = [*evaluate_downgrade(path, RELEASES), *evaluate_steps(path, RELEASES)[0]]
    assert [finding.check for finding in findings if finding.blocks] == [check]
    assert meant in findings[0].what and (check != "impossible_release" or "in quotes" in findings[0].remediation)


@pytest.mark.parametrize(
    ("oldest", "current", "target", "blocked"),
    [
        ("1.36", "1.37", "1.36", False),
        ("1.37", "1.37", "1.36", True),
        ("1.36", "1.37", "1.35", True),
        (None, "1.32", "1.31", False),
        ("1.37", "1.37", "1.37", False),
        ("1.37", "1.36", "1.37", False),
    ],
)
def test_a_rollback_below_what_the_servers_write_for(
    oldest: str | None, current: str, target: str, blocked: bool
) -> None:
    reports = [
        ServerReport("https://a", "master-1", "v1.37.2", ready=True, min_compatibility_version=oldest),
        ServerReport("https://b", "master-2", "v1.37.2", ready=True),
        ServerReport("https://c", "master-3", error="down", min_compatibility_version="1.37"),
    ]
    found = evaluate_compatibility(reports, UpgradePath(current, target))
    assert [finding.id for finding in found if finding.blocks] == (["compatibility/kube-apiserver"] if blocked else [])
    assert not blocked or found[0].what.startswith("master-1 (https://a) stores objects")
