# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A scan is whole or an error, also where kine answers other than etcd does (k3s-io/kine, pkg/logstructured/sqllog)."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any, cast

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd import scan as scanning
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd, EtcdError, Page
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import changes_since, scan

OBJECT = b'{"kind":"ConfigMap","apiVersion":"v1"}'


def key_of(number: int) -> bytes:
    return b"/registry/configmaps/default/%05d" % number


class Kine:
    """A thousand ConfigMaps and kine's own key. ``cuts``: how many pages end early, as if they were the last."""

    endpoints = ("unix:///kine.sock",)
    prefix = "/registry"

    def __init__(self, cuts: int = 0) -> None:
        self.cuts = cuts
        self.revision = 100
        self.rows = {key_of(number): (10, OBJECT) for number in range(1000)}
        self.rows[b"/registry/health"] = (1, b"{}")

    def write(self, key: bytes) -> None:
        self.revision += 1
        self.rows[key] = (self.revision, OBJECT)

    def keys(self, start: bytes, end: bytes) -> list[bytes]:
        return [key for key in self.rows if start <= key < end]

    async def range(
        self, start: bytes, end: bytes | None, *, limit: int = 0, min_mod_revision: int = 0, **asked: Any
    ) -> Page:
        keys = sorted(self.keys(start, end)) if end else [key for key in [start] if key in self.rows]
        count, shown = len(keys), [] if asked.get("count_only") else keys[: limit or None]
        more = 0 < len(shown) < count
        if self.cuts and limit > 150 and not asked.get("keys_only"):
            self.cuts -= 1
            shown, more, count = shown[:150], False, 150
        rows = [
            {"key": _text(key), "mod_revision": str(self.rows[key][0]), "value": _text(self.rows[key][1])}
            for key in shown
            if self.rows[key][0] >= min_mod_revision
        ]
        answer = {"header": {"revision": str(self.revision)}, "kvs": rows, "more": more, "count": str(count)}
        return Page(json.dumps(answer).encode())


class BeforeItHadRanges(Kine):
    """0.16.2 and older take the end of a range for the end of a prefix."""

    def keys(self, start: bytes, end: bytes) -> list[bytes]:
        prefix = (end[:-1] + bytes([(end[-1] - 1) % 256])).rstrip(b"/") + b"/"
        return [key for key in self.rows if key.startswith(prefix) and key >= start]


class OnPostgres(Kine):
    def keys(self, start: bytes, end: bytes) -> list[bytes]:
        if b"\0" in end:
            raise EtcdError('invalid byte sequence for encoding "UTF8": 0x00')
        return super().keys(start, end)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@pytest.fixture(autouse=True)
def _short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_STRETCH_OBJECTS", 200)


@pytest.mark.parametrize("kine", [Kine(), Kine(cuts=1), BeforeItHadRanges(), OnPostgres()])
def test_all_is_read_and_each_later_write_found(kine: Kine) -> None:
    etcd = cast(Etcd, kine)
    before = asyncio.run(scan(etcd))
    assert before.objects == 1001 and before.consistent
    for key in (key_of(7), before.stretches[0][1], key_of(999)):
        kine.write(key)
    assert asyncio.run(changes_since(etcd, before)).objects == 3


def test_pages_that_keep_ending_early_are_an_error() -> None:
    with pytest.raises(EtcdError, match=r"returned \d+ of the 1001 keys that it counts"):
        asyncio.run(scan(cast(Etcd, Kine(cuts=100))))
