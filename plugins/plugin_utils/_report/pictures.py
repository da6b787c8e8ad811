# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pictures of a report as shapes with coordinates; the page's template writes them as SVG. Pure.

Each is laid out twice, for wide pages and for narrow screens, so that text keeps its size on both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.story import (
    StoredPart,
    StoredRow,
    Timeline,
    clock,
    duration,
    number,
    things,
)

WIDE, NARROW = 960.0, 372.0
_CHARACTER = 6.7  # how wide one is at 12 px, about
_TICKS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
_SERIES = 6
_STORED_ROWS = 12
_BREAK = 34.0


@dataclass(frozen=True)
class Box:
    x: float
    y: float
    width: float
    height: float
    look: str
    title: str | None = None


@dataclass(frozen=True)
class Words:
    x: float
    y: float
    text: str
    look: str = ""
    anchor: str = "start"


@dataclass(frozen=True)
class Line:
    """A path; ``d`` is made of numbers only."""

    d: str
    look: str
    title: str | None = None


@dataclass
class Picture:
    """``title`` and ``description`` are for those who can't see it."""

    name: str
    title: str
    description: str
    width: float
    height: float = 0.0
    boxes: list[Box] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    words: list[Words] = field(default_factory=list)

    @property
    def narrow(self) -> bool:
        return self.width < 600

    def box(self, x: float, y: float, width: float, height: float, look: str, title: str | None = None) -> None:
        self.boxes.append(Box(_round(x), _round(y), _round(max(width, 0.0)), _round(height), look, title))

    def text(self, x: float, y: float, text: str, look: str = "", anchor: str = "start") -> None:
        self.words.append(Words(_round(x), _round(y), text, look, anchor))

    def line(
        self, points: Iterable[tuple[float, float]], look: str, title: str | None = None, close: bool = False
    ) -> None:
        d = " L".join(f"{_round(x)} {_round(y)}" for x, y in points)
        self.lines.append(Line(f"M{d}{' Z' if close else ''}", look, title))

    def fits(self, text: str, width: float) -> bool:
        return len(text) * _CHARACTER + 8 <= width


def _round(value: float) -> float:
    return round(value, 1)


def shortened(text: str, width: float) -> str:
    """The text, cut so that it fits."""
    most = max(4, int(width / _CHARACTER))
    return text if len(text) <= most else text[: most - 1] + "…"


