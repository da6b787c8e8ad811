# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each object counts once, whatever the passes (issue 11, number 1)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration import visits
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import (
    Failure,
    OutcomeCounts,
    Verdict,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.passes import Passes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey, Plan, Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.result import MigrationResult
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource, ServerReport

R, U, C, D, F = Verdict.REWRITTEN, Verdict.UNCHANGED, Verdict.CONFLICT, Verdict.DELETED, Verdict.FAILED
M = Verdict.UNCERTAIN
SECRETS = ServedResource("secrets", "", "secrets", "Secret", True, frozenset({"list", "patch"}), ("v1",), ("h",))
ALL = Target(SECRETS, "v1", "selected")


@pytest.mark.parametrize("room", [True, False], ids=["in a file", "without room for one"])
def test_what_is_set_aside_still_counts(monkeypatch: pytest.MonkeyPatch, room: bool) -> None:
    def no_room() -> None:
        raise OSError("No space left on device")

    aside = visits._Aside()
    monkeypatch.setattr(visits, "_ASIDE", aside)
    if not room:
        monkeypatch.setattr(visits.tempfile, "TemporaryFile", lambda **_how: no_room())
    runs = [ResourceRun(ALL, "direct"), ResourceRun(ALL, "direct")]
    for run in runs:
        for number in range(1200):
            run.count(ObjectKey("default", f"{id(run)}-{number}"), U if number % 3 else R)
        run.visits.set_aside()
        run.count(ObjectKey("default", f"{id(run)}-late"), D)
        run.visits.set_aside()
    assert (aside._file is not None) is room
    for run in runs:
        assert run.visits.of(ObjectKey("default", f"{id(run)}-3")) is R
        assert run.visits.of(ObjectKey("default", f"{id(run)}-4")) is U
        assert run.visits.of(ObjectKey("default", f"{id(run)}-late")) is D
        assert run.visits.of(ObjectKey("default", "another")) is None
        run.count(ObjectKey("default", f"{id(run)}-3"), U)
        assert run.visits.twice == OutcomeCounts(unchanged=1), "a rewritten object stays one"


class Passing(Passes):
    """Just the counting of passes."""

    def __init__(self) -> None:
        self._result = MigrationResult(Plan((), ()))

    def run_pass(self, verdicts: dict[str, Verdict], *, named: bool = False) -> None:
        keys = tuple(ObjectKey("default", name) for name in verdicts)
        run = ResourceRun(Target(SECRETS, "v1", "left", objects=keys) if named else ALL, "direct")
        self._result.begin([run])
        for name, verdict in verdicts.items():
            run.count(ObjectKey("default", name), verdict)
            if verdict is F:
                run.failures.append(Failure("secrets", "default", name, 403, "Forbidden", "denied"))

    @property
    def total(self) -> OutcomeCounts:
        return self._result.total

    @property
    def failed(self) -> list[str | None]:
        return [failure.name for failure in self._result.failures]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([R, U], {"rewritten": 1}),
        ([R, R, R], {"rewritten": 1}),
        ([U, R], {"rewritten": 1}),
        ([U, U, U], {"unchanged": 1}),
        ([C, U], {"unchanged": 1}),
        ([F, R], {"rewritten": 1}),
        ([F, F], {"failed": 1}),
        ([R, F], {"failed": 1}),
        ([R, F, U], {"unchanged": 1}),
        ([R, D], {"rewritten": 1}),
        ([U, D], {"deleted": 1}),
        ([M, U], {"uncertain": 1}),
        ([U, M], {"uncertain": 1}),
        ([M, M, D], {"uncertain": 1}),
        ([M, R, U], {"rewritten": 1}),
        ([R, M], {"rewritten": 1}),
        ([M, F], {"failed": 1}),
    ],
)
def test_one_object_in_several_passes(verdicts: list[Verdict], expected: dict[str, int]) -> None:
    for named in (False, True):
        passes = Passing()
        for verdict in verdicts:
            passes.run_pass({"a": verdict}, named=named)
        assert passes.total == OutcomeCounts(**expected), (verdicts, named)
        assert passes.failed == (["a"] if verdicts[-1] is F else [])


