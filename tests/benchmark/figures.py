# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is measured, and what follows from it: medians, ratios, targets, the table. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass
class Figure:
    """One contender's results, a number for each round. ``ours``: this collection's; ``limited_by``: why it isn't better."""

    name: str
    unit: str
    runs: list[float] = field(default_factory=list)
    limited_by: str = ""
    ours: bool = False

    @property
    def median(self) -> float:
        return median(self.runs)


@dataclass(frozen=True)
class Check:
    """A number that is compared with a target; ``target`` None: it is only reported."""

    name: str
    value: float
    unit: str = "x"
    target: float | None = None
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target


@dataclass
class Part:
    """One part of the benchmark: what it measured over the same objects in one run."""

    name: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def figure(self, name: str, unit: str = "", *, ours: bool = False) -> Figure:
        """The figure of that name, made at its first use."""
        for figure in self.figures:
            if figure.name == name:
                return figure
        self.figures.append(Figure(name, unit, ours=ours))
        return self.figures[-1]

    def ratio(
        self, name: str, figure: Figure, to: Figure, target: float | None = None, *, at_most: bool = False
    ) -> None:
        """A check on the median of each round's own ratio: what disturbs the machine for a while disturbs both."""
        ratios = [own / other for own, other in zip(figure.runs, to.runs) if other]
        self.checks.append(Check(name, median(ratios), "x", target, at_most))

    def as_dict(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "figures": [{**asdict(figure), "median": figure.median} for figure in self.figures if figure.runs],
            "checks": [{**asdict(check), "met": check.met} for check in self.checks],
            "notes": self.notes,
        }


@dataclass(frozen=True)
class Plain:
    """A client that just keeps N requests in flight. ``share`` of the fastest such client; others' p50 and p99 against what they are alone."""

    name: str
    share: float
    half: float
    most: float


def what_is_possible(clients: Sequence[Plain], half: float, most: float, share: float) -> str:
    """Whether any plain client meets all three targets; if none does, how near each of the two sides comes to the other."""
    kind = [client for client in clients if client.half <= half and client.most <= most]
    fast = [client for client in clients if client.share >= share]
    both = [client for client in kind if client.share >= share]
    if both:
        return f"All targets can be met here: {_plain(both[0])}."
    slowest = min(fast, key=lambda client: client.most)
    kindest = (
        f"the fastest that spares the others is {_plain(max(kind, key=lambda client: client.share))}"
        if kind
        else "none spares the others"
    )
    return f"No plain client meets all targets here: the kindest that is fast enough is {_plain(slowest)}; {kindest}."


def _plain(client: Plain) -> str:
    return (
        f"{client.name}, {client.share:.2f} of the best flood, p50 {client.half:.2f} times, p99 {client.most:.2f} times"
    )


def number(value: float) -> str:
    """A number as a person would write it: three significant digits, thousands separated."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(part: dict[str, Any]) -> str:
    """A part as text: a line for each figure, then one for each target."""
    rows = [
        (figure["name"], number(figure["median"]), figure["unit"], _spread(figure["runs"]), figure["limited_by"])
        for figure in part["figures"]
    ]
    lines = [part["title"], *_columns(rows)]
    for check in part["checks"]:
        lines.append(f"  {_MARKS[check['met']]} {check_text(check)}")
    lines += [f"  {note}" for note in part["notes"]]
    return "\n".join(lines)


_MARKS = {True: "ok    ", False: "MISSED", None: "      "}


def check_text(check: dict[str, Any]) -> str:
    """``module / flood: 0.97 x (at least 0.95)``."""
    unit = "×" if check["unit"] == "x" else " " + check["unit"]
    target = ""
    if check["target"] is not None:
        target = f" (at {'most' if check['at_most'] else 'least'} {number(check['target'])})"
    return f"{check['name']}: {number(check['value'])}{unit}{target}"


def _spread(runs: Sequence[float]) -> str:
    return f"{number(min(runs))} … {number(max(runs))}" if len(runs) > 1 else ""


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        (
            f"  {row[0]:<{widths[0]}}  {row[1]:>{widths[1]}} {row[2]:<{widths[2]}}  {row[3]:<{widths[3]}}  {row[4]}"
        ).rstrip()
        for row in rows
    ]
