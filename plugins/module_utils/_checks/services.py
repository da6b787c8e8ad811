# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether anybody answers behind the clientConfig of a webhook."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import ApiError, UnreachableError

_CONNECT = 5.0
_LOOPBACK = ("localhost", "127.", "::1")


@dataclass(frozen=True)
class State:
    """``problem`` is None if nothing speaks against it; ``unknown``: why it could not be told."""

    problem: str | None = None
    unknown: str | None = None


async def state_of_service(server: ApiServer, client: Mapping[str, Any]) -> State:
    """Of a clientConfig that names a service: does that exist, and is something ready behind it?"""
    service = client.get("service")
    if not service:
        return State()
    namespace, name = str(service.get("namespace")), str(service.get("name"))
    where = f"/api/v1/namespaces/{quote(namespace)}/services/{quote(name)}"
    slices = (
        f"/apis/discovery.k8s.io/v1/namespaces/{quote(namespace)}/endpointslices"
        f"?labelSelector=kubernetes.io%2Fservice-name%3D{quote(name)}"
    )
    try:
        found = await server.get(where)
        if (found.get("spec") or {}).get("type") == "ExternalName":
            return State()
        if not has_ready_endpoint(await server.get(slices)):
            return State(f"its service {namespace}/{name} has no ready endpoint")
    except ApiError as error:
        if error.status == 404:
            return State(f"its service {namespace}/{name} does not exist")
        if error.status == 403:
            return State(unknown=f"whether service {namespace}/{name} answers, as the permission to get it is missing")
        raise
    return State()


async def state_of_conversion(server: ApiServer, client: Mapping[str, Any]) -> State:
    """Of a conversion webhook: asked with an empty ConversionReview, a service through the API server's proxy."""
    if not client.get("service"):
        return await _connects(str(client.get("url") or ""))
    state = await state_of_service(server, client)
    if state.problem or state.unknown:
        return state
    service = client["service"]
    namespace, name = str(service.get("namespace")), str(service.get("name"))
    path = (
        f"/api/v1/namespaces/{quote(namespace)}/services/https:{quote(name)}:{int(service.get('port') or 443)}/proxy"
        f"{service.get('path') or '/'}"
    )
    review = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "ConversionReview",
        "request": {"uid": "upgrade-check", "desiredAPIVersion": "", "objects": []},
    }
    try:
        answer = await server.request("POST", path, body=json.dumps(review).encode())
    except UnreachableError:
        return State(unknown=f"whether service {namespace}/{name} answers, as the API server did not say in time")
    if answer.status == 403 and b"services/proxy" in answer.body:  # else it is the webhook that answers so
        return State(unknown=f"whether service {namespace}/{name} answers, as the permission for its proxy is missing")
    if answer.status in (502, 503, 504):
        # Its other reason for a 503 is an endpoint that is no Pod: no proxy goes there, but calls of webhooks do.
        if b"trying to reach service" not in answer.body:
            return State(unknown=f"whether service {namespace}/{name} answers, as its endpoints are no Pods")
        return State(f"its service {namespace}/{name} does not answer")
    return State()


def has_ready_endpoint(slices: Mapping[str, Any]) -> bool:
    """Whether an EndpointSliceList has an endpoint that is not said to be unready."""
    return any(
        (endpoint.get("conditions") or {}).get("ready") is not False and endpoint.get("addresses")
        for one in slices.get("items") or ()
        for endpoint in one.get("endpoints") or ()
    )


async def _connects(url: str) -> State:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host:
        return State("its URL is not valid")
    if host.startswith(_LOOPBACK):
        return State(unknown=f"whether {parts.scheme}://{parts.netloc} answers, as that is an address on the masters")
    try:
        _reader, writer = await asyncio.wait_for(asyncio.open_connection(host, parts.port or 443), _CONNECT)
    except (OSError, asyncio.TimeoutError):
        return State(f"nobody answers at {parts.scheme}://{parts.netloc}, tried from the host where the task runs")
    writer.close()
    return State()
