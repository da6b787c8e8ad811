# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The final outcome of each object over all passes of a run, so that each counts once."""

from __future__ import annotations

import os
import tempfile
from array import array
from typing import IO

from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import OutcomeCounts, Verdict
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey

_WROTE = (Verdict.REWRITTEN, Verdict.UNCERTAIN)
# Objects of a resource from which on they are set aside.
_WORTH_A_FILE = 500


class _Aside:
    """Numbers in a temporary file that has no name, so that memory stays the same for ten million objects."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None

    def put(self, numbers: array[int]) -> int | None:
        """Where they are; None if no file can be written, so that they must stay in memory."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="kube-storage-upgrade-")  # noqa: SIM115
            at = self._file.seek(0, os.SEEK_END)
            numbers.tofile(self._file)
            self._file.flush()
            return at
        except OSError:
            return None

    def get(self, at: int, number: int) -> array[int]:
        """Those that were put there."""
        numbers = array("q")
        if self._file is not None:
            self._file.seek(at)
            numbers.fromfile(self._file, number)
        return numbers


_ASIDE = _Aside()


class Visits:
    """Takes every verdict of one resource; ``twice`` is what was counted more than once in the tallies of its passes.

    ``wrote``: an object was, or may have been, rewritten, whatever happened to it later.

    Objects are kept as eight bytes each, a hash of their name, until one of them may come again; a million of them
    collide with a chance of one in thirty million. Those of a large resource that is done are in a file.
    """

    def __init__(self) -> None:
        self.twice = OutcomeCounts()
        self.wrote = False
        self._once: dict[Verdict, array[int]] = {}
        self._aside: list[tuple[Verdict, int, int]] = []
        self._before: dict[int, Verdict] | None = None

    def again(self) -> None:
        """From now on, objects may be visited that were already counted."""
        self._by_object()

    def set_aside(self) -> None:
        """All objects of the resource are visited; what is kept about them is hardly ever needed again."""
        for verdict, keys in list(self._once.items()):
            at = _ASIDE.put(keys) if len(keys) >= _WORTH_A_FILE else None
            if at is None:
                continue
            self._aside.append((verdict, at, len(keys)))
            del self._once[verdict]

    def _by_object(self) -> dict[int, Verdict]:
        if self._before is None:
            self._before = {}
            for verdict, at, number in self._aside:
                self._before.update(dict.fromkeys(_ASIDE.get(at, number), verdict))
            self._aside.clear()
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
