# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How counts grew during a run, by resource, in a bounded number of samples. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import millis_text

_SAMPLES_KEPT = 200


class Count(NamedTuple):
    """Objects of one resource that were visited and that were rewritten, both since the start of the run."""

    visited: int
    rewritten: int


class History:
    """Samples of counts that only grow; ``every``: seconds between samples. A sample holds just the resources that changed.

    When there are too many, every second sample is dropped and samples are taken half as often.
    """

    def __init__(self, every: float = 0.25) -> None:
        self.started = datetime.now(timezone.utc)
        self.every = every
        self._last: dict[str, Count] = {}
        self._samples: list[tuple[float, dict[str, Count]]] = []

    def add(self, seconds: float, counts: Mapping[str, Count]) -> None:
        moved = {name: count for name, count in counts.items() if count != self._last.get(name, Count(0, 0))}
        if not moved:
            return
        self._last.update(moved)
        self._samples.append((seconds, moved))
        if len(self._samples) > _SAMPLES_KEPT:
            self._thin_out()

    def _thin_out(self) -> None:
        """Merges every second sample into the next; the last one stays as it is."""
        self.every *= 2
        kept = []
        for number, (seconds, moved) in enumerate(reversed(self._samples)):
            if number % 2 == 0:
                kept.append((seconds, dict(moved)))
            else:
                kept[-1] = (kept[-1][0], {**moved, **kept[-1][1]})
        self._samples = kept[::-1]

    def as_dict(self) -> dict[str, Any]:
        return {
            "started": millis_text(self.started),
            "samples": [
                {"seconds": round(seconds, 2), "resources": {name: count._asdict() for name, count in moved.items()}}
                for seconds, moved in self._samples
            ],
        }
