# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One cluster: where it is entered, which API servers it has, and what they all report."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._connection import (
    Connection,
    normalize_url,
    open_connection,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._convergence import Expectation, Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._discovery import report_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import ApiError, BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import HttpClient, open_client
from ansible_collections.kube_storage.upgrade.plugins.module_utils._identity_leases import Alive, alive
from ansible_collections.kube_storage.upgrade.plugins.module_utils._sampler import take_samples
from ansible_collections.kube_storage.upgrade.plugins.module_utils._sampling import SamplingSettings, judge

_ENDPOINT_SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes"
_IDENTITY_LEASES = (
    "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    "?labelSelector=apiserver.kubernetes.io%2Fidentity%3Dkube-apiserver"
)
_MASTER_NODES = "/api/v1/nodes?labelSelector=node-role.kubernetes.io%2Fcontrol-plane"
_ONE_ADDRESS = (
    "where only one address can be reached, as that of a managed cluster, use the option sampling, which proves less"
)


@dataclass(frozen=True)
class ServerList:
    """The API servers to talk to, and sentences about what is odd with the list."""

    servers: tuple[ApiServer, ...]
    problems: tuple[str, ...] = ()


class Cluster:
    """Use as an async context manager; it closes its connections at the end.

    ``entry`` is the address that users have, often a load balancer: good for objects, never for hashes.
    """

    def __init__(
        self,
        connection: Connection,
        http: HttpClient,
        *,
        urls: Sequence[str] | None,
        expectation: Expectation,
        sampling: SamplingSettings | None = None,
    ) -> None:
        self.entry = ApiServer(connection.url, connection, http)
        self.expectation = expectation
        self.sampling = sampling
        self._connection = connection
        self._http = http
        self._urls = urls
        self._known: dict[str, ApiServer] = {}

    @property
    def listed_by_user(self) -> bool:
        """Whether the servers come from the user rather than from the cluster."""
        return self._urls is not None

    async def __aenter__(self) -> Cluster:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def servers(self) -> ServerList:
        """The servers named by the user, else those of the default/kubernetes EndpointSlice.

        The identity Leases in kube-system cross-check it: an API server that is alive but not
        listed could still write in the old version. A list or a count from the user wins over that.
        Where samples are taken instead, there is no server but the one address.
        """
        if self.sampling is not None:
            return ServerList((self.entry,))
        if self._urls is not None:
            return ServerList(tuple(self._server(url) for url in self._urls))
        slices, names, living = await asyncio.gather(
            self.entry.get(_ENDPOINT_SLICES), self._node_names(), self._alive()
        )
        scheme = urlsplit(self._connection.url).scheme
        found = [self._server(url, names.get(address, "")) for address, url in server_addresses(slices, scheme)]
        problems = []
        if self.expectation.servers is None and len(living) > len(found):
            problems.append(
                f"{len(living)} API servers renew their Leases ({', '.join(one.name for one in living)}), but the EndpointSlice "
                f"default/kubernetes lists {len(found)}; name them all with the option servers, or {_ONE_ADDRESS}."
            )
        return ServerList(tuple(found), tuple(problems))

    async def observe(self) -> Observation:
        """Asks every server, in parallel, at its own address; or takes samples where the user wants that."""
        if self.sampling is not None:
            return await self._sample(self.sampling)
        listed = await self.servers()
        reports = await asyncio.gather(*(report_of(server) for server in listed.servers))
        problems = listed.problems
        if not self.listed_by_user and reports and all(one.error and not one.forbidden for one in reports):
            problems += (
                "None of the API servers that the EndpointSlice default/kubernetes lists can be asked from here; name their "
                f"addresses with the option servers, or {_ONE_ADDRESS}.",
            )
        return Observation(tuple(reports), problems, self.expectation)

    async def _sample(self, settings: SamplingSettings) -> Observation:
        before = await self._alive()
        samples = await take_samples(self._connection, settings)
        after = await self._alive()
        reports, problems, evidence = judge(self.entry.url, samples, before, after, settings, self.expectation.servers)
        return Observation(reports, problems, self.expectation, evidence)

    def writers(self, seen: Observation) -> list[ApiServer]:
        """The servers to write through: each that can be used, or the one address where they are hidden behind it."""
        usable = [one for one in seen.reports if one.usable]
        if self.sampling is not None:
            return [self.entry] if usable else []
        return [self._known[one.url] for one in usable]

    def expecting(self, **changes: Any) -> Cluster:
        """The same cluster over the same connections with another expectation."""
        other = Cluster(
            self._connection,
            self._http,
            urls=self._urls,
            expectation=replace(self.expectation, **changes),
            sampling=self.sampling,
        )
        other._known = self._known
        return other

    def _server(self, url: str, name: str = "") -> ApiServer:
        if url not in self._known:
            self._known[url] = ApiServer(url, self._connection, self._http, name=name)
        return self._known[url]

    async def _node_names(self) -> dict[str, str]:
        """Names of masters by address, where they are nodes and the user may read nodes; only for display."""
        try:
            return names_by_address(await self.entry.get(_MASTER_NODES))
        except ApiError:
            return {}

    async def _alive(self) -> tuple[Alive, ...]:
        """The API servers that renew their Leases. Without permission for it there is nothing to cross-check."""
        answer = await self.entry.request("GET", _IDENTITY_LEASES)
        if answer.status in (403, 404):
            return ()
        return alive(self.entry.document(answer, "GET", _IDENTITY_LEASES), server_time(answer.headers))


