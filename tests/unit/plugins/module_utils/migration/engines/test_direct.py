# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The direct engine against servers that answer what real ones do only on a bad day."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    EtcdFullError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import retry
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines import direct
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import Control, ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.direct import (
    DirectEngine,
    Settings,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.endpoints import EndpointPool
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import OutcomeCounts
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey, Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    storage_version_hash,
)

GROUP = "shop.example.com"
VERBS = frozenset({"list", "patch"})
WIDGETS = ServedResource(f"widgets.{GROUP}", GROUP, "widgets", "Widget", True, VERBS, ("v1",), ("h",))
PATH = f"/apis/{GROUP}/v1/namespaces/shop/widgets/"
LIST = f"/apis/{GROUP}/v1/widgets"
NOT_FOUND = Response(404, {}, b"404 page not found\n")
PROXY_PAGE = Response(404, {}, b"<html>no such page</html>")
OLD, NEW = {"manager": "a", "apiVersion": f"{GROUP}/v1beta1"}, {"manager": "b", "apiVersion": f"{GROUP}/v1"}


def ok(document: Mapping[str, Any]) -> Response:
    return Response(200, {}, json.dumps(document).encode())


def status(code: int, message: str = "", reason: str = "NotFound", **details: str) -> Response:
    body = {"kind": "Status", "message": message, "reason": reason, "code": code, "details": details}
    return Response(code, {}, json.dumps(body).encode())


def gone(name: str) -> Response:
    return status(404, f'widgets.{GROUP} "{name}" not found', kind="widgets", group=GROUP, name=name)


def full(*_request: str) -> Response:
    return status(500, "etcdserver: mvcc: database space exceeded", "InternalError")


NO_NAMESPACE = status(404, 'namespaces "shop" not found', kind="namespaces", name="shop")


@dataclass
class Server:
    """An API server with a few objects; ``answer`` may say otherwise, or None."""

    names: list[str]
    answer: Callable[[str, str], Response | None] = lambda method, path: None
    served: bool = True
    managers: list[dict[str, str]] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    drops_managers: bool = False

    async def request(
        self, method: str, url: str, *, headers: Any, body: bytes | None, timeout: float, **_more: Any
    ) -> Response:
        await asyncio.sleep(0)
        path = url[len("https://server") :]
        self.seen.append((method, path))
        other = self.answer(method, path)
        if other is not None:
            return other
        where, name = urlsplit(path).path, urlsplit(path).path.rpartition("/")[2]
        if where == "/apis":
            versions = [{"groupVersion": f"{GROUP}/v1"}] if self.served else []
            return ok({"kind": "APIGroupList", "groups": [{"name": GROUP, "versions": versions}]})
        if where == f"/apis/{GROUP}/v1":
            return ok({"kind": "APIResourceList", "resources": [{"name": "widgets"}] if self.served else []})
        if not self.served:
            return NOT_FOUND
        if where == LIST:
            items = [self.metadata(object_name, "1") for object_name in self.names]
            return ok({"kind": "PartialObjectMetadataList", "metadata": {}, "items": items})
        if name not in self.names:
            return gone(name)
        patched = self.metadata(name, "1" if method == "GET" or "dryRun" in path else "2")
        if method == "PATCH" and self.drops_managers:
            del patched["metadata"]["managedFields"]
        return ok(patched)

    def metadata(self, name: str, version: str) -> dict[str, Any]:
        metadata = {"namespace": "shop", "name": name, "resourceVersion": version, "managedFields": self.managers}
        return {"metadata": metadata}

    async def close(self) -> None:
        pass

    def of(self, method: str, name: str) -> int:
        return sum(1 for sent, path in self.seen if sent == method and urlsplit(path).path == PATH + name)


class _Connection:
    renewal = None

    def authorize(self) -> list[tuple[str, str]]:
        return []


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "backoff", lambda tries, wait, jitter: 0.0)


def migrate(
    server: Server,
    *,
    objects: list[str] | None = None,
    token: str | None = None,
    resource: ServedResource = WIDGETS,
    **settings: Any,
) -> tuple[ResourceRun, Control]:
    named = None if objects is None else tuple(ObjectKey("shop", name, "1") for name in objects)
    run = ResourceRun(Target(resource, f"{GROUP}/v1", "selected", objects=named, token=token), "direct")
    control = Control()

    async def main() -> None:
        endpoints = EndpointPool([ApiServer("https://server", _Connection(), server)], 4)  # type: ignore[arg-type]
        await asyncio.wait_for(DirectEngine(endpoints, Settings(**settings)).migrate([run], control), 20)

    asyncio.run(main())
    return run, control


