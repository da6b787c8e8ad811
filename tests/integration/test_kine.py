# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kine without API servers: its Unix socket, its revisions, and what it refuses. test_on_kine.py has a cluster on it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError, EtcdError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd import scan as scanning
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.access import CompactedError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd, Page, end_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.opening import open_etcd
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import KeyMap, changes_since, scan
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import http2

from .support.databases import DATABASES, Database, MariaDB, PostgreSQL, new_database
from .support.kine import KineAlone

CONFIG_MAPS = b"/registry/configmaps/"
OURS = "/registry/configmaps/default/"


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    database = new_database(request.param, tmp_path)
    yield database
    database.stop()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[KineAlone]:
    kine = KineAlone(tmp_path, "--compact-min-retain=1").await_ready()
    yield kine
    kine.stop()


@pytest.fixture
def on_any(tmp_path: Path, database: Database) -> Iterator[KineAlone]:
    kine = KineAlone(tmp_path, "--compact-min-retain=1", database=database).await_ready()
    yield kine
    kine.stop()


def revisions(page: Page) -> dict[str, int]:
    return {base64.b64decode(item["key"]).decode(): int(item["mod_revision"]) for item in page.items()}


def test_changes_since_a_scan_are_found_without_the_filter_of_etcd(
    on_any: KineAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted stretch by stretch: no database may get a zero byte in the end of a range, as PostgreSQL takes none."""
    monkeypatch.setattr(scanning, "_STRETCH_OBJECTS", 100)
    on_any.put([f"{OURS}{number:03d}" for number in range(300)])

    async def read() -> None:
        async with open_etcd(on_any.option) as etcd:
            first = await scan(etcd, keep=1000)
            assert first.consistent and list(first.internal) == ["health"] and first.objects == 301
            assert len(first.stretches[0]) > 2
            on_any.put([f"{OURS}007", f"{OURS}new"])
            later = await changes_since(etcd, first, KeyMap(), keep=1000)
            (variant,) = later.resources["configmaps"]
            kept = later.resources["configmaps"][variant].kept
            assert kept is not None and [stored.name for stored in kept] == ["007", "new"]

    asyncio.run(read())


def test_a_zero_byte_at_the_end_of_a_range_is_not_what_it_is_in_etcd(on_any: KineAlone) -> None:
    """Why stretches don't end after a key, with a zero byte: MariaDB doesn't sort it, and PostgreSQL takes none.

    Where the next page starts, kine replaces it.
    """
    on_any.put([f"{OURS}{number}" for number in range(4)])
    first, last = f"{OURS}0".encode(), f"{OURS}2".encode()

    async def read(start: bytes, end: bytes) -> list[str]:
        async with open_etcd(on_any.option) as etcd:
            return sorted(key.removeprefix(OURS) for key in revisions(await etcd.range(start, end)))

    assert asyncio.run(read(first + b"\0", last)) == ["1"]
    if isinstance(on_any.database, PostgreSQL):
        with pytest.raises(EtcdError, match="UTF8"):
            asyncio.run(read(first, last + b"\0"))
    else:
        its_own = [] if isinstance(on_any.database, MariaDB) else ["2"]
        assert asyncio.run(read(first, last + b"\0")) == ["0", "1", *its_own]


def test_a_revision_that_was_compacted_away_is_refused(on_any: KineAlone) -> None:
    on_any.put([f"{OURS}{number}" for number in range(5)])

    async def read() -> None:
        async with open_etcd(on_any.option) as etcd:
            old = (await etcd.range(CONFIG_MAPS, end_of(CONFIG_MAPS), limit=1)).revision
            on_any.put([f"{OURS}0", f"{OURS}1", f"{OURS}2"])
            new = (await etcd.range(CONFIG_MAPS, end_of(CONFIG_MAPS), limit=1)).revision
            assert revisions(await etcd.range(CONFIG_MAPS, end_of(CONFIG_MAPS), revision=old)) == expected(on_any, old)
            on_any.compact(new - 1)
            with pytest.raises(CompactedError):
                await etcd.range(CONFIG_MAPS, end_of(CONFIG_MAPS), revision=old)
            assert revisions(await etcd.range(CONFIG_MAPS, end_of(CONFIG_MAPS), revision=new)) == expected(on_any, new)
            with pytest.raises(EtcdError, match="future revision"):
                await etcd.range(CONFIG_MAPS, end_of(CONFIG_MAPS), revision=new + 100)

    def expected(kine: KineAlone, revision: int) -> dict[str, int]:
        rows = kine.database.rows(revision)
        return {key: row.mod_revision for key, row in rows.items() if key.startswith(OURS)}

    asyncio.run(read())


def test_a_socket_that_can_not_be_used_is_named(
    alone: KineAlone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(option: Mapping[str, Any]) -> Etcd:
        async with open_etcd(option) as etcd:
            await etcd.range(b"a", b"b")
            return etcd

    asyncio.run(read(alone.option))
    with pytest.raises(EtcdError, match=r"none\.sock does not exist; check the path"):
        asyncio.run(read({"endpoints": [f"unix://{tmp_path}/none.sock"]}))
    with pytest.raises(BadInputError, match="can't be used with a Unix socket"):
        asyncio.run(read({**alone.option, "proxy": "socks5://127.0.0.1:1"}))
    monkeypatch.setattr(http2, "is_available", lambda: False)
    with pytest.raises(EtcdError, match=r"can only be read over gRPC; install the Python library h2"):
        asyncio.run(read(alone.option))
    monkeypatch.undo()
    alone.stop()
    with pytest.raises(EtcdError, match="does not exist|Nobody listens at"):
        asyncio.run(read(alone.option))
