# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report import pictures, words
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.files import ReportFiles
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.keep import keep
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.page import page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import at_release
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.story import (
    duration,
    open_failures,
    resource_rows,
    stored_rows,
    timeline,
)
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.report_data import (
    THINGS,
    URLS,
    Story,
    at,
    failure,
    first_run_fails,
    look,
    migration,
    second_run_finishes,
    stored,
)


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


def test_a_run_that_failed_is_told_with_what_stands_and_what_to_do() -> None:
    story = first_run_fails()
    assert story.record["status"] == "failed"
    line = timeline(story.record)
    assert words.heading(story.record, line).badge == "Stopped"
    assert words.standing(story.record, line) == [
        "alpha is ready at v1.37.2.",
        "beta is down (its upgrade was begun).",
        "gamma is ready at v1.36.4, not upgraded yet.",
    ]
    to_do = " ".join(words.to_do(story.record, line))
    assert f"Bring beta ({URLS['beta']}) back" in to_do and "Run the same playbook again" in to_do
    text = Reader(page(story.record, "report.json")).text
    assert "beta did not come through its upgrade to 1.37." in text


def test_a_second_run_goes_on_and_keeps_what_the_first_saw() -> None:
    story = second_run_finishes(first_run_fails())
    record = story.record
    assert [run["status"] for run in record["runs"]] == ["failed", "succeeded"]
    assert [(step["master"], step["state"]) for step in record["steps"]] == [
        ("alpha", "done"),
        ("beta", "failed"),
        ("beta", "done"),
        ("gamma", "done"),
    ]
    assert record["stored"]["before"]["resources"][THINGS]["expected"] == "example.com/v1beta1"
    line = timeline(record)
    assert len(line.spans) == 2 and line.mixed == [(line.spans[0][0] + 15, line.spans[0][0] + 629)]
    assert words.heading(record, line).badge == "Done and proven"
    assert words.to_do(record, line) == []
    assert not [claim.text for claim in words.claims(record, line) if claim.holds is False]


def test_stored_before_is_the_first_that_was_read() -> None:
    story = first_run_fails().begin(100).tell(101, stored_before=stored("example.com/v1"))
    assert story.record["stored"]["before"]["resources"][THINGS]["expected"] == "example.com/v1beta1"


def test_a_run_that_was_cut_off_is_told_as_such() -> None:
    story = Story().begin(0).step(1, "alpha", "running", observed=[look(1, "666")])
    assert words.heading(story.record, timeline(story.record)).tone == "open"
    story.begin(50)
    assert [run["status"] for run in story.record["runs"]] == ["cut off", "running"]
    assert story.record["steps"][0]["state"] == "cut off" and story.record["steps"][0]["finished"] == at(1)


def test_news_long_after_belongs_to_a_new_run_unless_a_master_is_being_upgraded() -> None:
    quiet = Story().begin(0).tell(5000, observed=[look(5000, "666")])
    assert len(quiet.record["runs"]) == 2
    busy = Story().begin(0).step(1, "alpha", "running").tell(5000, observed=[look(5000, "766")])
    assert len(busy.record["runs"]) == 1


def test_a_second_run_with_nothing_to_do_hides_nothing() -> None:
    story = second_run_finishes(first_run_fails())
    nothing = migration(710, rewritten=0, trimmed=[])
    nothing["totals"]["rewritten"] = nothing["resources"][THINGS]["rewritten"] = 0
    for second in (700, 800, 900):
        story.begin(second).tell(second + 1, migration=nothing).tell(second + 2, verified=True)
    assert [one["totals"]["rewritten"] for one in story.record["migrations"]] == [40, 0]
    assert resource_rows(story.record)[0]["rewritten"] == 40
    assert "40 rewritten" in page(story.record, "r.json")


def test_equal_looks_are_one_and_their_number_is_bounded() -> None:
    story = Story().begin(0)
    for second in range(1, 50):
        story.tell(second, observed=[look(second, "666")])
    assert [(one["first"], one["last"]) for one in story.record["observations"]] == [(at(1), at(49))]
    story.tell(999, observed=[look(second, "6x6" if second % 2 else "666") for second in range(100, 900)])
    assert len(story.record["observations"]) <= 500