def failures(run: ResourceRun) -> dict[str | None, str]:
    return {failure.name: failure.message for failure in run.failures}


# Issue 11, number 1


def test_an_object_is_deleted_if_the_server_says_so_about_it() -> None:
    server = Server(["a", "b"], lambda method, path: gone("a") if path.startswith(PATH + "a") else None)
    run, _control = migrate(server)
    assert run.tally == OutcomeCounts(rewritten=1, deleted=1) and run.complete
    assert server.of("GET", "a") == 0, "the patch's answer was clear"


def test_a_404_about_the_namespace_is_a_failure_that_names_it() -> None:
    server = Server(["a", "b"], lambda method, path: NO_NAMESPACE if method == "PATCH" else None)
    run, _control = migrate(server)
    assert run.tally == OutcomeCounts(failed=2) and not run.complete
    assert set(failures(run).values()) == {"its namespace shop no longer exists: create it again or delete the object"}
    assert {failure.status for failure in run.failures} == {404}


def test_an_object_that_went_with_its_namespace_is_deleted() -> None:
    def answer(method: str, path: str) -> Response | None:
        if not path.startswith(PATH):
            return None
        return NO_NAMESPACE if method == "PATCH" else gone(path.rpartition("/")[2])

    run, _control = migrate(Server(["a", "b"], answer))
    assert run.tally == OutcomeCounts(deleted=2) and run.complete


@pytest.mark.parametrize("page", [NOT_FOUND, PROXY_PAGE, gone("another"), status(404)])
def test_any_other_404_is_never_a_deletion(page: Response) -> None:
    server = Server(["a", "b"], lambda method, path: page if path.startswith(PATH + "a") else None)
    run, _control = migrate(server)
    assert run.tally == OutcomeCounts(rewritten=1, failed=1) and list(failures(run)) == ["a"]
    assert not run.gone and not run.complete
    assert server.of("PATCH", "a") == 3


def test_a_resource_that_is_briefly_not_served() -> None:
    answers = iter([NOT_FOUND, NOT_FOUND])

    def answer(method: str, path: str) -> Response | None:
        return next(answers, None) if path.startswith(PATH + "a") else None

    run, _control = migrate(Server(["a"], answer))
    assert run.tally == OutcomeCounts(rewritten=1) and run.complete


def test_nothing_is_claimed_about_a_resource_that_vanished() -> None:
    server = Server(["a", "b", "c"])

    def answer(method: str, path: str) -> Response | None:
        if path.startswith(PATH + "b"):
            server.served = False
        return None

    server.answer = answer
    run, _control = migrate(server, max_rate=20)
    assert run.gone and not run.complete and run.failures == []
    assert run.tally == OutcomeCounts(rewritten=1)


def test_a_list_that_a_proxy_answers_is_a_failure() -> None:
    for page in (PROXY_PAGE, NOT_FOUND, status(404)):
        run, _control = migrate(Server(["a"], lambda method, path: page if path.startswith(LIST) else None))  # noqa: B023
        assert not run.gone and not run.complete and list(failures(run)) == [None]


def test_a_list_of_a_resource_that_is_not_served() -> None:
    run, _control = migrate(Server(["a"], served=False))
    assert run.gone and not run.complete and run.failures == []


def test_a_user_who_may_not_get_still_learns_of_a_failure() -> None:
    def answer(method: str, path: str) -> Response | None:
        if not path.startswith(PATH):
            return None
        return NO_NAMESPACE if method == "PATCH" else status(403, "forbidden", "Forbidden")

    run, _control = migrate(Server(["a"], answer))
    assert run.tally == OutcomeCounts(failed=1) and "its namespace shop" in failures(run)["a"]


def test_an_answer_that_is_not_an_object_does_not_break_the_run() -> None:
    run, _control = migrate(
        Server(["a"], lambda method, path: Response(200, {}, b"<html>") if method == "GET" else None),
        objects=["a"],
        managed_fields="prune",
    )
    assert run.tally == OutcomeCounts(failed=1)


# Issue 11, number 7


