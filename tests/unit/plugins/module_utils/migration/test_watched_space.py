# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a run looks at etcd's space, and what it makes of what it sees."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import MigrationIncompleteError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.space import Amount, Member
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration import background
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import Control
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.space import (
    ETCD,
    Found,
    Space,
    nothing_known,
)

MIB = 1 << 20
NOTHING = {"etcd": Amount(at_most=0)}


class Database:
    """etcd with a quota of 48 MiB."""

    def __init__(self, size: float) -> None:
        self.size = size
        self.looks = 0

    async def look(self) -> Found:
        self.looks += 1
        return {"etcd": (Member("etcd-0", int(self.size * MIB), in_use=int(self.size * MIB)),)}

    def space(self) -> Space:
        return Space(self.look, source=ETCD, quota=48 * MIB, patience=600.0)


def test_what_becomes_stale_during_a_run_is_written_only_with_room_in_etcd(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was not watched, as nothing was stale at first; a later pass then wrote whatever etcd's size."""
    monkeypatch.setattr(background, "_IS_ANYTHING_TO_WRITE_EVERY", 0.01)
    database, control = Database(20), Control()
    space = database.space()

    async def main() -> None:
        await space.evaluate(NOTHING)
        assert space.may_write and not space.watched, "with nothing to write, a lack of room is nothing to stop for"
        context: Any = SimpleNamespace(space=space, control=control, report=lambda event: None)
        watching = asyncio.create_task(background._watch_space(context))
        done, _waiting = await asyncio.wait({watching}, timeout=0.05)
        assert database.looks == 1 and not done
        database.size = 47.5
        await space.watch()
        assert space.watched and not space.may_write
        await asyncio.wait_for(watching, 30)

    asyncio.run(main())
    assert isinstance(control.stopped, MigrationIncompleteError)
    assert "Stopped before etcd is full" in control.stopped.message


def test_where_nothing_is_known_nothing_is_watched() -> None:
    space = nothing_known()

    async def main() -> None:
        await space.watch()
        context: Any = SimpleNamespace(space=space, control=Control(), report=lambda event: None)
        await asyncio.wait_for(background._watch_space(context), 5)

    asyncio.run(main())
    assert space.may_write and not space.watched


def test_what_can_not_be_listed_has_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken for nothing, so the progress knew a total that was too small; it is asked for once."""
    monkeypatch.setattr(background, "_COUNT_EVERY", 0.001)
    asked: list[str] = []

    async def count(_cluster: Any, target: Any) -> int | None:
        asked.append(target.name)
        return {"pods": 7}.get(target.name)

    monkeypatch.setattr(background, "count_objects", count)
    runs = {name: SimpleNamespace(target=SimpleNamespace(name=name), total=None) for name in ("pods", "secrets")}
    context: Any = SimpleNamespace(cluster=None, result=SimpleNamespace(runs=runs))

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(background._count_ahead(context), 0.2)

    asyncio.run(main())
    assert [run.total for run in runs.values()] == [7, None] and asked == ["pods", "secrets"]
