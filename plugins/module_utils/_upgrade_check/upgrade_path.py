# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The releases from which and to which an upgrade goes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import NotConvergedError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Finding, listed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServerReport
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import (
    Releases,
    minor_of,
    number_of,
)

# kube-apiserver has --min-compatibility-version since then (k8s.io/component-base, compatibility/registry.go).
_COMPATIBILITY_FLAG_SINCE = (1, 35)


@dataclass(frozen=True)
class UpgradePath:
    """Minors such as ``1.36``. ``pending``: some API server is not at the target yet. ``running``: all that API servers run as, oldest first.

    ``binaries``: all releases that API servers are of, oldest first, whatever they emulate.
    """

    current: str
    target: str
    pending: bool = True
    running: tuple[str, ...] = ()
    binaries: tuple[str, ...] = ()

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
    binaries = sorted({minor_of(str(report.version or report.effective_version)) for report in usable}, key=number_of)
    goal = minor_of(target)
    current = minors[-1] if number_of(goal) < number_of(minors[-1]) else minors[0]
    return UpgradePath(current, goal, minors != [goal] or len(usable) < len(reports), tuple(minors), tuple(binaries))


def evaluate_downgrade(path: UpgradePath, releases: Releases) -> list[Finding]:
    """A target that is older; if even the oldest release in the data is newer, the target was mistyped."""
    if not path.back:
        return []
    if number_of(path.target) < number_of(releases.releases[0]):
        return [_impossible(path, f"No release before {releases.releases[0]} is in the data.")]
    return [
        Finding(
            "downgrade",
            "kube-apiserver",
            f"The target {path.target} is older than the newest API server, which runs as {path.current}.",
            f"Kubernetes supports no downgrade: {path.current} may have stored objects in versions that {path.target} can't read.",
            "If you don't want to roll back, name the right release. Roll back only if this check finds nothing else, and restore etcd "
            "from a snapshot if it does.",
        )
    ]


def evaluate_compatibility(reports: Iterable[ServerReport], path: UpgradePath) -> list[Finding]:
    """API servers that needn't keep what they write readable for the target of a rollback. Pure.

    Those before 1.33 don't report it.
    """
    has_flag = number_of(path.current) >= _COMPATIBILITY_FLAG_SINCE
    flag = f"with --min-compatibility-version={path.target}, or " if has_flag else ""
    found: dict[str, list[str]] = {}
    for report in reports:
        oldest = report.min_compatibility_version
        if path.back and report.usable and oldest and number_of(oldest) > number_of(path.target):
            found.setdefault(oldest, []).append(f"{report.name} ({report.url})")
    return [
        Finding(
            "compatibility",
            "kube-apiserver",
            f"{listed(servers)} {'stores' if len(servers) == 1 else 'store'} objects for readers of {oldest} and newer (minCompatibilityVersion).",
            f"Anything written from now on may be unreadable for {path.target}, even if everything stored now is readable.",
            f"Restart API servers {flag}with --emulated-version={path.target}; migrate everything, and check "
            "again. If they are several releases newer, go back one release at a time.",
        )
        for oldest, servers in found.items()
    ]


def _impossible(path: UpgradePath, why: str) -> Finding:
    meant = meant_instead(path.target, path.current)
    quote = "In YAML, put the release in quotes, because an unquoted 1.40 is the number 1.4."
    return Finding(
        "impossible_release",
        "kube-apiserver",
        f"{path.current} can't be upgraded to {path.target}" + (f"; did you mean {meant}?" if meant else "."),
        why,
        f"Name the release to upgrade to. {quote}",
    )


def meant_instead(target: str, current: str) -> str:
    """What a mistyped release may stand for, judged by what runs now: ``1.40`` for the ``1.4`` that YAML makes of an unquoted
    1.40; ``1.37`` for the ``1.3`` of ``1.3.7``. Empty if there is nothing.
    """
    (major, minor), (now_major, now) = number_of(target), number_of(current)
    if major != now_major:
        return ""
    near = [number for number in (now, now + 1) if str(number).startswith(str(minor))]
    return " or ".join(f"{major}.{number}" for number in near)


def evaluate_steps(path: UpgradePath, releases: Releases) -> tuple[list[Finding], list[str]]:
    """More than one minor at once, a major release that doesn't exist, and releases that the data doesn't know."""
    found, unknown = [], []
    (major, minor), (now_major, now) = number_of(path.target), number_of(path.current)
    if major > now_major:
        return [
            _impossible(path, f"Kubernetes {major} doesn't exist as far as this version of the collection knows.")
        ], []
    if major == now_major and minor - now > 1:
        found.append(
            Finding(
                "skipped_minors",
                "kube-apiserver",
                f"{path.current} to {path.target} skips minor releases.",
                "API servers may differ by one minor release only.",
                f"Upgrade to {major}.{now + 1} first, and migrate; then to each further minor in turn.",
            )
        )
    if path.target not in releases.releases:
        unknown.append(
            f"What {path.target} can read is not in the data, which covers {releases.releases[0]} to {releases.newest}; "
            f"{releases.nearest(path.target)} represents it. A newer release of the collection may have the data."
        )
    return found, unknown
