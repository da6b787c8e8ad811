# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether anything answers behind the clientConfig of a webhook."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.addresses import is_loopback
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import ApiError, UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import path_of, with_query

_CONNECT = 5.0


@dataclass(frozen=True)
class ServiceState:
    """``problem`` is None if there is none; ``unknown``: why that could not be found out."""

    problem: str | None = None
    unknown: str | None = None


async def state_of_service(server: ApiServer, client: Mapping[str, Any]) -> ServiceState:
    """Whether the service that a clientConfig names exists and has a ready endpoint."""
    service = client.get("service")
    if not service:
        return ServiceState()
    namespace, name = str(service.get("namespace")), str(service.get("name"))
    where = path_of("/api/v1", "services", namespace=namespace, name=name)
    slices = with_query(
        path_of("/apis/discovery.k8s.io/v1", "endpointslices", namespace=namespace),
        labelSelector=f"kubernetes.io/service-name={name}",
    )
    try:
        found = await server.get(where)
        if (found.get("spec") or {}).get("type") == "ExternalName":
            return ServiceState()
        if not has_ready_endpoint(await server.get(slices)):
            return ServiceState(f"its service {namespace}/{name} has no ready endpoint")
    except ApiError as error:
        if error.status == 404:
            return ServiceState(f"its service {namespace}/{name} does not exist")
        if error.status == 403:
            return ServiceState(
                unknown=f"whether service {namespace}/{name} answers, as the permission to get it is missing"
            )
        raise
    return ServiceState()


async def state_of_conversion(server: ApiServer, client: Mapping[str, Any]) -> ServiceState:
    """Asks a conversion webhook with an empty ConversionReview; asks a service through the API server's proxy."""
    if not client.get("service"):
        return await _connects(str(client.get("url") or ""))
    state = await state_of_service(server, client)
    if state.problem or state.unknown:
        return state
    service = client["service"]
    namespace, name, port = str(service.get("namespace")), str(service.get("name")), str(service.get("port") or 443)
    if not port.isdecimal():
        return ServiceState(f"the port of its service {namespace}/{name} is not a number")
    proxied = f"https:{name}:{port}"
    path = path_of("/api/v1", "services", namespace=namespace, name=proxied, subresource="proxy")
    review = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "ConversionReview",
        "request": {"uid": "upgrade-check", "desiredAPIVersion": "", "objects": []},
    }
    try:
        answer = await server.request("POST", path + str(service.get("path") or "/"), body=review)
    except UnreachableError:
        return ServiceState(
            unknown=f"whether service {namespace}/{name} answers, as the API server did not say in time"
        )
    if answer.status == 403 and b"services/proxy" in answer.body:  # otherwise this is the webhook's own answer
        return ServiceState(
            unknown=f"whether service {namespace}/{name} answers, as the permission for its proxy is missing"
        )
    if answer.status in (502, 503, 504):
        # The other reason for a 503 is an endpoint that isn't a Pod: the proxy can't reach it, but webhook calls can.
        if b"trying to reach service" not in answer.body:
            return ServiceState(unknown=f"whether service {namespace}/{name} answers, as its endpoints are not Pods")
        return ServiceState(f"its service {namespace}/{name} does not answer")
    return ServiceState()


def has_ready_endpoint(slices: Mapping[str, Any]) -> bool:
    """Whether an EndpointSliceList has an endpoint that isn't marked as unready."""
    return any(
        (endpoint.get("conditions") or {}).get("ready") is not False and endpoint.get("addresses")
        for endpoint_slice in slices.get("items") or ()
        for endpoint in endpoint_slice.get("endpoints") or ()
    )


async def _connects(url: str) -> ServiceState:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
    except ValueError:
        host = ""
    if not host:
        return ServiceState("its URL is not valid")
    if is_loopback(host):
        return ServiceState(
            unknown=f"whether {parts.scheme}://{parts.netloc} answers, as that is an address on the masters"
        )
    try:
        _reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), _CONNECT)
    except (OSError, UnicodeError, asyncio.TimeoutError):  # a name with an empty label can't be encoded
        return ServiceState(
            f"nothing answers at {parts.scheme}://{parts.netloc}, tried from the host where the task runs"
        )
    writer.close()
    return ServiceState()
