# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths, patches and pages, and that every request survives an overloaded server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Union
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    ApiError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import (
    Headers,
    Response,
    TransportSettings,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.retry import REPEATABLE
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube import api_server
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.auth import Connection
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import (
    ListFailedError,
    ListPage,
    dry_run,
    managed_fields_patch,
    no_op_patch,
    object_path,
    pages,
    path_of,
    with_query,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource
from hypothesis import given
from hypothesis import strategies as st

ROLES = ServedResource(
    "clusterroles.rbac.authorization.k8s.io",
    "rbac.authorization.k8s.io",
    "clusterroles",
    "ClusterRole",
    False,
    frozenset(),
    ("v1",),
    ("h",),
)
BASE = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
URL = "https://10.0.0.1:6443"
Answer = Union[Response, Exception]


class Server:
    """Gives one prepared answer after the other, the last one repeatedly."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[str, str]] = []

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers,
        body: bytes | None,
        timeout: float,
        before: Callable[[], None] | None = None,
    ) -> Response:
        self.sent.append((method, url[len(URL) :]))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        pass

    @property
    def api(self) -> ApiServer:
        return ApiServer(URL, Connection(URL, TransportSettings(None), list), self)


def answer(document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, headers or {}, json.dumps(document).encode())


def page(*names: str, token: str = "", left: int = 0) -> Response:
    metadata = {"continue": token, "remainingItemCount": left}
    kind = "PartialObjectMetadataList"
    return answer(
        {"kind": kind, "metadata": metadata, "items": [{"metadata": {"name": name}} for name in names] or None}
    )


def expired(token: str = "") -> Response:
    return answer({"kind": "Status", "reason": "Expired", "code": 410, "metadata": {"continue": token}}, 410)


BUSY = answer({"kind": "Status", "message": "too many requests"}, 429, {"Retry-After": "1"})
RESET = UnreachableError("It was lost.", kind="reset")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, which are not made."""
    made: list[float] = []

    async def sleep(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(api_server.asyncio, "sleep", sleep)
    return made


# Paths


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("a?b", "a%3Fb"),
        ("system:x", "system:x"),
        ("system:x/y", "system:x%2Fy"),
        ("a#b", "a%23b"),
        ("a%2Fb", "a%252Fb"),
    ],
)
def test_a_name_never_leads_to_another_object(name: str, quoted: str) -> None:
    assert object_path(ROLES, None, name) == f"{BASE}/{quoted}"
    assert dry_run(object_path(ROLES, None, name)) == f"{BASE}/{quoted}?dryRun=All"


@given(st.text(min_size=1), st.text(min_size=1))
def test_whatever_the_names_a_dry_run_is_one_of_exactly_that_object(namespace: str, name: str) -> None:
    path = dry_run(path_of("/api/v1", "secrets", namespace=namespace, name=name, subresource="status"))
    assert path.isascii() and path.isprintable() and " " not in path
    parts = urlsplit(f"{URL}{path}")
    assert [unquote(part) for part in parts.path.split("/")[3:]] == ["namespaces", namespace, "secrets", name, "status"]
    assert parts.query == "dryRun=All" and not parts.fragment


def test_queries() -> None:
    assert with_query("/a", limit=5, **{"continue": None}) == "/a?limit=5"
    assert with_query("/a?b=c", **{"continue": "x+/="}) == "/a?b=c&continue=x%2B%2F%3D"
    assert with_query("/a") == "/a"


# Patches


@given(st.text())
def test_the_no_op_patch_is_json_whatever_the_version(version: str) -> None:
    assert json.loads(no_op_patch(version).body) == {"metadata": {"resourceVersion": version}}


def test_patches() -> None:
    assert no_op_patch("17") == (b'{"metadata":{"resourceVersion":"17"}}', "application/merge-patch+json")
    assert no_op_patch(None).body == b'{"metadata":{}}'
    operations = json.loads(managed_fields_patch("17", [{}]).body)
    assert {operation["path"]: operation["value"] for operation in operations} == {
        "/metadata/managedFields": [{}],
        "/metadata/resourceVersion": "17",
    }


# Pages


def all_pages(server: Server, **options: Any) -> list[ListPage]:
    async def collect() -> list[ListPage]:
        return [found async for found in pages(server.api, BASE, **options)]

    return asyncio.run(collect())


def names(found: ListPage) -> list[str]:
    return [item["metadata"]["name"] for item in found.items]


def tokens(server: Server) -> list[str | None]:
    return [parse_qs(urlsplit(path).query).get("continue", [None])[0] for _method, path in server.sent]


def test_pages_follow_their_tokens() -> None:
    server = Server(page("a", "b", token="x+/", left=1), page("c"))
    first, second = all_pages(server, limit=2)
    assert (names(first), first.token, first.left, first.from_start) == (["a", "b"], "x+/", 1, True)
    assert (names(second), second.token, second.from_start) == (["c"], None, False)
    assert tokens(server) == [None, "x+/"] and server.sent[0][1] == f"{BASE}?limit=2"


def test_an_empty_list_is_a_page() -> None:
    assert [names(found) for found in all_pages(Server(page()))] == [[]]


def test_an_expired_list_resumes_or_starts_over() -> None:
    server = Server(
        page("a", token="1"), expired("2"), page("b", token="3"), expired(), page("a", token="4"), page("b")
    )
    found = all_pages(server)
    assert [names(page) for page in found] == [["a"], ["b"], ["a"], ["b"]]
    assert [page.from_start for page in found] == [True, False, True, False]
    assert tokens(server) == [None, "1", "2", "3", None, "4"]


def test_a_list_that_keeps_expiring_ends() -> None:
    server = Server(page("a", token="1"), expired("1"))
    with pytest.raises(ListFailedError) as failed:
        all_pages(server)
    assert failed.value.status == 410 and len(server.sent) < 10


def test_a_list_of_one_revision_does_not_continue_in_another() -> None:
    server = Server(page("a", token="1"), expired("2"))
    with pytest.raises(ListFailedError):
        all_pages(server, revision=40)
    assert "resourceVersion=40&resourceVersionMatch=Exact" in server.sent[0][1]
    assert "resourceVersion" not in server.sent[1][1]


def test_an_old_token_that_is_not_understood_starts_over_once() -> None:
    refused = answer({"kind": "Status", "message": "continue key is not valid"}, 400)
    (found,) = all_pages(Server(refused, page("a")), token="old")
    assert found.from_start
    with pytest.raises(ListFailedError):
        all_pages(Server(refused), token="old")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b'{"kind": "Status"}',
        b'{"kind": "Status", "metadata": {}, "status": "Failure"}',
        b'{"metadata": {}}',
    ],
)
def test_what_is_not_a_list_does_not_count(body: bytes) -> None:
    with pytest.raises(ListFailedError) as failed:
        all_pages(Server(Response(200, {}, body)))
    assert failed.value.reason == "UnexpectedAnswer" and BASE in failed.value.message


