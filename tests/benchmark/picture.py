# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The figures as one picture: a panel for each part, bars for its figures, its targets below. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from tests.benchmark.figures import check_text, number

_WIDTH, _MARGIN = 1000, 28
_LABELS = 430  # where bars begin
_BARS = 370  # the longest bar
_ROW, _BAR, _REASON = 24, 14, 14
_INK, _SOFT, _LINE = "#1b2733", "#5c6b7a", "#dde3e9"
_OURS, _THEIRS = "#2f6fde", "#a9b6c3"
_MARKS = {True: ("#1a8f4c", "✓"), False: ("#c8352b", "✗"), None: (_SOFT, "·")}
_FONT = "'DejaVu Sans', Verdana, 'Segoe UI', sans-serif"


def draw(report: Mapping[str, Any]) -> str:
    """The SVG document."""
    body: list[str] = []
    top = _MARGIN + 22
    body.append(_text(_MARGIN, top, "kube_storage.upgrade: how fast, and how close to the limit", size=19, bold=True))
    top += 24
    for line in _about(report):
        body.append(_text(_MARGIN, top, line, size=12, fill=_SOFT))
        top += 18
    body.append(_key(top + 4))
    top += 26
    for part in report["parts"].values():
        panel, top = _panel(part, top)
        body += panel
    height = top + _MARGIN // 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="{_FONT}" role="img" aria-label="Benchmark results">\n'
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _about(report: Mapping[str, Any]) -> list[str]:
    """What was measured on, once for each machine."""
    seen = []
    for part in report["parts"].values():
        machine = part["machine"]
        text = f"{machine['cores']} cores ({machine['cpu']}), Kubernetes {machine['kubernetes']}, Python {machine['python']}"
        if text not in seen:
            seen.append(text)
    return [*seen, "API servers, etcd and clients share these cores. Bars are medians; thin lines span all rounds."]


def _key(top: int) -> str:
    parts = []
    at = _MARGIN
    for fill, label in ((_OURS, "this collection"), (_THEIRS, "what it is compared with")):
        parts.append(f'<rect x="{at}" y="{top - 9}" width="12" height="10" rx="2" fill="{fill}"/>')
        parts.append(_text(at + 18, top, label, size=12, fill=_SOFT))
        at += 150
    return "".join(parts)


def _panel(part: Mapping[str, Any], top: int) -> tuple[list[str], int]:
    """(elements, where the next panel begins)."""
    body = [f'<line x1="{_MARGIN}" y1="{top}" x2="{_WIDTH - _MARGIN}" y2="{top}" stroke="{_LINE}"/>']
    top += 26
    body.append(_text(_MARGIN, top, part["title"], size=14, bold=True))
    top += 12
    longest = _longest(part["figures"])
    for figure in part["figures"]:
        body += _bar(figure, top, _BARS / longest[figure["unit"]])
        top += _ROW
        if figure["limited_by"]:
            body.append(_text(_LABELS, top + 6, figure["limited_by"], size=10, fill=_SOFT))
            top += _REASON
    top += 16
    for check in part["checks"]:
        fill, mark = _MARKS[check["met"]]
        body.append(_text(_MARGIN, top, mark, size=13, fill=fill, bold=True))
        body.append(_text(_MARGIN + 18, top, check_text(check), size=12, fill=fill))
        top += 19
    return body, top


def _longest(figures: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The largest number of each unit: figures of one unit share one scale."""
    found: dict[str, float] = {}
    for figure in figures:
        found[figure["unit"]] = max(found.get(figure["unit"], 0.0), *figure["runs"], 1e-9)
    return found


def _bar(figure: Mapping[str, Any], top: int, scale: float) -> list[str]:
    middle = top + _ROW / 2
    runs, fill = figure["runs"], _OURS if figure["ours"] else _THEIRS
    length = max(1.0, figure["median"] * scale)
    body = [
        _text(_LABELS - 12, middle + 4, figure["name"], size=12, anchor="end"),
        f'<rect x="{_LABELS}" y="{middle - _BAR / 2}" width="{length:.1f}" height="{_BAR}" rx="2" fill="{fill}"/>',
    ]
    end = length
    if len(runs) > 1 and max(runs) > min(runs):
        low, high = min(runs) * scale, max(runs) * scale
        body.append(
            f'<path d="M{_LABELS + low:.1f} {middle}H{_LABELS + high:.1f}M{_LABELS + low:.1f} {middle - 4}v8'
            f'M{_LABELS + high:.1f} {middle - 4}v8" stroke="{_INK}" fill="none"/>'
        )
        end = max(length, high)
    body.append(_text(_LABELS + end + 8, middle + 4, f"{number(figure['median'])} {figure['unit']}", size=12))
    return body


def _text(
    x: float, y: float, text: str, *, size: int, fill: str = _INK, bold: bool = False, anchor: str = "start"
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    where = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}"{weight}{where}>{escape(text)}</text>'
