# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a resource counts as persisted, and what the next run finds."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engine import ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.ledger import Ledger
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Selection, Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state_store import FileStore
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import ServedResource, ServerReport

NAME = "things.example.com"


def thing(hashed: str) -> ServedResource:
    verbs = frozenset({"list", "patch"})
    return ServedResource(NAME, "example.com", "things", "Thing", True, verbs, ("v1",), (hashed,))


def seen(*hashes: str) -> Observation:
    reports = [
        ServerReport(url=f"https://{i}", name=str(i), version="v1.37.2", ready=True, resources={NAME: thing(hashed)})
        for i, hashed in enumerate(hashes)
    ]
    return Observation(tuple(reports))


def finished(**changes: Any) -> ResourceRun:
    run = ResourceRun(Target(thing("h"), "example.com/v1", "selected"), "direct", started=1.0, finished=2.0, **changes)
    run.listed = True
    return run


class Book:
    """A ledger over a file, with one run in it."""

    def __init__(self, folder: Path, run: ResourceRun) -> None:
        self.path = folder / "state.json"
        self.ledger = Ledger(FileStore(str(self.path)), State(), Selection("all"))
        self.ledger.begin([run])

    def saved(self) -> Any:
        asyncio.run(self.ledger.save(finished=True))
        return json.loads(self.path.read_text(encoding="utf-8"))


def test_persisted_only_after_the_last_object_and_with_all_agreeing(tmp_path: Path) -> None:
    ledger = Book(tmp_path, finished()).ledger
    assert ledger.settle(seen("h", "h"), 1.5) == [], "the servers were asked before the last object was done"
    assert ledger.settle(seen("h", "other"), 3.0) == []
    assert ledger.settle(seen("other", "other"), 3.0) == []
    assert ledger.settle(seen("h", "h"), 3.0) == [NAME]


def test_another_hash_in_mid_run_spoils_the_proof(tmp_path: Path) -> None:
    ledger = Book(tmp_path, finished()).ledger
    ledger.observe(seen("h", "other").reports)
    assert ledger.settle(seen("h", "h"), 3.0) == []


def test_a_failure_or_writes_not_yet_verified_are_no_proof(tmp_path: Path) -> None:
    run = finished(verified=False)
    book = Book(tmp_path, run)
    assert book.ledger.settle(seen("h"), 3.0) == []
    run.verified = True
    assert book.ledger.settle(seen("h"), 3.0) == [NAME]
    gone = finished()
    gone.gone = True
    assert Book(tmp_path, gone).ledger.settle(seen("h"), 3.0) == []


def test_a_crd_is_done_when_it_is_trimmed(tmp_path: Path) -> None:
    book = Book(tmp_path, finished(generation=4))
    book.ledger.settle(seen("h"), 3.0)
    document = book.saved()
    assert document["resources"][NAME]["persisted"] == ["h"] and document["lastRun"]["done"] == []
    assert document["resources"][NAME]["progress"] == {
        "failed": [],
        "generation": 4,
        "hash": "h",
        "listed": True,
        "persisted": ["h"],
        "token": None,
    }
    book.ledger.not_trimmed(NAME)
    assert book.saved()["resources"][NAME]["progress"]["listed"] is False, "all of it must be visited again"
    book.ledger.trimmed(NAME)
    document = book.saved()
    assert "progress" not in document["resources"][NAME] and document["lastRun"]["done"] == [NAME]
