# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One API server, asked at its own address by raw requests."""

from __future__ import annotations

import json
import re
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._connection import Connection
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import ApiError, UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import HttpClient, Response

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

_REQUEST_TIMEOUT = 30.0


class ApiServer:
    """Sends requests to one server. It never retries: what may be tried again is the caller's decision."""

    def __init__(self, url: str, connection: Connection, http: HttpClient, *, name: str = "") -> None:
        self.url = url
        self.name = name or url.split("://", 1)[1]
        self._connection = connection
        self._http = http

    def __repr__(self) -> str:
        return f"ApiServer({self.url})"

    async def request(
        self,
        method: str,
        path: str,
        *,
        accept: str = JSON,
        content_type: str = JSON,
        body: bytes | None = None,
        timeout: float = _REQUEST_TIMEOUT,
    ) -> Response:
        """Whatever the server answers, errors included; raises UnreachableError where no answer came."""
        headers = [("Accept", accept), ("User-Agent", "kube_storage.upgrade"), *self._connection.authorize()]
        if body is not None:
            headers.append(("Content-Type", content_type))
        return await self._http.request(method, self.url + path, headers=headers, body=body, timeout=timeout)

    async def json(
        self,
        method: str,
        path: str,
        *,
        accept: str = JSON,
        content_type: str = JSON,
        body: Any = None,
        timeout: float = _REQUEST_TIMEOUT,
    ) -> dict[str, Any]:
        """The decoded answer; raises ApiError for any HTTP error, also where a proxy answers without JSON."""
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        answer = await self.request(method, path, accept=accept, content_type=content_type, body=data, timeout=timeout)
        return self.document(answer, method, path)

    def document(self, answer: Response, method: str, path: str) -> dict[str, Any]:
        """What an answer holds; raises as ``json`` does."""
        if answer.status >= 400:
            raise api_error(answer, self.url, method, path)
        try:
            document = json.loads(answer.body)
        except ValueError as error:
            raise UnreachableError(
                f"{self.url} answered {path} with something that is not JSON; is it an API server?", kind="reset"
            ) from error
        if not isinstance(document, dict):
            raise UnreachableError(f"{self.url} answered {path} with unexpected JSON.", kind="reset")
        return document

    async def get(self, path: str, *, accept: str = JSON, timeout: float = _REQUEST_TIMEOUT) -> dict[str, Any]:
        return await self.json("GET", path, accept=accept, timeout=timeout)


def status_of(answer: Response) -> tuple[str, str, dict[str, Any]]:
    """(reason, message, details) of the metav1.Status in an error answer; empty where there is none."""
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("kind") != "Status":
        return "", "", {}
    details = document.get("details")
    return (
        str(document.get("reason") or ""),
        str(document.get("message") or ""),
        details if isinstance(details, dict) else {},
    )


_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\w+) (?:resource "(?P<resource>[^"]*)" in API group "(?P<group>[^"]*)"'
    r'|path "(?P<path>[^"]*)")(?P<scope>[^:\n]*)'
)


def forbidden_sentence(message: str) -> str | None:
    """Who lacks which verb on what, from a server's 403 message; None if it is of another form."""
    found = _FORBIDDEN.search(message)
    if not found:
        return None
    if found["path"]:
        what = f"the path {found['path']}"
    else:
        what = found["resource"] + (f".{found['group']}" if found["group"] else "")
    return (
        f"Permission is missing: user {found['user']} may not {found['verb']} {what}"
        f"{found['scope'].rstrip()}; grant it by a ClusterRole (the README lists what each module needs)."
    )


def api_error(answer: Response, url: str, method: str, path: str) -> ApiError:
    """The ApiError for an HTTP error answer, in one sentence."""
    reason, message, _details = status_of(answer)
    if answer.status == 401:
        sentence = f"{url} does not accept the credentials (401); check the kubeconfig, api_key or client_cert."
    elif answer.status == 403:
        sentence = forbidden_sentence(message) or f"{url} refuses {method} {path} (403): {message or 'forbidden'}."
    else:
        sentence = (
            f"{url} answered {method} {path.split('?')[0]} with {answer.status}{': ' + message if message else ''}."
        )
    return ApiError(sentence, status=answer.status, reason=reason)