def test_managers_that_a_server_would_drop_are_left_alone() -> None:
    for objects in (None, ["a"]):
        server = Server(["a"], managers=[OLD, NEW], drops_managers=True)
        served = {WIDGETS.name: {f"{GROUP}/v1"}}
        run, _control = migrate(server, objects=objects, managers_at_risk=True, served_versions=served)
        assert run.tally == OutcomeCounts(failed=1)
        message = failures(run)["a"]
        assert f"{GROUP}/v1beta1" in message and "136919" in message and "managed_fields" in message
        assert all("dryRun=All" in path for method, path in server.seen if method == "PATCH")


def test_managers_that_a_server_keeps_do_not_matter() -> None:
    server = Server(["a"], managers=[OLD, NEW])
    run, _control = migrate(server, managers_at_risk=True)
    assert run.tally == OutcomeCounts(rewritten=1) and server.of("PATCH", "a") == 2


def test_a_new_server_is_not_asked_first() -> None:
    server = Server(["a"], managers=[OLD, NEW])
    run, _control = migrate(server)
    assert run.tally == OutcomeCounts(rewritten=1) and server.of("PATCH", "a") == 1


def test_without_a_dry_run_only_versions_that_are_served_are_patched() -> None:
    def answer(method: str, path: str) -> Response | None:
        return status(400, 'admission webhook "x" does not support dry run', "BadRequest") if "dryRun" in path else None

    for versions, expected in (
        ({f"{GROUP}/v1"}, OutcomeCounts(failed=1)),
        ({OLD["apiVersion"], NEW["apiVersion"]}, OutcomeCounts(rewritten=1)),
    ):
        server = Server(["a"], answer, managers=[OLD, NEW])
        run, _control = migrate(server, managers_at_risk=True, served_versions={WIDGETS.name: versions})
        assert run.tally == expected


# Issue 13, number 1

SERVED = {WIDGETS.name: {f"{GROUP}/v1"}}


def crd(strategy: str = "None") -> dict[str, Any]:
    versions = [{"name": "v1beta1", "storage": False}, {"name": "v1", "storage": True}]
    return {"kind": "CustomResourceDefinition", "spec": {"versions": versions, "conversion": {"strategy": strategy}}}


def convertible() -> ServedResource:
    return replace(WIDGETS, hashes=(storage_version_hash(GROUP, "v1", "Widget"),))


class Obeying(Server):
    """An API server that takes over managedFields from a patch, unless it ``keeps`` those that it has (since 1.37)."""

    def __init__(self, managers: list[dict[str, Any]], *, strategy: str = "None", keeps: bool = False) -> None:
        super().__init__(["a"], self.crd, managers=managers)
        self.strategy, self.keeps = strategy, keeps
        self.patches: list[list[dict[str, Any]] | None] = []

    def crd(self, method: str, path: str) -> Response | None:
        return ok(crd(self.strategy)) if "customresourcedefinitions" in path else None

    async def request(
        self, method: str, url: str, *, headers: Any, body: bytes | None, timeout: float, **more: Any
    ) -> Response:
        if method == "PATCH" and body is not None:
            patch = json.loads(body)
            wanted = (
                [change["value"] for change in patch if change["path"] == "/metadata/managedFields"]
                if isinstance(patch, list)
                else []
            )
            self.patches += wanted or [None]
            if wanted and not self.keeps:
                self.managers = [entry for entry in wanted[0] if entry]
        return await super().request(method, url, headers=headers, body=body, timeout=timeout, **more)


def test_managers_move_in_the_patch_that_rewrites_the_object() -> None:
    server = Obeying([OLD, NEW])
    run, _control = migrate(server, resource=convertible(), managed_fields="rewrite", served_versions=SERVED)
    assert run.tally == OutcomeCounts(rewritten=1, moved=1) and run.complete
    assert server.patches == [[{**OLD, "apiVersion": NEW["apiVersion"]}, NEW]]
    assert server.of("GET", "a") == 0 and server.of("PATCH", "a") == 1


def test_managers_stay_if_a_webhook_converts_or_the_crd_can_t_be_read() -> None:
    for answer in (None, status(403, "forbidden", "Forbidden")):
        server = Obeying([OLD, NEW], strategy="Webhook")
        if answer is not None:
            server.answer = lambda method, path, given=answer: given if "customresource" in path else None  # type: ignore[misc]
        run, _control = migrate(server, resource=convertible(), managed_fields="rewrite", served_versions=SERVED)
        assert run.tally == OutcomeCounts(rewritten=1) and server.patches == [None]


