# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What requests about objects have in common: their paths, the no-op patch, and the pages of a list."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import ApiError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.retry import (
    NOT_REPEATABLE,
    REPEATABLE,
    RetryPolicy,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import (
    JSON_PATCH,
    MERGE_PATCH,
    METADATA,
    METADATA_LIST,
    ApiServer,
    api_error,
    with_retries,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

PAGE_SIZE = 500
_LIST_TIMEOUT = 60.0
_RESTARTS = 5
_GONE = 410
# Nearly all names look like this and need no quoting; this runs for each object.
_PLAIN = re.compile(r"[A-Za-z0-9._:-]+").fullmatch


def path_of(
    base: str, plural: str, *, namespace: str | None = None, name: str | None = None, subresource: str | None = None
) -> str:
    """The path of an object, or of a collection if no ``name`` is given; ``base`` is something like ``/apis/apps/v1``.

    Names come from the cluster and may contain nearly anything (a ClusterRole may be named ``a?b``), so each is quoted,
    except for the colons in many names of roles.
    """
    path = f"{base}/namespaces/{_segment(namespace)}/{plural}" if namespace else f"{base}/{plural}"
    if name is not None:
        path += f"/{_segment(name)}"
    return path if subresource is None else f"{path}/{subresource}"


def _segment(text: str) -> str:
    return text if _PLAIN(text) else quote(text, safe=":")


KUBE_SYSTEM = path_of("/api/v1", "namespaces", name="kube-system")


async def cluster_uid(server: ApiServer) -> str | None:
    """That of the namespace kube-system, which no other cluster has; None if it has none. Raises the errors of a request."""
    found = await server.get(KUBE_SYSTEM, accept=METADATA)
    return str((found.get("metadata") or {}).get("uid") or "") or None


def collection_path(resource: ServedResource) -> str:
    """The path of all objects of a resource, in every namespace."""
    return path_of(resource.path, resource.plural)


def object_path(resource: ServedResource, namespace: str | None, name: str) -> str:
    """The path of one object."""
    return path_of(resource.path, resource.plural, namespace=namespace, name=name)


def with_query(path: str, **query: str | int | None) -> str:
    """The path with a query, without the parameters that are None."""
    given = [f"{name}={quote(str(value), safe='')}" for name, value in query.items() if value is not None]
    if not given:
        return path
    return f"{path}{'&' if '?' in path else '?'}{'&'.join(given)}"


def dry_run(path: str) -> str:
    """The same write as a dry run, which goes through admission and stores nothing."""
    return with_query(path, dryRun="All")


class Patch(NamedTuple):
    body: bytes
    content_type: str


def no_op_patch(resource_version: str | None) -> Patch:
    """Has the API server read an object, encode it again, and store it if that makes a difference; no field changes.

    With a ``resource_version`` it is conditional: if the object was written in the meantime, the answer is 409.
    """
    if resource_version is None:
        return Patch(b'{"metadata":{}}', MERGE_PATCH)
    if not resource_version.isdecimal():
        resource_version = json.dumps(resource_version)[1:-1]
    return Patch(b'{"metadata":{"resourceVersion":"%s"}}' % resource_version.encode(), MERGE_PATCH)


def managed_fields_patch(resource_version: str, managed_fields: Sequence[Any]) -> Patch:
    """Replaces managedFields if the object is still at that resourceVersion (else 409)."""
    operations = [
        {"op": "replace", "path": "/metadata/managedFields", "value": managed_fields},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version},
    ]
    return Patch(json.dumps(operations, separators=(",", ":")).encode(), JSON_PATCH)


async def patch_once(server: ApiServer, path: str, patch: Patch, *, timeout: float = 30.0) -> Response:
    """Sends it once; returns any answer, with only the object's metadata, and raises UnreachableError if there is none."""
    return await server.request_once(
        "PATCH", path, accept=METADATA, content_type=patch.content_type, body=patch.body, timeout=timeout
    )


async def send_patch(
    server: ApiServer, path: str, patch: Patch, *, timeout: float = 30.0, retry: RetryPolicy | None = None
) -> Response:
    """The same, but sent again after a 429, or as ``retry`` says.

    The patches above may be carried out twice, but then the second
    answer is 409 or "unchanged" where the first would have been "rewritten", which the caller must count correctly.
    """
    return await with_retries(lambda: patch_once(server, path, patch, timeout=timeout), retry or NOT_REPEATABLE)


