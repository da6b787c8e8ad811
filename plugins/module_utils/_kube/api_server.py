# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One API server, asked at its own address with raw requests."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    ApiError,
    EtcdFullError,
    UnreachableError,
    UnreachableKind,
    says_that_etcd_is_full,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.redaction import redact
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import HttpClient, Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.retry import (
    NOT_REPEATABLE,
    PASSING,
    REPEATABLE,
    Attempts,
    Failed,
    RetryPolicy,
    failure_of,
    retry_after,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.auth import Connection

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

_REQUEST_TIMEOUT = 30.0
# Reviews of permissions are POSTs, but store nothing. Names of other groups may begin like these two.
_REVIEWS = ("/apis/authentication.k8s.io/", "/apis/authorization.k8s.io/")


class WriteGate:
    """Whether requests that write may be sent now, to any server of a cluster; ``why_not`` is None if they may.

    It is checked right before the first byte is sent, so that a process that was stopped between the decision to write
    and the write does not write when it wakes up. It must be quick, and may be called in any thread.
    """

    def __init__(self, why_not: Callable[[], str | None] = lambda: None) -> None:
        self.why_not = why_not

    def check(self) -> None:
        """Raises UnreachableError (kind HELD) if not: nothing was sent, and the same request may be tried again."""
        why_not = self.why_not()
        if why_not is not None:
            raise UnreachableError(why_not, kind=UnreachableKind.HELD)


async def with_retries(send: Callable[[], Awaitable[Response]], policy: RetryPolicy) -> Response:
    """Sends a request until it succeeds or the policy gives up, and returns the last answer.

    Raises UnreachableError if the last try got none.
    """
    attempts = Attempts(policy)
    while True:
        try:
            answer = await send()
        except UnreachableError as error:
            pause = attempts.pause(failure_of(error))
            if pause is None:
                raise
        else:
            pause = None if answer.status < 400 else attempts.pause(_failed(answer))
            if pause is None:
                return answer
        await asyncio.sleep(pause)


def _failed(answer: Response) -> Failed:
    if answer.status not in PASSING:
        return Failed(answer.status)
    return Failed(answer.status, retry_after(answer.headers, status_of(answer)[2]))


class ApiServer:
    """Sends requests to one server: once with ``request_once``, otherwise as often as a retry policy says.

    The default policy repeats requests that store nothing (GETs and reviews) after an answer of 429, 502, 503 or 504 and
    after a lost connection. It repeats writes only after 429, which says that they were not carried out. ``reads`` replaces
    the policy for the former.

    ``say``: makes what the server says about an object safe to show.
    """

    def __init__(
        self,
        url: str,
        connection: Connection,
        http: HttpClient,
        *,
        name: str = "",
        gate: WriteGate | None = None,
        reads: RetryPolicy = REPEATABLE,
        say: Callable[[str], str] = redact,
    ) -> None:
        self.url = url
        self.say = say
        self.name = name or url.split("://", 1)[1]
        self._connection = connection
        self._http = http
        self._gate = gate
        self._reads = reads

    def __repr__(self) -> str:
        return f"ApiServer({self.url})"

    async def request_once(
        self,
        method: str,
        path: str,
        *,
        accept: str = JSON,
        content_type: str = JSON,
        body: bytes | None = None,
        timeout: float = _REQUEST_TIMEOUT,
    ) -> Response:
        """Sends it once, or again with new credentials where a server refuses ones that ended.

        Returns any answer, errors included; raises UnreachableError if there is none.
        """
        url, renewal = self.url + path, self._connection.renewal
        check = None if self._gate is None or _stores_nothing(method, path) else self._gate.check
        if renewal is not None:
            await renewal.in_time()
        while True:
            sent = None if renewal is None else renewal.version
            headers = [("Accept", accept), ("User-Agent", "kube_storage.upgrade"), *self._connection.authorize()]
            if body is not None:
                headers.append(("Content-Type", content_type))
            if check is not None:
                check()  # And again when there is a connection, which may take long.
            answer = await self._http.request(method, url, headers=headers, body=body, timeout=timeout, before=check)
            if renewal is None or sent is None or answer.status != 401 or not await renewal.after_refusal(sent):
                return answer
            renewal = None  # New credentials are tried once.

    def ungated(self) -> ApiServer:
        """The same server, for writes that are allowed even when all others are not."""
        return self.gated_by(None)

    def gated_by(self, gate: WriteGate | None) -> ApiServer:
        """The same server, for writes that another gate decides about."""
        return ApiServer(
            self.url, self._connection, self._http, name=self.name, gate=gate, reads=self._reads, say=self.say
        )

    async def json(
        self,
        method: str,
        path: str,
        *,
        accept: str = JSON,
        content_type: str = JSON,
        body: Any = None,
        timeout: float = _REQUEST_TIMEOUT,
        retry: RetryPolicy | None = None,
    ) -> dict[str, Any]:
        """The decoded answer; raises ApiError for any HTTP error, even if a proxy answers without JSON."""
        answer = await self.request(
            method, path, accept=accept, content_type=content_type, body=body, timeout=timeout, retry=retry
        )
        return self.document(answer, method, path)

    async def request(
        self,
        method: str,
        path: str,
        *,
        accept: str = JSON,
        content_type: str = JSON,
        body: Any = None,
        timeout: float = _REQUEST_TIMEOUT,
        retry: RetryPolicy | None = None,
    ) -> Response:
        """Sends a document, or bytes as they are, and returns the last answer. ``timeout`` is that of each try."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body, separators=(",", ":")).encode()

        async def once() -> Response:
            return await self.request_once(
                method, path, accept=accept, content_type=content_type, body=body, timeout=timeout
            )

        return await with_retries(once, retry or (self._reads if _stores_nothing(method, path) else NOT_REPEATABLE))

    def document(self, answer: Response, method: str, path: str) -> dict[str, Any]:
        """The content of an answer; raises like ``json``."""
        if answer.status >= 400:
            error = api_error(answer, self.url, method, path, self.say)
            why = self._connection.why_refused() if is_unknown_user(answer) else None
            raise error if why is None else with_reason(error, why)
        try:
            document = json.loads(answer.body)
        except ValueError as error:
            raise UnreachableError(
                f"{self.url} answered {path} with something that is not JSON (is it an API server?)",
                kind=UnreachableKind.RESET,
            ) from error
        if not isinstance(document, dict):
            raise UnreachableError(f"{self.url} answered {path} with unexpected JSON.", kind=UnreachableKind.RESET)
        return document

    async def get(
        self, path: str, *, accept: str = JSON, timeout: float = _REQUEST_TIMEOUT, retry: RetryPolicy | None = None
    ) -> dict[str, Any]:
        return await self.json("GET", path, accept=accept, timeout=timeout, retry=retry)


def _stores_nothing(method: str, path: str) -> bool:
    return method == "GET" or path.startswith(_REVIEWS)


# metav1.StatusReason (k8s.io/apimachinery, pkg/apis/meta/v1/types.go), and the cause that a terminating namespace gives.
_REASONS = frozenset(
    "Unauthorized Forbidden NotFound AlreadyExists Conflict Gone Invalid ServerTimeout StoreReadError Timeout TooManyRequests "
    "BadRequest MethodNotAllowed NotAcceptable RequestEntityTooLarge UnsupportedMediaType InternalError Expired ServiceUnavailable "
    "NamespaceTerminating".split()
)


def status_of(answer: Response) -> tuple[str, str, dict[str, Any]]:
    """(reason, message, details) of the metav1.Status in an error answer; empty if there is none.

    A webhook may give any reason, so one that isn't Kubernetes' own is left out.
    """
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("kind") != "Status":
        return "", "", {}
    details = document.get("details")
    reason = str(document.get("reason") or "")
    return (
        reason if reason in _REASONS else "",
        str(document.get("message") or ""),
        details if isinstance(details, dict) else {},
    )


# A webhook's or policy's own words may look like this, too, but never from the beginning of the message.
_FORBIDDEN = re.compile(
    r'(?:[\w.:/-]+ (?:"(?:[^"\\]|\\.)*" )?is )?forbidden: '
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\w+) (?:resource "(?P<resource>[^"]*)" in API group "(?P<group>[^"]*)"'
    r'|path "(?P<path>[^"]*)")(?P<scope>[^:\n]*)'
)


# How a server that allows anonymous requests calls whoever sends no credentials (k8s.io/apiserver, pkg/authentication/user).
_ANONYMOUS = "system:anonymous"


def is_unknown_user(answer: Response) -> bool:
    """Whether the server doesn't know who asks, rather than what they may do."""
    found = _FORBIDDEN.match(status_of(answer)[1]) if answer.status == 403 else None
    return answer.status == 401 or (found is not None and found["user"] == _ANONYMOUS)


def with_reason(error: ApiError, why: str) -> ApiError:
    """The same error, with why the credentials were refused."""
    return ApiError(f"{error.message} {why}", status=error.status, reason=error.reason, result=error.result)


def forbidden_sentence(message: str) -> str | None:
    """Who lacks which verb on what, from a server's 403 message; None if it has another form."""
    found = _FORBIDDEN.match(message)
    if not found:
        return None
    if found["user"] == _ANONYMOUS:
        return (
            "The API server doesn't know who asks: no credentials were sent, or none that it accepts; check the user in the "
            "kubeconfig, api_key, or client_cert and client_key."
        )
    if found["path"]:
        what = f"the path {found['path']}"
    else:
        what = found["resource"] + (f".{found['group']}" if found["group"] else "")
    return (
        f"Permission is missing: user {found['user']} cannot {found['verb']} {what}"
        f"{found['scope'].rstrip()}; grant it with a ClusterRole (the page Permissions of the documentation lists what each module needs)."
    )


def api_error(answer: Response, url: str, method: str, path: str, say: Callable[[str], str] = redact) -> ApiError:
    """The ApiError for an HTTP error answer, in one sentence."""
    reason, message, _details = status_of(answer)
    if says_that_etcd_is_full(message):
        return EtcdFullError()
    said = say(message)
    if answer.status == 401:
        sentence = f"{url} does not accept the credentials (401); check the kubeconfig, api_key or client_cert."
    elif answer.status == 403:
        sentence = forbidden_sentence(message) or f"{url} refuses {method} {path} (403): {said or 'forbidden'}."
    elif answer.status == 426:
        sentence = (
            f"{url} takes no plain HTTP/1.1 requests (426), only {say(answer.headers.get('upgrade') or 'another protocol')}; "
            "let that front end accept them, or name another address of the API servers."
        )
    else:
        sentence = f"{url} answered {method} {path.split('?')[0]} with {answer.status}{': ' + said if said else ''}."
    return ApiError(sentence, status=answer.status, reason=reason)
