# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""On which releases of Kubernetes and etcd the tests passed: tested.json, and the table in README.md made from it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.releases import CONTROL_PLANE, ETCD, NEWEST, Etcd, Release

from .clusters import in_tree_api

ROOT = Path(__file__).resolve().parents[2]
FILE = Path(__file__).with_name("tested.json")
README = ROOT / "README.md"
BEGIN = "<!-- tested releases: written by make test-releases -->"
END = "<!-- end of tested releases -->"

Row = Release | Etcd


def name(row: Row) -> str:
    return row.kubernetes if isinstance(row, Release) else f"etcd-{row.etcd}"


@dataclass
class Run:
    """What one run of the tests found out."""

    expected: dict[Row, set[str]] = field(default_factory=dict)
    passed: dict[Row, set[str]] = field(default_factory=dict)
    failed: dict[Row, set[str]] = field(default_factory=dict)
    seconds: dict[Row, float] = field(default_factory=dict)
    whole: bool = True  # no test was left out

    def expect(self, row: Row, test: str) -> None:
        self.expected.setdefault(row, set()).add(test)

    def add(self, row: Row, test: str, report: pytest.TestReport) -> None:
        self.seconds[row] = self.seconds.get(row, 0.0) + report.duration
        if not report.passed:
            self.failed.setdefault(row, set()).add(test)
        elif report.when == "call":
            self.passed.setdefault(row, set()).add(test)

    def all_passed(self, row: Row) -> bool:
        return not self.failed.get(row) and self.passed.get(row) == self.expected[row]

    def lines(self) -> list[str]:
        """One sentence for each release."""
        return [
            f"{_title(row)}: {len(self.passed.get(row, ()))} of {len(tests)} passed"
            f"{', ' + str(len(self.failed[row])) + ' failed' if self.failed.get(row) else ''}"
            f" ({self.seconds.get(row, 0.0):.0f} s)"
            for row, tests in self.expected.items()
        ]


def _title(row: Row) -> str:
    return (
        f"Kubernetes {row.kubernetes} on etcd {row.etcd}"
        if isinstance(row, Release)
        else f"etcd {row.etcd} behind Kubernetes {NEWEST.kubernetes}"
    )


def load() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def record(run: Run) -> str:
    """Writes what passed, and forgets what failed or isn't in the table anymore; what didn't run stays. One sentence."""
    if not run.whole:
        return "Nothing is recorded, since some tests were left out."
    rows = load()
    for row in run.expected:
        if run.failed.get(row):
            rows.pop(name(row), None)
        if run.all_passed(row):
            rows[name(row)] = _entry(row, len(run.passed[row]))
    known = [name(row) for row in (*CONTROL_PLANE, *ETCD)]
    write({row: rows[row] for row in known if row in rows})
    return f"Recorded in {FILE.relative_to(ROOT)} and README.md."


def _entry(row: Row, tests: int) -> dict[str, Any]:
    today = datetime.now(timezone.utc).date().isoformat()
    if isinstance(row, Release):
        return {
            "kubernetes": row.kubernetes,
            "etcd": row.etcd,
            "in_tree_api": in_tree_api(row),
            "tests": tests,
            "date": today,
        }
    return {"kubernetes": NEWEST.kubernetes, "etcd": row.etcd, "in_tree_api": None, "tests": tests, "date": today}


def write(rows: dict[str, dict[str, Any]]) -> None:
    FILE.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    README.write_text(with_table(README.read_text(encoding="utf-8"), rows), encoding="utf-8")


def with_table(readme: str, rows: dict[str, dict[str, Any]]) -> str:
    """README.md with the table of these rows between its marks."""
    before, _mark, rest = readme.partition(BEGIN)
    _old, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"README.md lacks the line {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{table(rows) if rows else 'None is on record yet.'}\n\n{END}{after}"


def table(rows: dict[str, dict[str, Any]]) -> str:
    cells: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("kube-apiserver", lambda row: row["kubernetes"]),
        ("etcd", lambda row: row["etcd"]),
        ("in-tree engine", lambda row: row["in_tree_api"] or ""),
        ("tests passed", lambda row: str(row["tests"])),
        ("last run", lambda row: row["date"]),
    ]
    lines = [" | ".join(title for title, _cell in cells), "|".join("---" for _ in cells)]
    lines += [" | ".join(cell(row) for _title, cell in cells) for row in rows.values()]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)


if __name__ == "__main__":
    write(load())
    sys.exit(0)
