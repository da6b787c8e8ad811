# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose write it was, where the answer to a patch was lost (issue 13, number 12)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    MigrationIncompleteError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import seconds_text
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration import probe
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines import direct
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import Control, ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.direct import (
    DirectEngine,
    Settings,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.endpoints import EndpointPool
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.lost_answers import (
    Sent,
    is_as_sent,
    is_traced,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import OutcomeCounts
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey, Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.verify import stored_as_served
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

GROUP = "shop.example.com"
VERBS = frozenset({"list", "patch"})
WIDGETS = ServedResource(f"widgets.{GROUP}", GROUP, "widgets", "Widget", True, VERBS, ("v1",), ("h",))
HOUR_AGO = seconds_text(datetime.now(timezone.utc) - timedelta(hours=1))
LOST = UnreachableError("No answer came.", kind="reset")


class Server:
    """One stale object with its history. ``faults``: what happens to each patch, in this order, before or after it is done."""

    def __init__(self, *faults: str, written: str = HOUR_AGO, version: str = "v1") -> None:
        entry = {"manager": "client", "operation": "Update", "apiVersion": f"{GROUP}/{version}", "time": written}
        metadata = {"namespace": "shop", "name": "a", "uid": "u", "resourceVersion": "7", "managedFields": [entry]}
        self.history = [metadata]
        self.stale = True
        self.faults = list(faults)
        self.patches: list[str] = []
        self.compacted = False

    def change(self, **metadata: Any) -> None:
        """Somebody writes the object, and something is written elsewhere, too."""
        self.history.append({**self.history[-1], **metadata, "resourceVersion": str(self.revision + 3)})
        self.stale = False

    @property
    def revision(self) -> int:
        return int(self.history[-1]["resourceVersion"])

    async def request(self, method: str, url: str, *, body: bytes | None = None, **_more: Any) -> Response:
        await asyncio.sleep(0)
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        if method == "PATCH":
            self.patches.append(json.loads(body or b"")["metadata"]["resourceVersion"])
            fault = self.faults.pop(0) if self.faults else ""
            return self.patch(fault, self.patches[-1])
        if not url.endswith("/a"):
            return self.list(query)
        return self.answer(200, {"metadata": self.history[-1]})

    def patch(self, fault: str, version: str) -> Response:
        if "foreign" in fault:
            self.change(managedFields=[{**self.history[-1]["managedFields"][0], "time": "2030-01-01T00:00:00Z"}])
        if "before" not in fault and version == str(self.revision) and self.stale:
            self.change()
        elif "before" not in fault and version != str(self.revision):
            details = {"kind": "widgets", "group": GROUP, "name": "a"}
            return self.answer(409, {"kind": "Status", "reason": "Conflict", "details": details})
        if "later" in fault:
            self.change(labels={"a": "b"})
        if "503" in fault:
            return self.answer(503, {"kind": "Status", "message": "no"})
        if "lost" in fault:
            raise LOST
        return self.answer(200, {"metadata": self.history[-1]})

    def list(self, query: dict[str, str]) -> Response:
        found = self.history[-1:]
        if "fieldSelector" in query:
            assert query["resourceVersionMatch"] == "Exact" and query["fieldSelector"] == "metadata.name=a"
            if self.compacted:
                return self.answer(410, {"kind": "Status", "reason": "Expired"})
            wanted = int(query["resourceVersion"])
            found = [item for item in self.history if int(item["resourceVersion"]) <= wanted][-1:]
        items = [{"metadata": item} for item in found]
        return self.answer(200, {"kind": "PartialObjectMetadataList", "metadata": {}, "items": items})

    @staticmethod
    def answer(status: int, document: dict[str, Any]) -> Response:
        return Response(status, {"Date": format_datetime(datetime.now(timezone.utc))}, json.dumps(document).encode())

    async def close(self) -> None:
        pass


class _Connection:
    renewal = None

    def authorize(self) -> list[tuple[str, str]]:
        return []


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "backoff", lambda tries, wait, jitter: 0.0)


def migrate(server: Server, control: Control | None = None, **settings: Any) -> ResourceRun:
    run = ResourceRun(Target(WIDGETS, f"{GROUP}/v1", "selected"), "direct")

    async def main() -> None:
        endpoints = EndpointPool([ApiServer("https://server", _Connection(), server)], 4)  # type: ignore[arg-type]
        engine = DirectEngine(endpoints, Settings(served_versions={WIDGETS.name: {f"{GROUP}/v1"}}, **settings))
        await asyncio.wait_for(engine.migrate([run], control or Control()), 20)

    asyncio.run(main())
    return run


REWRITTEN, UNCERTAIN = OutcomeCounts(rewritten=1), OutcomeCounts(uncertain=1)


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        (["lost"], REWRITTEN),
        (["503"], REWRITTEN),
        (["lost", "lost", "lost"], REWRITTEN),
        (["lost before"], REWRITTEN),
        (["503 before", "lost"], REWRITTEN),
        (["lost before foreign"], UNCERTAIN),
        (["lost later"], UNCERTAIN),
        ([""], REWRITTEN),
        (["foreign"], OutcomeCounts(conflicts=1)),
    ],
)
def test_what_was_written_is_counted(faults: list[str], expected: OutcomeCounts) -> None:
    run = migrate(Server(*faults))
    assert run.tally == expected and run.complete
    assert run.visits.wrote is (expected.conflicts == 0)


