# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a report says about its cluster: the state, the reasons, and nothing that nobody knows."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.clusters import row_of, same_cluster
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.record import ClusterRow, KeyInUse
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.run import Report
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.snapshot import snapshot
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.fleet.fleet_data import (
    blocked,
    dead,
    report,
    stale,
)
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.report_data import at, look, stored


def row(found: Report, before: ClusterRow | None = None) -> ClusterRow:
    return row_of("a", found.snapshot, found.pages, before)


@pytest.mark.parametrize(
    ("found", "state", "why"),
    [
        (report(), "fine", ""),
        (stale(), "stale", "40 objects stored in an old form."),
        (report(states="767"), "disagreement", "do not agree"),
        (report(states="7x7"), "disagreement", "refuses connections"),
        (blocked(), "blocker", "secrets: It denies."),
        (dead(), "not_reached", "refuses connections"),
        (report(outcomes=[{"failed": True, "msg": "It broke."}]), "failure", "It broke."),
        (report(observed=[]), "failure", "No API server was asked"),
    ],
)
def test_the_state_is_the_worst_of_what_was_found(found: Report, state: str, why: str) -> None:
    shown = row(found)
    assert shown.state == state and why in " ".join(shown.why)


def test_a_cluster_that_dies_meanwhile_failed_and_keeps_what_was_seen() -> None:
    died = row(report(stored={"error": "unreachable", "msg": "etcd is silent."}))
    assert died.state == "failure" and died.why == ["etcd is silent."]
    assert died.releases == ["v1.37.2"] and died.stale is None


def test_a_host_that_ansible_cannot_reach_is_not_reached() -> None:
    lost = Report(snapshot("audit", {"observed": [{"unreachable": True, "msg": "ssh says no."}]}, at(1)))
    assert row(lost).state == "not_reached"


def test_what_nobody_looked_at_is_unknown_and_never_zero() -> None:
    shown = row(report(stored={}))
    assert shown.state == "fine"
    assert [shown.stale, shown.objects, shown.blockers, shown.untrimmed, shown.plain_secrets] == [None] * 5


def test_concerns() -> None:
    full = stored("example.com/v1")
    full["etcd"] = {"endpoints": ["https://e"], "db_size": 90, "db_in_use": 10, "quota": 100, "overrides": []}
    shown = row(report(stored=full))
    assert shown.state == "concern" and shown.why == ["etcd has used 90% of its quota."]
    unchecked = look(1, "777", cross_checked=False, unchecked_reason="nobody may")
    assert row(report(observed=[unchecked])).state == "concern"
    checked = {"blockers": [], "concerns": [], "plan": {"trims": ["things.example.com"]}}
    assert row(report(checked=checked)).untrimmed == ["things.example.com"]


def sealed(key: str) -> dict[str, Any]:
    held = stored("example.com/v1")
    held["resources"]["secrets"]["stored"] = [
        {"version": None, "provider": "aescbc", "key": key, "objects": 200, "stale": []},
        {"version": "v1", "encoding": "json", "provider": "identity", "objects": 100, "stale": []},
    ]
    return held


def test_keys_are_as_old_as_the_first_run_that_saw_them() -> None:
    first = row(report(10, stored=sealed("one")))
    again = row(report(90, stored=sealed("one")), first)
    other = row(report(90, stored=sealed("two")), first)
    assert again.keys == [KeyInUse("aescbc", "one", 200, at(10))]
    assert other.keys == [KeyInUse("aescbc", "two", 200, at(90))]
    assert again.plain_secrets == 100 and again.state == "concern"


def test_the_oldest_version_that_is_stored() -> None:
    held = stored("example.com/v1beta1", stale=40)
    rows = held["resources"]["things.example.com"]["stored"]
    rows += [{**rows[0], "version": f"example.com/{version}"} for version in ("v1", "v2alpha1", "v1alpha2", "v1beta2")]
    shown = row(report(stored=held))
    assert shown.oldest == "things.example.com v1alpha2"


def test_two_hosts_that_are_the_same_cluster() -> None:
    found = report(uid="1-2")
    rows = [row_of(host, found.snapshot, found.pages) for host in ("a", "b")]
    other = row_of("c", report().snapshot, {})
    first, twin, third = same_cluster([*rows, other])
    assert first.state == third.state == "fine" and twin.state == "failure"
    assert "the same cluster as a" in twin.why[0] and twin.objects is None