def open_cluster(params: Mapping[str, Any]) -> Cluster:
    """From module parameters: auth options, servers, expected_servers, expected_version, resources.

    Raises BadInputError before anything is sent.
    """
    urls = None
    sampling = _sampling_of(params)
    if params.get("servers"):
        urls = [normalize_url(url) for url in params["servers"]]
        doubles = sorted({url for url in urls if urls.count(url) > 1})
        if doubles:
            raise BadInputError(f"The option servers names {', '.join(doubles)} more than once.")
    expected = params.get("expected_servers")
    if expected is not None and expected < 1:
        raise BadInputError("expected_servers must be at least 1.")
    if urls is not None and expected is None:
        expected = len(urls)
    connection = open_connection(params)
    return Cluster(
        connection,
        open_client(connection.transport),
        urls=urls,
        expectation=Expectation(servers=expected, version=params.get("expected_version")),
        sampling=sampling,
    )


def _sampling_of(params: Mapping[str, Any]) -> SamplingSettings | None:
    """The option sampling; an empty one takes every default."""
    given = params.get("sampling")
    if given is None:
        return None
    if params.get("servers"):
        raise BadInputError("servers and sampling exclude each other: whoever can name each server needs no samples.")
    for name in ("connections", "at_once"):
        if given[name] < 1:
            raise BadInputError(f"sampling: {name} must be at least 1.")
    return SamplingSettings(given["connections"], given["at_once"], given["require_identity"])


def server_addresses(slices: Mapping[str, Any], scheme: str) -> list[tuple[str, str]]:
    """(address, URL) of every endpoint in an EndpointSliceList, in order of address."""
    found: dict[str, str] = {}
    for one in slices.get("items") or []:
        ports = {port.get("name"): port.get("port") for port in one.get("ports") or []}
        port = ports.get("https") or next(iter(ports.values()), None) or 443
        for endpoint in one.get("endpoints") or []:
            for address in endpoint.get("addresses") or []:
                host = f"[{address}]" if ":" in address else address
                found[address] = normalize_url(f"{scheme}://{host}:{port}")
    return sorted(found.items())


def names_by_address(nodes: Mapping[str, Any]) -> dict[str, str]:
    """Node names by each of their addresses."""
    return {
        address["address"]: node["metadata"]["name"]
        for node in nodes.get("items") or []
        for address in (node.get("status") or {}).get("addresses") or []
        if address.get("address")
    }


def server_time(headers: Mapping[str, str]) -> datetime:
    """The Date header: Leases are compared with the servers' clock, not with ours."""
    try:
        return parsedate_to_datetime(headers["Date"])
    except (KeyError, ValueError, TypeError):
        return datetime.now(timezone.utc)