def test_an_object_that_was_current_stays_unchanged() -> None:
    server = Server("lost")
    server.stale = False
    run = migrate(server)
    assert run.tally == OutcomeCounts(unchanged=1) and server.patches == ["7", "7"] and not run.visits.wrote


@pytest.mark.parametrize(
    "server",
    [
        lambda: Server("lost", written=seconds_text(datetime.now(timezone.utc))),  # Another write may leave no trace.
        lambda: Server("lost", version="v1beta1"),
        lambda: Server("lost", written=""),
    ],
)
def test_where_another_write_would_leave_no_trace_it_is_uncertain(server: Callable[[], Server]) -> None:
    run = migrate(server())
    assert run.tally == UNCERTAIN and run.complete and run.visits.wrote


def test_what_is_compacted_is_uncertain() -> None:
    server = Server("lost")
    server.compacted = True
    assert migrate(server).tally == UNCERTAIN


def test_while_servers_disagree_it_is_patched_again_and_counted_anyway() -> None:
    server = Server("lost")
    assert migrate(server, conflicts_are_done=False).tally == REWRITTEN
    assert server.patches == ["7", "7", "10"], "a conflict does not count as done"
    assert migrate(Server("lost before foreign"), conflicts_are_done=False).tally == UNCERTAIN


def test_a_run_that_ends_before_it_is_known_counts_it() -> None:
    class Stopping(Server):
        def patch(self, fault: str, version: str) -> Response:
            control.stop(MigrationIncompleteError("Stopped."))
            return super().patch(fault, version)

    control = Control()
    run = migrate(Stopping("lost"), control)
    assert run.tally == UNCERTAIN and not run.complete and run.visits.wrote


def test_an_object_that_fails_in_the_end_may_have_been_written() -> None:
    run = migrate(Server("lost", "lost"), retries=1)
    assert run.tally == OutcomeCounts(failed=1) and run.visits.wrote
    assert not migrate(Server("foreign"), retries=1).visits.wrote


def test_dropped_managers_are_counted_too() -> None:
    before = {"managedFields": [{"manager": "a", "apiVersion": "x/v1"}, {"manager": "b", "apiVersion": "x/v1beta1"}]}
    now = {"resourceVersion": "9", "managedFields": before["managedFields"][:1]}
    assert is_as_sent(before, now, Sent("7", before["managedFields"][:1]))
    assert is_as_sent(before, {"resourceVersion": "9"}, Sent("7", [{}]))
    assert not is_as_sent(before, now, Sent("7"))
    assert not is_as_sent(before, {**now, "labels": {"a": "b"}}, Sent("7", before["managedFields"][:1]))


def test_a_trace_is_a_later_time() -> None:
    began = datetime(2026, 11, 27, 12, 0, 2, tzinfo=timezone.utc)
    entry = {"apiVersion": "x/v1", "time": "2026-11-27T12:00:00Z"}
    assert is_traced({"managedFields": [entry]}, began, {"x/v1"})
    for entries in ([], [entry, {**entry, "time": "2026-11-27T12:00:01Z"}], [entry, {"apiVersion": "x/v1"}]):
        assert not is_traced({"managedFields": entries}, began, {"x/v1"})
    assert not is_traced({"managedFields": [entry]}, began, {"x/v2"})


def ask(server: Server) -> probe.Answered | probe.Unpatched:
    api = ApiServer("https://server", _Connection(), server)  # type: ignore[arg-type]
    return asyncio.run(probe.patch_once(api, WIDGETS, "shop", "a"))


@pytest.mark.parametrize(("fault", "is_lost"), [("lost", True), ("503", True), ("", False)])
def test_a_single_patch_whose_answer_is_lost(fault: str, is_lost: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_args: Any) -> bool:
        return False

    monkeypatch.setattr(probe, "would_lose_managers", never)
    answered = ask(Server(fault))
    assert isinstance(answered, probe.Answered) and (answered.answer is None) is is_lost


def test_a_check_of_what_was_written_whose_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_args: Any) -> bool:
        return False

    monkeypatch.setattr(probe, "would_lose_managers", never)
    server = Server("lost")
    run = ResourceRun(Target(WIDGETS, f"{GROUP}/v1", "selected"), "direct", started=time.monotonic() - 9)
    key = ObjectKey("shop", "a", "7")
    run.count(key, direct.Verdict.UNCHANGED)
    run.remember(key)
    api = ApiServer("https://server", _Connection(), server)  # type: ignore[arg-type]
    assert asyncio.run(stored_as_served(run, [api]))
    assert run.tally.without(run.visits.twice) == UNCERTAIN and run.visits.wrote
