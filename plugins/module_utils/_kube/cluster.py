# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One cluster: its address, its API servers, and what they all report."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.addresses import same_address
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    ApiError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.redaction import printable, redact
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import parse_date, seconds_text
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import HttpClient, Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.factory import open_client
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.retry import RetryPolicy
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer, WriteGate
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.auth import (
    Connection,
    normalize_url,
    open_connection,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.discovery import is_down, report_of, started_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.options import ClusterOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.sampler import take_samples
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Expectation, Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.cross_check import (
    CrossCheck,
    Unlisted,
    compare,
    compare_sampled,
    not_ignored,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServerReport
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.identity_leases import (
    Alive,
    IdentityLeases,
    read_leases,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.processes import (
    processes_of,
    sampled_processes,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.sampling import (
    SamplingSettings,
    evaluate_samples,
)

_ENDPOINT_SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes"
_IDENTITY_LEASES = (
    "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    "?labelSelector=apiserver.kubernetes.io%2Fidentity%3Dkube-apiserver"
)
_MASTER_NODES = "/api/v1/nodes?labelSelector=node-role.kubernetes.io%2Fcontrol-plane"
_ANSWERS_WITHIN = 5.0
_DEFAULT_PORT = 6443
_ONE_ADDRESS = (
    "where only one address can be reached, as that of a managed cluster, use the option sampling, which proves less"
)


@dataclass(frozen=True)
class ServerList:
    """The API servers to talk to, and sentences about what is wrong with the list."""

    servers: tuple[ApiServer, ...]
    problems: tuple[str, ...] = ()


class Cluster:
    """Use as an async context manager; it closes its connections at the end.

    ``entry`` is the address that users have, often a load balancer: good for objects, never for hashes.
    ``writes``, when closed, holds back every write to this cluster's servers.
    ``say`` makes what they say about an object safe to show.
    """

    def __init__(
        self,
        connection: Connection,
        http: HttpClient,
        *,
        urls: Sequence[str] | None,
        expectation: Expectation,
        sampling: SamplingSettings | None = None,
        writes: WriteGate | None = None,
        say: Callable[[str], str] = redact,
    ) -> None:
        self.writes = WriteGate() if writes is None else writes
        self.entry = ApiServer(connection.url, connection, http, gate=self.writes, say=say)
        self.expectation = expectation
        self.sampling = sampling
        self._connection = connection
        self._http = http
        self._urls = urls
        self._known: dict[str, ApiServer] = {}

    @property
    def connection(self) -> Connection:
        return self._connection

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
        listed could still write in the old version, whoever made the list. With sampling, the one address is the only server.
        """
        if self.sampling is not None:
            return ServerList((self.entry,))
        servers, leases = await self._servers_and_leases()
        asked = [ServerReport(server.url, server.name) for server in servers]
        found = compare(asked, leases, self.expectation.ignored)
        return ServerList(tuple(servers), tuple(found.problems(len(servers), self._listed_in, self._otherwise)))

    async def _servers_and_leases(self) -> tuple[list[ApiServer], IdentityLeases]:
        if self._urls is not None:
            return [self._server(url) for url in self._urls], await self._leases()
        slices, names, leases = await asyncio.gather(
            self.entry.get(_ENDPOINT_SLICES), self._node_names(), self._leases()
        )
        scheme = urlsplit(self._connection.url).scheme
        return [self._server(url, names.get(address, "")) for address, url in server_addresses(slices, scheme)], leases

    @property
    def _listed_in(self) -> str:
        return "the EndpointSlice default/kubernetes lists" if self._urls is None else "the option servers names"

    @property
    def _otherwise(self) -> str:
        return f"; {_ONE_ADDRESS}" if self._urls is None else ""

    async def observe(self) -> Observation:
        """Asks every server, in parallel, at its own address; or takes samples if the user wants that."""
        if self.sampling is not None:
            return await self._sample(self.sampling)
        servers, leases = await self._servers_and_leases()
        answers = await asyncio.gather(*(asyncio.gather(started_of(server), report_of(server)) for server in servers))
        starts = {server.url: started for server, (started, _report) in zip(servers, answers)}
        reports = [report for _started, report in answers]
        processes = processes_of(reports, starts, leases)
        cross = await self._look_for_unlisted(compare(reports, leases, self.expectation.ignored, starts), starts)
        problems = tuple(cross.problems(len(servers), self._listed_in, self._otherwise))
        if not self.listed_by_user and reports and all(report.error and not report.forbidden for report in reports):
            problems += (
                "None of the API servers that the EndpointSlice default/kubernetes lists can be reached from here; name their "
                f"addresses with the option servers, or {_ONE_ADDRESS}.",
            )
        return Observation(
            tuple(reports),
            problems,
            self.expectation,
            processes=processes,
            cross=cross,
            listed_by_user=self.listed_by_user,
        )

    async def _look_for_unlisted(self, cross: CrossCheck, asked: Collection[str]) -> CrossCheck:
        """Asks the living servers that are not listed, each where its Lease says, whether they are really alive."""
        if not cross.unlisted:
            return cross
        found = await asyncio.gather(*(self._look_for(server, asked) for server in cross.unlisted))
        return replace(cross, unlisted=tuple(found))

    async def _look_for(self, unlisted: Unlisted, asked: Collection[str]) -> Unlisted:
        url = await self._url_of(unlisted.server)
        if url is None or url in asked:
            return unlisted
        server = ApiServer(url, self._connection, self._http, gate=self.writes)
        try:
            answer = await server.request("GET", "/version", timeout=_ANSWERS_WITHIN, retry=RetryPolicy(tries=1))
        except UnreachableError as error:
            return replace(unlisted, url=url, error=error.message) if is_down(error) else replace(unlisted, url=url)
        return replace(unlisted, url=url, version=release_in(answer.body))

    async def _url_of(self, server: Alive) -> str | None:
        """Where an API server is that only its Lease names: at the Lease's address, else at that of the node of its name."""
        address, port = server.address, server.port
        if address is None:
            names = await self._node_names()
            address = next((address for address, name in names.items() if name == server.name), None)
        if address is None:
            return next((known.url for known in self._known.values() if known.name == server.name), None)
        if port is None:
            port = next((urlsplit(url).port for url in self._known), None) or _DEFAULT_PORT
        host = f"[{address}]" if ":" in address else address
        return normalize_url(f"{urlsplit(self._connection.url).scheme}://{host}:{port}")

    async def _sample(self, settings: SamplingSettings) -> Observation:
        before = await self._leases()
        samples = await take_samples(self._connection, settings)
        after = await self._leases()
        ignored = self.expectation.ignored
        reports, problems, evidence = evaluate_samples(
            self.entry.url,
            samples,
            not_ignored(before.alive, ignored),
            not_ignored(after.alive, ignored),
            settings,
            self.expectation.servers,
        )
        processes = sampled_processes(self.entry.url, samples, reports, before)
        cross = compare_sampled(evidence.told_apart, after, ignored)
        return Observation(reports, problems, self.expectation, evidence, processes, cross)

    def writers(self, seen: Observation) -> list[ApiServer]:
        """The servers to write through: each usable one, or the one address that hides them."""
        usable = [report for report in seen.reports if report.usable]
        if self.sampling is not None:
            return [self.entry] if usable else []
        return [self._known[report.url] for report in usable]

    def expecting(self, **changes: Any) -> Cluster:
        """The same cluster over the same connections, with another expectation."""
        other = Cluster(
            self._connection,
            self._http,
            urls=self._urls,
            expectation=replace(self.expectation, **changes),
            sampling=self.sampling,
            writes=self.writes,
            say=self.entry.say,
        )
        other._known = self._known
        return other

    def _server(self, url: str, name: str = "") -> ApiServer:
        if url not in self._known:
            self._known[url] = ApiServer(
                url, self._connection, self._http, name=name, gate=self.writes, say=self.entry.say
            )
        return self._known[url]

    async def _node_names(self) -> dict[str, str]:
        """Names of masters by address, if they are nodes and the user may read nodes; only for display."""
        try:
            return names_by_address(await self.entry.get(_MASTER_NODES))
        except ApiError:
            return {}

    async def _leases(self) -> IdentityLeases:
        """The API servers' identity Leases. Without permission to list them there is nothing to cross-check."""
        try:
            answer = await self._ask_any(_IDENTITY_LEASES)
        except UnreachableError as error:
            if self._urls is None:
                raise
            return IdentityLeases(
                unread=f"the identity Leases in kube-system can't be read: {error.message.rstrip('.')}"
            )
        now = server_time(answer.headers)
        if answer.status in (403, 404) or (answer.status >= 400 and self._urls is not None):
            refused = "the user cannot list leases in kube-system"
            why = (
                refused if answer.status == 403 else f"listing leases in kube-system was answered with {answer.status}"
            )
            return IdentityLeases(at=seconds_text(now), unread=why)
        return read_leases(self.entry.document(answer, "GET", _IDENTITY_LEASES), now, seconds_text(now))

    async def _ask_any(self, path: str) -> Response:
        """The answer of the cluster's address; if the user listed the servers, it need not be reachable, but one of them."""
        urls = self._urls or ()
        for server in (self.entry, *(self._server(url) for url in urls if url != self.entry.url)):
            try:
                return await server.request("GET", path)
            except UnreachableError as error:
                last = error
        raise last


def open_cluster(options: ClusterOptions) -> Cluster:
    """A cluster that has not been asked anything yet. Raises BadInputError if the auth options make no sense."""
    connection = open_connection(options.auth, options.tls_server_name)
    return Cluster(
        connection,
        open_client(connection.transport),
        urls=options.urls,
        expectation=options.expectation,
        sampling=options.sampling,
        say=printable if options.show_server_messages else redact,
    )


def server_addresses(slices: Mapping[str, Any], scheme: str) -> list[tuple[str, str]]:
    """(address, URL) of every endpoint in an EndpointSliceList, in order of address."""
    found: dict[str, str] = {}
    for endpoint_slice in slices.get("items") or []:
        ports = {port.get("name"): port.get("port") for port in endpoint_slice.get("ports") or []}
        port = ports.get("https") or next(iter(ports.values()), None) or 443
        for endpoint in endpoint_slice.get("endpoints") or []:
            for address in map(same_address, endpoint.get("addresses") or []):
                host = f"[{address}]" if ":" in address else address
                found[address] = normalize_url(f"{scheme}://{host}:{port}")
    return sorted(found.items())


def release_in(version: bytes) -> str:
    """The gitVersion in the answer of /version; if there is none, something answers, and that is said."""
    try:
        found = json.loads(version)
    except ValueError:
        found = None
    return str((found.get("gitVersion") if isinstance(found, dict) else None) or "an unknown release")


def names_by_address(nodes: Mapping[str, Any]) -> dict[str, str]:
    """Node names by each of their addresses."""
    return {
        same_address(address["address"]): node["metadata"]["name"]
        for node in nodes.get("items") or []
        for address in (node.get("status") or {}).get("addresses") or []
        if address.get("address")
    }


def server_time(headers: Mapping[str, str]) -> datetime:
    """The Date header: Leases are compared with the servers' clock, not with ours."""
    try:
        return parse_date(headers["Date"])
    except (KeyError, ValueError, TypeError):
        return datetime.now(timezone.utc)
