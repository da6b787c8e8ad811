# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The benchmark's arithmetic and its two outputs; what is measured is never a test."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.benchmark.figures import Check, Part, Plain, number, table, what_is_possible
from tests.benchmark.picture import draw


@pytest.fixture
def part() -> Part:
    part = Part("flood", "stale <ConfigMaps> & more")
    limit = part.figure("flood", "objects/s")
    module = part.figure("module", "objects/s", ours=True)
    # The machine was busy in the second round, for both.
    limit.runs += [400.0, 200.0, 420.0]
    module.runs += [392.0, 198.0, 399.0]
    part.ratio("module / flood", module, limit, 0.95)
    part.ratio("module / flood, too strict", module, limit, 0.99)
    part.checks.append(Check("memory", 80.0, "MiB", 150, at_most=True))
    part.checks.append(Check("only reported", 3.2))
    return part


def test_a_ratio_is_the_median_of_the_ratios_of_each_round(part: Part) -> None:
    assert part.checks[0].value == pytest.approx(392 / 400)
    assert [check.met for check in part.checks] == [True, False, True, None]


def test_a_figure_is_made_once(part: Part) -> None:
    assert part.figure("flood").runs == [400.0, 200.0, 420.0]
    assert part.figure("flood").median == 400.0


def test_the_table_shows_medians_spread_and_missed_targets(part: Part) -> None:
    text = table(part.as_dict())
    assert "400 objects/s  200 … 420" in text
    assert "ok     module / flood: 0.98× (at least 0.95)" in text
    assert "MISSED module / flood, too strict: 0.98× (at least 0.99)" in text
    assert "ok     memory: 80 MiB (at most 150)" in text
    assert "only reported: 3.20×" in text


def test_the_picture_is_well_formed_and_names_everything(part: Part) -> None:
    machine = {"cores": 2, "cpu": "a cpu", "kubernetes": "v1.37.2", "python": "3.11.7"}
    svg = draw({"parts": {"flood": {**part.as_dict(), "machine": machine}}})
    texts = [element.text for element in ElementTree.fromstring(svg).iter() if element.text]
    assert "stale <ConfigMaps> & more" in texts
    assert "400 objects/s" in texts
    assert any("too strict" in text for text in texts)


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345.6, "12,346"), (80.04, "80.0"), (80.0, "80"), (0.973, "0.97"), (0, "0"), (5.0, "5"), (-250.0, "-250")],
)
def test_numbers_as_a_person_would_write_them(value: float, text: str) -> None:
    assert number(value) == text


SLOW, MIDDLE, FAST = (
    Plain("1 in flight", 0.41, 1.1, 2.0),
    Plain("3 in flight", 0.82, 1.4, 2.9),
    Plain("8 in flight", 1.0, 3.2, 6.0),
)


def test_the_table_says_whether_any_client_could_meet_the_targets() -> None:
    assert what_is_possible([SLOW, MIDDLE, FAST], 1.5, 2.5, 0.9) == (
        "No plain client meets all targets here: the kindest that is fast enough is 8 in flight, 1.00 of the best flood, p50 3.20 times, "
        "p99 6.00 times; the fastest that spares the others is 1 in flight, 0.41 of the best flood, p50 1.10 times, p99 2.00 times."
    )
    assert what_is_possible([MIDDLE, FAST], 1.5, 2.5, 0.9).endswith("; none spares the others.")


def test_a_target_that_a_plain_client_meets_is_possible() -> None:
    assert what_is_possible([SLOW, MIDDLE, FAST], 1.5, 3.0, 0.8).startswith("All targets can be met here: 3 in flight,")