@dataclass(frozen=True)
class ListPage:
    """One page of a list. ``token``: that of the next page, None at the end. ``left``: about how many objects follow.

    ``from_start``: the list starts over with this page, so objects of previous pages will come again.
    """

    items: list[dict[str, Any]]
    token: str | None
    left: int
    from_start: bool


class ListFailedError(ApiError):
    """A list was refused, or the answer is not a list; ``answer`` is what the server at ``url`` sent."""

    def __init__(self, answer: Response, url: str, path: str) -> None:
        if answer.status >= 400:
            error = api_error(answer, url, "GET", path)
            super().__init__(error.message, status=error.status, reason=error.reason)
        else:
            sentence = f"{url} answered {path.split('?')[0]} with something that is not a list (is it an API server?)"
            super().__init__(sentence, status=answer.status, reason="UnexpectedAnswer")
        self.answer = answer


async def pages(
    server: ApiServer,
    path: str,
    *,
    limit: int = PAGE_SIZE,
    token: str | None = None,
    revision: int | None = None,
    timeout: float = _LIST_TIMEOUT,
    retry: RetryPolicy = REPEATABLE,
) -> AsyncIterator[ListPage]:
    """The pages of a list of metadata. Raises ListFailedError, and UnreachableError if there is no answer.

    ``token`` is where an earlier list stopped. ``revision``: list exactly that one. See ``pages_by``.
    """

    async def ask(path: str) -> Response:
        return await server.request("GET", path, accept=METADATA_LIST, timeout=timeout, retry=retry)

    async for page in pages_by(ask, path, url=server.url, limit=limit, token=token, revision=revision):
        yield page


async def pages_by(
    ask: Callable[[str], Awaitable[Response]],
    path: str,
    *,
    url: str = "The API server",
    limit: int | None = PAGE_SIZE,
    token: str | None = None,
    revision: int | None = None,
) -> AsyncIterator[ListPage]:
    """The same for a caller that sends the requests itself; without ``limit`` it adds the size of each page, too.

    If a list takes longer than etcd keeps its revision (five minutes by default), the answer is 410, usually with
    a token that continues at the same key in the current revision. Without one the list starts over
    (k8s.io/apiserver, pkg/storage/etcd3, handleCompactedErrorForPaging). Neither helps for exactly one ``revision``.
    A token of an earlier list may belong to another API version; then the answer is 400, and the list starts over.
    """
    given, restarts = token, 0
    exact = {} if revision is None else {"resourceVersion": revision, "resourceVersionMatch": "Exact"}
    begins = token is None
    while True:
        query = exact if token is None else {"continue": token}
        answer = await ask(with_query(path, limit=limit, **query))
        expired = answer.status == _GONE and token is not None and revision is None
        if restarts < _RESTARTS and (expired or (answer.status == 400 and token is not None and token == given)):
            token = _fresh_token(answer) if expired else None
            begins = token is None
            restarts += 1
            continue
        page = _page(answer, begins)
        if page is None:
            raise ListFailedError(answer, url, path)
        token, begins, restarts = page.token, False, 0
        # An answer has a few hundred kilobytes, so waiting lists keep none.
        del answer
        yield page
        del page
        if token is None:
            return


def _page(answer: Response, from_start: bool) -> ListPage | None:
    if answer.status >= 400:
        return None
    try:
        document = json.loads(answer.body)
    except ValueError:
        return None
    if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict):
        return None
    # A Status has metadata, too, and no items: it must not pass for an empty list.
    if not str(document.get("kind")).endswith("List"):
        return None
    metadata = document["metadata"]
    # An API server writes an empty list of metadata as null.
    items = document.get("items") or []
    return ListPage(items, metadata.get("continue") or None, int(metadata.get("remainingItemCount") or 0), from_start)


def _fresh_token(answer: Response) -> str | None:
    try:
        token = json.loads(answer.body)["metadata"]["continue"]
    except (ValueError, KeyError, TypeError):
        return None
    return str(token) if token else None
