# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether an etcd holds everything that the API servers list: it proves nothing about objects in another etcd.

Exact, and without a race: a list has its revision and its total, and etcd counts the same range at that revision.
A list without a resourceVersion is consistent (k8s.io/apiserver, pkg/storage/cacher: never older than etcd when it was
asked), so a revision that this etcd didn't have meanwhile is another etcd's, whatever the totals. Pure; counting.py asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Why a resource is not proven, as modules return it: etcd doesn't hold what the API servers list, or that is unknown.
COUNTS_DIFFER = "counts_differ"
NOT_COUNTED = "not_counted"
_NAMED = 10


@dataclass(frozen=True)
class Uncounted:
    """A resource that an etcd was not shown to hold completely. ``listed`` is None if the API servers gave no total."""

    resource: str
    kind: str
    held: int
    listed: int | None = None
    why: str = ""

    def unproven(self, stale: int) -> int:
        """How many objects that leaves unproven, not counting the stale ones."""
        return max(0, max(self.held, self.listed or 0) - stale)


def total_of(page: Mapping[str, Any]) -> int | None:
    """The number of objects in a list, by its first page; None if the server doesn't say how many remain."""
    metadata = page.get("metadata") or {}
    here = len(page.get("items") or ())
    if not metadata.get("continue"):
        return here
    remaining = metadata.get("remainingItemCount")
    return None if remaining is None else here + int(remaining)


def revision_of(page: Mapping[str, Any]) -> int:
    """A list's resourceVersion, which is etcd's revision; 0 if it isn't one."""
    text = str((page.get("metadata") or {}).get("resourceVersion") or "")
    return int(text) if text.isdecimal() else 0


def compared_objects(totals: Mapping[str, int]) -> int:
    """How many objects of a scan were compared with what the API servers write: not keys of unknown resources, nor API servers' own records."""
    return totals.get("objects", 0) - totals.get("unknown", 0) - totals.get("internal", 0)


def count_problems(uncounted: Mapping[str, Uncounted]) -> list[str]:
    """One sentence for each kind of doubt; empty if there is none."""
    differ = [doubt for doubt in uncounted.values() if doubt.kind == COUNTS_DIFFER]
    found = []
    if differ:
        texts = [
            f"{doubt.resource} ({doubt.listed} listed, {doubt.held} here{f'; {doubt.why}' if doubt.why else ''})"
            for doubt in differ
        ]
        found.append(
            f"The API servers list objects other than those that this etcd holds, so nothing is proven about {_listed(texts)}; "
            "if the API servers have --etcd-servers-overrides, name the other etcd in etcd.overrides."
        )
    by_reason: dict[str, list[str]] = {}
    for doubt in uncounted.values():
        if doubt.kind == NOT_COUNTED:
            by_reason.setdefault(doubt.why, []).append(doubt.resource)
    found += [
        f"Whether etcd holds all objects of {_listed(names)} is unknown, as {why}."
        for why, names in sorted(by_reason.items())
    ]
    return found


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _NAMED
    return ", ".join(texts[:_NAMED]) + (f" and {more} more" if more > 0 else "")
