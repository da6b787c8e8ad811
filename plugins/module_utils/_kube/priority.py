# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How API Priority and Fairness classifies this user's requests.

Each answer names the FlowSchema and the PriorityLevelConfiguration of its request by their uids (k8s.io/apiserver,
pkg/server/filters/priority-and-fairness.go). Requests at a level of type Exempt, such as those of system:masters, never wait
for others'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer

_GROUP = "/apis/flowcontrol.apiserver.k8s.io/v1"
_SCHEMA, _LEVEL = "X-Kubernetes-PF-FlowSchema-UID", "X-Kubernetes-PF-PriorityLevel-UID"


@dataclass(frozen=True)
class Classified:
    """The uids of the FlowSchema and the priority level that one request got."""

    schema: str
    level: str


@dataclass(frozen=True)
class Priority:
    """The same by name. ``exempt``: whether its requests never wait. What the user may not read is None."""

    schema: str | None = None
    level: str | None = None
    exempt: bool | None = None


def classified(headers: Mapping[str, str]) -> Classified | None:
    """What an answer says; None if the server has no Priority and Fairness, or something on the way drops its headers."""
    schema, level = headers.get(_SCHEMA), headers.get(_LEVEL)
    return Classified(schema, level) if schema and level else None


async def find_priority(server: ApiServer, found: Classified) -> Priority:
    """Asks for the names; the user may need no permission for that, as without it they are just not known."""
    schema, level = await asyncio.gather(
        _named(server, "flowschemas", found.schema), _named(server, "prioritylevelconfigurations", found.level)
    )
    kind = level[1].get("type") if level is not None else None
    return Priority(
        schema[0] if schema is not None else None,
        level[0] if level is not None else None,
        None if kind is None else kind == "Exempt",
    )


async def _named(server: ApiServer, plural: str, uid: str) -> tuple[str, Mapping[str, object]] | None:
    """Name and spec of the object with that uid."""
    try:
        for item in (await server.get(f"{_GROUP}/{plural}")).get("items") or ():
            if item["metadata"]["uid"] == uid:
                return str(item["metadata"]["name"]), item.get("spec") or {}
    except (StorageUpgradeError, KeyError, TypeError, AttributeError):
        pass
    return None
