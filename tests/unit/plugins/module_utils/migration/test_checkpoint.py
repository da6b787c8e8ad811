# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a resource counts as persisted, and what the next run finds."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    AlreadyRunningError,
    StateConflictError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.checkpoint import Checkpoint
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Selection, Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import FileStore
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.crd_identity import CrdIdentity
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.cross_check import CrossCheck
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource, ServerReport

NAME = "things.example.com"


def thing(hashed: str) -> ServedResource:
    verbs = frozenset({"list", "patch"})
    return ServedResource(NAME, "example.com", "things", "Thing", True, verbs, ("v1",), (hashed,))


def seen(*hashes: str) -> Observation:
    reports = [
        ServerReport(url=f"https://{i}", name=str(i), version="v1.37.2", ready=True, resources={NAME: thing(hashed)})
        for i, hashed in enumerate(hashes)
    ]
    return Observation(tuple(reports), cross=CrossCheck(None))


def finished(**changes: Any) -> ResourceRun:
    run = ResourceRun(Target(thing("h"), "example.com/v1", "selected"), "direct", started=1.0, finished=2.0, **changes)
    run.listed = True
    return run


class Book:
    """A checkpoint over a file, with one run in it."""

    def __init__(self, folder: Path, run: ResourceRun) -> None:
        self.path = folder / "state.json"
        self.runs = {run.target.name: run}
        self.checkpoint = Checkpoint(FileStore(self.path), State(), Selection("all"), self.runs)
        self.checkpoint.begin(self.runs)

    def saved(self) -> Any:
        asyncio.run(self.checkpoint.save(finished=True))
        return json.loads(self.path.read_text(encoding="utf-8"))


def test_persisted_only_after_the_last_object_and_with_all_agreeing(tmp_path: Path) -> None:
    checkpoint = Book(tmp_path, finished()).checkpoint
    assert checkpoint.mark_persisted(seen("h", "h"), 1.5) == [], (
        "the servers were asked before the last object was done"
    )
    assert checkpoint.mark_persisted(seen("h", "other"), 3.0) == []
    assert checkpoint.mark_persisted(seen("other", "other"), 3.0) == []
    assert checkpoint.mark_persisted(seen("h", "h"), 3.0) == [NAME]


def test_another_hash_during_a_run_spoils_the_proof(tmp_path: Path) -> None:
    checkpoint = Book(tmp_path, finished()).checkpoint
    checkpoint.observe(seen("h", "other").reports)
    assert checkpoint.mark_persisted(seen("h", "h"), 3.0) == []


def test_servers_that_disagreed_when_the_pass_began_spoil_it_too(tmp_path: Path) -> None:
    """Issue 11: with require_convergence: false."""
    book = Book(tmp_path, finished())
    book.checkpoint.observe(seen("h", "other").reports)
    book.checkpoint.begin([NAME])
    assert book.checkpoint.mark_persisted(seen("h", "h"), 3.0) == [] and book.checkpoint.is_foreign(NAME)
    book.checkpoint.observe(seen("h", "h").reports)
    book.checkpoint.begin([NAME])
    assert book.checkpoint.mark_persisted(seen("h", "h"), 3.0) == [NAME]


def test_progress_that_a_foreign_version_spoiled_is_not_resumed(tmp_path: Path) -> None:
    run = finished()
    run.finished, run.token = None, "page 2"
    book = Book(tmp_path, run)
    assert book.saved()["resources"][NAME]["progress"]["token"] == "page 2"
    book.checkpoint.observe(seen("h", "other").reports)
    assert book.saved()["resources"][NAME]["progress"]["token"] is None


def test_what_only_a_controller_reports_stays_unfinished(tmp_path: Path) -> None:
    """Issue 11: the next run must not take it for done, nor visit only what failed."""
    progress = Book(tmp_path, finished(unproven="only the controller reports it")).saved()["resources"][NAME][
        "progress"
    ]
    assert progress["listed"] is False and progress["token"] is None


def test_a_failure_or_unverified_writes_prove_nothing(tmp_path: Path) -> None:
    run = finished(verified=False)
    book = Book(tmp_path, run)
    assert book.checkpoint.mark_persisted(seen("h"), 3.0) == []
    run.verified = True
    assert book.checkpoint.mark_persisted(seen("h"), 3.0) == [NAME]
    gone = finished()
    gone.gone = True
    assert Book(tmp_path, gone).checkpoint.mark_persisted(seen("h"), 3.0) == []


