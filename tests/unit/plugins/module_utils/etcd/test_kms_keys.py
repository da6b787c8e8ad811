# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which key of a KMS v2 plugin API servers use, from their metrics."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.kms_keys import KeyIds, agreed, parse_key_ids
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.kms_status import told_key_ids

NAME = "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds"


def line(plugin: str, key: str, at: object, server: str = "sha256:me") -> str:
    return f'{NAME}{{apiserver_id_hash="{server}",key_id_hash="{key}",provider_name="{plugin}"}} {at}\n'


def test_the_id_that_was_reported_last_counts() -> None:
    text = (
        "# HELP x\n"
        + line("p", "sha256:a", 1.795e9)
        + line("p", "sha256:b", 1.7950001e9)
        + line('odd"}\\', "sha256:c", "nonsense")
        + line('q\\"}', "sha256:d", 5)
        + 'apiserver_envelope_encryption_key_id_hash_total{provider_name="p"} 7\n'
    )
    assert parse_key_ids(text) == {"p": ("sha256:b", 1.7950001e9), 'q"}': ("sha256:d", 5.0)}
    assert parse_key_ids("") == {}


def test_all_servers_must_have_asked_again_and_got_the_same_answer() -> None:
    first = {"m1": {"p": ("a", 1.0)}, "m2": {"p": ("a", 2.0)}}
    assert agreed(first, ["p"]) == KeyIds({"p": "a"})
    assert "m1, m2 has not asked" in agreed(first, ["p"], first).unknown["p"]
    half = {"m1": {"p": ("b", 61.0)}, "m2": {"p": ("a", 2.0)}}
    assert "m2 has not asked" in agreed(half, ["p"], first).unknown["p"]
    torn = {"m1": {"p": ("b", 61.0)}, "m2": {"p": ("a", 62.0)}}
    assert "different keys" in agreed(torn, ["p"], first).unknown["p"]
    whole = {"m1": {"p": ("b", 61.0)}, "m2": {"p": ("b", 122.0)}}
    assert agreed(whole, ["p"], first) == KeyIds({"p": "b"})
    assert "m2 has no KMS v2 plugin" in agreed({**whole, "m2": {}}, ["p"], first).unknown["p"]
    assert "no API server" in agreed({}, ["p"]).unknown["p"]


@dataclass
class Server:
    """An API server that only has metrics."""

    url: str
    name: str
    metrics: str

    async def request(self, *_args: Any, **_options: Any) -> Any:
        return SimpleNamespace(status=200, body=self.metrics.encode())


def test_of_two_servers_with_one_name_both_count() -> None:
    """Two API servers on one Node have its name."""
    old, new = (Server(f"https://{key}", "node", line("p", key, 5)) for key in ("old", "new"))
    servers: list[Any] = [old, new]
    assert "different keys" in asyncio.run(told_key_ids(servers, ["p"])).unknown["p"]
