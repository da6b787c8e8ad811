# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a probe leaves behind where API servers write differently."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import StoredObject, Variant
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.probe import Prober, _Patched

SEALED = Variant(None, "encrypted", "aescbc", "v1", "key1")
OTHER_KEY = SEALED._replace(key="key2")
PLAIN = Variant("v1", "protobuf")
PLACE = StoredObject("default", "secret", 5)


class Servers(Prober):
    """API servers by what each writes; ``stored`` is how etcd has the object."""

    def __init__(self, writes: dict[str, Variant], stored: Variant) -> None:
        servers: list[Any] = [SimpleNamespace(url=url) for url in writes]
        super().__init__(SimpleNamespace(), servers, ())  # type: ignore[arg-type]
        self.writes, self.stored, self.revision = writes, stored, PLACE.mod_revision

    async def _patch(self, server: Any, _resource: Any, _place: Any) -> _Patched:
        before, written = self.revision, self.writes[server.url]
        self.revision += written != self.stored
        self.stored = written
        return _Patched(before, self.revision, written, before != self.revision)


@pytest.mark.parametrize(
    ("writes", "left"),
    [
        ((SEALED, PLAIN), SEALED),
        ((PLAIN, SEALED), SEALED),
        ((SEALED, OTHER_KEY), SEALED),
        ((SEALED, SEALED), SEALED),
        ((OTHER_KEY, OTHER_KEY), OTHER_KEY),
    ],
)
def test_a_secret_is_left_as_it_was_where_servers_differ(writes: tuple[Variant, Variant], left: Variant) -> None:
    servers = Servers(dict(zip(("https://a", "https://b"), writes)), SEALED)
    asked = asyncio.run(servers.ask(SimpleNamespace(), PLACE, SEALED))  # type: ignore[arg-type]
    assert tuple(asked.written.values()) == writes
    assert servers.stored == left