def test_failures_of_a_resource_are_open_until_it_is_migrated_again() -> None:
    story = second_run_finishes(first_run_fails(), [failure()])
    assert [one["name"] for one in open_failures(story.record)] == ["thing-1"]
    assert story.record["status"] == "failed"
    line = timeline(story.record)
    assert "Mend the objects under Failures; each has a hint." in words.to_do(story.record, line)
    assert any(
        claim.holds is False and "could not be rewritten" in claim.text for claim in words.claims(story.record, line)
    )
    story.begin(700).tell(705, migration=migration(701))
    assert open_failures(story.record) == []


def test_what_failed_is_noted_once_and_skipped_tasks_tell_nothing() -> None:
    bad = {"failed": True, "msg": "no"}
    story = Story().begin(0).tell(1, outcomes=[bad, bad, {"skipped": True, "failed": True, "msg": "left out"}])
    assert [one["message"] for one in story.record["runs"][0]["failures"]] == ["no"]


def test_without_etcd_nothing_is_claimed_of_it() -> None:
    story = Story().begin(0).tell(1, observed=[look(1, "777")], migration=migration(1)).tell(9, verified=True)
    line = timeline(story.record)
    assert words.heading(story.record, line).badge == "Done, not proven from etcd"
    assert [claim.holds for claim in words.claims(story.record, line) if "etcd" in claim.text] == [None]


@pytest.mark.parametrize(
    ("version", "target", "there"),
    [("v1.37.2", "1.37", True), ("v1.37.2+rke2r1", "v1.37.2", True), ("v1.37.20", "1.37.2", False), (None, "1.37", False)],
)  # fmt: skip
def test_whether_a_server_is_at_a_release(version: str | None, target: str, there: bool) -> None:
    assert at_release(version, target) is there


def test_what_is_known_by_sampling_is_never_called_proven() -> None:
    """Behind one address, where a restarted server is another one to whoever takes samples."""

    def sampled(second: float, states: str, process: int) -> dict[str, Any]:
        text = json.dumps(look(second, states))
        for url in URLS.values():
            text = text.replace(f'"{url}"', f'"https://one.example.com#started-{process}-{url[-6]}"')
        sampling = {"connections": 30, "told_apart": 3, "servers": 3, "chance_missed": 1.6e-5}
        return {**json.loads(text), "proven_by": "sampling", "sampling": sampling}

    story = Story().tell(0, begin=True)
    story.tell(1, during="check", observed=[sampled(1, "666", 1)])
    story.tell(9, during="agreement", observed=[{**sampled(9, "777", 2), "history": [sampled(5, "766", 1)]}])
    story.tell(12, during="migration", migration=migration(10))
    story.tell(14, during="proof", observed=[sampled(14, "777", 2)], verified=True)
    line = timeline(story.record)
    assert len(line.masters) == 3 and [end - start for start, end in line.mixed] == [4.0]
    found = words.claims(story.record, line)
    assert not [claim.text for claim in found if claim.holds is False]
    about = [claim for claim in found if "API server" in claim.text]
    assert len(about) == 2 and {claim.holds for claim in about} == {None}
    assert "by sampling only" in about[1].text and "3 API servers told apart" in about[1].text
    heading = words.heading(story.record, line)
    assert heading.tone == "fair" and "as far as sampling can tell (30 fresh connections" in heading.sentence
    story.tell(20, during="proof", observed=[sampled(20, "777", 2)], stored_after=stored("v1"), verified=True)
    assert words.heading(story.record, timeline(story.record)).badge == "Done, with reservations"
    assert "by sampling only" in " ".join(Reader(page(story.record, "r.json")).text.split())


def test_what_etcd_cannot_tell_is_named() -> None:
    etcd = stored("example.com/v1")
    etcd["totals"]["unprovable"] = 302
    etcd["unprovable_resources"] = {"odd": {"nothing_expected": 2}, "secrets": {"encrypted": 300}}
    story = Story().begin(0).tell(1, observed=[look(1, "777")], migration=migration(1))
    story.tell(9, stored_after=etcd, verified=True)
    line = timeline(story.record)
    assert words.heading(story.record, line).badge == "Done, with reservations"
    told = [
        claim.text
        for claim in words.claims(story.record, line)
        if claim.holds is None and "can't be told" in claim.text
    ]
    assert told == [
        "Of 302 objects in etcd the version can't be told: 300 secrets (encrypted), 2 odd (nothing expected)."
    ]


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
    story = Story().begin(0)
    story.tell(3, observed=[result], stored_before=etcd, stored_after=etcd, migration=moved, outcomes=[{"x": "s3cret"}])
    assert "s3cret" not in json.dumps(story.record) and "s3cret" not in page(story.record, "r.json")


