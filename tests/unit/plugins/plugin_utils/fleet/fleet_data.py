# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports of clusters as the role writes them, and runs over a fleet of these."""

from __future__ import annotations

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.record import FleetRecord
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.run import Report, begun, folded
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.waves import planned_waves
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.snapshot import snapshot
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.report_data import at, look, stored


def report(second: float = 10, states: str = "777", uid: str | None = None, **news: Any) -> Report:
    """An audit of a cluster whose API servers have these states (see report_data.look)."""
    given = {"observed": [look(second, states, cluster={"uid": uid})], "stored": stored("example.com/v1"), **news}
    return Report(snapshot("audit", given, at(second)), {"state": "clusters/x/state.html"})


def dead(second: float = 10, **news: Any) -> Report:
    failed = {"error": "unreachable", "msg": "https://10.0.0.1:6443 refuses connections."}
    return Report(snapshot("audit", {"observed": [failed], **news}, at(second)))


def stale(second: float = 10, **news: Any) -> Report:
    return report(second, stored=stored("example.com/v1beta1", stale=40), **news)


def blocked(second: float = 10, **news: Any) -> Report:
    blocker = {
        "id": "webhook/a",
        "check": "webhook",
        "resource": "secrets",
        "what": "It denies.",
        "why": "W",
        "remediation": "R",
    }
    checked = {
        "blockers": [blocker],
        "concerns": [],
        "plan": {"trims": []},
        "target_version": "1.37",
        "safe_up_to": "1.36",
    }
    return report(second, checked=checked, version="1.37", **news)


def run_over(clusters: str, reports: dict[str, Report], waves: list[Any] | None = None, **more: Any) -> FleetRecord:
    """A run that began at 0, at 20 seconds; ``clusters`` are their names, one letter each."""
    planned = planned_waves(list(clusters), waves or [], {"all": list(clusters)})
    record = begun(None, "run-1", "audit", None, planned, at(0), **more)
    return folded(record, reports, at(20))
