# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The releases from which and to which an upgrade goes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import NotConvergedError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Finding
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServerReport
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import (
    Releases,
    minor_of,
    number_of,
)


@dataclass(frozen=True)
class UpgradePath:
    """Minors such as ``1.36``. ``pending``: some API server is not at the target yet."""

    current: str
    target: str
    pending: bool = True

    @property
    def back(self) -> bool:
        """Whether the target is older than what an API server runs as now."""
        return number_of(self.target) < number_of(self.current)


def upgrade_path(reports: Iterable[ServerReport], target: str) -> UpgradePath:
    """From the oldest release that an API server runs as, or from the newest if that is newer than the target.

    Taking a half-upgraded cluster to its older release is a rollback: the older API servers must read what the newer ones
    wrote. Raises NotConvergedError if no API server reports its release.
    """
    reports = list(reports)
    usable = [report for report in reports if report.usable and report.effective_version]
    if not usable:
        why = " ".join(str(report.error) for report in reports if report.error) or "none was found."
        raise NotConvergedError(f"No API server can be asked: {why}")
    minors = sorted({minor_of(str(report.effective_version)) for report in usable}, key=number_of)
    goal = minor_of(target)
    current = minors[-1] if number_of(goal) < number_of(minors[-1]) else minors[0]
    return UpgradePath(current, goal, pending=minors != [goal] or len(usable) < len(reports))


def evaluate_rollback(path: UpgradePath) -> list[Finding]:
    """Always reports that a target is older."""
    if not path.back:
        return []
    return [
        Finding(
            "rollback",
            "kube-apiserver",
            f"The target {path.target} is older than the newest API server, which runs as {path.current}.",
            f"{path.current} may have stored objects in versions that {path.target} can't read.",
            "Only go back if this check names nothing else, and restore etcd from a snapshot if it does.",
            blocks=False,
        )
    ]


def evaluate_steps(path: UpgradePath, releases: Releases) -> tuple[list[Finding], list[str]]:
    """More than one minor at once, and releases that the data doesn't know."""
    found, unknown = [], []
    if number_of(path.target)[1] - number_of(path.current)[1] > 1:
        found.append(
            Finding(
                "skipped_minors",
                "kube-apiserver",
                f"{path.current} to {path.target} skips minor releases.",
                "API servers may differ by one minor release only.",
                "Upgrade to each minor in turn, and migrate after each.",
                blocks=False,
            )
        )
    if path.target not in releases.releases:
        unknown.append(
            f"What {path.target} can read is not in the data, which covers {releases.releases[0]} to {releases.newest}; "
            f"{releases.nearest(path.target)} represents it. A newer release of the collection may have the data."
        )
    return found, unknown