# What it means


def test_downtime_is_what_it_can_have_been_at_the_most() -> None:
    line = timeline(second_run_finishes(first_run_fails()).record)
    alpha, beta, gamma = line.masters
    assert alpha.away == pytest.approx(10), "from the start of its upgrade to the first look at which it was ready"
    # 581: from the start of the upgrade that failed to the look of the second run; 9: its second upgrade.
    assert beta.away == pytest.approx(581 + 9)
    assert gamma.away == pytest.approx(9)
    assert [band.state for band in alpha.bands] == ["old", "upgrading", "down", "new", "new"]


def test_a_master_that_is_still_down() -> None:
    line = timeline(first_run_fails().record)
    assert [one.still_down for one in line.masters] == [False, True, False]
    assert line.masters[1].bands[-1].state == "down"
    assert line.masters[1].away == pytest.approx(29)


def test_storage_versions_by_master() -> None:
    line = timeline(second_run_finishes(first_run_fails()).record)
    change = line.changes[0]
    start = line.spans[0][0]
    assert (change.resource, change.before, change.after) == (THINGS, "v1beta1", "v1")
    since = [round((change.since[URLS[name]] or 0) - start) for name in ("alpha", "beta", "gamma")]
    assert since == [15, 614, 629]
    assert [(part.done, part.total) for part in line.masters[0].progress] == [(0, 1), (1, 1), (1, 1)]


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
    assert duration(length) == text


@pytest.mark.parametrize(
    ("message", "status", "says"),
    [
        ('admission webhook "x" denied the request', 403, "refuses the object"),
        ('things.example.com is forbidden: User "u" cannot patch', 403, "lacks rights"),
        ("failed calling webhook: connection refused", 500, "does not answer"),
        ("conversion webhook for things failed", 500, "conversion webhook"),
        ('no kind "Thing" is registered', 500, "can't read"),
        ("spec.x: Required value", 422, "validation"),
        ("etcdserver: request is too large", 500, "smaller"),
        ("timeout", 0, "fewer workers"),
    ],
)
def test_hints(message: str, status: int, says: str) -> None:
    assert says in words.hint(failure(message=message, status=status))


# Pictures


@pytest.mark.parametrize("width", [pictures.WIDE, pictures.NARROW])
def test_shapes_lie_within_the_picture(width: float) -> None:
    for story in (
        Story().begin(0).tell(1, observed=[look(1, "666")]),
        first_run_fails(),
        second_run_finishes(first_run_fails()),
    ):
        line = timeline(story.record)
        drawn = [pictures.masters_picture(line, width)]
        drawn += [pictures.rewritten_picture(one, width) for one in story.record["migrations"]]
        found = pictures.stored_picture(stored_rows(story.record, line.changes), width)
        for picture in [*drawn, *([found] if found else [])]:
            for box in picture.boxes:
                assert -0.1 <= box.x and box.x + box.width <= width + 0.5 and box.y + box.height <= picture.height
            for text in picture.words:
                size = len(text.text) * 5.5
                left = text.x - {"start": 0, "middle": size / 2, "end": size}[text.anchor]
                assert left >= -2 and left + size <= width + 4, text
                assert text.y <= picture.height


def test_time_between_runs_takes_no_room() -> None:
    line = timeline(second_run_finishes(first_run_fails()).record)
    scale = pictures.Scale(line.spans, 100, 900)
    first, second = line.spans
    assert scale.x(first[0]) == 100 and scale.x(second[1]) == pytest.approx(900)
    assert scale.x(second[0]) - scale.x(first[1]) == pytest.approx(34)
    assert any("between two runs" in (line.title or "") for line in pictures.masters_picture(line, 960).lines)


