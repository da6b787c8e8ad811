# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many objects to ask for in one page of a list. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_FIRST = 100
_FEWEST = 5
# Seconds that a page may take. A server reads whole objects to list their metadata, so a page of large ones keeps it busy
# and fills its memory, though the answer is small.
_LONGEST = 0.5
_STEP = 4.0


@dataclass
class PageSize:
    """Begins with few, as nobody knows how large the objects are, and then follows the time that a page takes.

    ``most``: the option page_size. ``took``: how many seconds the last page took.
    """

    most: int
    size: int = 0
    took: float = 0.0

    def __post_init__(self) -> None:
        self.size = self.size or min(_FIRST, self.most)

    def answered(self, items: int) -> None:
        """The last page had this number of objects. One that wasn't full says nothing about larger ones."""
        if self.took > _LONGEST:
            self._set(max(items, 1) * max(1 / _STEP, _LONGEST / self.took))
        elif items >= self.size and self.took < _LONGEST / 2:
            self._set(self.size * min(_STEP, _LONGEST / max(self.took, 0.001)))

    def too_slow(self) -> None:
        """No answer came in time."""
        self._set(self.size / _STEP)

    def _set(self, size: float) -> None:
        self.size = min(self.most, max(_FEWEST, int(size)))
