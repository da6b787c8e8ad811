# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs over a fleet: stopped between waves, resumed, and how they end."""

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.record import FleetRecord, Severity
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.run import (
    FleetRules,
    Report,
    begun,
    beside,
    done_before,
    ended,
    folded,
    stopped_after,
    summary,
    verdict,
    waiting,
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


def plan_of(record: FleetRecord) -> list[Wave]:
    return [Wave(wave.name, list(wave.clusters)) for wave in record.waves]


def after_first_wave(reports: dict[str, Report], rules: FleetRules, waves: str = "abc", first: int = 2) -> FleetRecord:
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
    assert verdict(record, FleetRules(fail_on=Severity.STALE)).problems == {}


def test_failures_above_the_number_stop_it() -> None:
    reports = {"a": dead(), "b": report()}
    assert after_first_wave(reports, FleetRules(max_failures=1)).status == "running"
    stopped = after_first_wave(reports, FleetRules(max_failures=0))
    assert (
        stopped.status == "stopped"
        and stopped.stopped == "1 cluster failed or could not be reached, and 0 are allowed: a."
    )
    assert states(stopped)["c"] == "not_begun" and "stopped before the wave 'the rest'" in stopped.clusters[2].why[0]


def test_a_state_of_the_chosen_severity_stops_it() -> None:
    reports = {"a": blocked(), "b": report()}
    assert "(blocker)" in str(after_first_wave(reports, FleetRules()).stopped)
    assert after_first_wave(reports, FleetRules(stop_on=None)).status == "running"
    assert after_first_wave({"a": stale(), "b": report()}, FleetRules()).status == "running"
    assert after_first_wave({"a": stale(), "b": report()}, FleetRules(stop_on=Severity.STALE)).status == "stopped"


def test_a_cluster_of_a_later_wave_that_failed_before_is_tried_again() -> None:
    waves = [Wave("canary", ["a"]), Wave("two", ["b"]), Wave("rest", ["c"])]
    record = begun(None, "run-1", "audit", None, waves, at(0))
    reports = {"a": report(5), "b": dead(10)}
    for number in (0, 1):
        record = stopped_after(folded(wave_finished(record, number, at(20)), reports, at(20)), number, FleetRules())
    assert record.status == "stopped"
    record = begun(record, "run-2", "audit", None, waves, at(60), resume_within=100)
    record = stopped_after(folded(wave_finished(record, 0, at(70)), reports, at(70)), 0, FleetRules())
    assert record.status == "running" and states(record)["b"] == "not_reached", "its old failure stops nothing"
    assert [row.host for row in waiting(record)] == ["b", "c"]
    record = wave_finished(record, 1, at(80))
    assert stopped_after(folded(record, {**reports, "b": report(75)}, at(80)), 1, FleetRules()).status == "running"
    again = folded(record, {**reports, "b": dead(75)}, at(80))
    assert stopped_after(again, 1, FleetRules()).status == "stopped"


def test_a_cluster_that_got_no_new_result_in_a_resumed_run_failed() -> None:
    stopped = after_first_wave({"a": report(), "b": blocked()}, FleetRules())
    resumed = begun(stopped, "run-2", "audit", None, plan_of(stopped), at(60), resume_within=100)
    reports = {"a": report(), "b": blocked()}
    assert states(folded(resumed, reports, at(61))) == {"a": "fine", "b": "blocker", "c": "not_begun"}
    ended_wave = folded(wave_finished(resumed, 0, at(70)), reports, at(70))
    assert states(ended_wave) == {"a": "fine", "b": "failure", "c": "not_begun"}
    assert ended_wave.clusters[1].why[0].startswith("The run that was resumed has no new result for it")


def test_a_run_does_not_stop_before_clusters_that_are_all_done() -> None:
    """Otherwise it could exit with 0 after a stop."""
    reports = {"a": stale(), "b": report(), "c": report()}
    assert after_first_wave(reports, FleetRules(stop_on=Severity.STALE, fail_on=None)).status == "running"


def test_the_last_wave_stops_nothing() -> None:
    assert after_first_wave({"a": dead(), "b": dead()}, FleetRules(), waves="ab").status == "running"


def test_it_is_finished_once_each_wave_is() -> None:
    record = run_over("ab", {"a": report(), "b": report()}, [1])
    assert ended(record, at(40)).status == "running"
    for number in (0, 1):
        record = wave_finished(record, number, at(40))
    assert ended(record, at(40)).status == "finished"


def test_a_stopped_run_is_resumed_where_it_was() -> None:
    reports = {"a": report(), "b": dead()}
    stopped = after_first_wave(reports, FleetRules())
    waves = plan_of(stopped)
    resumed = begun(stopped, "run-2", "audit", None, waves, at(60), resume_within=100)
    assert resumed.started == stopped.started and resumed.status == "running"
    assert done_before(folded(resumed, reports, at(60))) == ["a"]
    for other in (
        begun(stopped, "run-2", "audit", None, waves, at(600), resume_within=100),
        begun(stopped, "run-2", "migrate", None, waves, at(60), resume_within=100),
        begun(stopped, "run-2", "audit", "1.37", waves, at(60), resume_within=100),
    ):
        assert done_before(folded(other, reports, at(600))) == []


MIGRATE = {"purpose": "migrate"}


def test_an_audit_meanwhile_migrates_nothing() -> None:
    """A nightly audit writes into the same folder while the migration has not reached b."""
    waves = [Wave("canary", ["a"]), Wave("rest", ["b"])]
    record = begun(None, "run-1", "migrate", None, waves, at(0))
    audits = {"a": report(20), "b": stale(20, fleet={"purpose": "audit"})}
    reports = {**audits, "a": Report(audits["a"].snapshot, {}, dead(10, fleet=MIGRATE).snapshot)}
    record = stopped_after(folded(wave_finished(record, 0, at(30)), reports, at(30)), 0, FleetRules())
    record = folded(record, reports, at(30))
    assert states(record) == {"a": "not_reached", "b": "not_begun"}, "the migration's own result counts"
    assert record.clusters[1].stale == 40, "what the audit saw is shown"
    assert list(verdict(record, FleetRules()).problems) == ["a", "b"]
    resumed = begun(record, "run-2", "migrate", None, waves, at(60), resume_within=100)
    assert done_before(folded(resumed, reports, at(60))) == []
    migrated = {"b": report(25, fleet=MIGRATE)}
    assert done_before(folded(resumed, {**reports, **migrated}, at(60))) == ["b"]
    left = {"b": stale(25, fleet=MIGRATE)}
    assert done_before(folded(resumed, {**reports, **left}, at(60))) == [], "it has to be migrated again"


def test_an_audit_for_another_release_is_no_result_of_this_one() -> None:
    record = begun(None, "run-1", "audit", "1.37", [Wave("all", ["a", "b", "c"])], at(0))
    reports = {
        "a": report(fleet={"purpose": "audit", "version": "1.37"}),
        "b": report(fleet={"purpose": "audit"}),
        "c": report(),
    }
    assert states(folded(record, reports, at(20))) == {"a": "fine", "b": "not_begun", "c": "fine"}


def test_a_run_is_resumed_although_others_ran_in_the_folder_meanwhile() -> None:
    stopped = after_first_wave({"a": report(), "b": dead()}, FleetRules())
    audit = begun(stopped, "run-2", "audit", "1.37", [Wave("all", ["a"])], at(40), resume_within=100)
    assert audit.started == at(40) and [run.run for run in audit.unfinished] == ["run-1"]
    audit = ended(wave_finished(audit, 0, at(41)), at(41))
    resumed = begun(audit, "run-3", "audit", None, plan_of(stopped), at(60), resume_within=100)
    assert resumed.started == stopped.started and resumed.resumed == at(60) and resumed.unfinished == []


def test_a_slice_neither_resumes_nor_forgets_another_one() -> None:
    first = begun(None, "slice-1", "migrate", None, [Wave("all", ["a", "b"])], at(0), resume_within=100)
    second = begun(first, "slice-2", "migrate", None, [Wave("all", ["c", "d"])], at(10), resume_within=100)
    assert second.started == at(10) and [run.clusters for run in second.unfinished] == [["a", "b"]]
    assert states(folded(second, {"c": report(15), "b": report(5)}, at(20))) == {
        "c": "not_begun",
        "d": "not_begun",
        "a": "not_begun",
        "b": "fine",
    }, "a cluster of a slice that dies is never silent"
    # The first one dies, and the second one ends.
    second = ended(wave_finished(beside(second, second), 0, at(30)), at(30))
    again = begun(second, "slice-3", "migrate", None, [Wave("all", ["a", "b"])], at(60), resume_within=100)
    assert again.started == first.started and again.unfinished == []
    few = begun(second, "slice-3", "migrate", None, [Wave("all", ["a"])], at(60), resume_within=100)
    assert few.started == first.started and len(few.unfinished) == 1, "b may be resumed later"
    late = begun(second, "slice-3", "migrate", None, [Wave("all", ["a"])], at(600), resume_within=100)
    assert late.started == at(600)


def test_a_cluster_that_was_resumed_alone_is_looked_at_again_by_the_next_run() -> None:
    """Otherwise each run with --limit would find it done by the run that was once resumed."""
    stopped = begun(None, "run-1", "audit", None, [Wave("all", ["a", "b", "c"])], at(0))
    only_c = [Wave("all", ["c"])]
    resumed = begun(stopped, "run-2", "audit", None, only_c, at(20), resume_within=100)
    assert resumed.started == at(0) and [run.clusters for run in resumed.unfinished] == [["a", "b"]]
    done = ended(folded(wave_finished(resumed, 0, at(30)), {"c": report(25)}, at(30)), at(30))
    again = begun(done, "run-3", "audit", None, only_c, at(40), resume_within=100)
    assert again.started == at(40) and done_before(folded(again, {"c": report(25)}, at(40))) == []
    rest = begun(done, "run-3", "audit", None, [Wave("all", ["a", "b"])], at(40), resume_within=100)
    assert rest.started == at(0) and rest.unfinished == []


def test_a_finished_run_is_not_resumed() -> None:
    record = wave_finished(run_over("a", {"a": report()}), 0, at(30))
    again = begun(ended(record, at(30)), "run-1", "audit", None, [Wave("all", ["a"])], at(40), resume_within=100)
    assert again.started == at(40)


def test_the_verdict_tells_failures_from_clusters_that_were_not_reached() -> None:
    found = verdict(run_over("abc", {"a": dead(), "b": stale(), "c": report()}), FleetRules())
    assert list(found.problems) == ["a"] and found.only_unreachable
    found = verdict(run_over("abc", {"a": dead(), "b": blocked(), "c": report()}), FleetRules())
    assert list(found.problems) == ["a", "b"] and not found.only_unreachable
    assert verdict(run_over("a", {"a": dead()}), FleetRules(fail_on=None)).problems == {}
    assert not verdict(run_over("a", {"a": report()}), FleetRules()).only_unreachable


def test_after_a_stop_one_cluster_speaks_for_all_that_had_no_turn() -> None:
    stopped = after_first_wave({"a": stale(), "b": report()}, FleetRules(stop_on=Severity.STALE), waves="abcdef")
    found = verdict(stopped, FleetRules())
    assert list(found.problems) == ["c"] and found.problems["c"].startswith(
        "4 clusters had no turn, because the run stopped:"
    )


def test_the_summary_begins_with_the_worst() -> None:
    lines = summary(run_over("abc", {"a": report(), "b": dead(), "c": report()}))
    assert lines == ["3 clusters:", "  1 not reached: b", "  2 nothing found: a, c"]