def test_managers_that_the_server_puts_back_are_a_failure() -> None:
    """Since 1.37 a server that can't convert an entry keeps those that the object has, and answers 200."""
    for mode in ("rewrite", "prune"):
        server = Obeying([OLD, NEW], keeps=True)
        run, _control = migrate(server, resource=convertible(), managed_fields=mode, served_versions=SERVED)
        assert run.tally == OutcomeCounts(failed=1) and "left its field managers" in failures(run)["a"]
        assert run.visits.wrote


def test_pruned_objects_are_counted_by_what_the_server_answers() -> None:
    server = Obeying([OLD, NEW])
    run, _control = migrate(server, managed_fields="prune", served_versions=SERVED)
    assert run.tally == OutcomeCounts(rewritten=1, pruned=1) and server.managers == [NEW]


def test_an_older_server_is_asked_first_with_the_managers_that_move() -> None:
    server = Obeying([OLD, NEW])
    run, _control = migrate(
        server, resource=convertible(), managed_fields="rewrite", served_versions=SERVED, managers_at_risk=True
    )
    assert run.tally == OutcomeCounts(rewritten=1, moved=1) and server.of("PATCH", "a") == 2
    assert len(set(map(str, server.patches))) == 1


def test_managers_that_the_server_drops_from_a_built_in_object_are_counted() -> None:
    """Issue 13, number 1: They were counted as "rewritten, pruned 0"."""
    jobs = ServedResource("cronjobs.batch", "batch", "widgets", "CronJob", True, VERBS, ("v1",), ("h",))
    dead, alive = {**OLD, "apiVersion": "batch/v2alpha1"}, {**NEW, "apiVersion": "batch/v1"}

    class Dropping(Server):
        async def request(
            self, method: str, url: str, *, headers: Any, body: bytes | None, timeout: float, **more: Any
        ) -> Response:
            if method == "PATCH":
                self.managers = [alive]
            url = url.replace("/batch/v1/", f"/{GROUP}/v1/")
            return await super().request(method, url, headers=headers, body=body, timeout=timeout, **more)

    server = Dropping(["a"], managers=[dead, alive])
    run, _control = migrate(server, resource=jobs, served_versions={jobs.name: {"batch/v1"}})
    assert run.tally == OutcomeCounts(rewritten=1, pruned=1)


# Issue 11, number 9


def test_a_full_etcd_stops_every_write_at_once() -> None:
    names = [f"w{i:03d}" for i in range(200)]
    server = Server(names)
    patches = 0

    def answer(method: str, path: str) -> Response | None:
        nonlocal patches
        patches += method == "PATCH"
        return full() if method == "PATCH" and patches > 50 else None

    server.answer = answer
    run, control = migrate(server)
    assert isinstance(control.stopped, EtcdFullError)
    order = ["compact etcd", "defragment every member", "disarm the alarm", "--quota-backend-bytes", "Then run again"]
    found = [control.stopped.message.find(words) for words in order]
    assert -1 not in found and found == sorted(found)
    assert 50 < patches <= 54, "no more than what was in flight"
    assert run.failures == [] and run.tally.rewritten == 50 and not run.complete


# Lists that expire, and requests that fail


class Pages:
    """Two objects a page. ``expire``: at which requests for a later page the answer is 410, and with which token."""

    def __init__(self, names: list[str], expire: dict[int, str | None]) -> None:
        self.names = names
        self.expire = expire
        self.asked: list[str] = []

    def __call__(self, method: str, path: str) -> Response | None:
        if method != "GET" or urlsplit(path).path != LIST:
            return None
        token = parse_qs(urlsplit(path).query).get("continue", [""])[0]
        self.asked.append(token)
        if len(self.asked) in self.expire:
            fresh = self.expire[len(self.asked)]
            body = {"kind": "Status", "reason": "Expired", "code": 410, "metadata": {"continue": fresh}}
            return Response(410, {}, json.dumps(body).encode())
        if token and not token.isdecimal():
            return status(400, "continue key is not valid", "BadRequest")
        at = int(token or 0)
        items = [Server([]).metadata(name, "1") for name in self.names[at : at + 2]]
        following = str(at + 2) if at + 2 < len(self.names) else ""
        return ok({"kind": "PartialObjectMetadataList", "metadata": {"continue": following}, "items": items})


