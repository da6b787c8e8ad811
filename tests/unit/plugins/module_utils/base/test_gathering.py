# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bounded gathering."""

from __future__ import annotations

import asyncio

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.gathering import gather_limited


def test_answers_are_in_order_and_no_more_than_the_limit_at_once() -> None:
    at_work: set[int] = set()
    most = 0

    async def ask(number: int) -> int:
        nonlocal most
        at_work.add(number)
        most = max(most, len(at_work))
        for _turn in range(10 - number):
            await asyncio.sleep(0)
        at_work.discard(number)
        return number * 2

    assert asyncio.run(gather_limited(3, ask, range(10))) == [number * 2 for number in range(10)]
    assert most == 3


def test_the_first_error_ends_all() -> None:
    cancelled: list[int] = []

    async def ask(number: int) -> None:
        if number == 1:
            raise ValueError("no")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    with pytest.raises(ValueError, match="no"):
        asyncio.run(gather_limited(2, ask, range(5)))
    assert 0 in cancelled and 4 not in cancelled
