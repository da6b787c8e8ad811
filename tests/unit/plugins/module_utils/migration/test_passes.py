# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a pass leaves for the next one, and what the record may say meanwhile (issue 11)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    EtcdError,
    MigrationIncompleteError,
    NotConvergedError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration import passes as passes_module
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.checkpoint import Checkpoint
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import Control, ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import Outcome, Verdict
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.passes import Passes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import (
    ObjectKey,
    Plan,
    Selection,
    Target,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.result import MigrationResult
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.stale_objects import Left
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import ResourceState, State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import FileStore
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.crd_identity import CrdIdentity
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.cross_check import CrossCheck
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource, ServerReport

SECRETS = ServedResource("secrets", "", "secrets", "Secret", True, frozenset({"list", "patch"}), ("v1",), ("h",))
PODS = ServedResource("pods", "", "pods", "Pod", True, frozenset({"list", "patch"}), ("v1",), ("p",))
A, B = ObjectKey("default", "a", "7"), ObjectKey("default", "b", "8")
REFUSED = Outcome(Verdict.FAILED, 403, "Forbidden", "denied")
Step = Callable[["Case"], Awaitable[None]]


def seen(*resources: ServedResource) -> Observation:
    found = {resource.name: resource for resource in resources}
    urls = ("https://a", "https://b")
    reports = tuple(ServerReport(url, url, version="v1.37.2", ready=True, resources=found) for url in urls)
    return Observation(reports, cross=CrossCheck(None))


async def nothing(_case: Case) -> None:
    """Between two phases nothing happens."""


class Case:
    """Passes over an engine and an etcd that are played.

    ``lefts``: what etcd holds after each pass. ``visits``: what the engine does with a run, which is to finish it unless
    said otherwise. ``reading``: called while etcd is read. ``becomes``: what the API servers report at the end of each pass,
    just after the guard has looked.
    """

    def __init__(
        self, folder: Path, *, selection: Selection | None = None, state: State | None = None, etcd: bool = True
    ) -> None:
        self.seen = seen(SECRETS, PODS)
        self.becomes: list[Observation] = []
        self.path = folder / "state.json"
        self.custom: set[str] = set()
        self.lefts: list[Left | Exception] = []
        self.reading: Step = nothing
        self.visits: Callable[[ResourceRun], None] = lambda run: None
        self.visited: list[tuple[str, Any]] = []
        self.result = MigrationResult(Plan((), ()))
        self.control = Control()
        store = FileStore(self.path)
        self.checkpoint = Checkpoint(store, state or State(), selection or Selection("stale"), self.result.runs)
        self.withheld: list[str] = []
        self.fields_lost: dict[str, dict[tuple[str, str], str]] = {}
        self.moved: str | None = None
        self.asked_again: list[bool] = []
        self.asking: Step = nothing
        self.checks_writes = False
        self.watched_after: list[int] = []
        self.stale_objects = SimpleNamespace(
            left=self._left,
            follow=lambda _seen, _servers: None,
            probe_again=self._probe_again,
            probed=frozenset({"pods", "secrets"}),
            wrote=False,
            rewritten={},
            uncertain={},
            withhold=self._withhold,
            withheld=self.fields_lost,
        )
        context = SimpleNamespace(
            cluster=SimpleNamespace(writers=lambda seen: [], entry=None),
            options=SimpleNamespace(drop_unknown_fields=()),
            control=self.control,
            checkpoint=self.checkpoint,
            result=self.result,
            stale_objects=self.stale_objects if etcd else None,
            report=lambda event: None,
            space=SimpleNamespace(watch=self._watch),
        )
        engine = SimpleNamespace(name="direct", begin=self._nothing, migrate=self._migrate, end=self._end)
        custom = SimpleNamespace(
            look=self._nothing,
            begin=self._begin,
            confirm=self._confirm,
            moved=lambda run: self.moved if run.custom else None,
            may_begin=lambda run: True,
        )
        guard = SimpleNamespace(prove_the_end=self._prove, refresh=self._nothing)
        self.passes = Passes(context, engine, guard, custom)  # type: ignore[arg-type]

    def run(self, *targets: Target) -> None:
        asyncio.run(self.passes.run(targets))

    def look(self) -> None:
        """What the guard does at any time while all API servers agree."""
        self.checkpoint.mark_persisted(self.seen, time.monotonic() + 1.0)

    def saved(self) -> Any:
        asyncio.run(self.checkpoint.save())
        return json.loads(self.path.read_text(encoding="utf-8"))["resources"]

    async def _nothing(self, *_args: Any) -> None:
        pass

    async def _watch(self) -> None:
        self.watched_after.append(len(self.visited))

    async def _withhold(self, _server: Any, _accepted: Any, _report: Any, again: list[str]) -> None:
        self.withheld += again

    async def _probe_again(self, _servers: Any, *, replaced: bool, edited: Collection[str]) -> None:
        self.asked_again.append(replaced)
        await self.asking(self)

    async def _end(self, _proven: Any) -> list[Any]:
        return []

    async def _prove(self) -> Observation:
        self.look()
        self.seen = self.becomes.pop(0) if self.becomes else self.seen
        return self.seen

    def _begin(self, target: Target, engine: str) -> ResourceRun:
        if target.name not in self.custom:
            return ResourceRun(target, engine)
        verified = not self.checks_writes
        return ResourceRun(target, engine, custom=True, confirmed=False, crd=CrdIdentity("u", 1), verified=verified)

    async def _confirm(self, runs: Sequence[ResourceRun]) -> None:
        for run in runs:
            run.confirmed = True

    async def _migrate(self, runs: Sequence[ResourceRun], _control: Control) -> None:
        for run in runs:
            self.visited.append((run.target.name, run.target.objects))
            run.started = run.started or time.monotonic()
            run.listed = True
            self.visits(run)
            run.finished = time.monotonic()

    async def _left(self) -> Left:
        await self.reading(self)
        left = self.lefts.pop(0)
        if isinstance(left, Exception):
            raise left
        return left


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def target(resource: ServedResource, *objects: ObjectKey, whole: bool = False) -> Target:
    return Target(resource, "v1", "stale in etcd", objects=None if whole else objects)


def stale(name: str, *objects: ObjectKey, reason: str = "version", hidden: int = 0) -> Left:
    return Left(9, {name: len(objects)}, {name: objects}, {name: [reason]}, {name: hidden} if hidden else {})


# What counts as persisted before the proof


@pytest.mark.parametrize("is_custom", [False, True])
def test_nothing_counts_before_etcd_was_read_again(case: Case, is_custom: bool) -> None:
    """The guard looks while etcd is read, and the run is killed then."""
    case.custom = {"secrets"} if is_custom else set()
    claims = []

    async def look(case: Case) -> None:
        case.look()
        claims.append(case.checkpoint.done)
        await case.checkpoint.save()

    case.reading = look
    case.lefts = [EtcdError("it is away")]
    case.run(target(SECRETS, A))
    assert claims == [[]] and case.checkpoint.done == []
    record = case.saved()["secrets"]
    assert record["persisted"] == [] and record["progress"]["listed"] is False


def test_what_must_be_visited_again_after_the_last_pass_does_not_count(case: Case) -> None:
    case.lefts = [stale("secrets", A), stale("secrets", A), stale("secrets", A)]
    case.run(target(SECRETS, A))
    assert isinstance(case.control.stopped, MigrationIncompleteError) and "1 of secrets" in case.control.stopped.message
    assert case.checkpoint.done == [] and case.saved()["secrets"]["progress"]["listed"] is False


def test_a_failed_object_does_not_hide_that_others_are_left_stale(case: Case) -> None:
    """The next run must not visit the failed object only."""
    case.visits = lambda run: run.fail(A, REFUSED)
    case.lefts = [stale("secrets", A, B), stale("secrets", A, B), stale("secrets", A, B)]
    case.run(target(SECRETS, A, B))
    progress = case.saved()["secrets"]["progress"]
    assert progress["listed"] is False and not case.checkpoint.done


def test_if_only_failed_objects_remain_the_next_run_visits_just_those(case: Case) -> None:
    case.visits = lambda run: run.fail(A, REFUSED)
    case.lefts = [stale("secrets", A)]
    case.run(target(SECRETS, A, B))
    progress = case.saved()["secrets"]["progress"]
    assert (progress["listed"], progress["failed"]) == (True, [["default", "a"]]) and not case.checkpoint.done


def test_a_changed_hash_revokes_what_the_guard_had_marked(tmp_path: Path) -> None:
    """After the last pass, too: an object may have been written in the new version and back."""
    case = Case(tmp_path, etcd=False)
    edited = replace(SECRETS, hashes=("g",))
    case.becomes = [seen(edited, PODS), seen(SECRETS, PODS), seen(edited, PODS)]
    case.run(target(SECRETS, whole=True))
    assert isinstance(case.control.stopped, NotConvergedError) and "changed its storage version" in str(
        case.control.stopped
    )
    assert case.checkpoint.done == []


# What becomes stale after the first scan


def test_what_had_nothing_stale_at_first_is_not_forgotten(case: Case) -> None:
    case.lefts = [stale("pods", B), Left(10)]
    case.run(target(SECRETS, A))
    assert case.visited == [("secrets", (A,)), ("pods", (B,))]
    assert case.withheld == ["pods"], "a rewrite must not drop fields of what appeared later either"
    assert sorted(case.checkpoint.done) == ["pods", "secrets"] and case.control.stopped is None
    assert case.result.runs["pods"].target.reason == "became stale in etcd during the run"


def test_if_nothing_was_stale_at_all(case: Case) -> None:
    case.lefts = [stale("pods", B), Left(10)]
    case.run()
    assert case.visited == [("pods", (B,))] and case.checkpoint.done == ["pods"]
    assert case.watched_after == [0], "etcd's space, before that is written"


def test_what_was_excluded_is_left_alone(tmp_path: Path) -> None:
    case = Case(tmp_path, selection=Selection("stale", (), ("pods",)))
    case.lefts = [stale("pods", B)]
    case.run()
    assert case.visited == [] and case.control.stopped is None


def test_an_unseen_server_may_have_written_what_etcd_hides(case: Case) -> None:
    """Encrypted objects don't show their version, and the record was made before that server wrote."""

    async def doubt(case: Case) -> None:
        case.checkpoint.doubt("API server https://a was restarted during the run")
        case.reading = nothing

    case.reading = doubt
    hidden = Left(9, unprovable={"pods": 3})
    case.lefts = [hidden, hidden]
    case.run()
    assert case.visited == [("pods", None)] and case.checkpoint.done == ["pods"]
    assert case.result.runs["pods"].target.reason == "API server https://a was restarted during the run"


def test_hidden_versions_alone_are_not_a_doubt(case: Case) -> None:
    case.lefts = [Left(9, unprovable={"pods": 3})]
    case.run()
    assert case.visited == []


@pytest.mark.parametrize("hidden", [0, 3])
def test_after_a_doubt_etcd_suffices_only_if_it_shows_every_version(case: Case, hidden: int) -> None:
    async def doubt(case: Case) -> None:
        case.checkpoint.doubt("suspended")
        case.reading = nothing

    case.reading = doubt
    case.lefts = [Left(9, unprovable={"secrets": hidden}), Left(10, unprovable={"secrets": hidden})]
    case.run(target(SECRETS, A))
    assert case.visited == [("secrets", (A,)), ("secrets", None if hidden else ())]


def test_what_was_left_to_etcd_and_is_hidden_after_all(case: Case) -> None:
    """The unseen server wrote encrypted objects after etcd was read."""

    async def doubt(case: Case) -> None:
        case.checkpoint.doubt("suspended")
        case.reading = nothing

    case.reading = doubt
    case.lefts = [Left(9), Left(10, unprovable={"secrets": 1}), Left(11, unprovable={"secrets": 1})]
    case.run(target(SECRETS, A))
    assert case.visited == [("secrets", (A,)), ("secrets", ()), ("secrets", None)]
    assert case.checkpoint.done == ["secrets"]


def test_a_doubt_before_a_resource_had_its_turn(case: Case) -> None:
    """What etcd hides of it was written between the first scan and its visit, by a server that nobody saw."""

    def doubt(run: ResourceRun) -> None:
        if run.target.name == "pods" and not case.checkpoint.doubts:
            case.checkpoint.doubt("API server https://a was restarted during the run")

    case.visits = doubt
    hidden = Left(9, unprovable={"secrets": 2})
    case.lefts = [hidden, hidden]
    case.run(target(PODS, B), target(SECRETS, A))
    assert case.visited[2:] == [("pods", ()), ("secrets", None)]
    assert sorted(case.checkpoint.done) == ["pods", "secrets"]


# How servers write by now


def test_after_a_restart_servers_show_again_how_they_write(case: Case) -> None:
    """It may have other flags, such as another encryption key or media type."""
    case.visits = lambda run: None if case.checkpoint.doubts else case.checkpoint.doubt("it was restarted")
    case.lefts = [Left(9), Left(10)]
    case.run(target(SECRETS, A))
    assert case.asked_again == [True, False] and case.withheld[:2] == ["pods", "secrets"]


def test_what_servers_rewrite_to_show_it_is_counted(case: Case) -> None:
    async def rewrite(case: Case) -> None:
        case.stale_objects.rewritten.update(pods=(B,), secrets=(A,))
        case.asking = nothing

    case.asking = rewrite
    case.visits = lambda run: run.record(A, Outcome(Verdict.UNCHANGED)) if run.target.objects else None
    case.lefts = [Left(9), Left(10)]
    case.run(target(SECRETS, A))
    assert case.visited == [("secrets", (A,)), ("pods", ())]
    counted = {name: (case.result.of(name).rewritten, case.result.of(name).unchanged) for name in case.result.runs}
    assert counted == {"secrets": (1, 0), "pods": (1, 0)}


def test_servers_that_write_differently_prove_nothing(case: Case) -> None:
    async def differ(_case: Case) -> None:
        raise NotConvergedError("The API servers write objects differently.", {"changed": False})

    case.asking = differ
    case.run(target(SECRETS, A))
    assert case.checkpoint.done == [] and isinstance(case.control.stopped, NotConvergedError)
    assert case.control.stopped.message.startswith("Everything was visited, but it does not count as migrated: The API")
    assert case.control.stopped.result == {}


def test_a_run_that_is_stopped_does_not_wait_until_etcd_was_read(case: Case) -> None:
    """By a signal, its time limit, or another run."""

    async def endless(case: Case) -> None:
        case.control.stop(MigrationIncompleteError("Interrupted by SIGTERM; run again to resume."))
        await asyncio.sleep(3600)

    case.reading = endless
    case.run(target(SECRETS, A))
    assert case.checkpoint.done == [] and "SIGTERM" in str(case.control.stopped)


def test_an_old_version_in_sight_makes_hidden_ones_suspect(case: Case) -> None:
    case.lefts = [stale("secrets", B, hidden=2), Left(10, unprovable={"secrets": 3})]
    case.run(target(SECRETS, A))
    assert case.visited == [("secrets", (A,)), ("secrets", None)]


def test_what_can_no_longer_be_counted_in_etcd_is_visited_as_a_whole(case: Case) -> None:
    lost = Left(9, unprovable={"secrets": 5}, uncounted={"secrets"})
    case.lefts = [lost, lost]
    case.run(target(SECRETS))
    assert case.visited == [("secrets", ()), ("secrets", None)] and case.checkpoint.done == ["secrets"]


# How custom resources are written


def test_the_check_of_writes_leaves_alone_what_would_lose_fields(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = verified_by(monkeypatch)
    case.custom, case.checks_writes = {"secrets"}, True
    case.fields_lost["secrets"] = {("default", "a"): "it would lose spec.old"}
    case.lefts = [Left(9)]
    case.run(target(SECRETS))
    assert asked == [case.fields_lost["secrets"]] and case.checkpoint.done == ["secrets"]


def test_nothing_is_written_to_check_a_crd_that_was_edited_meanwhile(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which fields a write drops is known for the CRD as it was; the next pass finds it out again before it writes."""
    asked = verified_by(monkeypatch)
    case.custom, case.checks_writes, case.moved = {"secrets"}, True, "was edited"
    case.lefts = [Left(9), Left(10), Left(11)]
    case.run(target(SECRETS))
    assert asked == [] and case.checkpoint.done == []


def verified_by(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What each check of writes must not patch."""
    asked: list[Any] = []

    async def verify(_run: ResourceRun, _servers: Any, withheld: Any) -> bool:
        asked.append(withheld)
        return True

    monkeypatch.setattr(passes_module, "stored_as_served", verify)
    return asked


# A list that failed


def test_a_failed_list_is_not_forgotten_by_visits_of_single_objects(case: Case) -> None:
    failing = iter([True, False])

    def visit(run: ResourceRun) -> None:
        if next(failing):
            run.fail(None, Outcome(Verdict.FAILED, 500, "InternalError", "it can't be listed"))
            run.listed = False

    case.visits = visit
    case.lefts = [stale("secrets", B), Left(10)]
    case.run(target(SECRETS, whole=True))
    assert case.visited == [("secrets", None), ("secrets", (B,))]
    assert [failure.name for failure in case.result.failures] == [None] and case.checkpoint.done == []
    assert case.saved()["secrets"]["progress"]["listed"] is False


def test_what_failed_is_not_forgotten_when_the_next_pass_is_stopped(tmp_path: Path) -> None:
    case = Case(tmp_path, etcd=False)
    case.becomes = [seen(replace(SECRETS, hashes=("g",)), PODS)]
    passes = iter([True, False])

    def visit(run: ResourceRun) -> None:
        if next(passes):
            run.fail(None, Outcome(Verdict.FAILED, 500, "InternalError", "it can't be listed"))
            run.fail(A, REFUSED)
            run.fail(B, REFUSED)
        else:
            run.record(B, Outcome(Verdict.UNCHANGED))
            case.control.stop(MigrationIncompleteError("interrupted"))
            raise case.control.stopped or AssertionError

    case.visits = visit
    with pytest.raises(MigrationIncompleteError):
        case.run(target(SECRETS, whole=True))
    assert [failure.name for failure in case.result.failures] == [None, "a"]


def test_a_version_that_some_server_had_for_a_while_means_another_pass(tmp_path: Path) -> None:
    case = Case(tmp_path, etcd=False)
    passes = iter([True, False])

    def visit(_run: ResourceRun) -> None:
        if next(passes):
            case.checkpoint.observe(seen(replace(SECRETS, hashes=("g",)), PODS).reports)
            case.checkpoint.observe(case.seen.reports)

    case.visits = visit
    case.run(target(SECRETS, whole=True))
    assert case.visited == [("secrets", None), ("secrets", None)] and case.checkpoint.done == ["secrets"]


def test_another_list_settles_it(case: Case) -> None:
    failing = iter([True, False])

    def visit(run: ResourceRun) -> None:
        if next(failing):
            run.fail(None, Outcome(Verdict.FAILED, 500, "InternalError", "it can't be listed"))
            run.listed = False

    case.visits = visit
    case.lefts = [stale("secrets", B, hidden=1), Left(10, unprovable={"secrets": 1})]
    case.run(target(SECRETS, whole=True))
    assert case.visited == [("secrets", None), ("secrets", None)]
    assert case.result.failures == [] and case.checkpoint.done == ["secrets"]


# What the record says


def test_a_record_that_etcd_contradicts_is_revoked(tmp_path: Path) -> None:
    case = Case(tmp_path, state=State(resources={"pods": ResourceState(persisted=("p",))}))
    case.lefts = [stale("pods", B), EtcdError("it is away")]
    case.run(target(SECRETS, A))
    assert case.saved()["pods"]["persisted"] == []
