# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks, before anything is written, whether the user may do what a run needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import ApiError, StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.gathering import gather_limited
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_PARALLEL = 16
_NAMED = 5


@dataclass(frozen=True)
class Need:
    """One verb on one resource (core group: empty), cluster-wide unless a namespace is given."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    subresource: str = ""
    name: str = ""

    def __str__(self) -> str:
        what = (
            self.resource
            + (f".{self.group}" if self.group else "")
            + (f"/{self.subresource}" if self.subresource else "")
        )
        what += f" {self.name}" if self.name else ""
        return f"{self.verb} {what}{f' in namespace {self.namespace}' if self.namespace else ''}"


async def require(server: ApiServer, needs: Iterable[Need]) -> None:
    """Raises ApiError (403) that names the user and every missing verb."""
    lacking = await missing(server, needs)
    if lacking:
        shown = ", ".join(str(need) for need in lacking[:_NAMED])
        more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
        raise ApiError(
            f"Permission is missing: user {await _who(server)} cannot {shown}{more}; nothing was written. "
            "Grant it with a ClusterRole (the page Permissions of the documentation lists what each module needs).",
            status=403,
            reason="Forbidden",
        )


async def are_allowed(server: ApiServer, needs: Iterable[Need]) -> bool:
    """Whether the user may do all of this."""
    return not await missing(server, needs)


async def missing(server: ApiServer, needs: Iterable[Need]) -> list[Need]:
    """What the user may not do; for an admin, one question is enough."""
    if await _allowed(server, Need("*", "*", "*")):
        return []
    needs = list(needs)
    allowed = await gather_limited(_PARALLEL, lambda need: _allowed(server, need), needs)
    return [need for need, is_allowed in zip(needs, allowed) if not is_allowed]


async def _allowed(server: ApiServer, need: Need) -> bool:
    attributes: dict[str, Any] = {"verb": need.verb, "group": need.group, "resource": need.resource}
    if need.namespace:
        attributes["namespace"] = need.namespace
    if need.subresource:
        attributes["subresource"] = need.subresource
    if need.name:
        attributes["name"] = need.name
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = await server.json("POST", _REVIEWS, body=body)
    return bool((answer.get("status") or {}).get("allowed"))


async def _who(server: ApiServer) -> str:
    """The user's name as the server knows it (since 1.28)."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = await server.json("POST", _WHO, body=body)
        return str(answer["status"]["userInfo"]["username"])
    except (StorageUpgradeError, KeyError):
        return "of these credentials"
