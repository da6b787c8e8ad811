# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Awaits many questions at once, up to a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


async def gather_limited(limit: int, ask: Callable[[Item], Awaitable[Answer]], items: Iterable[Item]) -> list[Answer]:
    """The answers in the order of the items; at most ``limit`` are awaited at once.

    The first error is raised, and everything that is still unanswered is canceled.
    """
    slots = asyncio.Semaphore(limit)

    async def limited(item: Item) -> Answer:
        async with slots:
            return await ask(item)

    tasks = [asyncio.ensure_future(limited(item)) for item in items]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
