# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a run stands, as an event. Pure."""

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Event
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.account import Account
from ansible_collections.kube_storage.upgrade.plugins.module_utils._progress import progress_event


def progress_of(account: Account, rate: float) -> Event:
    """All resources together, with what earlier passes did; names those at work."""
    runs = account.runs.values()
    return progress_event(
        "objects",
        done_of(account),
        done_of(account) + sum(max(run.total or 0, run.done) - run.done for run in runs),
        rate,
        resources=[run.target.name for run in runs if run.started is not None and run.finished is None],
        failures=len(account.failures),
        total_is_known=all(run.total is not None or run.finished is not None for run in runs),
    )


def done_of(account: Account) -> int:
    """Objects visited, or done by a controller, in all passes."""
    earlier = sum(tally.visited for tally in account.earlier.values())
    return earlier + sum(run.done for run in account.runs.values())