NAMES = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("fresh", ["2", None])
def test_an_expired_list_resumes_and_each_object_counts_once(fresh: str | None) -> None:
    pages = Pages(NAMES, {2: fresh})
    server = Server(NAMES, pages)
    run, control = migrate(server)
    assert run.complete and control.stopped is None
    counts = run.tally.without(run.visits.twice)
    assert (counts.rewritten, counts.visited) == (5, 5)
    assert pages.asked == ["", "2", fresh or "", *(["2"] if fresh is None else []), "4"]


def test_a_token_of_another_api_version_starts_over() -> None:
    pages = Pages(NAMES, {})
    run, _control = migrate(Server(NAMES, pages), token="old")
    assert run.complete and run.tally.rewritten == 5 and pages.asked[:2] == ["old", ""]


def test_a_list_that_keeps_expiring_is_a_failure() -> None:
    run, _control = migrate(Server(NAMES, Pages(NAMES, dict.fromkeys(range(2, 99), "2"))))
    assert not run.complete and run.failures[0].status == 410 and run.tally.rewritten == 2


@pytest.mark.parametrize("kind", ["reset", "timeout"])
def test_lost_answers_are_requested_again(kind: str) -> None:
    lost: set[str] = set()

    def answer(method: str, path: str) -> Response | None:
        if path not in lost and len(lost) < 2:
            lost.add(path)
            raise UnreachableError("No answer came.", kind=kind)
        return None

    run, _control = migrate(Server(["a", "b"], answer))
    assert run.complete and run.tally.rewritten == 2 and len(lost) == 2


def test_an_object_that_never_succeeds_is_named_with_the_last_reason() -> None:
    busy = status(429, "too many requests", "TooManyRequests")
    server = Server(["a", "b"], lambda method, path: busy if path.startswith(PATH + "a") else None)
    run, _control = migrate(server, retries=4)
    assert run.tally == OutcomeCounts(rewritten=1, failed=1) and server.of("PATCH", "a") == 4
    assert failures(run) == {"a": "too many requests"}


def test_a_process_that_may_open_no_more_files_ends_the_run() -> None:
    def answer(method: str, path: str) -> Response | None:
        if method == "PATCH":
            raise UnreachableError("This process may open no more files.", kind="exhausted")
        return None

    run, control = migrate(Server(["a", "b"], answer))
    assert control.stopped is not None and "no more files" in control.stopped.message
    assert not run.complete and run.failures == []


def test_what_the_run_keeps_writing_comes_last_and_a_resumed_run_lists_it_again() -> None:
    """Issue 13, number 2."""
    pages = Pages(NAMES, {})
    stops = False

    def answer(method: str, path: str) -> Response | None:
        return full() if stops and (method, path) == ("PATCH", PATH + "c") else pages(method, path)

    server = Server(NAMES, answer)
    last = {WIDGETS.name: {("shop", "c")}}
    run, _control = migrate(server, last=last)
    assert run.complete and run.tally.rewritten == 5 and run.total == 5
    patched = [path.removeprefix(PATH) for method, path in server.seen if method == "PATCH"]
    assert sorted(patched) == NAMES and patched[-1] == "c"
    stops = True
    run, _control = migrate(Server(NAMES, answer), last=last)
    assert run.tally.rewritten == 4 and run.token == "2", "the page with c is not accounted for"


def test_a_name_is_quoted() -> None:
    server = Server(["a?b"])
    migrate(server)
    assert ("PATCH", PATH + "a%3Fb") in server.seen and server.of("PATCH", "a") == 0


def test_an_overloaded_server_may_refuse_a_list_as_often_as_any_other_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as a minute allows, not six times."""
    monkeypatch.setattr(retry, "backoff", lambda tries, wait, jitter, first: 0.0)
    refusals = iter([status(429, "too many requests", "TooManyRequests", retryAfterSeconds="0")] * 20)  # type: ignore[list-item]
    server = Server(["a"], answer=lambda method, path: next(refusals, None) if urlsplit(path).path == LIST else None)
    run, _control = migrate(server)
    assert (run.tally.rewritten, run.tally.failed, run.listed) == (1, 0, True)


def test_an_overload_without_end_fails_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "REPEATABLE", retry.RetryPolicy(obeys_for=0.0))
    overloaded = status(429, "too many requests", "TooManyRequests")
    server = Server(["a"], answer=lambda method, path: overloaded if urlsplit(path).path == LIST else None)
    run, _control = migrate(server)
    assert run.failures[0].status == 429 and not run.listed
