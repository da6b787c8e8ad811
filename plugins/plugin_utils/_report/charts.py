# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The charts of a report as shapes with coordinates, which the page's template writes as SVG. Pure.

Each is laid out twice, for wide and for narrow screens, so that text keeps its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import Migration
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.timeline import (
    MasterTimeline,
    StoredPart,
    StoredRow,
    Timeline,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.wording import (
    clock,
    number,
    things,
    time_taken,
)

WIDE, NARROW = 960.0, 372.0
_CHARACTER = 6.7  # its approximate width at 12 px
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
class Label:
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
class Chart:
    """``title`` and ``description`` are for people who can't see it."""

    name: str
    title: str
    description: str
    width: float
    height: float = 0.0
    boxes: list[Box] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    @property
    def narrow(self) -> bool:
        return self.width < 600

    def box(self, x: float, y: float, width: float, height: float, look: str, title: str | None = None) -> None:
        self.boxes.append(Box(_round(x), _round(y), _round(max(width, 0.0)), _round(height), look, title))

    def text(self, x: float, y: float, text: str, look: str = "", anchor: str = "start") -> None:
        self.labels.append(Label(_round(x), _round(y), text, look, anchor))

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
    """The text, truncated to fit."""
    most = max(4, int(width / _CHARACTER))
    return text if len(text) <= most else text[: most - 1] + "…"


class Scale:
    """Maps time to x; the time between two runs takes a fixed width, however long it was."""

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
            step = next((tick for tick in _TICKS if tick / (end - start) * width >= 80), _TICKS[-1])
            at = -(-start // step) * step
            while at <= end:
                place = x + (at - start) / (end - start) * width
                if place - x >= 0 and x + width - place >= 0:
                    found.append((at, place))
                at += step
        return found


# The masters over time

_TOP = 44.0
_BAND, _STRIP = 26.0, 9.0


@dataclass(frozen=True)
class _MastersLayout:
    """The positions of the masters' rows, and of the row of rewritten objects below them."""

    chart: Chart
    scale: Scale
    left: float
    pitch: float
    first: float
    rows_end: float
    bottom: float

    @property
    def width(self) -> float:
        return self.chart.width

    @property
    def work_y(self) -> float:
        return self.rows_end + 6


def _masters_layout(line: Timeline, width: float) -> _MastersLayout:
    chart = Chart("masters", "The masters over time", _masters_description(line), width)
    left, pitch = (4.0, 70.0) if chart.narrow else (150.0, 54.0)
    rows_end = _TOP + pitch * len(line.masters)
    return _MastersLayout(
        chart,
        Scale(line.spans, left, width - 8),
        left,
        pitch,
        first=_TOP + (18 if chart.narrow else 4),
        rows_end=rows_end,
        bottom=rows_end + 6 + (30 if line.rewriting else 0),
    )


def masters_chart(line: Timeline, width: float) -> Chart:
    layout = _masters_layout(line, width)
    for start, end in line.mixed:
        _draw_mixed(layout, start, end)
    draw_axis(layout.chart, layout.scale, _TOP - 2, layout.bottom + 4, layout.bottom + 19)
    tops = [layout.first + layout.pitch * place for place in range(len(line.masters))]
    draw_breaks(layout.chart, layout.scale, layout.left, [(y, y + _BAND + 3 + _STRIP) for y in tops], 14)
    for place, master in enumerate(line.masters):
        y = layout.first + layout.pitch * place
        _draw_name(layout, master, y)
        _draw_bands(layout, master, y)
        _draw_storing(layout, master, y + _BAND + 3)
    for start, end in line.rewriting:
        _draw_rewriting(layout, start, end)
    layout.chart.height = layout.bottom + 28
    return layout.chart


def _draw_mixed(layout: _MastersLayout, start: float, end: float) -> None:
    x = layout.scale.x(start)
    span = max(layout.scale.x(end) - x, 3.0)
    length = time_taken(end - start)
    layout.chart.box(x, 22, span, layout.rows_end - 22 + 2, "mixed", f"masters mixed, {length}")
    texts = (f"masters mixed, {length}", f"mixed {length}", "mixed")
    text = next((text for text in texts if layout.chart.fits(text, span)), "mixed")
    middle = min(max(x + span / 2, layout.left + len("mixed") * 4), layout.width - 30)
    layout.chart.text(middle, 36, text, "strong mixed-text", "middle")


def draw_axis(chart: Chart, scale: Scale, top: float, bottom: float, label_y: float) -> None:
    """Lines at round times, labeled where there is room: the last time of a run may be near the first of the next."""
    half = len(clock(0)) * _CHARACTER / 2 + 4
    free_from = 0.0
    for at, x in scale.ticks():
        chart.line([(x, top), (x, bottom)], "grid")
        middle = min(max(x, half), chart.width - half)
        if middle - half >= free_from - 0.1:
            chart.text(middle, label_y, clock(at), "muted", "middle")
            free_from = middle + half


def draw_breaks(chart: Chart, scale: Scale, left: float, rows: Sequence[tuple[float, float]], label_y: float) -> None:
    """Zigzags between two runs: beside each row's bars, given as (top, bottom), and not across the text between them."""
    for middle, length in breaks(scale):
        for top, bottom in rows:
            steps = int((bottom - top) // 9) + 2
            zigzag = [(middle + (4 if step % 2 else -4), min(top + step * 9, bottom)) for step in range(steps)]
            chart.line(zigzag, "break", f"{time_taken(length)} between two runs")
        x = min(max(middle, left + 50), chart.width - 60)
        chart.text(x, label_y, f"{time_taken(length)} later", "muted", "middle")


def breaks(scale: Scale) -> list[tuple[float, float]]:
    """(x, seconds) of the time between each run and the next."""
    ends = [x + width + _BREAK / 2 for x, width in zip(scale.starts, scale.widths)]
    return [(x, start - end) for x, (_begin, end), (start, _end) in zip(ends, scale.spans, scale.spans[1:])]


def _draw_name(layout: _MastersLayout, master: MasterTimeline, y: float) -> None:
    chart, left = layout.chart, layout.left
    note = ""
    if master.still_down:
        note = f"down for {time_taken(master.away)}"
    elif master.away:
        note = f"{'out of service' if chart.narrow else 'away'} ≤ {time_taken(master.away)}"
    if chart.narrow:
        chart.text(left, y - 5, shortened(master.name, 150), "strong")
        chart.text(layout.width - 8, y - 5, note, "muted", "end")
    else:
        chart.text(left - 10, y + 13, shortened(master.name, left - 12), "strong", "end")
        chart.text(left - 10, y + 29, note, "muted", "end")


def _draw_bands(layout: _MastersLayout, master: MasterTimeline, y: float) -> None:
    for band in master.bands:
        x = layout.scale.x(band.start)
        span = max(layout.scale.x(band.end) - x, 1.0 if band.state != "down" else 3.0)
        title = f"{master.name} {_state_text(band.state, band.version)}, {_from_to(band.start, band.end)}"
        title += f": {band.note}" if band.note else ""
        layout.chart.box(x, y, span, _BAND, f"band {band.state}", title)
        label = {"down": "down", "upgrading": "upgrading", "unseen": ""}.get(band.state, _short(band.version))
        if label and layout.chart.fits(label, span):
            layout.chart.text(x + span / 2, y + 17, label, f"on-{band.state}", "middle")


def _draw_storing(layout: _MastersLayout, master: MasterTimeline, y: float) -> None:
    for stored in master.storing:
        x = layout.scale.x(stored.start)
        span = max(layout.scale.x(stored.end) - x, 1.0)
        look = "new" if stored.done == stored.total else "old"
        title = f"{master.name} stores {stored.done} of {things(stored.total, 'changed resource')} in the new version, "
        title += f"{clock(stored.start)} to {clock(stored.end)}"
        layout.chart.box(x, y, span, _STRIP, f"strip {look}", title)


def _draw_rewriting(layout: _MastersLayout, start: float, end: float) -> None:
    chart, y = layout.chart, layout.work_y
    x = layout.scale.x(start)
    span = max(layout.scale.x(end) - x, 4.0)
    chart.box(x, y, span, 18, "work", f"rewriting objects, {_from_to(start, end)}")
    text = f"rewriting {time_taken(end - start)}"
    if chart.fits(text, span):
        chart.text(x + span / 2, y + 13, text, "on-work", "middle")
    elif x - len(text) * _CHARACTER > layout.left:
        chart.text(x - 6, y + 13, text, "muted", "end")
    else:
        chart.text(x + span + 6, y + 13, text, "muted")


def _from_to(start: float, end: float) -> str:
    return f"{clock(start)} to {clock(end)} ({time_taken(end - start)})"


def _short(version: str | None) -> str:
    return (version or "").lstrip("v")


def _state_text(state: str, version: str | None) -> str:
    return {
        "down": "is not ready",
        "upgrading": "is being upgraded",
        "unseen": "was not asked",
    }.get(state, f"is ready at {version}")


def _masters_description(line: Timeline) -> str:
    parts = []
    for master in line.masters:
        states = [f"{_state_text(band.state, band.version)} from {clock(band.start)}" for band in master.bands]
        parts.append(f"{master.name} {', '.join(states)}.")
    if line.mixed:
        parts += [f"Masters were mixed from {clock(start)} to {clock(end)}." for start, end in line.mixed]
    parts += [f"Objects were rewritten from {clock(start)} to {clock(end)}." for start, end in line.rewriting]
    return " ".join(parts)


# Objects rewritten over time


Curve = Sequence[tuple[float, float]]  # (seconds, objects rewritten so far)


@dataclass(frozen=True)
class _AreaLayout:
    """The plane of the areas: ``longest`` seconds wide, ``ceiling`` objects high."""

    chart: Chart
    longest: float
    ceiling: int
    left: float = 46.0
    top: float = 14.0
    height: float = 170.0

    @property
    def right(self) -> float:
        return self.chart.width - 10

    def x(self, at: float) -> float:
        return self.left + at / self.longest * (self.right - self.left)

    def y(self, count: float) -> float:
        return self.top + self.height - count / self.ceiling * self.height


def rewritten_chart(migration: Migration, width: float) -> Chart:
    """Areas stacked by resource, the largest at the bottom."""
    final = {name: found.rewritten for name, found in migration.resources.items() if found.rewritten}
    names = sorted(final, key=lambda name: (-final[name], name))
    description = _rewritten_description(migration, names, final)
    chart = Chart("rewritten", "Objects rewritten over time", description, width)
    series = _series(migration, names, final)
    times = sorted({0.0, migration.seconds, *(at for _name, curve in series for at, _count in curve)})
    step = _nice(sum(final.values()))
    ceiling = max(step, -(-sum(final.values()) // step) * step)
    layout = _AreaLayout(chart, max(float(times[-1]), 0.001), ceiling)
    _draw_levels(layout, step)
    _draw_seconds(layout)
    _draw_areas(layout, series, times)
    _draw_legend(layout, series)
    return chart


def _rewritten_description(migration: Migration, names: Sequence[str], final: Mapping[str, int]) -> str:
    told = ", ".join(f"{number(final[name])} {name}" for name in names[:12])
    more = f", and {len(names) - 12} more resources" if len(names) > 12 else ""
    return f"{things(sum(final.values()), 'object')} rewritten in {time_taken(migration.seconds)}: {told}{more}."


def _series(migration: Migration, names: Sequence[str], final: Mapping[str, int]) -> list[tuple[str, Curve]]:
    """A curve for each of the largest resources, and one for the rest."""
    shown, rest = names[:_SERIES], names[_SERIES:]
    series = [(name, _curve(migration, [name], final)) for name in shown]
    return [*series, (f"{len(rest)} more", _curve(migration, rest, final))] if rest else series


def _draw_levels(layout: _AreaLayout, step: int) -> None:
    for level in range(0, layout.ceiling + 1, step):
        y = layout.y(level)
        layout.chart.line([(layout.left, y), (layout.right, y)], "grid")
        layout.chart.text(layout.left - 6, y + 4, number(level), "muted", "end")


def _draw_seconds(layout: _AreaLayout) -> None:
    per_second = (layout.right - layout.left) / layout.longest
    tick = next((tick for tick in _TICKS if tick * per_second >= 60), _TICKS[-1])
    for place in range(int((layout.longest + 1e-9) / tick) + 1):
        x = min(max(layout.x(place * tick), layout.left + 6), layout.right - 12)
        text = f"{place * tick:g} s" if tick < 60 else time_taken(place * tick)
        layout.chart.text(x, layout.top + layout.height + 18, text, "muted", "middle")


def _draw_areas(layout: _AreaLayout, series: Sequence[tuple[str, Curve]], times: Sequence[float]) -> None:
    below = [0.0] * len(times)
    for place, (name, curve) in enumerate(series):
        values = _at_times(curve, times)
        above = [low + value for low, value in zip(below, values)]
        points = [(layout.x(at), layout.y(value)) for at, value in zip(times, above)]
        points += [(layout.x(at), layout.y(value)) for at, value in reversed(list(zip(times, below)))]
        title = f"{name}: {number(int(values[-1]))} rewritten"
        layout.chart.line(points, f"area s{place}", title, close=True)
        below = above


def _draw_legend(layout: _AreaLayout, series: Sequence[tuple[str, Curve]]) -> None:
    chart, y, x = layout.chart, layout.top + layout.height + 42, layout.left
    for place, (name, curve) in enumerate(series):
        label = shortened(f"{number(int(curve[-1][1]))} {name}", layout.right - layout.left - 20)
        needed = 30 + len(label) * _CHARACTER
        if x > layout.left and x + needed > layout.right:
            y, x = y + 20, layout.left
        chart.box(x, y - 10, 12, 12, f"s{place}")
        chart.text(x + 18, y, label)
        x += needed
    chart.height = y + 12


def _curve(migration: Migration, names: Sequence[str], final: Mapping[str, int]) -> Curve:
    """(seconds, rewritten so far) of some resources together."""
    now = dict.fromkeys(names, 0)
    points = [(0.0, 0.0)]
    for sample in migration.samples:
        counts = {name: sample.resources[name][1] for name in names if name in sample.resources}
        now.update(counts)
        if counts:
            points.append((sample.seconds, float(sum(now.values()))))
    points.append((max(migration.seconds, points[-1][0]), float(sum(final[name] for name in names))))
    return points


def _at_times(curve: Curve, times: Sequence[float]) -> list[float]:
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


def stored_chart(rows: Sequence[StoredRow], width: float, wrong: str = "stale") -> Chart | None:
    """Before and after, for each resource that had stale objects or is stored differently now; None if there is none."""
    moved = [row for row in rows if row.stale_before or row.stale_after or _moved(row)]
    if not moved:
        return None
    shown = moved[:_STORED_ROWS]
    chart = Chart("stored", "Stored versions in etcd before and after", _stored_description(shown), width)
    left = 64.0
    right = width - 10
    y = 8.0
    for row in shown:
        chart.text(4, y + 12, shortened(row.resource, (width - 10) / 1.1), "strong")
        y += 20
        scale = max(_objects(row.before), _objects(row.after), 1)
        for label, parts in (("before", row.before), ("after", row.after)):
            chart.text(left - 8, y + 14, label, "muted", "end")
            if parts is None:
                chart.text(left, y + 14, "etcd was not read", "muted")
            elif not parts:
                chart.text(left, y + 14, "no objects", "muted")
            _stored_bar(chart, parts or (), left, right, y, scale, f"{row.resource} {label}", wrong)
            y += 22
        y += 12
    if len(moved) > len(shown):
        chart.text(4, y + 10, f"and {len(moved) - len(shown)} more, in the table below", "muted")
        y += 20
    chart.height = y
    return chart


def _stored_bar(
    chart: Chart,
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
        look = "stale" if part.stale else "current"
        label = f"{number(part.objects)} {part.label}"
        chart.box(x, y, width, 20, f"band {look}", f"{what}: {label}{f', {wrong}' if part.stale else ''}")
        for text in (label, part.label, number(part.objects)):
            if chart.fits(text, width):
                chart.text(x + width / 2, y + 14, text, f"on-{look}", "middle")
                break
        x += width


def held_chart(rows: Sequence[StoredRow], width: float) -> Chart | None:
    """The current content of etcd for the first resources; None if there is nothing."""
    shown = [row for row in rows if row.after][:_STORED_ROWS]
    if not shown:
        return None
    chart = Chart("held", "How objects are stored in etcd", "", width)
    chart.description = " ".join(f"{row.resource}: {parts_text(row.after)}." for row in shown)
    scale = max(_objects(row.after) for row in shown)
    y = 8.0
    for row in shown:
        chart.text(4, y + 12, shortened(row.resource, (width - 10) / 1.1), "strong")
        _stored_bar(chart, row.after or (), 4.0, width - 10, y + 19, scale, row.resource, "stale")
        y += 48
    chart.height = y
    return chart


def _moved(row: StoredRow) -> bool:
    """Whether a resource is stored differently than before; the number of objects does not matter."""
    return bool(row.before and row.after) and _labels(row.before) != _labels(row.after)


def _labels(parts: Sequence[StoredPart] | None) -> set[str]:
    return {part.label for part in parts or ()}


def _objects(parts: Sequence[StoredPart] | None) -> int:
    return sum(part.objects for part in parts or ())


def parts_text(parts: Sequence[StoredPart] | None) -> str:
    if parts is None:
        return "not read"
    return (
        ", ".join(f"{number(part.objects)} {part.label}{' (stale)' if part.stale else ''}" for part in parts) or "none"
    )


def _stored_description(rows: Sequence[StoredRow]) -> str:
    return " ".join(f"{row.resource}: before {parts_text(row.before)}; after {parts_text(row.after)}." for row in rows)
