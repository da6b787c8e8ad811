# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The custom resources in etcd that would lose fields in a rewrite. Values are discarded as soon as they are parsed."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import object_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.pruning import Schemas, dropped_fields
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import split_group_version

_PAGE = 200
_FIELDS_KEPT = 20

Place = tuple[Optional[str], str]


@dataclass
class Dropped:
    """For one custom resource: the fields that each object would lose, and the number of objects for which that is unknown.

    ``objects`` is by (namespace or None, name); objects that lose nothing are not in it. ``unknown``: encrypted,
    not JSON, or converted by a webhook.
    """

    objects: dict[Place, tuple[str, ...]] = field(default_factory=dict)
    unknown: int = 0

    @property
    def fields(self) -> list[str]:
        """All of them, each once."""
        return sorted({path for paths in self.objects.values() for path in paths})


async def find_dropped(etcd: Etcd, name: str, schemas: Schemas) -> Dropped:
    """Reads all objects of one custom resource. Raises EtcdError."""
    plural, _dot, group = name.partition(".")
    head = f"{etcd.prefix}/{group}/{plural}/".encode()
    found = Dropped()
    at, end = head, head[:-1] + b"0"  # "0" follows "/"
    while True:
        page = await etcd.range(at, end, limit=_PAGE)
        _take(page.items(), len(head), schemas, found)
        last = page.last_key
        if not page.more or last is None:
            return found
        at = last + b"\0"


def _take(items: Iterable[Mapping[str, str]], skip: int, schemas: Schemas, found: Dropped) -> None:
    for item in items:
        place = object_of(base64.b64decode(item["key"])[skip:].decode(errors="backslashreplace"))
        if place is None:
            continue
        document = _document(item.get("value") or "")
        version = None if document is None else document.get("apiVersion")
        paths = None
        if document is not None and isinstance(version, str):
            paths = dropped_fields(document, split_group_version(version)[1], schemas)
        if paths is None:
            found.unknown += 1
        elif paths:
            found.objects[place] = tuple(paths[:_FIELDS_KEPT])


def _document(value: str) -> dict[str, Any] | None:
    """A stored object; None if it is encrypted, or not in JSON."""
    try:
        document = json.loads(base64.b64decode(value))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
