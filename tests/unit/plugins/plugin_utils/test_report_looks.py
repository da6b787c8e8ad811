# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How reports look, as far as it can be computed: contrast in the charts, and text that nothing crosses. Browsers check the rest."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report import charts, record, rotation_page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.page import page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import read_record
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.timeline import timeline
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.report_data import (
    first_run_fails,
    second_run_finishes,
)

RECORDS = Path(__file__).parent / "records"
STYLE = (Path(charts.__file__).parent / "base.html.j2").read_text(encoding="utf-8")
# What is written on what: text on the page, and labels on the shapes of charts.
WRITTEN = [
    *((ink, paper) for ink in ("ink", "muted", "link") for paper in ("page", "card")),
    ("ink", "mixed"),
    ("muted", "mixed"),
    ("mixed-ink", "mixed"),
    *((f"on-{shape}", shape) for shape in ("old", "new", "down", "upgrading", "work", "stale", "current")),
    *((tone, f"{tone}-card") for tone in ("good", "bad", "fair", "open")),
]


def palettes() -> dict[str, dict[str, str]]:
    """The colors of each medium, by name."""
    light, dark, printed = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    found = {"light": light, "dark": light + dark, "print": light + printed}
    return {medium: dict(re.findall(r"--([\w-]+): (#\w+)", text)) for medium, text in found.items()}


def luminance(color: str) -> float:
    digits = "".join(digit * 2 for digit in color[1:]) if len(color) == 4 else color[1:]
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("medium", ["light", "dark", "print"])
def test_text_has_contrast(medium: str) -> None:
    colors = palettes()[medium]
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    poor = {pair: round(contrast(colors[pair[0]], colors[pair[1]]), 2) for pair in WRITTEN}
    assert not {pair: ratio for pair, ratio in poor.items() if ratio < 4.5}


def drawn(width: float) -> list[charts.Chart]:
    rotation = read_record(json.loads((RECORDS / "key_rotation.json").read_text(encoding="utf-8")))
    assert isinstance(rotation, record.Record)
    upgrade = second_run_finishes(first_run_fails()).record
    return [charts.masters_chart(timeline(upgrade), width), rotation_page.steps_chart(rotation, width)]


def extent(label: charts.Label) -> tuple[float, float]:
    size = len(label.text) * 6.7
    left = label.x - {"start": 0.0, "middle": size / 2, "end": size}[label.anchor]
    return left, left + size


@pytest.mark.parametrize("width", [charts.WIDE, charts.NARROW])
def test_labels_are_within_the_chart_and_apart_from_each_other(width: float) -> None:
    for chart in drawn(width):
        for place, label in enumerate(chart.labels):
            left, right = extent(label)
            assert left >= 0 and right <= width, label
            for other in chart.labels[place + 1 :]:
                if abs(other.y - label.y) < 11:
                    other_left, other_right = extent(other)
                    assert right <= other_left or other_right <= left, (label, other)


@pytest.mark.parametrize("width", [charts.WIDE, charts.NARROW])
def test_the_line_between_two_runs_crosses_no_text(width: float) -> None:
    for chart in drawn(width):
        zigzags = [line for line in chart.lines if line.look == "break"]
        assert zigzags
        for line in zigzags:
            points = [tuple(map(float, point.split())) for point in line.d.removeprefix("M").split(" L")]
            xs, ys = zip(*points)
            for label in chart.labels:
                left, right = extent(label)
                apart = right < min(xs) or left > max(xs) or label.y - 9 > max(ys) or label.y < min(ys)
                assert apart, (label, line)


class Cells(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.unnamed: list[str] = []
        self.named = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "td":
            if dict(attrs).get("data-t"):
                self.named += 1
            else:
                self.unnamed.append(str(self.getpos()))


@pytest.mark.parametrize("name", ["upgrade", "upgrade_failed", "key_rotation", "check", "audit"])
def test_on_a_phone_each_value_has_its_columns_title(name: str) -> None:
    cells = Cells(page(read_record(json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))), "r.json"))
    assert cells.named and not cells.unnamed