def test_areas_end_at_what_was_rewritten() -> None:
    picture = pictures.rewritten_picture(Story().tell(1, migration=migration(1)).record["migrations"][0], 960)
    assert [one.title for one in picture.lines if "area" in one.look] == [f"{THINGS}: 40 rewritten"]
    assert "40 " + THINGS in picture.description


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
    story = Story(version=nasty)
    story.tell(0, begin=True, masters={nasty: "10.0.0.11"})
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
    story.tell(
        3, observed=[observed], stored_before=stored("v0"), stored_after=etcd, migration=moved, outcomes=[stopped]
    )
    story.tell(4, host=nasty, outcomes=[stopped])
    text = page(story.record, nasty)
    assert "<script" not in text.lower()
    reader = Reader(text)
    assert reader.text.count("<script>alert(1)</script>") > 10
    assert "script" not in {tag for tag, _attributes in reader.tags}


@pytest.mark.parametrize("version", ["1.37", None])
def test_any_stage_can_be_shown(version: str | None) -> None:
    """Also the first moment, when nothing is known, and a report of a migration alone."""
    story = Story(version)
    assert "Under way" in Reader(page(story.tell(0, end=False, observed=[]).record, "r.json")).text
    story.tell(1, observed=[look(1, "777")])
    page(story.record, "r.json")
    story.tell(5, migration={**migration(2), "resources": {}, "history": None})
    page(story.record, "r.json")
    story.tell(6, end=True)
    assert "Not finished" in page(story.record, "r.json")


def test_what_nobody_could_count_is_unknown_and_not_nothing() -> None:
    """A controller rewrote what the user may not list."""
    made = migration(1)
    nulls = dict.fromkeys(("rewritten", "unchanged", "conflicts", "deleted", "pruned"))
    made.update(nulls, totals={**made["totals"], **nulls}, history=None)
    made["resources"][THINGS].update(nulls)
    story = Story().begin(0).tell(1, observed=[look(1, "777")], migration=made).tell(9, verified=True)
    row = next(row for row in resource_rows(story.record) if row["resource"] == THINGS)
    assert row["rewritten"] is None and row["failed"] == 0
    assert "an unknown number of objects rewritten" in words.heading(story.record, timeline(story.record)).sentence
    shown = Reader(page(story.record, "r.json")).text
    assert "nobody could count them" in shown and "Nothing was stale" not in shown
    assert "1 resource in which nothing was stale" in shown


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


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="name a file in it"):
        ReportFiles(str(tmp_path))


def news(**more: Any) -> dict[str, Any]:
    return {"version": "1.37", "host": "alpha", "observed": [look(1, "666")], **more}


def test_without_news_nothing_is_written(tmp_path: Path) -> None:
    files = ReportFiles(str(tmp_path / "r"))
    assert keep(files, {"version": "1.37", "host": "alpha", "begin": False}, at(0))["status"] is None
    keep(files, news(), at(1), write=False)
    assert list(tmp_path.iterdir()) == []


def test_a_report_of_another_release_is_put_aside(tmp_path: Path) -> None:
    files = ReportFiles(str(tmp_path / "r.html"))
    keep(files, news(stored_before=stored("example.com/v1")), at(1))
    assert keep(files, news(version="v1.37"), at(2))["put_aside"] is None, "the same release in other words"
    found = keep(files, {"version": "1.38", "host": "a"}, at(3))
    assert found["stored_before_found"] is False
    moved = Path(str(keep(files, news(version="1.38"), at(4))["put_aside"]))
    assert moved.name == "r-1.37-2026-11-24T12-00-04.json" and moved.with_suffix(".html").exists()
    assert json.loads(moved.read_text())["version"] == "1.37"
    assert json.loads(files.json.read_text())["version"] == "1.38"
    # A migration alone names no release: it goes on with what is there.
    assert keep(files, news(version=None), at(5))["put_aside"] is None


def test_a_broken_file_is_put_aside(tmp_path: Path) -> None:
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
    told = {one["message"] for run in record["runs"] for one in run["failures"]}
    assert told == {f"number {number}" for number in range(12)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "r.json"]
    assert not re.search(r"[0-7]{2}[4-7]$", oct((tmp_path / "r.html").stat().st_mode)[-3:]), "readable by others"
