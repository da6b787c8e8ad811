# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""README.md says what tests/releases/tested.json says, and that only what passed is written there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.control_plane.releases import ETCD, NEWEST
from tests.releases import tested
from tests.releases.tested import Run


def report(when: str = "call", outcome: str = "passed") -> pytest.TestReport:
    return pytest.TestReport("test", ("", 0, ""), {}, outcome, None, when, duration=1.5)  # type: ignore[arg-type]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """tested.json and a README of their own, with a release that has gone and an etcd that has passed."""
    rows = {
        "1.2.3": {"kubernetes": "1.2.3", "etcd": "1.0", "in_tree_api": None, "tests": 1, "date": "2020-01-01"},
        tested.name(ETCD[0]): {
            "kubernetes": "1.2.3",
            "etcd": ETCD[0].etcd,
            "in_tree_api": None,
            "tests": 3,
            "date": "2020-01-01",
        },
    }
    (tmp_path / "tested.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "README.md").write_text(f"before\n{tested.BEGIN}\nold\n{tested.END}\nafter\n", encoding="utf-8")
    for name, path in (("ROOT", tmp_path), ("FILE", tmp_path / "tested.json"), ("README", tmp_path / "README.md")):
        monkeypatch.setattr(tested, name, path)
    return tmp_path


def test_the_readme_says_what_was_tested() -> None:
    readme = tested.README.read_text(encoding="utf-8")
    assert tested.with_table(readme, tested.load()) == readme, "run: python -m tests.releases.tested"


def test_what_passed_is_written(written: Path) -> None:
    run = Run()
    run.expect(NEWEST, "a")
    run.expect(NEWEST, "b")
    for test in ("a", "b"):
        run.add(NEWEST, test, report())
    assert run.lines() == [f"Kubernetes {NEWEST.kubernetes} on etcd {NEWEST.etcd}: 2 of 2 passed (3 s)"]
    assert tested.record(run) == "Recorded in tested.json and README.md."
    rows = tested.load()
    assert list(rows) == [NEWEST.kubernetes, tested.name(ETCD[0])], "what didn't run stays, what has gone doesn't"
    assert (rows[NEWEST.kubernetes]["tests"], rows[NEWEST.kubernetes]["in_tree_api"]) == (2, "v1")
    readme = (written / "README.md").read_text(encoding="utf-8")
    assert readme.startswith("before\n") and readme.endswith("\nafter\n") and "old" not in readme
    assert f"| {NEWEST.kubernetes} | {NEWEST.etcd} | v1 | 2 |" in readme


def test_what_was_interrupted_stays(written: Path) -> None:
    run = Run()
    run.expect(ETCD[0], "a")
    run.expect(ETCD[0], "b")
    run.add(ETCD[0], "a", report())
    tested.record(run)
    assert tested.load()[tested.name(ETCD[0])]["date"] == "2020-01-01"


@pytest.mark.parametrize("outcome", ["failed", "skipped"])
def test_what_did_not_pass_is_dropped(written: Path, outcome: str) -> None:
    run = Run()
    run.expect(ETCD[0], "a")
    run.add(ETCD[0], "a", report(outcome=outcome))
    tested.record(run)
    assert tested.load() == {}


def test_nothing_is_written_if_tests_were_left_out(written: Path) -> None:
    before = (written / "tested.json").read_text(encoding="utf-8")
    run = Run(whole=False)
    run.expect(ETCD[0], "a")
    assert "left out" in tested.record(run)
    assert (written / "tested.json").read_text(encoding="utf-8") == before
