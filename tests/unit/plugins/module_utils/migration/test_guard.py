# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the guard reacts to restarts, and to checks that come too late (issue 11, number 5)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    NotConvergedError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import Cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration import guard as guard_module
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.checkpoint import Checkpoint
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.context import RunContext
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import Control, ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.choice import Choice, Chosen
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.endpoints import EndpointPool
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.guard import Guard
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.options import MigrateOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Plan, Selection, Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.result import MigrationResult
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import FileStore
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.cross_check import CrossCheck, Unlisted
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource, ServerReport
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.identity_leases import (
    Alive,
    Expired,
    IdentityLeases,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.processes import processes_of

NAME, URL = "things.example.com", "https://10.0.0.1:6443"
THING = ServedResource(NAME, "example.com", "things", "Thing", True, frozenset({"list", "patch"}), ("v1",), ("h",))


def seen(start: str | None, *, up: bool = True) -> Observation:
    report = ServerReport(url=URL, name=URL, version="v1.34.1", ready=True, resources={NAME: THING})
    if not up:
        report = ServerReport(url=URL, name=URL, error="It refuses connections.", down=True)
    return Observation(
        (report,), processes=processes_of([report], {URL: start}, IdentityLeases()), cross=CrossCheck(None)
    )


class Watched(Cluster):
    """A cluster of one server that reports what it is told to."""

    def __init__(self, first: Observation) -> None:
        self.looks_as = first
        self.takes = 0.0
        self.sampling = None

    async def observe(self) -> Observation:
        Clock.now += self.takes
        if not self.looks_as.reports:
            raise UnreachableError("It does not answer.", kind="refused")
        return self.looks_as

    def writers(self, seen: Observation) -> list[Any]:
        return []


class Clock:
    now = 100.0


class Case:
    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path, start: str | None, looked_ago: float = 0.0
    ) -> None:
        monkeypatch.setattr(guard_module, "boottime", lambda: Clock.now)
        self.cluster = Watched(seen(start))
        run = ResourceRun(Target(THING, "example.com/v1", "selected"), "direct", started=1.0, finished=2.0, listed=True)
        result = MigrationResult(Plan((run.target,), ()), runs={NAME: run})
        self.checkpoint = Checkpoint(FileStore(folder / "state.json"), State(), Selection(), result.runs)
        self.told: list[str] = []
        context = RunContext(
            options=MigrateOptions(),
            cluster=self.cluster,  # type: ignore[arg-type]
            chosen=Chosen(Choice("direct", "asked for")),
            control=Control(),
            checkpoint=self.checkpoint,
            result=result,
            lease=None,  # type: ignore[arg-type]
            report=self._tell,
        )
        self.guard = Guard(context, EndpointPool([], 8))
        self.guard.start(self.cluster.looks_as, Clock.now - looked_ago)

    def _tell(self, event: Event) -> None:
        self.told.append(event.message)

    def look(self, later: float, looks_as: Observation | None = None) -> dict[str, str]:
        Clock.now += later
        self.cluster.looks_as = looks_as or self.cluster.looks_as
        asyncio.run(self.guard.look())
        return self.checkpoint.in_doubt


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Case:
    return Case(monkeypatch, tmp_path, "1.0")


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Case:
    """Nothing identifies its process: an old release, or a user who may not ask."""
    return Case(monkeypatch, tmp_path, None)


@pytest.fixture(params=["1.0", None])
def any_case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Case:
    return Case(monkeypatch, tmp_path, request.param)


def test_the_same_process_in_time_is_not_a_doubt(any_case: Case) -> None:
    assert any_case.look(15) == {} and any_case.look(44) == {} and any_case.checkpoint.done == [NAME]


def test_another_process_revokes_what_was_proven(known: Case) -> None:
    assert known.look(15) == {} and known.checkpoint.done == [NAME]
    assert known.look(15, seen("2.0")) == {NAME: f"API server {URL} was restarted during the run"}
    assert known.checkpoint.done == [] and "is visited again" in known.told[-1]


def test_a_network_outage_is_not_a_restart_if_the_process_is_known(known: Case) -> None:
    assert known.look(15, seen("1.0", up=False)) == {} and known.look(15, seen("1.0")) == {}


def test_one_that_was_down_and_does_not_identify_its_process_may_be_another(hidden: Case) -> None:
    assert hidden.look(15, seen(None, up=False)) == {}
    assert "whether it was restarted is unknown" in hidden.look(15, seen(None))[NAME]


def test_another_release_is_another_process(hidden: Case) -> None:
    """Issue 11: it was away for less than the time between two glances."""
    newer = replace(hidden.cluster.looks_as.reports[0], version="v1.34.2")
    assert "was restarted during the run" in hidden.look(1, replace(hidden.cluster.looks_as, reports=(newer,)))[NAME]
    assert hidden.checkpoint.done == []


def test_a_check_that_comes_too_late(any_case: Case) -> None:
    assert any_case.guard.fresh
    Clock.now += 46
    assert not any_case.guard.fresh, "nothing may be written before the next check"
    assert "suspended or disconnected for 46 s" in any_case.look(0)[NAME]
    assert any_case.guard.fresh


