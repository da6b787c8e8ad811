# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""etcd, read through its JSON gateway (POST /v3/kv/range), which needs no gRPC library and no etcdctl.

Chosen because a master has neither: etcdctl is in etcd's container, and no distribution has grpcio in its base. The cost is
small, as values are classified without decoding them whole: in the benchmark a scan uses less of the processor than etcd
does to answer it. The gateway is on by default since etcd 3.5 (in 3.4 only if no file configures etcd) and takes the same
client certificates as gRPC, but no user from them (access.py).
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    EtcdError,
    UnreachableError,
    UnreachableKind,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.access import (
    Access,
    CompactedError,
    NoLeaderError,
    PermissionDeniedError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.encryption import covers
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import (
    HttpClient,
    Response,
    StreamingClient,
)

DEFAULT_PREFIX = "/registry"
_REQUEST_TIMEOUT = 30.0
# For one key or the status of every member, each asked separately.
_EACH_TIMEOUT = 15.0
# Once one member has answered, the others get this much longer, and are then left out.
_OTHERS_TIMEOUT = 2.0
_HEADERS = (("Content-Type", "application/json"), ("User-Agent", "kube_storage.upgrade"))
_LAST_KEY = re.compile(rb'"key"\s*:\s*"([^"]*)"')
_MORE = re.compile(rb'"more"\s*:\s*true')
# In the header, with which every answer begins.
_CLUSTER_ID = re.compile(rb'"cluster_id"\s*:\s*"?(\d+)')
_HEADER_AT_MOST = 300
_LEADER = re.compile(rb'"leader"\s*:\s*"?[1-9]')
# Lost connections and 5xx of every member at once: an election takes about a second.
_ROUNDS = 5
_ROUND_PAUSE = 0.2
_NO_USER = Access()
_STATUS_PATH, _LOGIN_PATH = "/v3/maintenance/status", "/v3/auth/authenticate"


class _MemberError(EtcdError):
    """One member did not answer as it should; ``passing``: it may do so soon, ``behind``: it lags."""

    def __init__(self, message: str, *, passing: bool, behind: bool = False) -> None:
        super().__init__(message)
        self.passing = passing
        self.behind = behind


@dataclass(frozen=True)
class Page:
    """One answer to a range request, not yet parsed: most of it is base64 that nobody needs to decode."""

    body: bytes = field(repr=False)

    @property
    def more(self) -> bool:
        return _MORE.search(self.body, max(0, len(self.body) - 200)) is not None

    @property
    def last_key(self) -> bytes | None:
        """Found from the end, so that the next page can be asked for before this one is parsed."""
        at = self.body.rfind(b'"key"')
        match = _LAST_KEY.match(self.body, at) if at >= 0 else None
        return base64.b64decode(match[1]) if match else None

    def items(self) -> list[dict[str, str]]:
        """``key`` and ``value`` in base64, ``mod_revision`` as text; values must not leave the code that classifies them."""
        found = self._document().get("kvs") or []
        return found if isinstance(found, list) else []

    @property
    def revision(self) -> int:
        """etcd's revision when it answered."""
        return int((self._document().get("header") or {}).get("revision") or 0)

    @property
    def count(self) -> int:
        """Keys in the whole range, whatever the limit."""
        return int(self._document().get("count") or 0)

    def _document(self) -> dict[str, Any]:
        return document_of(self.body)


def document_of(body: bytes) -> dict[str, Any]:
    """The JSON object in an answer; raises EtcdError if it holds none."""
    try:
        document = json.loads(body)
    except ValueError as error:
        raise EtcdError(
            "etcd's JSON gateway answered with something that is not JSON; check etcd.endpoints."
        ) from error
    if not isinstance(document, dict):
        raise EtcdError("etcd's JSON gateway answered with unexpected JSON; check etcd.endpoints.")
    return document


class Etcd:
    """All members of one etcd; use as an async context manager. Reads only.

    Any member can answer a range at a known revision (``serializable``), so those are spread over
    all of them; a member that fails is left out until no other one is left. An answer from another
    cluster than the first answer's is never used.
    """

    def __init__(
        self, endpoints: Sequence[str], http: HttpClient, *, prefix: str = DEFAULT_PREFIX, access: Access = _NO_USER
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.prefix = prefix
        self._http = http
        self._access = access
        self._token: str | None = None
        self._logging_in = asyncio.Lock()
        self._next = 0
        self._usable = self.endpoints
        self._silent_are_known = len(self.endpoints) == 1
        self._failed: dict[str, _MemberError] = {}
        self._cluster: tuple[bytes, str] | None = None

    async def __aenter__(self) -> Etcd:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.close()

    async def range(
        self,
        start: bytes,
        end: bytes | None,
        *,
        limit: int = 0,
        revision: int = 0,
        min_mod_revision: int = 0,
        keys_only: bool = False,
        count_only: bool = False,
    ) -> Page:
        """Keys from ``start`` to before ``end`` (None: the one key ``start``).

        ``revision`` 0 asks for the newest, linearizable: that is what fixes the revision of a scan.
        Raises CompactedError if the revision is gone, else EtcdError.
        """
        body = _range_body(start, end)
        if limit:
            body["limit"] = str(limit)
        if revision:
            body.update(revision=str(revision), serializable=True)
        if min_mod_revision:
            body["min_mod_revision"] = str(min_mod_revision)
        if keys_only:
            body["keys_only"] = True
        if count_only:
            body["count_only"] = True
        return Page(await self._post("/v3/kv/range", body))

    async def read_from_each(self, key: bytes) -> dict[str, Page]:
        """The newest value of one key, by endpoint, each asked separately; those that don't answer are left out.

        Raises EtcdError if none answers, or if two belong to different clusters.
        """
        data = json.dumps(_range_body(key, None)).encode()
        for attempt in range(1, _ROUNDS + 1):
            answers = await self._ask_each("/v3/kv/range", data, self.endpoints)
            found = {endpoint: Page(answer) for endpoint, answer in answers.items() if isinstance(answer, bytes)}
            failed = [answer for answer in answers.values() if isinstance(answer, _MemberError)]
            if found:
                return found
            if attempt == _ROUNDS or not all(error.passing for error in failed):
                break
            await asyncio.sleep(_ROUND_PAUSE * 2**attempt)
        raise _most_telling(failed)

    async def ask(self, path: str, document: Mapping[str, Any]) -> bytes:
        """One answering member's answer to a request that reads; raises EtcdError."""
        return await self._post(path, document)

    async def ask_each(self, path: str, addresses: Iterable[str]) -> Mapping[str, bytes | EtcdError]:
        """Each member's answer to an empty request that reads, by address; members need not be among the endpoints.

        Raises PermissionDeniedError, and EtcdError if two belong to different clusters.
        """
        return await self._ask_each(path, b"{}", tuple(addresses))

    async def ask_member(self, endpoint: str, path: str, document: Mapping[str, Any]) -> bytes:
        """One particular member's answer to a request that reads; raises EtcdError."""
        return await self._ask(endpoint, path, json.dumps(document).encode())

    async def stream(
        self, endpoint: str, path: str, document: Mapping[str, Any], take: Callable[[bytes], None]
    ) -> None:
        """Has ``take`` get one member's answer piece by piece, however large it is; raises EtcdError, and what ``take`` raises.

        Ask this member something first: that gets a token if etcd wants one, and shows which cluster it belongs to.
        """
        if not isinstance(self._http, StreamingClient):
            raise EtcdError("etcd is reached by a client that can't stream, so there is no snapshot.")
        headers = (*_HEADERS, ("Authorization", self._token)) if self._token else _HEADERS
        data = json.dumps(document).encode()
        try:
            answer = await self._http.stream(
                "POST", endpoint + path, headers=headers, body=data, timeout=_REQUEST_TIMEOUT, take=take
            )
        except UnreachableError as error:
            raise EtcdError((await self._access.explain(endpoint, error)).message) from error
        if answer.status != 200:
            raise self._access.gateway_problem(endpoint, answer.status, answer.body)

    async def _ask_each(self, path: str, data: bytes, endpoints: Sequence[str]) -> dict[str, bytes | _MemberError]:
        """Each member's answer, all asked in parallel; a silent member costs a moment, not a timeout."""
        tasks = {
            asyncio.ensure_future(self._ask(endpoint, path, data, _EACH_TIMEOUT)): endpoint for endpoint in endpoints
        }
        answers: dict[str, bytes | _MemberError] = {}
        waiting, patience = set(tasks), None
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                for task in done:
                    try:
                        answers[tasks[task]] = task.result()
                        patience = _OTHERS_TIMEOUT
                    except _MemberError as error:
                        answers[tasks[task]] = error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        silent = {endpoint for endpoint in endpoints if endpoint not in answers}
        timeout = UnreachableError("", kind=UnreachableKind.TIMEOUT)
        answers |= {
            endpoint: _MemberError(self._access.unreachable(endpoint, timeout), passing=False) for endpoint in silent
        }
        return {endpoint: answers[endpoint] for endpoint in endpoints}

    def use_only(self, endpoints: Iterable[str]) -> None:
        """Restricts reads to these endpoints, until the next call."""
        self._usable = tuple(endpoints)
        self._silent_are_known = True
        self._failed.clear()

    async def status(self) -> dict[str, Any]:
        """What one answering member reports about itself; empty, zero or None if the user may not ask for it."""
        try:
            answer = document_of(await self._post(_STATUS_PATH, {}))
        except PermissionDeniedError:
            answer = {}
        in_use, quota = answer.get("dbSizeInUse"), int(answer.get("dbSizeQuota") or 0)
        cluster = (answer.get("header") or {}).get("cluster_id")
        return {
            "version": str(answer.get("version") or ""),
            "db_size": int(answer.get("dbSize") or 0),
            "db_in_use": None if in_use is None else int(in_use),
            "quota": quota if quota > 0 else None,
            "cluster": f"{int(cluster):x}" if cluster else None,
        }

    async def _post(self, path: str, document: Mapping[str, Any]) -> bytes:
        if not self._silent_are_known:
            await self._leave_out_the_silent()
        data = json.dumps(document).encode()
        behind = rounds = 0
        while True:
            if len(self._failed) == len(self._usable):
                rounds += 1
                failed = list(self._failed.values())
                self._failed.clear()
                if rounds >= _ROUNDS or not all(error.passing for error in failed):
                    raise _most_telling(failed)
                await asyncio.sleep(_ROUND_PAUSE * 2**rounds)
            endpoint = self._choose()
            try:
                return await self._ask(endpoint, path, data)
            except _MemberError as error:
                if error.behind and behind < 50:
                    # This member or another one will soon have the revision.
                    behind += 1
                    await asyncio.sleep(0.02 * behind)
                    continue
                self._failed.setdefault(endpoint, error)

    async def _leave_out_the_silent(self) -> None:
        """Before the first request: leaves out members that don't answer while others do, to save a timeout for each."""
        self._silent_are_known = True
        try:
            answers = await self._ask_each(_STATUS_PATH, b"{}", self.endpoints)
        except PermissionDeniedError:
            return
        if any(isinstance(answer, bytes) for answer in answers.values()):
            self._failed = {
                endpoint: answer for endpoint, answer in answers.items() if isinstance(answer, _MemberError)
            }

    async def _ask(self, endpoint: str, path: str, data: bytes, timeout: float = _REQUEST_TIMEOUT) -> bytes:
        """One member's answer; raises _MemberError if another one may answer, CompactedError and EtcdError if none will."""
        if self._access.username and self._token is None:
            await self._log_in(endpoint, None)
        token = self._token
        answer = await self._send(endpoint, path, data, timeout, token)
        if self._access.username and _wants_a_new_token(answer):
            await self._log_in(endpoint, token)
            answer = await self._send(endpoint, path, data, timeout, self._token)
        if not _is_error(answer):
            self._require_one_cluster(endpoint, answer.body)
            return answer.body
        problem = self._access.gateway_problem(endpoint, answer.status, answer.body)
        if isinstance(problem, (CompactedError, PermissionDeniedError)):
            raise problem
        passing = answer.status >= 500
        if isinstance(problem, NoLeaderError):
            # It said so after 7 s (etcd, server/config: ReqTimeout); an election would be over by then.
            passing = await self._has_leader(endpoint)
        raise _MemberError(problem.message, passing=passing, behind=b"future revision" in answer.body) from problem

    async def _has_leader(self, endpoint: str) -> bool:
        """By the member's own status, which it returns at once; a slow disk or network makes requests time out, too."""
        answer = await self._send(endpoint, _STATUS_PATH, b"{}", _EACH_TIMEOUT, self._token)
        return not _is_error(answer) and _LEADER.search(answer.body) is not None

    async def _send(self, endpoint: str, path: str, data: bytes, timeout: float, token: str | None) -> Response:
        headers = (*_HEADERS, ("Authorization", token)) if token else _HEADERS
        try:
            return await self._http.request("POST", endpoint + path, headers=headers, body=data, timeout=timeout)
        except UnreachableError as error:
            why = await self._access.explain(endpoint, error)
            raise _MemberError(why.message, passing=why.passing) from error

    async def _log_in(self, endpoint: str, used: str | None) -> None:
        """A new token, unless another task has replaced ``used``; every member accepts it. "" if authentication is off."""
        async with self._logging_in:
            if self._token != used:
                return
            data = json.dumps({"name": self._access.username, "password": self._access.password}).encode()
            answer = await self._send(endpoint, _LOGIN_PATH, data, _EACH_TIMEOUT, None)
            if b"authentication is not enabled" in answer.body:
                self._token = ""
                return
            if _is_error(answer):
                problem = self._access.gateway_problem(endpoint, answer.status, answer.body)
                raise _MemberError(problem.message, passing=answer.status >= 500)
            self._token = str(document_of(answer.body).get("token") or "")

    def _require_one_cluster(self, endpoint: str, body: bytes) -> None:
        found = _CLUSTER_ID.search(body, 0, _HEADER_AT_MOST)
        if found is None:
            return
        if self._cluster is None:
            self._cluster = (found[1], endpoint)
        elif self._cluster[0] != found[1]:
            raise EtcdError(
                f"{self._cluster[1]} and {endpoint} belong to different etcd clusters; give only the members of one as "
                "endpoints (etcd.overrides is for resources that are kept in another)."
            )

    def _choose(self) -> str:
        usable = [endpoint for endpoint in self._usable if endpoint not in self._failed]
        self._next += 1
        return usable[self._next % len(usable)]


def _is_error(answer: Response) -> bool:
    return answer.status != 200 or answer.body.startswith(b'{"error"')


def _most_telling(failed: Sequence[_MemberError]) -> _MemberError:
    """The most useful of the members' errors: one that answered says more than one that is down."""
    return next((error for error in failed if isinstance(error.__cause__, NoLeaderError)), failed[0])


def _wants_a_new_token(answer: Response) -> bool:
    """A simple token lives five minutes (etcd, --auth-token-ttl), and becomes invalid when users or roles change."""
    return _is_error(answer) and any(
        text in answer.body for text in (b"invalid auth token", b"revision of auth store is old", b"user name is empty")
    )


def end_of(prefix: bytes) -> bytes:
    """The first key after all that begin with a prefix (which doesn't end in 0xff here)."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def _range_body(start: bytes, end: bytes | None) -> dict[str, Any]:
    body: dict[str, Any] = {"key": base64.b64encode(start).decode()}
    if end is not None:
        body["range_end"] = base64.b64encode(end).decode()
    return body


class EtcdClusters:
    """Every etcd of a cluster: the default one, and others for some resources (``--etcd-servers-overrides``).

    Each has its own revisions. Use as an async context manager.
    """

    def __init__(self, default: Etcd, overrides: Sequence[tuple[tuple[str, ...], Etcd]] = ()) -> None:
        self.default = default
        self.overrides = tuple(overrides)

    async def __aenter__(self) -> EtcdClusters:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for etcd in (self.default, *(etcd for _patterns, etcd in self.overrides)):
            await etcd.close()

    @property
    def overridden(self) -> list[str]:
        """Names and patterns of the resources that are kept elsewhere."""
        return [pattern for patterns, _etcd in self.overrides for pattern in patterns]

    def of(self, resource: str) -> Etcd:
        """Where a resource is kept; its own name takes precedence over its group's, as in API servers."""
        for exact in (True, False):
            for patterns, etcd in self.overrides:
                if covers([pattern for pattern in patterns if ("*" not in pattern) is exact], resource):
                    return etcd
        return self.default

    def split(self, resources: Iterable[str]) -> list[tuple[Etcd, list[str]]]:
        """Resources by where they are kept: always the default first, and others only if they have any."""
        found: dict[Etcd, list[str]] = {self.default: []}
        for name in resources:
            found.setdefault(self.of(name), []).append(name)
        return list(found.items())