class Scale:
    """Time to x; what lies between two runs takes a fixed width, however long it was."""

    def __init__(self, spans: Sequence[tuple[float, float]], left: float, right: float) -> None:
        self.spans = list(spans)
        room = right - left - _BREAK * (len(spans) - 1)
        total = sum(end - start for start, end in spans)
        least = room / len(spans) / 3
        shares = [max((end - start) / total * room, least) for start, end in spans]
        factor = room / sum(shares)
        self.starts = []
        self.widths = [share * factor for share in shares]
        x = left
        for width in self.widths:
            self.starts.append(x)
            x += width + _BREAK

    def x(self, at: float) -> float:
        for (start, end), x, width in zip(self.spans, self.starts, self.widths):
            if at <= end or (start, end) == self.spans[-1]:
                return x + min(max((at - start) / (end - start), 0.0), 1.0) * width
        return self.starts[-1]

    def ticks(self) -> list[tuple[float, float]]:
        """(time, x), some 90 pixels apart, never too near to the end of a run."""
        found = []
        for (start, end), x, width in zip(self.spans, self.starts, self.widths):
            step = next((one for one in _TICKS if one / (end - start) * width >= 80), _TICKS[-1])
            at = -(-start // step) * step
            while at <= end:
                place = x + (at - start) / (end - start) * width
                if place - x >= 0 and x + width - place >= 0:
                    found.append((at, place))
                at += step
        return found


def masters_picture(line: Timeline, width: float) -> Picture:
    picture = Picture("masters", "The masters over time", _masters_description(line), width)
    narrow = picture.narrow
    left = 4.0 if narrow else 150.0
    scale = Scale(line.spans, left, width - 8)
    height, strip, pitch = 26.0, 9.0, 70.0 if narrow else 54.0
    top = 44.0
    first = top + (18 if narrow else 4)
    rows_end = top + pitch * len(line.masters)
    work_y = rows_end + 6
    bottom = work_y + (30 if line.work else 0)
    for start, end in line.mixed:
        x, until = scale.x(start), scale.x(end)
        span = max(until - x, 3.0)
        label = f"masters mixed, {duration(end - start)}"
        picture.box(x, 22, span, rows_end - 22 + 2, "mixed", label)
        text = next(
            (one for one in (label, "mixed " + duration(end - start), "mixed") if picture.fits(one, span)), None
        )
        middle = min(max(x + span / 2, left + len("mixed") * 4), width - 30)
        picture.text(middle, 36, text or "mixed", "strong mixed-text", "middle")
    for at, x in scale.ticks():
        picture.line([(x, top - 2), (x, bottom + 4)], "grid")
        picture.text(min(max(x, 24.0), width - 26), bottom + 19, clock(at), "muted", "middle")
    for (_begin, end), (start, _end), x, span in zip(line.spans, line.spans[1:], scale.starts, scale.widths):
        middle = x + span + _BREAK / 2
        zigzag = [
            (middle + (4 if step % 2 else -4), top - 6 + step * 9) for step in range(int((bottom - top) // 9) + 1)
        ]
        picture.line(zigzag, "break", f"{duration(start - end)} between two runs")
        picture.text(min(max(middle, left + 50), width - 60), 14, f"{duration(start - end)} later", "muted", "middle")
    for place, master in enumerate(line.masters):
        y = first + pitch * place
        note = f"out of service ≤ {duration(master.away)}" if master.away else ""
        if master.still_down:
            note = f"down for {duration(master.away)}"
        if narrow:
            picture.text(left, y - 5, shortened(master.name, 150), "strong")
            picture.text(width - 8, y - 5, note, "muted", "end")
        else:
            picture.text(left - 10, y + 13, shortened(master.name, left - 12), "strong", "end")
            picture.text(left - 10, y + 29, note.replace("out of service ", "away "), "muted", "end")
        for band in master.bands:
            x = scale.x(band.start)
            span = max(scale.x(band.end) - x, 1.0 if band.state != "down" else 3.0)
            label = {"down": "down", "upgrading": "upgrading", "unseen": ""}.get(band.state, _short(band.version))
            title = f"{master.name} {_state_words(band.state, band.version)}, {clock(band.start)} to {clock(band.end)} ({duration(band.end - band.start)})"
            picture.box(x, y, span, height, f"band {band.state}", title + (f": {band.note}" if band.note else ""))
            if label and picture.fits(label, span):
                picture.text(x + span / 2, y + 17, label, f"on-{band.state}", "middle")
        for part in master.progress:
            x = scale.x(part.start)
            span = max(scale.x(part.end) - x, 1.0)
            look = "new" if part.done == part.total else "old"
            title = f"{master.name} stores {part.done} of {things(part.total, 'changed resource')} in the new version, "
            title += f"{clock(part.start)} to {clock(part.end)}"
            picture.box(x, y + height + 3, span, strip, f"strip {look}", title)
    for start, end, label in line.work:
        x, until = scale.x(start), scale.x(end)
        span = max(until - x, 4.0)
        text = f"{label} {duration(end - start)}"
        picture.box(
            x, work_y, span, 18, "work", f"{label} objects, {clock(start)} to {clock(end)} ({duration(end - start)})"
        )
        if picture.fits(text, span):
            picture.text(x + span / 2, work_y + 13, text, "on-work", "middle")
        elif x - len(text) * _CHARACTER > left:
            picture.text(x - 6, work_y + 13, text, "muted", "end")
        else:
            picture.text(x + span + 6, work_y + 13, text, "muted")
    picture.height = bottom + 28
    return picture


def _short(version: str | None) -> str:
    return (version or "").lstrip("v")


def _state_words(state: str, version: str | None) -> str:
    return {
        "down": "is not ready",
        "upgrading": "is being upgraded",
        "unseen": "was not asked",
    }.get(state, f"is ready at {version}")


def _masters_description(line: Timeline) -> str:
    parts = []
    for master in line.masters:
        states = [f"{_state_words(band.state, band.version)} from {clock(band.start)}" for band in master.bands]
        parts.append(f"{master.name} {', '.join(states)}.")
    if line.mixed:
        parts += [f"Masters were mixed from {clock(start)} to {clock(end)}." for start, end in line.mixed]
    parts += [f"Objects were rewritten from {clock(start)} to {clock(end)}." for start, end, _label in line.work]
    return " ".join(parts)


# Objects rewritten over time


def rewritten_picture(migration: dict[str, Any], width: float) -> Picture:
    """Areas stacked by resource, the largest at the bottom."""
    final = {name: one["rewritten"] for name, one in migration["resources"].items() if one["rewritten"]}
    names = sorted(final, key=lambda name: (-final[name], name))
    shown, rest = names[:_SERIES], names[_SERIES:]
    total = sum(final.values())
    picture = Picture("rewritten", "Objects rewritten over time", "", width)
    picture.description = (
        f"{things(total, 'object')} rewritten in {duration(migration['seconds'])}: "
        + ", ".join(f"{number(final[name])} {name}" for name in names[:12])
        + (f", and {len(names) - 12} more resources" if len(names) > 12 else "")
        + "."
    )
    series = [(name, _curve(migration, [name], final)) for name in shown]
    if rest:
        series.append((f"{len(rest)} more", _curve(migration, rest, final)))
    left, right, top, height = 46.0, width - 10, 14.0, 170.0
    times = sorted({0.0, migration["seconds"], *(at for _name, curve in series for at, _count in curve)})
    longest = max(float(times[-1]), 0.001)
    step = _nice(total)
    ceiling: int = max(step, -(-total // step) * step)

    def x(at: float) -> float:
        return left + at / longest * (right - left)

    def y(count: float) -> float:
        return top + height - count / ceiling * height

    for level in range(0, int(ceiling) + 1, int(step)):
        picture.line([(left, y(level)), (right, y(level))], "grid")
        picture.text(left - 6, y(level) + 4, number(level), "muted", "end")
    tick = next((one for one in _TICKS if one / longest * (right - left) >= 60), _TICKS[-1])
    at = 0.0
    while at <= longest + 1e-9:
        picture.text(
            min(max(x(at), left + 6), right - 12),
            top + height + 18,
            f"{at:g} s" if tick < 60 else duration(at),
            "muted",
            "middle",
        )
        at += tick
    below = [0.0] * len(times)
    for place, (name, curve) in enumerate(series):
        values = _at_times(curve, times)
        above = [low + value for low, value in zip(below, values)]
        points = [(x(at), y(value)) for at, value in zip(times, above)]
        points += [(x(at), y(value)) for at, value in reversed(list(zip(times, below)))]
        picture.line(points, f"area s{place}", f"{name}: {number(int(values[-1]))} rewritten", close=True)
        below = above
    row_y, column = top + height + 42, left
    for place, (name, curve) in enumerate(series):
        label = f"{number(int(curve[-1][1]))} {name}"
        label = shortened(label, right - left - 20)
        needed = 30 + len(label) * _CHARACTER
        if column > left and column + needed > right:
            row_y, column = row_y + 20, left
        picture.box(column, row_y - 10, 12, 12, f"s{place}")
        picture.text(column + 18, row_y, label)
        column += needed
    picture.height = row_y + 12
    return picture


def _curve(migration: dict[str, Any], names: Sequence[str], final: dict[str, int]) -> list[tuple[float, float]]:
    """(seconds, rewritten so far) of some resources together."""
    now = dict.fromkeys(names, 0)
    points = [(0.0, 0.0)]
    for sample in migration["samples"]:
        moved = False
        for name in names:
            if name in sample["resources"]:
                now[name] = sample["resources"][name][1]
                moved = True
        if moved:
            points.append((sample["seconds"], float(sum(now.values()))))
    points.append((max(migration["seconds"], points[-1][0]), float(sum(final[name] for name in names))))
    return points


def _at_times(curve: Sequence[tuple[float, float]], times: Sequence[float]) -> list[float]:
    """The curve's values at these times, on straight lines between its points."""
    values, place = [], 0
    for at in times:
        while place + 1 < len(curve) and curve[place + 1][0] <= at:
            place += 1
        (start, low), (end, high) = curve[place], curve[min(place + 1, len(curve) - 1)]
        values.append(low if end <= start else low + (high - low) * (at - start) / (end - start))
    return values


def _nice(total: int) -> int:
    """A round step that gives three to six lines."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if total / (step * factor) <= 5:
                return step * factor
        step *= 10


# Stored versions


def stored_picture(rows: Sequence[StoredRow], width: float, wrong: str = "stale") -> Picture | None:
    """Before and after of each resource that had something stale, or is stored otherwise now; None if there is none."""
    moved = [row for row in rows if row.stale_before or row.stale_after or _moved(row)]
    if not moved:
        return None
    shown = moved[:_STORED_ROWS]
    picture = Picture("stored", "Stored versions in etcd before and after", _stored_description(shown), width)
    left = 64.0
    right = width - 10
    y = 8.0
    for row in shown:
        picture.text(4, y + 12, shortened(row.resource, (width - 10) / 1.1), "strong")
        y += 20
        scale = max(_objects(row.before), _objects(row.after), 1)
        for label, parts in (("before", row.before), ("after", row.after)):
            picture.text(left - 8, y + 14, label, "muted", "end")
            if parts is None:
                picture.text(left, y + 14, "etcd was not read", "muted")
            elif not parts:
                picture.text(left, y + 14, "no objects", "muted")
            _stored_bar(picture, parts or (), left, right, y, scale, f"{row.resource} {label}", wrong)
            y += 22
        y += 12
    if len(moved) > len(shown):
        picture.text(4, y + 10, f"and {len(moved) - len(shown)} more, in the table below", "muted")
        y += 20
    picture.height = y
    return picture


def _stored_bar(
    picture: Picture,
    parts: Sequence[StoredPart],
    left: float,
    right: float,
    y: float,
    scale: int,
    what: str,
    wrong: str,
) -> None:
    x = left
    for part in parts:
        width = max(part.objects / scale * (right - left), 2.0)
        look = "old" if part.stale else "new"
        label = f"{number(part.objects)} {part.label}"
        picture.box(x, y, width, 20, f"band {look}", f"{what}: {label}{f', {wrong}' if part.stale else ''}")
        for text in (label, part.label, number(part.objects)):
            if picture.fits(text, width):
                picture.text(x + width / 2, y + 14, text, f"on-{look}", "middle")
                break
        x += width


def held_picture(rows: Sequence[StoredRow], width: float) -> Picture | None:
    """What etcd holds now of the resources that come first; None if there is nothing."""
    shown = [row for row in rows if row.after][:_STORED_ROWS]
    if not shown:
        return None
    picture = Picture("held", "How objects are stored in etcd", "", width)
    picture.description = " ".join(f"{row.resource}: {parts_text(row.after)}." for row in shown)
    scale = max(_objects(row.after) for row in shown)
    y = 8.0
    for row in shown:
        picture.text(4, y + 12, shortened(row.resource, (width - 10) / 1.1), "strong")
        _stored_bar(picture, row.after or (), 4.0, width - 10, y + 19, scale, row.resource, "stale")
        y += 48
    picture.height = y
    return picture


def _moved(row: StoredRow) -> bool:
    """Whether a resource is stored otherwise than before; objects that came or went are no difference."""
    return bool(row.before and row.after) and _labels(row.before) != _labels(row.after)


def _labels(parts: Sequence[StoredPart] | None) -> set[str]:
    return {part.label for part in parts or ()}


def _objects(parts: Sequence[StoredPart] | None) -> int:
    return sum(part.objects for part in parts or ())


def parts_text(parts: Sequence[StoredPart] | None) -> str:
    if parts is None:
        return "not read"
    return ", ".join(f"{number(one.objects)} {one.label}{' (stale)' if one.stale else ''}" for one in parts) or "none"


def _stored_description(rows: Sequence[StoredRow]) -> str:
    return " ".join(f"{row.resource}: before {parts_text(row.before)}; after {parts_text(row.after)}." for row in rows)
