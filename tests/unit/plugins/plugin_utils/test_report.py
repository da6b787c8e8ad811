# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
import shutil
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report import charts, sentences
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.components import Heading
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.files import ReportFiles
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.json_data import as_json
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.news import closed
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.page import page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import (
    FailedObject,
    Record,
    read_record,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.store import keep
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.timeline import (
    open_failures,
    resource_rows,
    stored_rows,
    timeline,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.wording import time_taken
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.report_data import (
    THINGS,
    URLS,
    ReportedUpgrade,
    at,
    failure,
    first_run_fails,
    look,
    migration,
    second_run_finishes,
    stored,
)


def heading(record: Record) -> Heading:
    line = timeline(record)
    return sentences.heading(record, line, sentences.claims(record, line))


class Reader(HTMLParser):
    """The text of a page, and its elements; fails where they don't nest."""

    VOID = {"meta", "link", "br", "wbr"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


# The record


def test_a_failed_run_is_reported_with_the_state_and_what_to_do() -> None:
    upgrade = first_run_fails()
    assert upgrade.record.status == "failed"
    line = timeline(upgrade.record)
    assert heading(upgrade.record).badge == "Stopped"
    assert sentences.standing(upgrade.record, line) == [
        "alpha is ready at v1.37.2.",
        "beta is down (its upgrade was begun).",
        "gamma is ready at v1.36.4, not upgraded yet.",
    ]
    to_do = " ".join(sentences.to_do(upgrade.record, line))
    assert f"Bring beta ({URLS['beta']}) back" in to_do and "Run the same playbook again" in to_do
    text = Reader(page(upgrade.record, "report.json")).text
    assert "The upgrade of beta to 1.37 failed." in text


def test_a_second_run_continues_and_keeps_what_the_first_saw() -> None:
    upgrade = second_run_finishes(first_run_fails())
    record = upgrade.record
    assert [run.status for run in record.runs] == ["failed", "succeeded"]
    assert [(step.master, step.state) for step in record.steps] == [
        ("alpha", "done"),
        ("beta", "failed"),
        ("beta", "done"),
        ("gamma", "done"),
    ]
    assert record.stored.before.resources[THINGS].expected == "example.com/v1beta1"
    line = timeline(record)
    assert len(line.spans) == 2 and line.mixed == [(line.spans[0][0] + 15, line.spans[0][0] + 629)]
    assert heading(record).badge == "Done and proven"
    assert sentences.to_do(record, line) == []
    assert not [claim.text for claim in sentences.claims(record, line) if claim.holds is False]


def test_stored_before_is_the_first_that_was_read() -> None:
    upgrade = first_run_fails().begin(100).tell(101, stored_before=stored("example.com/v1"))
    assert upgrade.record.stored.before.resources[THINGS].expected == "example.com/v1beta1"


def test_an_interrupted_run_is_reported_as_such() -> None:
    upgrade = ReportedUpgrade().begin(0).step(1, "alpha", "running", observed=[look(1, "666")])
    assert heading(upgrade.record).tone == "open"
    upgrade.begin(50)
    assert [run.status for run in upgrade.record.runs] == ["cut off", "running"]
    assert upgrade.record.steps[0].state == "cut off" and upgrade.record.steps[0].finished == at(1)


def test_a_run_that_ended_abruptly_is_closed_from_outside() -> None:
    """Issue 15, number 1: it said "running" forever."""
    upgrade = ReportedUpgrade().begin(0).step(1, "alpha", "running", observed=[look(1, "666")])
    record = closed(upgrade.record, at(0), at(9))
    assert record is not None and (record.status, record.runs[-1].status, record.runs[-1].finished) == (
        "cut off",
        "cut off",
        at(9),
    )
    assert (record.steps[0].state, record.steps[0].finished) == ("cut off", at(9))
    (failed,) = record.runs[-1].failures
    assert failed.host == "alpha" and "ended abruptly in the step on alpha" in failed.message
    assert heading(record) == Heading("Upgrade to Kubernetes 1.37", "Interrupted", "bad", failed.message)
    before = closed(ReportedUpgrade().begin(0).record, at(0), at(9))
    assert before is not None and "Run the playbook again to resume." in before.runs[-1].failures[0].message
    assert upgrade.record.status == "running", "the record that was given is left as it is"


def test_what_another_run_or_the_run_itself_has_closed_is_left_alone() -> None:
    upgrade = ReportedUpgrade().begin(0).step(1, "alpha", "running", observed=[look(1, "666")])
    assert closed(upgrade.begin(5).record, at(0), at(9)) is None
    assert closed(upgrade.tell(6, end=True).record, at(5), at(9)) is None
    assert closed(ReportedUpgrade().record, at(0), at(9)) is None


def test_news_long_after_belongs_to_a_new_run_unless_a_master_is_being_upgraded() -> None:
    quiet = ReportedUpgrade().begin(0).tell(5000, observed=[look(5000, "666")])
    assert len(quiet.record.runs) == 2
    busy = ReportedUpgrade().begin(0).step(1, "alpha", "running").tell(5000, observed=[look(5000, "766")])
    assert len(busy.record.runs) == 1


def test_a_run_without_news_for_hours_is_not_taken_for_interrupted_by_its_own_process() -> None:
    """A migration that took 90 minutes was counted as an interrupted run, and its objects as unknown."""
    upgrade = ReportedUpgrade().tell(0, begin=True, run="a").tell(1, run="a", observed=[look(1, "777")])
    upgrade.tell(5500, run="a", migration=migration(100)).tell(5501, run="a", verified=True)
    assert [(run.status, run.process) for run in upgrade.record.runs] == [("succeeded", "a")]
    assert closed(upgrade.record, at(0), at(9)) is None
    for other in ("b", None):
        upgrade = ReportedUpgrade().tell(0, begin=True, run="a").tell(5500, run=other, migration=migration(100))
        assert [run.status for run in upgrade.record.runs] == ["cut off", "running"]
    upgrade = ReportedUpgrade().tell(0, begin=True, run="a").tell(60, run="b", migration=migration(10))
    assert [run.status for run in upgrade.record.runs] == ["running"], "a playbook that goes on for another one"


def test_a_second_run_with_nothing_to_do_hides_nothing() -> None:
    upgrade = second_run_finishes(first_run_fails())
    nothing = migration(710, rewritten=0, trimmed=[])
    nothing["totals"]["rewritten"] = nothing["resources"][THINGS]["rewritten"] = 0
    for second in (700, 800, 900):
        upgrade.begin(second).tell(second + 1, migration=nothing).tell(second + 2, verified=True)
    assert [moved.totals["rewritten"] for moved in upgrade.record.migrations] == [40, 0]
    assert resource_rows(upgrade.record)[0].rewritten == 40
    assert "40 rewritten" in page(upgrade.record, "r.json")


def test_equal_observations_are_merged_and_their_number_is_bounded() -> None:
    upgrade = ReportedUpgrade().begin(0)
    for second in range(1, 50):
        upgrade.tell(second, observed=[look(second, "666")])
    assert [(seen.first, seen.last) for seen in upgrade.record.observations] == [(at(1), at(49))]
    upgrade.tell(999, observed=[look(second, "6x6" if second % 2 else "666") for second in range(100, 900)])
    assert len(upgrade.record.observations) <= 500


def test_failures_of_a_resource_are_open_until_it_is_migrated_again() -> None:
    upgrade = second_run_finishes(first_run_fails(), [failure()])
    assert [failed.name for failed in open_failures(upgrade.record)] == ["thing-1"]
    assert upgrade.record.status == "failed"
    line = timeline(upgrade.record)
    assert "Fix the objects under Failures; each has a hint." in sentences.to_do(upgrade.record, line)
    assert any(
        claim.holds is False and "could not be rewritten" in claim.text
        for claim in sentences.claims(upgrade.record, line)
    )
    upgrade.begin(700).tell(705, migration=migration(701))
    assert open_failures(upgrade.record) == []


def test_what_failed_is_noted_once_and_skipped_tasks_say_nothing() -> None:
    bad = {"failed": True, "msg": "no"}
    upgrade = (
        ReportedUpgrade().begin(0).tell(1, outcomes=[bad, bad, {"skipped": True, "failed": True, "msg": "left out"}])
    )
    assert [failure.message for failure in upgrade.record.runs[0].failures] == ["no"]


def test_without_etcd_nothing_is_claimed_about_it() -> None:
    upgrade = (
        ReportedUpgrade().begin(0).tell(1, observed=[look(1, "777")], migration=migration(1)).tell(9, verified=True)
    )
    line = timeline(upgrade.record)
    assert heading(upgrade.record).badge == "Done, not proven from etcd"
    assert [claim.holds for claim in sentences.claims(upgrade.record, line) if "etcd" in claim.text] == [None]


def test_what_is_known_by_sampling_is_never_called_proven() -> None:
    """Behind one address, where samples show a restarted server as a different one."""

    def sampled(second: float, states: str, process: int) -> dict[str, Any]:
        text = json.dumps(look(second, states))
        for url in URLS.values():
            text = text.replace(f'"{url}"', f'"https://one.example.com#started-{process}-{url[-6]}"')
        sampling = {"connections": 30, "told_apart": 3, "servers": 3, "chance_missed": 1.6e-5}
        return {**json.loads(text), "proven_by": "sampling", "sampling": sampling}

    upgrade = ReportedUpgrade().tell(0, begin=True)
    upgrade.tell(1, during="check", observed=[sampled(1, "666", 1)])
    upgrade.tell(9, during="agreement", observed=[{**sampled(9, "777", 2), "history": [sampled(5, "766", 1)]}])
    upgrade.tell(12, during="migration", migration=migration(10))
    upgrade.tell(14, during="proof", observed=[sampled(14, "777", 2)], verified=True)
    line = timeline(upgrade.record)
    assert len(line.masters) == 3 and [end - start for start, end in line.mixed] == [4.0]
    found = sentences.claims(upgrade.record, line)
    assert not [claim.text for claim in found if claim.holds is False]
    about = [claim for claim in found if "API server" in claim.text]
    assert len(about) == 2 and {claim.holds for claim in about} == {None}
    assert "by sampling only" in about[1].text and "3 API servers distinguished" in about[1].text
    told = heading(upgrade.record)
    assert told.tone == "fair" and "as far as sampling can tell (30 fresh connections" in told.sentence
    upgrade.tell(20, during="proof", observed=[sampled(20, "777", 2)], stored_after=stored("v1"), verified=True)
    assert heading(upgrade.record).badge == "Done, with reservations"
    assert "by sampling only" in " ".join(Reader(page(upgrade.record, "r.json")).text.split())


def test_agreement_that_was_not_cross_checked_is_never_called_proven() -> None:
    """Issue 13, number 3."""
    unchecked = {"cross_checked": False, "unchecked_reason": "the user cannot list leases in kube-system"}
    upgrade = ReportedUpgrade().begin(0).tell(1, observed=[look(1, "777")], migration=migration(1))
    upgrade.tell(9, observed=[look(9, "777", **unchecked)], stored_after=stored("example.com/v1"), verified=True)
    told = heading(upgrade.record)
    assert told.badge == "Done, with reservations" and "not cross-checked" in told.sentence
    (claim,) = [
        claim for claim in sentences.claims(upgrade.record, timeline(upgrade.record)) if "cross-checked" in claim.text
    ]
    assert claim.holds is None and "because the user cannot list leases" in claim.text
    # A result that doesn't say whether it was is none that was.
    silent = {key: value for key, value in look(19, "777").items() if key != "cross_checked"}
    upgrade.tell(19, observed=[silent], stored_after=stored("example.com/v1"), verified=True)
    assert heading(upgrade.record).badge == "Done, with reservations"


def test_what_is_not_so_is_never_green() -> None:
    """Number 12. Two runs wrote into one report, and each upgraded masters."""
    upgrade = ReportedUpgrade().begin(0).tell(1, observed=[look(1, "666")], stored_before=stored("example.com/v1beta1"))
    upgrade.step(2, "alpha", "running").step(3, "beta", "running").step(8, "alpha", "done").step(9, "beta", "done")
    upgrade.tell(20, observed=[look(20, "777")], migration=migration(12))
    upgrade.tell(30, observed=[look(30, "777")], stored_after=stored("example.com/v1"), verified=True)
    assert upgrade.record.proof.one_at_a_time is False
    text = " ".join(Reader(page(upgrade.record, "r.json")).text.split())
    assert "alpha and beta were being upgraded at the same time." in text
    assert "Done and proven" not in text and "Done, but something is wrong" in text


def test_after_an_interruption_nobody_knows_whether_there_were_two_at_a_time() -> None:
    """Number 19. The interrupted step may have continued after the next had begun."""
    upgrade = first_run_fails()
    upgrade.step(55, "gamma", "running")
    record = second_run_finishes(upgrade).record
    assert [step.state for step in record.steps].count("cut off") == 1
    assert record.proof.etcd is True and record.proof.one_at_a_time is None
    text = " ".join(Reader(page(record, "r.json")).text.split())
    assert "At no time were two masters being upgraded" not in text and "was interrupted" in text
    assert "unknown: the upgrade of gamma was interrupted, and its tasks may have continued" in text
    assert "Done and proven" not in text and "Done, with reservations" in text


def test_stale_objects_are_not_proof_from_etcd() -> None:
    upgrade = ReportedUpgrade().begin(0).tell(1, observed=[look(1, "777")], migration=migration(1))
    upgrade.tell(9, stored_after=stored("example.com/v1", stale=3), verified=True)
    assert upgrade.record.proof.etcd is False
    assert "Done and proven" not in Reader(page(upgrade.record, "r.json")).text


def test_what_etcd_cannot_show_is_named() -> None:
    etcd = stored("example.com/v1")
    etcd["totals"]["unprovable"] = 302
    etcd["unprovable_resources"] = {"odd": {"nothing_expected": 2}, "secrets": {"encrypted": 300}}
    upgrade = ReportedUpgrade().begin(0).tell(1, observed=[look(1, "777")], migration=migration(1))
    upgrade.tell(9, stored_after=etcd, verified=True)
    line = timeline(upgrade.record)
    assert heading(upgrade.record).badge == "Done, with reservations"
    told = [
        claim.text
        for claim in sentences.claims(upgrade.record, line)
        if claim.holds is None and claim.text.startswith("The version of ")
    ]
    assert told == ["The version of 302 objects in etcd is unknown: 300 secrets (encrypted), 2 odd (nothing expected)."]


def test_no_secret_and_no_option_gets_in() -> None:
    invocation = {"module_args": {"api_key": "s3cret", "client_key": "s3cret"}}
    result = look(1, "666", invocation=invocation)
    result["servers"][0]["token"] = "s3cret"
    etcd = stored("example.com/v1")
    etcd["resources"]["secrets"]["samples"] = etcd["resources"]["secrets"]["stored"][0]["samples"] = [
        "/registry/s3cret"
    ]
    moved = migration(2, [failure()], invocation=invocation)
    moved["failures"][0]["value"] = "s3cret"
    upgrade = ReportedUpgrade().begin(0)
    upgrade.tell(
        3, observed=[result], stored_before=etcd, stored_after=etcd, migration=moved, outcomes=[{"x": "s3cret"}]
    )
    assert "s3cret" not in json.dumps(as_json(upgrade.record)) and "s3cret" not in page(upgrade.record, "r.json")


def verify_alone(states: str, **news: Any) -> ReportedUpgrade:
    """The entry point verify, or --start-at-task: the role finishes without having done anything."""
    return ReportedUpgrade().tell(1, during="proof", observed=[look(1, states)], verified=True, **news)


def test_nothing_is_done_while_masters_are_behind() -> None:
    for states in ("666", "766", "77x"):
        upgrade = verify_alone(states, stored_after=stored("example.com/v1"), migration=migration(1))
        assert upgrade.record.status == "unfinished" and upgrade.record.proof is None
        text = " ".join(Reader(page(upgrade.record, "r.json")).text.split())
        assert "Done" not in text and "Not finished" in text and "All masters are ready at 1.37: " in text


def test_nothing_is_done_if_nobody_checked() -> None:
    assert heading(ReportedUpgrade().tell(1, migration=migration(1), verified=True).record).badge == "Not finished"


def test_without_etcd_every_object_was_visited_only_by_a_run_that_visited_them() -> None:
    upgrade = verify_alone("777")
    assert heading(upgrade.record).badge == "Not finished" and upgrade.record.status == "unfinished"
    assert "was visited" not in page(upgrade.record, "r.json")
    visited = verify_alone("777", migration=migration(1))
    assert heading(visited.record).badge == "Done, not proven from etcd"
    assert "was visited" in page(visited.record, "r.json")


def test_what_etcd_holds_is_proof_without_a_migration_on_record() -> None:
    upgrade = verify_alone("777", stored_after=stored("example.com/v1"))
    assert heading(upgrade.record).badge == "Done and proven"


def killed_while_migrating() -> ReportedUpgrade:
    """ansible-playbook is killed; the module that it had started continues and rewrites everything."""
    upgrade = ReportedUpgrade().begin(0).tell(1, observed=[look(1, "666")], stored_before=stored("example.com/v1beta1"))
    for number, name in enumerate(URLS):
        upgrade.step(10 * number + 2, name, "running").step(10 * number + 8, name, "done")
    return upgrade.tell(40, during="agreement", observed=[look(40, "777")])


def test_what_a_killed_run_rewrote_is_reported_as_etcd_shows_it() -> None:
    nothing = migration(610, rewritten=0, trimmed=[])
    nothing["totals"]["rewritten"] = nothing["resources"][THINGS]["rewritten"] = 0
    nothing["resources"][THINGS]["conflicts"] = 0
    upgrade = killed_while_migrating().begin(600).tell(605, observed=[look(605, "777")])
    upgrade.tell(615, migration=nothing)
    assert "an unknown number by an interrupted run" in sentences._rewritten_text(upgrade.record)
    upgrade.tell(620, observed=[look(620, "777")], stored_after=stored("example.com/v1"), verified=True)
    told = heading(upgrade.record)
    assert told.badge == "Done and proven"
    assert "0 objects rewritten, and 40 by an interrupted run; etcd was read" in told.sentence
    text = " ".join(Reader(page(upgrade.record, "r.json")).text.split())
    assert "40 objects were rewritten by an interrupted run, as etcd shows" in text and "40 → 0" in text


def test_a_run_interrupted_before_it_could_migrate_rewrote_nothing() -> None:
    upgrade = second_run_finishes(
        ReportedUpgrade().begin(0).tell(1, observed=[look(1, "666")]).step(2, "alpha", "running")
    )
    assert upgrade.record.runs[0].status == "cut off"
    assert "by an interrupted run" not in heading(upgrade.record).sentence


def test_an_interrupted_step_that_continued_is_shown_as_completed_later() -> None:
    upgrade = ReportedUpgrade().begin(0).tell(1, observed=[look(1, "666")]).step(2, "alpha", "running")
    upgrade.begin(600)
    assert upgrade.record.steps[0].state == "cut off" and upgrade.record.steps[0].completed is None
    upgrade.tell(601, observed=[look(601, "766")])
    assert upgrade.record.steps[0].completed == at(601)
    assert "interrupted, 12:00:02 to 12:00:02, completed later: seen at the release at 12:10:01" in page(
        upgrade.record, "r.json"
    )
    assert sentences.one_at_a_time(upgrade.record)[0] is True, "no other step began before it was seen"
    upgrade.step(610, "beta", "running").step(615, "beta", "done", observed=[look(615, "776")])
    assert sentences.one_at_a_time(upgrade.record)[0] is True


def test_an_interrupted_step_may_have_continued_during_the_next() -> None:
    upgrade = ReportedUpgrade().begin(0).tell(1, observed=[look(1, "666")]).step(2, "alpha", "running").begin(600)
    upgrade.step(610, "beta", "running").step(615, "beta", "done", observed=[look(615, "776")])
    assert upgrade.record.steps[0].completed == at(615) and sentences.one_at_a_time(upgrade.record)[0] is None


def test_a_release_that_is_emulated_is_the_one_that_counts() -> None:
    def emulating(second: float) -> dict[str, Any]:
        result = look(second, "777")
        for server in result["servers"]:
            server["emulated_version"] = "1.36"
        return result

    assert not timeline(ReportedUpgrade().tell(1, observed=[emulating(1)]).record).masters[0].at_target
    upgrade = ReportedUpgrade("1.36.4").tell(1, observed=[emulating(1)])
    assert timeline(upgrade.record).masters[0].at_target and upgrade.record.observations[0].servers[0].version == "1.36"


def test_nothing_in_a_record_steers_a_terminal() -> None:
    upgrade = (
        ReportedUpgrade()
        .begin(0)
        .tell(1, outcomes=[{"failed": True, "msg": "denied \x1b[2J via http://me:s3cret@proxy"}])
    )
    assert upgrade.record.runs[0].failures[0].message == "denied  via http://me:***@proxy"


HOSTILE = "\x1b[2J\x1b]0;title\x07\x9b1m\u202e http://me:s3c/ret@proxy"


def hostile(value: Any, name: str = "") -> Any:
    """The same result, in which each text of a server or user goes on with what a terminal obeys, and a password."""
    if isinstance(value, dict):
        foreign = {key: f"{key}{HOSTILE}" for key in (THINGS, "secrets", *URLS.values())}
        return {foreign.get(key, key): hostile(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item, name) for item in value]
    return value + HOSTILE if isinstance(value, str) and name not in ("observed_at", "started", "at") else value


def test_whatever_servers_say_a_record_and_its_page_stay_clean() -> None:
    """Issue 13, number 14."""
    looks = [hostile(look(1, "67x")), hostile(look(2, "777"))]
    moved = hostile(migration(3, [failure(message="denied the request"), failure(name="thing-2")]))
    found = hostile(stored("example.com/v1", stale=3))
    upgrade = ReportedUpgrade().begin(0).tell(1, observed=looks, stored_before=found)
    upgrade.tell(4, migration=moved, stored_after=found, outcomes=[{"failed": True, "msg": "no" + HOSTILE}])
    data, html = json.dumps(as_json(upgrade.record), ensure_ascii=False), page(upgrade.record, "r.json")
    for text in (data, html):
        assert "thing-2" in text, "it is told"
        for part in ("s3c", "\x1b", "\x07", "\x9b", "\u202e"):
            assert part not in text, (part, text[max(0, text.find(part) - 200) : text.find(part) + 50])


# What it means


def test_downtime_is_an_upper_bound() -> None:
    line = timeline(second_run_finishes(first_run_fails()).record)
    alpha, beta, gamma = line.masters
    assert alpha.away == pytest.approx(10), "from the start of its upgrade to the first check that found it ready"
    # 581: from the start of the upgrade that failed to the check of the second run; 9: its second upgrade.
    assert beta.away == pytest.approx(581 + 9)
    assert gamma.away == pytest.approx(9)
    assert [band.state for band in alpha.bands] == ["old", "upgrading", "down", "new", "new"]


def test_a_master_that_is_still_down() -> None:
    line = timeline(first_run_fails().record)
    assert [master.still_down for master in line.masters] == [False, True, False]
    assert line.masters[1].bands[-1].state == "down"
    assert line.masters[1].away == pytest.approx(29)


def test_storage_versions_by_master() -> None:
    line = timeline(second_run_finishes(first_run_fails()).record)
    change = line.changes[0]
    start = line.spans[0][0]
    assert (change.resource, change.before, change.after) == (THINGS, "v1beta1", "v1")
    since = [round((change.since[URLS[name]] or 0) - start) for name in ("alpha", "beta", "gamma")]
    assert since == [15, 614, 629]
    assert [(part.done, part.total) for part in line.masters[0].storing] == [(0, 1), (1, 1), (1, 1)]


def test_stored_before_is_old_by_what_is_written_at_the_end() -> None:
    record = second_run_finishes(first_run_fails()).record
    rows = stored_rows(record, timeline(record).changes)
    assert (rows[0].resource, rows[0].stale_before, rows[0].stale_after) == (THINGS, 40, 0)
    assert rows[0].before and rows[0].before[0].label == "v1beta1" and rows[0].before[0].stale
    half = first_run_fails().record
    assert stored_rows(half, timeline(half).changes)[0].stale_before == 40, "known from what alpha stores"


@pytest.mark.parametrize(
    ("length", "text"),
    [(0, "0.0 s"), (4.25, "4.2 s"), (43.4, "43 s"), (60, "1 min"), (125, "2 min 5 s"), (11400, "3 h 10 min"), (9e5, "10 days")],
)  # fmt: skip
def test_durations(length: float, text: str) -> None:
    assert time_taken(length) == text


@pytest.mark.parametrize(
    ("message", "status", "says"),
    [
        ('admission webhook "x" denied the request', 403, "refuses the object"),
        ('things.example.com is forbidden: User "u" cannot patch', 403, "lacks permissions"),
        ("failed calling webhook: connection refused", 500, "does not answer"),
        ("conversion webhook for things failed", 500, "conversion webhook"),
        ('no kind "Thing" is registered', 500, "can't read"),
        ("spec.x: Required value", 422, "validation"),
        ("etcdserver: request is too large", 500, "smaller"),
        ("timeout", 0, "fewer workers"),
    ],
)
def test_hints(message: str, status: int, says: str) -> None:
    assert says in sentences.hint(FailedObject(THINGS, "default", "thing-1", "Forbidden", message, status))


# Charts


@pytest.mark.parametrize("width", [charts.WIDE, charts.NARROW])
def test_shapes_lie_within_the_chart(width: float) -> None:
    for upgrade in (
        ReportedUpgrade().begin(0).tell(1, observed=[look(1, "666")]),
        first_run_fails(),
        second_run_finishes(first_run_fails()),
    ):
        line = timeline(upgrade.record)
        drawn = [charts.masters_chart(line, width)]
        drawn += [charts.rewritten_chart(moved, width) for moved in upgrade.record.migrations]
        found = charts.stored_chart(stored_rows(upgrade.record, line.changes), width)
        for chart in [*drawn, *([found] if found else [])]:
            for box in chart.boxes:
                assert -0.1 <= box.x and box.x + box.width <= width + 0.5 and box.y + box.height <= chart.height
            for text in chart.labels:
                size = len(text.text) * 5.5
                left = text.x - {"start": 0, "middle": size / 2, "end": size}[text.anchor]
                assert left >= -2 and left + size <= width + 4, text
                assert text.y <= chart.height


def test_time_between_runs_takes_no_space() -> None:
    line = timeline(second_run_finishes(first_run_fails()).record)
    scale = charts.Scale(line.spans, 100, 900)
    first, second = line.spans
    assert scale.x(first[0]) == 100 and scale.x(second[1]) == pytest.approx(900)
    assert scale.x(second[0]) - scale.x(first[1]) == pytest.approx(34)
    assert any("between two runs" in (line.title or "") for line in charts.masters_chart(line, 960).lines)


def test_areas_end_at_what_was_rewritten() -> None:
    chart = charts.rewritten_chart(ReportedUpgrade().tell(1, migration=migration(1)).record.migrations[0], 960)
    assert [line.title for line in chart.lines if "area" in line.look] == [f"{THINGS}: 40 rewritten"]
    assert "40 " + THINGS in chart.description


# The page


def test_the_page_needs_nothing_and_can_be_read_by_all() -> None:
    reader = Reader(page(second_run_finishes(first_run_fails()).record, "report.json"))
    names = {tag for tag, _attributes in reader.tags}
    assert not names & {"script", "img", "iframe", "object", "form"}
    for tag, attributes in reader.tags:
        for name in ("src", "href"):
            assert attributes.get(name) in (None, "data:,", "#main", "report.json"), (tag, attributes)
        if tag == "svg":
            assert attributes["role"] == "img" and attributes["aria-labelledby"]
        if tag == "th":
            assert attributes.get("scope") in ("row", "col")
        if tag == "div" and attributes.get("class") == "scroll":
            assert attributes["tabindex"] == "0" and attributes["aria-label"]
        assert not [name for name in attributes if name.startswith("on")]
    identities = [attributes["id"] for _tag, attributes in reader.tags if "id" in attributes]
    assert len(identities) == len(set(identities))
    assert names >= {"main", "header", "footer", "caption", "title", "desc"}
    assert dict(reader.tags)["html"] == {"lang": "en"}


def test_all_text_is_escaped() -> None:
    nasty = '"><script>alert(1)</script>&'
    bad = failure(name=nasty, message=nasty, reason=nasty, namespace=nasty)
    upgrade = ReportedUpgrade(version=nasty)
    upgrade.tell(0, begin=True, masters={nasty: "10.0.0.11"})
    observed = look(1, "6x6")
    for server in observed["servers"]:
        server.update(name=nasty, error=server["error"] and nasty)
    observed["disagreements"] = [{"resource": nasty, "by_server": {URLS["alpha"]: {"storage_version": nasty}}}]
    observed["resources"][nasty + "2"] = {"storage_version": nasty}
    etcd = stored(nasty)
    etcd["resources"][nasty] = etcd["resources"].pop(THINGS)
    etcd["problems"] = [nasty]
    moved = migration(2, [bad])
    moved["resources"][nasty] = moved["resources"].pop(THINGS)
    moved["history"]["samples"] = []
    moved["trimmed"] = [{"crd": nasty, "before": [nasty], "after": [nasty]}]
    moved["skipped_resources"] = [{"resource": nasty, "reason": nasty}]
    stopped = {"failed": True, "msg": nasty}
    upgrade.tell(
        3, observed=[observed], stored_before=stored("v0"), stored_after=etcd, migration=moved, outcomes=[stopped]
    )
    upgrade.tell(4, host=nasty, outcomes=[stopped])
    text = page(upgrade.record, nasty)
    assert "<script" not in text.lower()
    reader = Reader(text)
    assert reader.text.count("<script>alert(1)</script>") > 10
    assert "script" not in {tag for tag, _attributes in reader.tags}


@pytest.mark.parametrize("version", ["1.37", None])
def test_any_stage_can_be_shown(version: str | None) -> None:
    """Also the first moment, when nothing is known, and a report of a migration alone."""
    upgrade = ReportedUpgrade(version)
    assert "In progress" in Reader(page(upgrade.tell(0, end=False, observed=[]).record, "r.json")).text
    upgrade.tell(1, observed=[look(1, "777")])
    page(upgrade.record, "r.json")
    upgrade.tell(5, migration={**migration(2), "resources": {}, "history": None})
    page(upgrade.record, "r.json")
    upgrade.tell(6, end=True)
    assert "Not finished" in page(upgrade.record, "r.json")


def test_what_could_not_be_counted_is_unknown_and_not_nothing() -> None:
    """A controller rewrote what the user cannot list."""
    made = migration(1)
    nulls = dict.fromkeys(("rewritten", "unchanged", "conflicts", "deleted", "pruned"))
    made.update(nulls, totals={**made["totals"], **nulls}, history=None)
    made["resources"][THINGS].update(nulls)
    upgrade = ReportedUpgrade().begin(0).tell(1, observed=[look(1, "777")], migration=made).tell(9, verified=True)
    row = next(row for row in resource_rows(upgrade.record) if row.resource == THINGS)
    assert row.rewritten is None and row.failed == 0
    assert "an unknown number of objects rewritten" in heading(upgrade.record).sentence
    shown = Reader(page(upgrade.record, "r.json")).text
    assert "they could not be counted" in shown and "Nothing was stale" not in shown
    assert "1 resource in which nothing was stale" in shown


def test_what_is_uncertain_has_a_column_where_there_is_any() -> None:
    made, certain = migration(1), migration(1)
    made["resources"][THINGS]["uncertain"], made["resources"]["secrets"]["uncertain"] = 7, 0
    for result, told in ((made, True), (certain, False)):
        upgrade = (
            ReportedUpgrade().begin(0).tell(1, observed=[look(1, "777")], migration=result).tell(2, migration=result)
        )
        row = next(row for row in resource_rows(upgrade.record) if row.resource == THINGS)
        assert row.uncertain == (14 if told else None)
        assert ("Uncertain" in Reader(page(upgrade.record, "r.json")).text) is told


# Files


@pytest.mark.parametrize(
    ("path", "html", "data"),
    [
        ("r.html", "r.html", "r.json"),
        ("r.json", "r.html", "r.json"),
        ("r", "r.html", "r.json"),
        ("upgrade-1.37", "upgrade-1.37.html", "upgrade-1.37.json"),
    ],
)
def test_names_of_the_two_files(path: str, html: str, data: str, tmp_path: Path) -> None:
    files = ReportFiles(str(tmp_path / path))
    assert (files.html.name, files.json.name) == (html, data)


def test_a_report_of_check_mode_is_written_beside_it(tmp_path: Path) -> None:
    files = ReportFiles(str(tmp_path / "r.htm"), check_mode=True)
    assert (files.html.name, files.json.name) == ("r-check-mode.htm", "r-check-mode.json")


def test_a_report_needs_room_for_the_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 15, number 5: before the first master is touched, not halfway through."""
    files = ReportFiles(str(tmp_path / "r"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: (100 << 20, 99 << 20, 1 << 20))
    for told in ({"version": "1.37"}, news(begin=True)):
        with pytest.raises(BadInputError, match="has 1 MiB free, and the report may need 16 MiB; free space there"):
            keep(files, told, at(1))
    assert list(tmp_path.iterdir()) == []
    keep(files, news(), at(1))
    assert files.json.exists(), "once the run has begun, as much as possible is reported"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="name a file in it"):
        ReportFiles(str(tmp_path))


def news(**more: Any) -> dict[str, Any]:
    return {"version": "1.37", "host": "alpha", "observed": [look(1, "666")], **more}


def test_without_news_nothing_is_written(tmp_path: Path) -> None:
    files = ReportFiles(str(tmp_path / "r"))
    assert keep(files, {"version": "1.37", "host": "alpha", "begin": False}, at(0))["status"] is None
    assert list(tmp_path.iterdir()) == []


def test_a_report_of_another_release_is_archived(tmp_path: Path) -> None:
    files = ReportFiles(str(tmp_path / "r.html"))
    keep(files, news(stored_before=stored("example.com/v1")), at(1))
    assert keep(files, news(version="v1.37"), at(2))["archived"] is None, "the same release in other words"
    found = keep(files, {"version": "1.38", "host": "a"}, at(3))
    assert found["stored_before_found"] is False
    moved = Path(str(keep(files, news(version="1.38"), at(4))["archived"]))
    assert moved.name == "r-1.37-2026-11-24T12-00-04.json" and moved.with_suffix(".html").exists()
    assert json.loads(moved.read_text())["version"] == "1.37"
    assert json.loads(files.json.read_text())["version"] == "1.38"
    # A migration alone names no release: it continues with what is there.
    assert keep(files, news(version=None), at(5))["archived"] is None


def test_an_archived_page_keeps_its_own_json(tmp_path: Path) -> None:
    """Its link led to the report that followed, maybe of another cluster."""
    files = ReportFiles(str(tmp_path / "r & s.html"))
    keep(files, news(), at(1))
    moved = [Path(str(keep(files, news(version=version), at(2))["archived"])) for version in ("1.38", "1.37", "1.38")]
    assert len(set(moved)) == 3, "one of the same second was lost"
    for archived in moved:
        links = re.findall(r'<a href="([^"#]+[.]json)">', archived.with_suffix(".html").read_text(encoding="utf-8"))
        assert [unquote(link) for link in links] == [archived.name]
    assert "r%20%26%20s.json" in files.html.read_text(encoding="utf-8")


def seen_in(uid: str | None, second: float = 0) -> dict[str, Any]:
    return look(second, "666", cluster={"name": None, "context": "c", "server": "https://x", "uid": uid})


@pytest.mark.parametrize(
    ("known", "told", "another"),
    [
        ({"cluster_uid": "p"}, {"cluster_uid": "l"}, True),
        ({"cluster_uid": "p"}, {"observed": [seen_in("l")]}, True),
        ({"observed": [seen_in("p")]}, {"cluster_uid": "p"}, False),
        ({"cluster_uid": "p", "cluster_name": "paris"}, {"cluster_uid": "p", "cluster_name": "Paris"}, False),
        ({"cluster_uid": "p"}, {"observed": [seen_in(None)]}, False),
        ({"cluster_name": "paris"}, {"cluster_uid": "l", "cluster_name": "lima"}, True),
        ({"cluster_name": "paris"}, {"cluster_uid": "p"}, False),
        ({"masters": {"paris-1": ""}}, {"masters": {"lima-1": ""}}, True),
        ({"masters": {"m-1": "", "m-2": ""}}, {"masters": {"m-2": "", "m-3": ""}}, False),
        ({"masters": {"paris-1": ""}}, {"masters": {}}, False),
    ],
)
def test_a_report_of_another_cluster_is_archived(
    tmp_path: Path, known: dict[str, Any], told: dict[str, Any], another: bool
) -> None:
    """Its masters, steps and what its etcd held were taken for those of the second cluster."""
    files = ReportFiles(str(tmp_path / "r.html"))
    first = {"version": "1.37", "begin": True, "stored_before": stored("example.com/v1"), **known}
    assert keep(files, first, at(1))["archived"] is None
    asked = {name: value for name, value in told.items() if name != "observed"}
    if asked == told:
        assert keep(files, {"version": "1.37", **asked}, at(2))["stored_before_found"] is not another
    found = keep(files, {"version": "1.37", "begin": True, **told}, at(3))
    assert bool(found["archived"]) is another
    record = files.read()
    assert isinstance(record, Record) and (record.stored.before is None) is another
    assert len(record.runs) == (1 if another else 2) and record.uid in ("p", "l", None)


RECORDS = Path(__file__).parent / "records"


@pytest.mark.parametrize("name", ["upgrade", "upgrade_failed", "key_rotation", "check", "audit"])
def test_records_of_earlier_releases_can_be_read_and_stay_unchanged(name: str) -> None:
    found = json.loads((RECORDS / f"{name}.json").read_text())
    record = read_record(found)
    assert as_json(record) == found
    assert page(record, "r.json")


def test_what_a_record_of_an_earlier_release_lacks_has_a_default() -> None:
    found = json.loads((RECORDS / "upgrade.json").read_text())
    for seen in found["observations"]:
        del seen["sampling"]
    for resource in found["stored"]["after"]["resources"].values():
        del resource["unprovable"]
    del found["kind"], found["proof"]["one_at_a_time"]
    record = read_record({**found, "what_nobody_knows": 1})
    assert record.kind == "upgrade" and page(record, "r.json")


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 2},
        {"kind": "other"},
        {"runs": None},
        {"runs": [{"started": "2026"}]},
        {"steps": {}},
        {"masters": [7]},
        {"version": 1.37},
        {"stored": []},
    ],
)
def test_a_damaged_record_is_archived(damage: dict[str, Any], tmp_path: Path) -> None:
    files = ReportFiles(str(tmp_path / "r.html"))
    files.json.write_text(json.dumps({**json.loads((RECORDS / "upgrade.json").read_text()), **damage}))
    keep(files, news(), at(1))
    assert [path.name for path in tmp_path.glob("r-unreadable*")] == ["r-unreadable-2026-11-24T12-00-01.json"]


def test_a_broken_file_is_archived(tmp_path: Path) -> None:
    files = ReportFiles(str(tmp_path / "r.html"))
    files.json.write_text("{ not json")
    keep(files, news(), at(1))
    assert [path.name for path in tmp_path.glob("r-unreadable*")] == ["r-unreadable-2026-11-24T12-00-01.json"]
    assert json.loads(files.json.read_text())["status"] == "running"


def test_hosts_that_write_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    def write(number: int) -> None:
        failed = {"failed": True, "msg": f"number {number}"}
        keep(ReportFiles(str(tmp_path / "r")), {"version": "1.37", "host": "h", "outcomes": [failed]}, at(number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = json.loads((tmp_path / "r.json").read_text())
    told = {failure["message"] for run in record["runs"] for failure in run["failures"]}
    assert told == {f"number {number}" for number in range(12)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "r.json"]
    assert not re.search(r"[0-7]{2}[4-7]$", oct((tmp_path / "r.html").stat().st_mode)[-3:]), "readable by others"