def test_a_run_that_was_suspended_before_it_began(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Issue 11: between the observation that lets it begin and its first write."""
    late = Case(monkeypatch, tmp_path, None, looked_ago=60.0)
    assert not late.guard.fresh and "for 60 s, during which nobody watched" in late.look(0)[NAME]


def test_a_check_during_which_the_run_was_suspended(known: Case) -> None:
    known.cluster.takes = 60.0
    assert "suspended or disconnected for 60 s" in known.look(1)[NAME]


def test_a_failed_check_does_not_count(known: Case) -> None:
    assert known.look(30, Observation(())) == {}
    assert not known.guard.fresh or known.look(16, Observation(())) == {}
    assert not known.guard.fresh
    assert "suspended or disconnected" in known.look(1, seen("1.0"))[NAME]


# Servers that disagree


def torn(version: str = "v1.34.1") -> Observation:
    """Two servers that store things in different versions."""
    other = replace(THING, hashes=("g",))
    reports = (
        ServerReport(url=URL, name="a", version="v1.34.1", ready=True, resources={NAME: THING}),
        ServerReport(url="https://10.0.0.2:6443", name="b", version=version, ready=True, resources={NAME: other}),
    )
    return Observation(reports)


def test_writes_are_held_while_servers_disagree(known: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    control = known.guard._control
    writable: list[bool] = []

    async def sleep(_seconds: float) -> None:
        writable.append(control.writable)
        known.cluster.looks_as = seen("1.0")

    monkeypatch.setattr(asyncio, "sleep", sleep)
    known.look(1, torn())
    assert writable == [False] and control.writable and control.stopped is None
    assert known.told[0].startswith("Writes are held: ")


def test_a_disagreement_that_lasts_stops_the_run(known: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    now, waited = time.monotonic, 0.0

    async def sleep(seconds: float) -> None:
        nonlocal waited
        waited += seconds

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: now() + waited)
    known.look(1, torn())
    stopped = known.guard._control.stopped
    assert isinstance(stopped, NotConvergedError) and "no longer agree" in stopped.message
    assert 10 <= waited <= 12 and not known.guard._control.writable


def test_a_server_that_comes_back_at_another_version_stops_it_at_once(known: Case) -> None:
    known.look(1, torn("v1.35.0"))
    assert isinstance(known.guard._control.stopped, NotConvergedError)


# A server that died (issue 13, number 18)


def dying() -> Observation:
    """The servers agree, but one more has a fresh Lease and doesn't answer."""
    server = Alive("master-3", "10.0.0.3", "apiserver-3_1", 6443, "apiserver-3")
    cross = CrossCheck(None, unlisted=(Unlisted(server, "https://10.0.0.3:6443", error="It refuses connections."),))
    return replace(
        seen("1.0"), problems=tuple(cross.problems(1, "the EndpointSlice default/kubernetes lists")), cross=cross
    )


def buried() -> Observation:
    """The same when its Lease is no longer fresh."""
    server = dying().cross.unlisted[0].server
    return replace(seen("1.0"), cross=CrossCheck(None, gone=(Expired(server, 1.0),)))


class Waiting:
    def __init__(self, case: Case, monkeypatch: pytest.MonkeyPatch, after: float, then: Observation | None) -> None:
        now = time.monotonic
        self.waited = 0.0

        async def sleep(seconds: float) -> None:
            self.waited += seconds
            if then is not None and self.waited >= after:
                case.cluster.looks_as = then

        monkeypatch.setattr(asyncio, "sleep", sleep)
        monkeypatch.setattr(time, "monotonic", lambda: now() + self.waited)


def test_a_run_goes_on_without_a_server_that_died(known: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(known, monkeypatch, 35, buried())
    known.look(1, dying())
    assert known.guard._control.stopped is None and known.guard._control.writable and waiting.waited == 35
    held, died = known.told
    assert held.startswith("Writes are held: master-3 seems to have died")
    assert died.startswith("master-3 seems to have died") and "continued without it" in died
    assert known.guard._result.doubts == [died] and known.checkpoint.done == [NAME]
    known.look(1, buried())
    assert known.told == [held, died], "it is said once"


def test_a_server_that_renews_its_lease_but_does_not_answer_stops_the_run(
    known: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Waiting(known, monkeypatch, 0, None)
    known.look(1, dying())
    stopped = known.guard._control.stopped
    assert isinstance(stopped, NotConvergedError) and "master-3 seems to have died" in stopped.message
    assert 60 <= waiting.waited <= 62 and known.checkpoint.done == []


def test_a_server_that_is_only_restarted_may_be_listed_a_moment_later(
    known: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Waiting(known, monkeypatch, 45, seen("1.0"))
    unlisted = replace(dying().cross.unlisted[0], error=None, version="v1.34.1")
    cross = CrossCheck(None, living=(unlisted.server,), unlisted=(unlisted,))
    back = replace(dying(), cross=cross, problems=("It is back, but not listed.",))
    observe = known.cluster.observe

    async def in_turn() -> Observation:
        if 40 <= waiting.waited < 45:
            known.cluster.looks_as = back
        return await observe()

    monkeypatch.setattr(known.cluster, "observe", in_turn)
    known.look(1, dying())
    assert known.guard._control.stopped is None and waiting.waited == 45 and known.guard._control.writable


def test_one_more_server_that_answers_stops_the_run_soon(known: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(known, monkeypatch, 0, None)
    unlisted = replace(dying().cross.unlisted[0], error=None, version="v1.36.5")
    cross = CrossCheck(None, living=(unlisted.server,), unlisted=(unlisted,))
    known.look(1, replace(dying(), cross=cross, problems=tuple(cross.problems(0, "the option servers names"))))
    assert known.guard._control.stopped is not None and waiting.waited <= 12
    assert "is at v1.36.5" in known.guard._control.stopped.message
