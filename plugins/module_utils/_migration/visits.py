# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The final outcome of each object over all passes of a run, so that each counts once. Pure."""

from __future__ import annotations

from array import array

from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import OutcomeCounts, Verdict
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey

_WROTE = (Verdict.REWRITTEN, Verdict.UNCERTAIN)


class Visits:
    """Takes every verdict of one resource; ``twice`` is what was counted more than once in the tallies of its passes.

    ``wrote``: an object was, or may have been, rewritten, whatever happened to it later.

    Objects are kept as eight bytes each, a hash of their name, until one of them may come again; a million of them
    collide with a chance of one in thirty million.
    """

    def __init__(self) -> None:
        self.twice = OutcomeCounts()
        self.wrote = False
        self._once: dict[Verdict, array[int]] = {}
        self._before: dict[int, Verdict] | None = None

    def again(self) -> None:
        """From now on, objects may be visited that were already counted."""
        self._by_object()

    def _by_object(self) -> dict[int, Verdict]:
        if self._before is None:
            self._before = {}
            for verdict, keys in self._once.items():
                self._before.update(dict.fromkeys(keys, verdict))
            self._once.clear()
        return self._before

    def has_failed(self, namespace: str | None, name: str | None) -> bool:
        """Whether an object's latest verdict, among those since ``again``, is that it failed."""
        return (self._before or {}).get(hash((namespace, name))) is Verdict.FAILED

    def of(self, key: ObjectKey) -> Verdict | None:
        """The verdict so far; None if there is none."""
        return self._by_object().get(hash((key.namespace, key.name)))

    def replace(self, key: ObjectKey, verdict: Verdict) -> None:
        """A verdict that a tally counts instead of the last one."""
        self._by_object()[hash((key.namespace, key.name))] = verdict
        self.wrote = self.wrote or verdict in _WROTE

    def note(self, key: ObjectKey, verdict: Verdict) -> None:
        """A verdict that was counted in a tally.

        A rewritten object stays rewritten, even if a later pass finds it current, and one that may have been stays
        uncertain unless it is rewritten. One that failed before is in no tally of an earlier pass; one that fails now
        counts only as failed.
        """
        digest = hash((key.namespace, key.name))
        self.wrote = self.wrote or verdict in _WROTE
        if self._before is None:
            self._once.setdefault(verdict, array("q")).append(digest)
            return
        before = self._before.get(digest)
        stays = {Verdict.REWRITTEN: (Verdict.FAILED,), Verdict.UNCERTAIN: (Verdict.FAILED, Verdict.REWRITTEN)}
        if before in stays and verdict not in stays[before]:
            self.twice.count(verdict)
            verdict = before
        elif before is not None and before is not Verdict.FAILED:
            self.twice.count(before)
        self._before[digest] = verdict
