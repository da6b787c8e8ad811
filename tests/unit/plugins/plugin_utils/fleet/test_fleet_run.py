# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs over a fleet: stopped between waves, resumed, and how they end."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.record import FleetRecord, Severity
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.run import (
    Report,
    Rules,
    begun,
    done_before,
    ended,
    folded,
    still_unfinished,
    stopped_after,
    summary,
    verdict,
    wave_finished,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.waves import Wave
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.fleet.fleet_data import (
    blocked,
    dead,
    report,
    run_over,
    stale,
)
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.report_data import at


def states(record: FleetRecord) -> dict[str, str]:
    return {row.host: row.state for row in record.clusters}


def after_first_wave(reports: dict[str, Report], rules: Rules, waves: str = "abc", first: int = 2) -> FleetRecord:
    record = wave_finished(run_over(waves, reports, [first]), 0, at(30))
    record = stopped_after(folded(record, reports, at(30)), 0, rules)
    return folded(record, reports, at(30))


def test_a_cluster_without_a_report_of_this_run_is_never_silent() -> None:
    old = report(10)
    record = run_over("ab", {"b": old}, [1])
    assert states(record) == {"a": "not_begun", "b": "fine"}
    lost = folded(wave_finished(record, 0, at(30)), {"b": old}, at(30))
    assert states(lost)["a"] == "failure" and "no result" in lost.clusters[0].why[0]


def test_an_older_report_is_shown_but_counts_as_not_begun() -> None:
    record = begun(None, "run-2", "audit", None, [Wave("all", ["a"])], at(100))
    record = folded(record, {"a": stale(10)}, at(110))
    assert states(record) == {"a": "not_begun"} and record.clusters[0].stale == 40


def test_reports_of_other_runs_stay_on_the_page() -> None:
    record = run_over("a", {"a": report(), "z": stale()})
    assert states(record) == {"a": "fine", "z": "stale"} and record.clusters[1].wave is None
    assert verdict(record, Rules(fail_on=Severity.STALE)).problems == {}


def test_failures_above_the_number_stop_it() -> None:
    reports = {"a": dead(), "b": report()}
    assert after_first_wave(reports, Rules(max_failures=1)).status == "running"
    stopped = after_first_wave(reports, Rules(max_failures=0))
    assert (
        stopped.status == "stopped"
        and stopped.stopped == "1 cluster failed or could not be reached, and 0 are allowed: a."
    )
    assert states(stopped)["c"] == "not_begun" and "stopped before the wave 'the rest'" in stopped.clusters[2].why[0]


def test_a_state_of_the_chosen_severity_stops_it() -> None:
    reports = {"a": blocked(), "b": report()}
    assert "(blocker)" in str(after_first_wave(reports, Rules()).stopped)
    assert after_first_wave(reports, Rules(stop_on=None)).status == "running"
    assert after_first_wave({"a": stale(), "b": report()}, Rules()).status == "running"
    assert after_first_wave({"a": stale(), "b": report()}, Rules(stop_on=Severity.STALE)).status == "stopped"


def test_the_last_wave_stops_nothing() -> None:
    assert after_first_wave({"a": dead(), "b": dead()}, Rules(), waves="ab").status == "running"


def test_it_is_finished_once_each_wave_is() -> None:
    record = run_over("ab", {"a": report(), "b": report()}, [1])
    assert ended(record, at(40)).status == "running"
    for number in (0, 1):
        record = wave_finished(record, number, at(40))
    assert ended(record, at(40)).status == "finished"


def test_a_stopped_run_is_resumed_where_it_was() -> None:
    reports = {"a": report(), "b": dead()}
    stopped = after_first_wave(reports, Rules())
    waves = [Wave(wave.name, wave.clusters) for wave in stopped.waves]
    resumed = begun(stopped, "run-2", "audit", None, waves, at(60), resume_within=100)
    assert resumed.started == stopped.started and resumed.status == "running"
    assert done_before(folded(resumed, reports, at(60))) == ["a"]
    for other in (
        begun(stopped, "run-2", "audit", None, waves, at(600), resume_within=100),
        begun(stopped, "run-2", "migrate", None, waves, at(60), resume_within=100),
        begun(stopped, "run-2", "audit", "1.37", waves, at(60), resume_within=100),
    ):
        assert done_before(folded(other, reports, at(600))) == []


def test_a_finished_run_is_not_resumed() -> None:
    record = wave_finished(run_over("a", {"a": report()}), 0, at(30))
    again = begun(ended(record, at(30)), "run-1", "audit", None, [Wave("all", ["a"])], at(40), resume_within=100)
    assert again.started == at(40)


def slice_of(before: FleetRecord | None, run: str, clusters: str, second: float, *, done: bool = False) -> FleetRecord:
    """A run over some clusters in a folder that has that record."""
    record = begun(before, run, "migrate", None, [Wave("all", list(clusters))], at(second), resume_within=1000)
    record = ended(wave_finished(record, 0, at(second)), at(second)) if done else record
    return replace(record, unfinished=still_unfinished(before, record))


def test_a_slice_is_resumed_though_others_have_finished_in_the_same_folder() -> None:
    first = slice_of(None, "run-1", "ab", 0)
    second = slice_of(first, "run-2", "cd", 10, done=True)
    assert second.status == "finished" and [run.run for run in second.unfinished] == ["run-1"]
    again = slice_of(second, "run-3", "ab", 60)
    assert again.started == at(0) and [run.run for run in again.unfinished] == ["run-3"]
    assert done_before(folded(again, {"a": report(10), "b": dead()}, at(60))) == ["a"]
    assert slice_of(again, "run-3", "ab", 70, done=True).unfinished == []


def test_other_clusters_are_no_part_of_an_unfinished_run() -> None:
    first = slice_of(None, "run-1", "ab", 0)
    other = slice_of(first, "run-2", "cd", 10)
    assert other.started == at(10)
    part = slice_of(other, "run-3", "a", 20, done=True)
    assert part.started == at(0) and {run.run: run.clusters for run in part.unfinished} == {
        "run-1": ["b"],
        "run-2": ["c", "d"],
    }


def test_the_verdict_tells_failures_from_clusters_that_were_not_reached() -> None:
    found = verdict(run_over("abc", {"a": dead(), "b": stale(), "c": report()}), Rules())
    assert list(found.problems) == ["a"] and found.only_unreachable
    found = verdict(run_over("abc", {"a": dead(), "b": blocked(), "c": report()}), Rules())
    assert list(found.problems) == ["a", "b"] and not found.only_unreachable
    assert verdict(run_over("a", {"a": dead()}), Rules(fail_on=None)).problems == {}
    assert not verdict(run_over("a", {"a": report()}), Rules()).only_unreachable


def test_after_a_stop_one_cluster_speaks_for_all_that_had_no_turn() -> None:
    stopped = after_first_wave({"a": stale(), "b": report()}, Rules(stop_on=Severity.STALE), waves="abcdef")
    found = verdict(stopped, Rules())
    assert list(found.problems) == ["c"] and found.problems["c"].startswith(
        "4 clusters had no turn, because the run stopped:"
    )


def test_the_summary_begins_with_the_worst() -> None:
    lines = summary(run_over("abc", {"a": report(), "b": dead(), "c": report()}))
    assert lines == ["3 clusters:", "  1 not reached: b", "  2 nothing found: a, c"]
