# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the size of a page follows the time that pages take."""

from __future__ import annotations

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.paging import PageSize


def settle(size: PageSize, seconds_each: float) -> int:
    for _page in range(20):
        size.took = size.size * seconds_each
        size.answered(size.size)
    return size.size


@pytest.mark.parametrize(
    ("seconds_each", "fewest", "most"),
    [(0.0001, 500, 500), (0.001, 250, 500), (0.01, 12, 50), (0.1, 5, 5), (10.0, 5, 5)],
    ids=["small objects", "a slow server", "100 kB", "1 MB", "hopeless"],
)
def test_a_page_takes_half_a_second_at_most(seconds_each: float, fewest: int, most: int) -> None:
    assert fewest <= settle(PageSize(500), seconds_each) <= most


def test_it_begins_with_few_and_never_exceeds_the_option() -> None:
    assert PageSize(500).size == 100 and PageSize(20).size == 20
    assert settle(PageSize(20), 0.0) == 20


def test_small_objects_after_large_ones_bring_large_pages_again() -> None:
    size = PageSize(500)
    settle(size, 0.1)
    assert settle(size, 0.0001) == 500


def test_the_last_page_says_nothing_about_larger_ones() -> None:
    size = PageSize(500, took=0.001)
    size.answered(3)
    assert size.size == 100


def test_no_answer_in_time_asks_for_fewer() -> None:
    size = PageSize(500)
    size.too_slow()
    assert size.size == 25
    for _try in range(5):
        size.too_slow()
    assert size.size == 5
