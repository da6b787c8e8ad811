# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run does about CRDs that can't be read, are edited again and again, or are gone; and what samples prove."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration import custom_resources
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.context import RunContext
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.custom_resources import CustomResources
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import Control, ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.choice import Choice, Chosen
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.options import MigrateOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey, Plan, Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.result import MigrationResult
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.verify import stored_as_served
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Expectation, Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.crd_identity import (
    CrdFacts,
    CrdIdentity,
    CrdLook,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource, ServerReport

GROUP = "example.com"
THINGS = ServedResource(
    f"things.{GROUP}", GROUP, "things", "Thing", True, frozenset({"list", "patch"}), ("v1",), ("h",)
)
TARGET = Target(THINGS, f"{GROUP}/v1", "selected")
FIRST, EDITED, RECREATED = CrdIdentity("u", 1), CrdIdentity("u", 2), CrdIdentity("another", 1)
CLOCK = datetime(2026, 11, 26, tzinfo=timezone.utc)


class Servers:
    """A cluster; its servers are not asked, as the observations are given."""

    entry = None
    expectation = Expectation()

    async def servers(self) -> Any:
        return SimpleNamespace(servers=())


class Book:
    """What a checkpoint is asked for."""

    state = State()

    def sighted(self, crds: Any) -> None:
        self.state = self.state.sighted(crds)


class Setting:
    """CustomResources over given observations; time passes only when it waits."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        looks: Iterable[CrdIdentity | None],
        *,
        everywhere: bool = True,
        deadline: float | None = None,
        refused: bool = False,
    ) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.events: list[Event] = []
        self.control = Control()
        self.book = Book()
        self._looks = list(looks)
        self._everywhere = everywhere
        self._refused = refused
        report = ServerReport(url="https://1", name="1", version="v1.37.2", ready=True, resources={THINGS.name: THINGS})
        self.result = MigrationResult(Plan((), ()), agreement=Observation((report,)))
        monkeypatch.setattr(custom_resources.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(custom_resources, "look_at_crds", self._look)
        context = RunContext(
            options=MigrateOptions(),
            cluster=Servers(),  # type: ignore[arg-type]
            chosen=Chosen(Choice("direct", "asked for")),
            control=self.control,
            checkpoint=self.book,  # type: ignore[arg-type]
            result=self.result,
            lease=None,  # type: ignore[arg-type]
            report=self.events.append,
            deadline=None if deadline is None else self.now + deadline,
        )
        self.custom = CustomResources(context)
        monkeypatch.setattr(self.custom, "_sleep", self._sleep)

    async def _look(self, *_args: Any) -> CrdLook:
        crd = self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]
        if self._refused:
            return CrdLook(None, refused="not allowed", at=self.now)
        facts = {} if crd is None else {THINGS.name: CrdFacts(crd, "1")}
        clock = CLOCK if self._everywhere else None
        return CrdLook(facts, everywhere=self._everywhere, earliest=clock, latest=clock, at=self.now)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def begin(self, target: Target = TARGET) -> ResourceRun:
        asyncio.run(self.custom.look([target]))
        return self.custom.begin(target, "direct")

    def wait(self, run: ResourceRun) -> None:
        asyncio.run(self.custom.wait([run]))


def test_a_list_waits_visibly_until_it_may_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(monkeypatch, [FIRST])
    run = setting.begin()
    assert not setting.custom.may_begin(run) and not run.proven
    setting.wait(run)
    assert setting.slept == [65.0] and run.settled and run.crd == FIRST and run.doubt is None
    (told,) = setting.events
    assert told.kind == "waiting" and told.fields == {"resources": [THINGS.name], "seconds_left": 65.0}
    assert told.message.startswith(f"Waiting 1 min 5 s before {THINGS.name} can be listed")


def test_an_edit_while_it_waits_restarts_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    for other in (EDITED, RECREATED):
        setting = Setting(monkeypatch, [FIRST, other])
        run = setting.begin()
        setting.wait(run)
        assert setting.slept == [65.0, 65.0] and run.settled and run.crd == other


def test_one_that_is_edited_endlessly_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(monkeypatch, [CrdIdentity("u", number) for number in range(20)])
    run = setting.begin()
    setting.wait(run)
    assert setting.slept == [65.0] * 3 and not run.settled
    assert run.doubt is not None and "kept being edited" in run.doubt
    run.listed, run.finished = True, setting.now
    asyncio.run(setting.custom.confirm([run]))
    assert setting.custom.moved(run) == "was edited" and not run.proven


def test_a_server_that_cannot_be_asked_is_asked_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(monkeypatch, [FIRST], everywhere=False)
    run = setting.begin()
    setting.wait(run)
    assert 30 <= sum(setting.slept) <= 36 and not run.settled
    assert run.doubt is not None and "not every API server could be asked" in run.doubt
    run.listed, run.finished = True, setting.now
    asyncio.run(setting.custom.confirm([run]))
    assert setting.custom.moved(run) is None, "visiting it again would prove no more"


def test_no_wait_that_the_time_limit_would_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(monkeypatch, [FIRST], deadline=60.0)
    run = setting.begin()
    setting.wait(run)
    assert setting.slept == [] and setting.control.stopped is not None and not run.settled
    assert "option timeout" in setting.control.stopped.message and THINGS.name in setting.control.stopped.message


def test_if_crds_may_not_be_read_nothing_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(monkeypatch, [None], refused=True)
    run = setting.begin()
    assert run.custom and setting.custom.may_begin(run) and not run.settled and not run.trims
    assert run.doubt == "CRDs can't be read: not allowed"
    run.listed, run.finished, run.verified = True, 1.0, True
    asyncio.run(setting.custom.confirm([run]))
    assert not run.proven and setting.custom.moved(run) is None


def test_what_an_earlier_run_did_counts_only_for_the_same_crd_and_a_settled_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def resumed(crd: CrdIdentity | None, *, settled: bool = True) -> bool:
        before = Target(THINGS, None, "goes on", token="t", resumed=True, crd=crd, settled=settled)
        return Setting(monkeypatch, [FIRST]).begin(before).target.token == "t"

    assert resumed(FIRST)
    assert not resumed(EDITED) and not resumed(RECREATED) and not resumed(None) and not resumed(FIRST, settled=False)


@pytest.mark.parametrize(("at_the_end", "why"), [(EDITED, "was edited"), (RECREATED, "was recreated"), (None, None)])
def test_another_crd_at_the_end(
    monkeypatch: pytest.MonkeyPatch, at_the_end: CrdIdentity | None, why: str | None
) -> None:
    setting = Setting(monkeypatch, [FIRST, at_the_end])
    run = setting.begin()
    run.settled = run.verified = run.listed = True
    run.finished = 1.0
    asyncio.run(setting.custom.confirm([run]))
    assert not run.proven and setting.custom.moved(run) == why


# Samples


class Http:
    """Servers by URL; ``answer`` takes (server, method, path) and gives a status and a document, or None for silence."""

    def __init__(self, answer: Callable[[str, str, str], tuple[int, dict[str, Any]] | None]) -> None:
        self._answer = answer

    async def request(self, method: str, url: str, **_other: Any) -> Response:
        parts = urlsplit(url)
        found = self._answer(parts.netloc, method, parts.path)
        if found is None:
            raise UnreachableError("nobody is there", kind="refused")
        return Response(found[0], {}, json.dumps(found[1]).encode())


class Anonymous:
    renewal = None

    def authorize(self) -> list[tuple[str, str]]:
        return []


def servers(answer: Callable[[str, str, str], tuple[int, dict[str, Any]] | None]) -> list[ApiServer]:
    return [ApiServer(f"https://{name}", Anonymous(), Http(answer)) for name in ("one", "two")]  # type: ignore[arg-type]


def thing(name: str, version: str = "5") -> tuple[int, dict[str, Any]]:
    metadata = {"name": name, "namespace": "ns", "resourceVersion": version}
    return 200, {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}


NOT_FOUND = 404, {"kind": "Status", "reason": "NotFound", "details": {"kind": "things", "group": GROUP, "name": "a"}}


def listing(*names: str) -> tuple[int, dict[str, Any]]:
    """As an API server writes it: without objects, ``items`` is null."""
    items = [thing(name)[1] for name in names] or None
    return 200, {"kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "9"}, "items": items}


def verified(answer: Callable[[str, str, str], tuple[int, dict[str, Any]] | None]) -> bool:
    run = ResourceRun(TARGET, "direct", sample=[ObjectKey("ns", "a", "5")])
    return asyncio.run(stored_as_served(run, servers(answer)))


def test_a_sample_that_no_server_writes_proves_it() -> None:
    assert verified(lambda server, method, path: thing("a"))
    assert not verified(lambda server, method, path: thing("a", "6" if method == "PATCH" else "5"))


def test_samples_that_are_gone_prove_nothing() -> None:
    assert not verified(lambda server, method, path: NOT_FOUND)
    # Others are asked for, until there are none.
    assert verified(lambda server, method, path: listing() if path.endswith("/things") else NOT_FOUND)
    # An answer that is not a list doesn't answer that.
    assert not verified(lambda server, method, path: (200, {"items": []}) if path.endswith("/things") else NOT_FOUND)

    def others(version: str) -> Callable[[str, str, str], tuple[int, dict[str, Any]] | None]:
        def answer(server: str, method: str, path: str) -> tuple[int, dict[str, Any]] | None:
            if path.endswith("/things"):
                return listing("b")
            return thing("b", version if method == "PATCH" else "5") if path.endswith("/b") else NOT_FOUND

        return answer

    assert verified(others("5"))
    assert not verified(others("6"))


def test_a_server_that_does_not_answer_proves_nothing() -> None:
    def answer(server: str, method: str, path: str) -> tuple[int, dict[str, Any]] | None:
        if server == "two":
            return None
        return listing("a") if path.endswith("/things") else thing("a")

    assert not verified(answer)


def test_an_object_that_would_lose_fields_is_no_sample() -> None:
    """etcd held nothing stale, so nothing was visited, and the first objects of a list were patched: whichever they were."""
    patched: list[str] = []

    def answer(_server: str, method: str, path: str) -> tuple[int, dict[str, Any]]:
        if path.endswith("/things"):
            return listing("a", "b")
        if method == "PATCH":
            patched.append(path.rpartition("/")[2])
        return thing(path.rpartition("/")[2])

    run = ResourceRun(TARGET, "direct")
    assert asyncio.run(stored_as_served(run, servers(answer), {("ns", "a"): "it would lose spec.old"}))
    assert patched == ["b", "b"]


@pytest.mark.parametrize("settled", [True, False])
def test_if_all_objects_would_lose_fields_none_is_patched(settled: bool) -> None:
    """What is stored shows the version, and time that writes are in it."""
    patched: list[str] = []

    def answer(_server: str, method: str, path: str) -> tuple[int, dict[str, Any]]:
        patched.extend([path] * (method == "PATCH"))
        return listing("a") if path.endswith("/things") else thing("a")

    run = ResourceRun(TARGET, "direct", settled=settled)
    withheld = {("ns", "a"): "it would lose spec.old"}
    assert asyncio.run(stored_as_served(run, servers(answer), withheld)) is settled
    assert patched == []
