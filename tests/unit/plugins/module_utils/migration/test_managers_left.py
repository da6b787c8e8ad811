# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 13, number 1: how many objects still have field managers at versions that were trimmed, and what to run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.crds import Trimmed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.managers_left import (
    ManagersLeft,
    find_managers_left,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    storage_version_hash,
)

GROUP = "shop.example.com"
NAME = f"widgets.{GROUP}"
HASH = storage_version_hash(GROUP, "v1", "Widget")
WIDGETS = {
    NAME: ServedResource(NAME, GROUP, "widgets", "Widget", True, frozenset({"list"}), ("v1", "v1alpha1"), (HASH,))
}
TRIMMED = (Trimmed(NAME, ("v1alpha1", "v1"), ("v1",)),)
FORBIDDEN = {"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403, "message": "forbidden"}


@dataclass
class Server:
    """Widgets whose managers are at these versions of the group."""

    managers: list[list[str]]
    strategy: str = "None"
    forbids: str = "nothing"

    async def request(self, method: str, url: str, **_more: Any) -> Response:
        if self.forbids in url:
            return Response(403, {}, json.dumps(FORBIDDEN).encode())
        if "customresourcedefinitions" in url:
            versions = [{"name": "v1alpha1", "storage": False}, {"name": "v1", "storage": True}]
            crd = {
                "metadata": {"name": NAME},
                "spec": {"versions": versions, "conversion": {"strategy": self.strategy}},
            }
            return Response(200, {}, json.dumps(crd).encode())
        items = [
            {"metadata": {"name": "a", "managedFields": [{"apiVersion": f"{GROUP}/{version}"} for version in versions]}}
            for versions in self.managers
        ]
        listed = {"kind": "PartialObjectMetadataList", "metadata": {}, "items": items}
        return Response(200, {}, json.dumps(listed).encode())

    async def close(self) -> None:
        pass


class _Connection:
    renewal = None

    def authorize(self) -> list[tuple[str, str]]:
        return []


def left_after(server: Server, mode: str = "keep", trimmed: Sequence[Trimmed] = TRIMMED) -> list[ManagersLeft]:
    api = ApiServer("https://server", _Connection(), server)  # type: ignore[arg-type]
    return asyncio.run(find_managers_left(api, mode, WIDGETS, trimmed))


def test_objects_are_counted_once_and_only_for_versions_that_were_trimmed() -> None:
    (left,) = left_after(Server([["v1alpha1", "v1alpha1", "v1"], ["v1alpha1"], ["v1", "v1beta1"]]))
    assert (left.objects, left.versions) == (2, {"v1alpha1": 2})
    assert left.sentence.startswith(
        f"2 objects of {NAME} still have field managers at v1alpha1. Before a CRD drops v1alpha1, run"
    )
    assert f"resources: [{NAME}] and managed_fields: rewrite" in left.remediation


def test_nothing_is_said_where_nothing_is_left() -> None:
    assert left_after(Server([["v1"], []])) == []
    assert left_after(Server([["v1alpha1"]]), trimmed=[]) == []
    assert left_after(Server([["v1alpha1"]]), "rewrite", trimmed=[]) == [], "these have moved, or are failures"


def test_what_rewrite_leaves_where_a_webhook_converts() -> None:
    (left,) = left_after(Server([["v1alpha1"], ["v1beta1"], ["v1"]], strategy="Webhook"), "rewrite", trimmed=[])
    assert (left.objects, left.versions) == (2, {"v1alpha1": 1, "v1beta1": 1})
    assert "owners apply them at v1;" in left.remediation and "managed_fields: prune" in left.remediation


def test_what_can_t_be_listed_is_unknown() -> None:
    (left,) = left_after(Server([["v1alpha1"]], forbids="/widgets"))
    assert left.objects is None and "is unknown. They could not be listed" in left.sentence
    (left,) = left_after(Server([["v1alpha1"]], forbids="customresourcedefinitions"))
    assert left.objects == 1 and "as a user who can get the CRD" in left.remediation
