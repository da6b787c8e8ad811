# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a run stands, as an event. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Event
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engine import ResourceRun


def progress_event(runs: Sequence[ResourceRun], seconds: float) -> Event:
    """Where a run stands: resources at work, objects done of the total known, rate, time left, failures."""
    done = sum(run.done for run in runs)
    total = sum(max(run.total or 0, run.done) for run in runs)
    failed = sum(len(run.failures) for run in runs)
    rate = done / seconds if seconds else 0.0
    left = (total - done) / rate if rate else None
    busy = [run.target.name for run in runs if run.started is not None and run.finished is None]
    text = (
        f"{done} of {total} objects, {rate:.0f}/s"
        + (f", {left:.0f} s left" if left is not None and total > done else "")
        + (f", {failed} failed" if failed else "")
        + (f" ({', '.join(busy[:3])}{' …' if len(busy) > 3 else ''})" if busy else "")
    )
    return Event(
        "progress",
        text,
        {"done": done, "total": total, "rate": round(rate, 1), "left": left, "failed": failed, "resources": busy},
    )
