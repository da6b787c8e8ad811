# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The releases to upgrade to in turn, from the result of upgrade_check. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import minor_of

# What an earlier run left undone at the current release.
_UNDONE = ("unfinished_migration", "outstanding_migration")


def way(checked: Mapping[str, Any], target: str, named: Sequence[Any], stop_before: str = "") -> list[dict[str, str]]:
    """The current release, if something must be finished there, and each after it, as ``release``, ``emulate`` and ``stops_before``.

    ``named``: patch releases for some of them; the last one is the target as the user wrote it. With ``stop_before`` the way ends at the
    first newer release: before its migration (``migrate``), or while it emulates the one before it (``finalize``). What the run before left
    undone comes first, so every run gets one release further.
    """
    minors = _minors(checked)
    current = str(checked.get("current_version"))
    patches = {minor_of(str(name)): str(name) for name in (target, *named)}
    hops = []
    if not minors:
        hops.append((current, "", ""))
    elif _must_migrate_here(checked):
        # API servers that emulate the current release migrate as they are; they don't go back for it.
        hops.append((minors[0], current, "") if _emulating(checked) and not _mixed(checked) else (current, "", ""))
    if stop_before == "migrate":
        hops += [(minor, "", "migrate") for minor in minors[:1]]
    elif stop_before == "finalize":
        hops += _one_further(current, minors, begun=_emulating(checked) or _mixed(checked))
    else:
        hops += [(minor, "", "") for minor in minors]
    return [
        {"release": patches.get(minor, minor), "emulate": emulate, "stops_before": end} for minor, emulate, end in hops
    ]


def _one_further(current: str, minors: Sequence[str], *, begun: bool) -> list[tuple[str, str, str]]:
    """The second step to the release to which the first one was made (``begun``), then the first step to the one after it."""
    second, rest = (minors[:1], minors[1:]) if begun else ((), minors)
    before = [current, *second][-1]
    return [(minor, "", "") for minor in second] + [(minor, before, "finalize") for minor in rest[:1]]


def _must_migrate_here(checked: Mapping[str, Any]) -> bool:
    """Whether something must be migrated before any API server runs as a newer release."""
    findings = [finding for key in ("blockers", "concerns") for finding in checked.get(key) or ()]
    undone = any(finding.get("check") in _UNDONE for finding in findings) and not _mixed(checked)
    return undone or bool(checked["path"][0].get("migrate_first"))


def _emulating(checked: Mapping[str, Any]) -> bool:
    """Whether all API servers are of a newer release, and only emulate the current one."""
    return str(checked.get("current_version")) not in (
        checked.get("binary_versions") or [checked.get("current_version")]
    )


def _mixed(checked: Mapping[str, Any]) -> bool:
    """Whether some API servers are at a newer release already: nothing goes back for what those at the older one left undone."""
    return len(checked.get("running_versions") or ()) > 1


def way_refusals(checked: Mapping[str, Any], named: Sequence[Any]) -> list[str]:
    """Why the way can't be taken."""
    if checked.get("error") is not None:
        return [str(checked.get("msg") or "The API servers could not be asked.")]
    found = []
    target = str(checked.get("target_version"))
    minors = [str(checked.get("current_version")), *_minors(checked)]
    if minors[-1] != minor_of(target):
        found.append(
            f"{target} is not newer than {minors[0]}; to roll back, go one release at a time with rolling_upgrade_rollback."
        )
    unknown = [str(name) for name in named if minor_of(str(name)) not in minors]
    if unknown:
        found.append(
            f"rolling_upgrade_releases names {', '.join(unknown)}, which is not between {minors[0]} and {target}."
        )
    for hop in checked.get("path") or ():
        if hop.get("unreadable"):
            found.append(
                f"Kubernetes {hop['release']} can't read {', '.join(hop['unreadable'])} as stored then, and no migration before it helps: delete these "
                "objects, or have their owner store them differently."
            )
    return found


def _minors(checked: Mapping[str, Any]) -> list[str]:
    return [str(hop["release"]) for hop in checked.get("path") or ()]