def test_a_refusal_comes_with_the_answer() -> None:
    with pytest.raises(ListFailedError) as failed:
        all_pages(Server(answer({"kind": "Status", "reason": "Forbidden"}, 403)))
    assert failed.value.answer.status == 403 and failed.value.reason == "Forbidden"


# Retries


REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@pytest.mark.parametrize(("method", "path"), [("GET", BASE), ("POST", REVIEW), ("POST", BASE), ("PATCH", BASE)])
def test_every_request_survives_a_429(method: str, path: str, pauses: list[float]) -> None:
    server = Server(BUSY, BUSY, answer({"metadata": {}}))
    assert asyncio.run(server.api.json(method, path, body={})) == {"metadata": {}}
    assert len(server.sent) == 3 and len(pauses) == 2 and all(1 <= pause <= 1.25 for pause in pauses)


@pytest.mark.parametrize("failure", [RESET, answer({}, 503), answer({}, 503, {"Retry-After": "2"})])
def test_what_stores_nothing_or_is_conditional_is_retried_more(failure: Answer, pauses: list[float]) -> None:
    done = answer({"metadata": {}})
    for method, path in (("GET", BASE), ("POST", REVIEW)):
        server = Server(failure, done)
        asyncio.run(server.api.json(method, path))
        assert len(server.sent) == 2
    server = Server(failure, done)
    asyncio.run(server.api.json("PATCH", BASE, body={}, retry=REPEATABLE))
    assert len(server.sent) == 2
    server = Server(failure, done)
    with pytest.raises((ApiError, UnreachableError)):
        asyncio.run(server.api.json("POST", BASE, body={}))
    assert len(server.sent) == 1, "it may have been carried out"


def test_a_lost_connection_during_an_overload_is_not_a_reason_to_give_up(pauses: list[float]) -> None:
    server = Server(*[BUSY] * 8, RESET, *[BUSY] * 8, RESET, answer({"metadata": {}}))
    assert asyncio.run(server.api.get(BASE)) == {"metadata": {}} and len(server.sent) == 19


def test_a_connection_that_is_always_lost_is_given_up(pauses: list[float]) -> None:
    server = Server(RESET)
    with pytest.raises(UnreachableError):
        asyncio.run(server.api.get(BASE))
    assert len(server.sent) == 4 and sum(pauses) < 1


@pytest.mark.parametrize("status", [400, 403, 404, 409, 500])
def test_a_real_answer_is_not_asked_for_twice(status: int, pauses: list[float]) -> None:
    server = Server(answer({}, status))
    with pytest.raises(ApiError):
        asyncio.run(server.api.get(BASE))
    assert len(server.sent) == 1
