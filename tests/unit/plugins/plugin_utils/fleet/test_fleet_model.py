# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Migrations and audits of a fleet in one folder, step by step as the role does them: they fail, stop, are killed and resumed, side by side.

A model says what each run must do next. All that it knows is how the turn of each cluster ended.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet import store
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.folder import FleetFolder
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.store import FleetNews, keep
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.files import ReportFiles
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.fleet.fleet_data import (
    blocked,
    dead,
    report,
)
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.report_data import at
from hypothesis import given, settings
from hypothesis import strategies as st

CLUSTERS = list("abcd")
WAVES = ([], [1], [1, "50%"], ["d", 2], [1, 1, 1])
# How a turn may end. After "lost" there is no report, as when the host failed in a task before.
FINE, DEAD, BLOCKED, LOST = "fine", "dead", "blocked", "lost"
REPORTS = {FINE: report, DEAD: dead, BLOCKED: blocked}


@dataclass
class Model:
    """What is to be expected of the runs with one purpose, one at a time, each of which resumes the one before unless that has finished."""

    # How the last turn of each cluster ended, since the first of the runs that resume each other began.
    turns: dict[str, str] = field(default_factory=dict)

    @property
    def done(self) -> set[str]:
        return {host for host, ended in self.turns.items() if ended == FINE}

    def stops(self, ended: Sequence[Sequence[str]], later: Sequence[Sequence[str]], allowed: int) -> bool:
        """After the last of the waves that have ``ended``."""
        failed = [host for wave in ended for host in wave if self.turns.get(host, LOST) in (DEAD, LOST)]
        blockers = [host for host in ended[-1] if self.turns.get(host) == BLOCKED]
        left = {host for wave in later for host in wave} - self.done
        return bool(left) and (len(failed) > allowed or bool(blockers))


class Fleet:
    """A folder, and how the next turn of each cluster ends."""

    def __init__(self, path: Path) -> None:
        self.folder = FleetFolder(str(path))
        self.next_turn = dict.fromkeys(CLUSTERS, FINE)
        self.models = {"migrate": Model(), "audit": Model()}
        self.seconds, self.runs = 0, 0

    def now(self) -> str:
        self.seconds += 1
        return at(self.seconds)

    def examine(self, host: str, purpose: str) -> None:
        ended = self.next_turn[host]
        self.models[purpose].turns[host] = ended
        if ended != LOST:
            self.now()
            files = ReportFiles(str(self.folder.path / "clusters" / host / "state.html"))
            found = REPORTS[ended](self.seconds, fleet={"purpose": purpose})
            with files.locked():
                files.write_record(found.snapshot)

    def run(self, purpose: str, waves: Sequence[Any], allowed: int) -> Iterator[None]:
        """One run of the role's tasks; whoever stops asking for its next step has killed it."""
        model = self.models[purpose]
        self.runs += 1
        name = f"run-{self.runs}"
        begun = FleetNews(name, purpose, None, CLUSTERS, None, waves, {"all": CLUSTERS}, 86400)
        result = keep(self.folder, begun, self.now())
        assert set(result["done"]) == model.done, "what the runs before have done is left alone, and nothing else"
        planned, done = [wave["clusters"] for wave in result["waves"]], result["done"]
        yield
        for number, wave in enumerate(planned):
            for host in wave:
                if host not in done:
                    self.examine(host, purpose)
                    yield
            ended = FleetNews(name, begun=result["run"], finished_wave=number, max_failures=allowed)
            result = keep(self.folder, ended, self.now())
            later = planned[number + 1 :]
            assert result["stopped"] == model.stops(planned[: number + 1], later, allowed), result["msg"]
            yield
            if result["stopped"]:
                break
        result = keep(self.folder, FleetNews(name, begun=result["run"], end=True), self.now())
        self.check_end(model, result, stopped=result["stopped"])

    def check_end(self, model: Model, result: dict[str, Any], stopped: bool) -> None:
        assert result["status"] == ("stopped" if stopped else "finished")
        for host, state in result["states"].items():
            ended = model.turns.get(host)
            wanted = {
                FINE: {"fine"},
                DEAD: {"not_reached"},
                BLOCKED: {"blocker"},
                # Lost in a wave that ended; or the run stopped before the turn of a cluster that an earlier run had lost.
                LOST: {"failure", "not_begun", "not_reached", "blocker"} if stopped else {"failure"},
                None: {"not_begun"},
            }
            assert state in wanted[ended], (host, ended, state)
        if stopped:
            assert result["problems"], "after a stop it never exits with 0"
        else:
            assert set(result["problems"]) == set(CLUSTERS) - model.done
            model.turns.clear()


_PURPOSES = st.sampled_from(["migrate", "audit"])
# Half of them begin a run, and all go on with one for some steps while the turns of the clusters end as given.
_ACTS = st.tuples(
    _PURPOSES,
    st.none() | st.tuples(st.sampled_from(WAVES), st.integers(0, 2)),
    st.lists(st.sampled_from([FINE, FINE, DEAD, BLOCKED, LOST]), min_size=len(CLUSTERS), max_size=len(CLUSTERS)),
    st.integers(0, 12),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(_ACTS, max_size=8))
def test_runs_side_by_side_do_what_each_would_do_alone(acts: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as path:
        patch.setattr(store, "fleet_page", lambda record: "")  # which takes the most time
        fleet = Fleet(Path(path))
        running: dict[str, Iterator[None]] = {}
        for purpose, begin, turns, steps in acts:
            if begin is not None:
                running[purpose] = fleet.run(purpose, *begin)  # The one before is killed wherever it is.
            fleet.next_turn = dict(zip(CLUSTERS, turns))
            for _number in range(steps):
                next(running.get(purpose, iter(())), None)
        # Once all clusters are repaired, one more run is enough.
        fleet.next_turn = dict.fromkeys(CLUSTERS, FINE)
        for purpose in ("migrate", "audit"):
            list(fleet.run(purpose, [1, "50%"], 0))
            record = fleet.folder.read()
            assert record is not None and record.status == "finished"