def test_what_failed_and_is_not_visited_again_stays_failed() -> None:
    passes = Passing()
    passes.run_pass({"a": F, "b": R, "c": U})
    passes.run_pass({"b": U}, named=True)
    assert passes.total == OutcomeCounts(rewritten=1, unchanged=1, failed=1) and passes.failed == ["a"]
    assert not passes._result.runs["secrets"].complete
    passes.run_pass({"c": R}, named=True)
    assert passes.total == OutcomeCounts(rewritten=2, failed=1) and passes.failed == ["a"]


def test_new_objects_count_too() -> None:
    passes = Passing()
    passes.run_pass({"a": R})
    passes.run_pass({"a": U, "b": R})
    assert passes.total == OutcomeCounts(rewritten=2)


def test_what_a_later_check_rewrites_counts_once() -> None:
    run = ResourceRun(ALL, "direct")
    for name, verdict in (("a", R), ("b", U)):
        run.count(ObjectKey(None, name), verdict)
    run.visits.again()
    for name in "ab":
        run.count(ObjectKey(None, name), R)
    assert run.tally.without(run.visits.twice) == OutcomeCounts(rewritten=2)
    assert run.visits.wrote


def test_a_list_that_starts_over_within_a_pass() -> None:
    run = ResourceRun(ALL, "direct")
    run.count(ObjectKey(None, "a"), R)
    run.visits.again()
    for verdict in (U, U):
        run.count(ObjectKey(None, "a"), verdict)
        run.count(ObjectKey(None, "b"), verdict)
    assert run.tally.without(run.visits.twice) == OutcomeCounts(rewritten=1, unchanged=1)


def test_totals_never_shrink_during_a_pass() -> None:
    passes = Passing()
    passes.run_pass({name: R for name in "abc"})
    run = ResourceRun(ALL, "direct")
    passes._result.begin([run])
    seen = [passes.total.visited]
    for name in "abc":
        run.count(ObjectKey("default", name), U)
        seen.append(passes.total.visited)
    assert all(before <= after for before, after in pairwise(seen)) and seen[-1] == 3


def test_what_was_briefly_not_served_is_visited_again() -> None:
    """Issue 11, number 1: nothing is claimed about it; when it is served again it is visited again, otherwise left alone."""
    passes = Passing()
    passes._custom = SimpleNamespace(moved=lambda run: None)  # type: ignore[assignment]
    passes._checkpoint = SimpleNamespace(state=State())  # type: ignore[assignment]
    passes.run_pass({"a": R})
    run = passes._result.runs["secrets"]
    run.gone, run.listed, run.finished = True, True, 1.0
    assert not run.complete
    report = ServerReport("https://a", "a", version="v1.37.2", ready=True, resources={"secrets": SECRETS})
    ((target, _why),) = passes._to_redo(Observation((report,)))
    assert target.name == "secrets" and target.objects is None
    assert passes._to_redo(Observation((replace(report, resources={}),))) == []


def test_a_done_resource_is_sampled_once_and_again_at_the_end() -> None:
    """With thousands of resources, counting all of them several times per second would take most of the time."""
    result = MigrationResult(Plan((), ()))
    run = ResourceRun(ALL, "direct")
    result.begin([run])
    result.sample(0.5)
    run.started = 1.0
    run.count(ObjectKey("default", "a"), R)
    result.sample(1.0)
    run.finished = 2.0
    result.sample(2.0)
    run.count(ObjectKey("default", "b"), R)
    result.sample(3.0)
    result.sample(4.0, last=True)
    samples = result.history.as_dict()["samples"]
    assert [(sample["seconds"], sample["resources"]["secrets"]["visited"]) for sample in samples] == [
        (1.0, 1),
        (4.0, 2),
    ]