def test_a_crd_is_done_when_it_is_trimmed(tmp_path: Path) -> None:
    book = Book(tmp_path, finished(crd=CrdIdentity("u", 4), trims=True))
    book.checkpoint.mark_persisted(seen("h"), 3.0)
    document = book.saved()
    assert document["resources"][NAME]["persisted"] == ["h"] and document["lastRun"]["done"] == []
    assert document["resources"][NAME]["progress"] == {
        "failed": [],
        "generation": 4,
        "hash": "h",
        "listed": True,
        "persisted": ["h"],
        "settled": True,
        "token": None,
        "uid": "u",
    }
    book.checkpoint.not_trimmed(NAME)
    assert book.saved()["resources"][NAME]["progress"]["listed"] is False, "all of it must be visited again"
    book.checkpoint.trimmed(NAME)
    document = book.saved()
    assert "progress" not in document["resources"][NAME] and document["lastRun"]["done"] == [NAME]


def test_what_others_wrote_into_the_record_is_kept(tmp_path: Path) -> None:
    """Issue 11, number 20: a baseline that somebody records in mid-run stays, and so does what the run did."""
    book = Book(tmp_path, finished())
    book.saved()
    other = FileStore(book.path)
    state = asyncio.run(other.load())
    recorded = state.record(seen("h").reports, {NAME: "example.com/v1"}, "2026-03-01T00:00:00Z")
    asyncio.run(other.save(recorded))
    book.checkpoint.mark_persisted(seen("h"), 3.0)
    document = book.saved()
    assert document["recordedAt"] == "2026-03-01T00:00:00Z"
    assert document["resources"][NAME]["persisted"] == ["h"] and document["lastRun"]["done"] == [NAME]
    with pytest.raises(StateConflictError, match="written by somebody else"):
        asyncio.run(other.save(recorded))


def test_nothing_is_saved_if_that_is_not_allowed(tmp_path: Path) -> None:
    """Issue 11, number 20."""

    async def refuse() -> None:
        raise AlreadyRunningError("another run")

    path = tmp_path / "state.json"
    checkpoint = Checkpoint(FileStore(path), State(), Selection("all"), {}, may_save=refuse)
    with pytest.raises(AlreadyRunningError):
        asyncio.run(checkpoint.save())
    assert not path.exists()


def test_what_was_done_before_an_unseen_restart_is_visited_again(tmp_path: Path) -> None:
    """Issue 11, number 5."""
    run = finished()
    book = Book(tmp_path, run)
    later = ResourceRun(Target(thing("h"), "example.com/v1", "selected"), "direct")
    book.checkpoint.mark_persisted(seen("h"), 3.0)
    assert book.saved()["resources"][NAME]["persisted"] == ["h"]
    book.checkpoint.doubt("it was restarted")
    assert book.checkpoint.done == [] and book.checkpoint.in_doubt == {NAME: "it was restarted"}
    assert book.checkpoint.mark_persisted(seen("h"), 4.0) == []
    document = book.saved()
    assert document["resources"][NAME]["persisted"] == [] and document["lastRun"]["done"] == []
    assert document["resources"][NAME]["progress"] == {"doubt": "it was restarted"}
    book.runs[later.target.name] = later
    book.checkpoint.begin([later.target.name])
    assert book.checkpoint.in_doubt == {}
    book.checkpoint.doubt("before it began")
    assert book.checkpoint.in_doubt == {}, "nothing was visited yet"
    later.started, later.finished, later.listed = 5.0, 6.0, True
    assert book.checkpoint.mark_persisted(seen("h"), 7.0) == [NAME]
    assert book.saved()["resources"][NAME]["persisted"] == ["h"]


def test_a_run_that_resumes_another_is_in_doubt_before_it_begins(tmp_path: Path) -> None:
    """Issue 11, number 5."""
    run = ResourceRun(Target(thing("h"), "example.com/v1", "goes on", token="t", resumed=True), "direct")
    book = Book(tmp_path, run)
    book.checkpoint.doubt("it was restarted")
    assert book.checkpoint.in_doubt == {NAME: "it was restarted"}
