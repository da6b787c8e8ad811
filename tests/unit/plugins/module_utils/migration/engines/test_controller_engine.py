# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ControllerEngine over an API server played by the test, for what is hard to provoke for real."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    EtcdFullError,
    MigrationIncompleteError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event, nobody_listens
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response, TransportSettings
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer, WriteGate
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.auth import Connection
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.crds import StoredVersions, Trimmed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.lease import Lease
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines import controller
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import Control, ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.controller import (
    ControllerEngine,
    ControllerSettings,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.direct import (
    DirectEngine,
    Settings,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.endpoints import EndpointPool
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.in_tree import InTree
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import OutcomeCounts
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.run import _why_not_write
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

CONFIG_MAPS = ServedResource(
    name="configmaps",
    group="",
    plural="configmaps",
    kind="ConfigMap",
    namespaced=True,
    verbs=frozenset({"delete", "list", "patch", "watch"}),
    versions=("v1",),
    hashes=("hash",),
)


MIGRATION = "kube-storage-upgrade-configmaps"
MIGRATIONS = "/apis/storagemigration.k8s.io/v1/storageversionmigrations"
URL = "https://server"
FULL = "etcdserver: mvcc: database space exceeded"


class FullServer:
    """One that keeps migration objects, and whose etcd is full: at once, or for the controller only. Implements HttpClient."""

    def __init__(self, *, refuses: bool) -> None:
        self.refuses = refuses
        self.made: list[str] = []
        self.deleted: list[str] = []

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        before: Callable[[], None] | None = None,
        **_more: Any,
    ) -> Response:
        await asyncio.sleep(0)
        if before is not None:
            before()
        status, document = self.answer(method, url[len(URL) :].partition("?")[0], json.loads(body or b"null"))
        return Response(status, {}, json.dumps(document).encode())

    def answer(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        if method == "DELETE":
            self.deleted.append(path.rpartition("/")[2])
            self.made.remove(self.deleted[-1])
        elif method == "POST" and self.refuses:
            return 500, {"kind": "Status", "message": FULL}
        elif method == "POST":
            self.made.append(body["metadata"]["name"])
        elif path == MIGRATIONS:
            conditions = says("Running", FULL)
            return 200, {
                "items": [{"metadata": {"name": name}, "status": {"conditions": conditions}} for name in self.made]
            }
        return 200, {"items": [], "metadata": {}}

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("refuses", "lost", "deleted"), [(True, False, []), (False, False, [MIGRATION]), (False, True, [])]
)
def test_a_full_etcd_ends_the_run_at_once(refuses: bool, lost: bool, deleted: list[str]) -> None:
    """Whether we are refused or the controller reports it; its migration is withdrawn, unless the Lease is ``lost``.

    Left there, it would have the controller go on as soon as somebody has freed space. In a run, no other write may be sent
    once etcd is full.
    """
    full, control = FullServer(refuses=refuses), Control()
    lease = cast(Lease, SimpleNamespace(why_not=lambda: "It is lost." if lost and full.made else None))

    async def may_finish(_target: Target) -> bool:
        raise AssertionError("nothing may be written anymore")

    async def main() -> ResourceRun:
        gate = WriteGate(lambda: _why_not_write(control, lease))
        server = ApiServer(URL, Connection(URL, TransportSettings(None), list), full, gate=gate)
        endpoints = EndpointPool([server], 4)
        direct, settings = DirectEngine(endpoints, Settings()), ControllerSettings()
        withdrawals = WriteGate(lease.why_not)
        engine = ControllerEngine(InTree("v1"), endpoints, direct, settings, may_finish, nobody_listens, withdrawals)
        run = ResourceRun(Target(CONFIG_MAPS, "v1", "selected"), engine.name)
        await asyncio.wait_for(engine.migrate([run], control), 30)
        with pytest.raises(UnreachableError, match="etcd is full"):
            await server.json("POST", MIGRATIONS, body={})
        return run

    run = asyncio.run(main())
    assert isinstance(control.stopped, EtcdFullError) and not run.complete
    assert full.deleted == deleted


# A cluster whose controller is played

LIST = "/api/v1/configmaps"
Says = Callable[[dict[str, Any], int], list[dict[str, str]]]


def says(kind: str, message: str = "") -> list[dict[str, str]]:
    return [{"type": kind, "status": "True", "message": message}]


@dataclass
class Played:
    """An API server with three objects, and a controller that ``says`` something at each check of its migrations.

    When it says Succeeded it has rewritten all objects except those it ``skips``. ``deleted`` is called when a migration is.
    """

    says: Says
    skips: frozenset[str] = frozenset()
    objects: dict[str, int] = field(default_factory=lambda: {"a": 1, "b": 1, "c": 1})
    migrations: dict[str, dict[str, Any]] = field(default_factory=dict)
    sent: list[tuple[str, str]] = field(default_factory=list)
    loses: set[str] = field(default_factory=set)
    looks: int = 0
    deleted: Callable[[], None] = lambda: None

    async def request(self, method: str, url: str, *, body: bytes | None = None, **_more: Any) -> Response:
        await asyncio.sleep(0)
        path = url[len(URL) :].partition("?")[0]
        self.sent.append((method, path))
        status, document = self.answer(method, path, json.loads(body or b"null"))
        if method in self.loses:
            self.loses.discard(method)
            raise UnreachableError("The answer was lost.", kind="reset")
        return Response(status, {}, json.dumps(document).encode())

    async def close(self) -> None:
        pass

    def answer(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        name = path.rpartition("/")[2]
        if path == LIST:
            return 200, {"kind": "List", "metadata": {}, "items": [self.object(name) for name in self.objects]}
        if path.startswith("/api/v1/namespaces/shop/configmaps/"):
            self.objects[name] += name in self.skips and self.objects[name] == 1
            return 200, self.object(name)
        if path == MIGRATIONS and method == "GET":
            self.looks += 1
            for document in self.migrations.values():
                self.work(document)
            return 200, {"metadata": {}, "items": list(self.migrations.values())}
        if method == "POST":
            self.migrations[body["metadata"]["name"]] = body
            return 201, body
        if method == "DELETE":
            self.deleted()
            return (200, {}) if self.migrations.pop(name, None) is not None else (404, {})
        raise AssertionError((method, path))

    def work(self, document: dict[str, Any]) -> None:
        done = any(
            condition["type"] == "Succeeded" for condition in (document.get("status") or {}).get("conditions") or ()
        )
        conditions = self.says(document, self.looks)
        document["status"] = {"conditions": conditions}
        if not done and any(condition["type"] == "Succeeded" for condition in conditions):
            for name in set(self.objects) - self.skips:
                self.objects[name] += 1

    def object(self, name: str) -> dict[str, Any]:
        return {"metadata": {"namespace": "shop", "name": name, "resourceVersion": str(self.objects[name])}}

    def number_of(self, method: str, path: str = "") -> int:
        return sum(1 for sent, where in self.sent if sent == method and path in where)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "_LOOK_EVERY", 0.001)


def run_against(
    played: Played, *, allowed: bool = True, control: Control | None = None, **settings: Any
) -> tuple[ResourceRun, Control, list[str]]:
    told: list[str] = []
    control = control or Control()

    async def may_finish(_target: Target) -> bool:
        return allowed

    def tell(event: Event) -> None:
        told.append(event.message)

    async def main() -> ResourceRun:
        server = ApiServer(URL, Connection(URL, TransportSettings(None), list), played)
        endpoints = EndpointPool([server], 4)
        direct = DirectEngine(endpoints, Settings())
        engine = ControllerEngine(InTree("v1"), endpoints, direct, ControllerSettings(**settings), may_finish, tell)
        run = ResourceRun(Target(CONFIG_MAPS, "v1", "selected"), engine.name)
        await asyncio.wait_for(engine.migrate([run], control), 30)
        return run

    return asyncio.run(main()), control, told


def succeeds(_document: dict[str, Any], _look: int) -> list[dict[str, str]]:
    return says("Succeeded")


def test_what_the_controller_skipped_is_rewritten_by_the_direct_engine() -> None:
    played = Played(succeeds, frozenset({"c"}))
    run, _control, told = run_against(played)
    assert run.complete and run.tally == OutcomeCounts(rewritten=3)
    assert "had skipped 1 objects that were not current" in told[0]
    assert played.number_of("PATCH") == 1 and played.migrations == {}


def test_nothing_is_complete_before_it_was_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 11: the guard, which marks what is complete, may look while the direct engine visits what was skipped."""
    seen: list[bool] = []
    migrate = DirectEngine.migrate

    async def watched(self: DirectEngine, runs: list[ResourceRun], control: Control) -> None:
        seen.extend(run.complete for run in watching)
        await migrate(self, runs, control)

    watching: list[ResourceRun] = []
    close = ControllerEngine._close

    async def watch(self: ControllerEngine, migration: Any) -> None:
        watching.append(migration.run)
        await close(self, migration)

    monkeypatch.setattr(DirectEngine, "migrate", watched)
    monkeypatch.setattr(ControllerEngine, "_close", watch)
    run, _control, _told = run_against(Played(succeeds, frozenset({"c"})))
    assert seen == [False] and run.complete


def test_what_can_not_be_visited_is_not_proven() -> None:
    played = Played(succeeds, frozenset({"b", "c"}))
    run, _control, _told = run_against(played, allowed=False)
    assert not run.complete and run.tally == OutcomeCounts(rewritten=1, unchanged=2)
    assert "2 of its objects were not written" in (run.unproven or "") and played.number_of("PATCH") == 0


def test_a_migration_whose_answer_was_lost_is_made_once() -> None:
    played = Played(succeeds, loses={"POST"})
    run, _control, _told = run_against(played)
    assert run.complete and run.tally == OutcomeCounts(rewritten=3) and played.number_of("POST") == 1


def test_what_the_controller_fails_at_is_finished_by_the_direct_engine() -> None:
    played = Played(lambda _document, _look: says("Failed", "it can't"), frozenset({"a", "b", "c"}))
    run, control, told = run_against(played)
    assert run.complete and run.tally == OutcomeCounts(rewritten=3) and control.stopped is None
    assert (
        run.engine == "direct"
        and "it can't" in (run.why_engine or "")
        and told[0].startswith("The direct engine finishes configmaps: ")
    )


def test_if_falling_back_is_not_wanted_the_run_stops() -> None:
    run, control, _told = run_against(Played(lambda _document, _look: says("Failed", "it can't")), fall_back=False)
    assert isinstance(control.stopped, MigrationIncompleteError) and "as on_error=stop asks" in control.stopped.message
    assert not run.complete and run.tally.unknown == 1


def test_without_a_controller_nothing_is_left_behind() -> None:
    played = Played(lambda _document, _look: [])
    run, control, _told = run_against(played, stall_timeout=0.05)
    assert isinstance(control.stopped, MigrationIncompleteError) and "No controller took up" in control.stopped.message
    assert played.migrations == {} and not run.complete


def test_while_writes_are_held_the_migration_is_withdrawn() -> None:
    control, held = Control(), False

    def at_work(document: dict[str, Any], look: int) -> list[dict[str, str]]:
        nonlocal held
        if not held:
            held = True
            control.hold()
        return says("Running") if look < 3 else says("Succeeded")

    played = Played(at_work, deleted=control.release)
    run, _control, told = run_against(played, control=control)
    assert run.complete and played.number_of("POST") == 2 and played.number_of("DELETE", MIGRATION) >= 2
    assert "configmaps was withdrawn, but" in told[0] and "restart kube-controller-manager" in told[0]


def test_what_was_written_while_writes_were_held_is_visited() -> None:
    """Issue 11: an old API server wrote object a meanwhile, so its new resourceVersion proves nothing."""
    control, held = Control(), False

    def at_work(document: dict[str, Any], look: int) -> list[dict[str, str]]:
        nonlocal held
        if not held:
            held = True
            control.hold()
            played.objects["a"] += 1
        return says("Running") if look < 3 else says("Succeeded")

    played = Played(at_work, frozenset({"a"}), deleted=control.release)
    run, _control, _told = run_against(played, control=control)
    assert run.complete and played.number_of("PATCH", "/a") == 1
    assert run.tally == OutcomeCounts(rewritten=3), "counted since the first attempt"


# What the controller does to a CRD


class Crd:
    """status.storedVersions of a CRD, which refuses the first ``refusals`` writes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *versions: str, refusals: int = 0) -> None:
        self.versions = versions
        self.refusals = refusals
        monkeypatch.setattr(controller, "read_stored_versions", self._read)
        monkeypatch.setattr(controller, "put_back_stored_versions", self._put_back)

    async def _read(self, _server: Any, _name: str) -> StoredVersions:
        return StoredVersions("u", self.versions)

    async def _put_back(self, _server: Any, _name: str, before: StoredVersions) -> bool:
        if self.refusals:
            self.refusals -= 1
            raise UnreachableError("It is away.", kind="refused")
        self.versions = (*before.versions, *(version for version in self.versions if version not in before.versions))
        return True


def trimmed_by_controller(*, complete: bool, proven: bool) -> list[Trimmed]:
    """What is told about a CRD that the controller trimmed from v1beta1 and v1."""

    async def may_finish(_target: Target) -> bool:
        return True

    resource = replace(CONFIG_MAPS, name="things.example.com", group="example.com")
    run = ResourceRun(Target(resource, "v1", "selected"), "storage_version_migration")
    run.finished, run.listed = (1.0, True) if complete else (None, False)
    before = StoredVersions("u", ("v1beta1", "v1"))
    done = controller._ControllerMigration(run, MIGRATION, stored_versions=before)
    done.progress = controller.MigrationStatus(controller.Phase.SUCCEEDED)
    endpoints = SimpleNamespace(least_loaded=lambda: SimpleNamespace(server=None))
    engine = ControllerEngine(
        InTree("v1"),
        cast(EndpointPool, endpoints),
        cast(DirectEngine, None),
        ControllerSettings(),
        may_finish,
        nobody_listens,
    )

    async def main() -> list[Trimmed]:
        await engine._look_after_crds([done])
        return await engine.end([run.target] if proven else [])

    return asyncio.run(main())


@pytest.mark.parametrize("refusals", [0, 1])
def test_what_was_trimmed_without_a_proof_is_restored(monkeypatch: pytest.MonkeyPatch, refusals: int) -> None:
    """Issue 11: also if that is refused at first, and if the CRD was edited meanwhile."""
    crd = Crd(monkeypatch, "v1", "v2", refusals=refusals)
    assert trimmed_by_controller(complete=False, proven=False) == [] and crd.versions == ("v1beta1", "v1", "v2")
    crd = Crd(monkeypatch, "v1")
    assert trimmed_by_controller(complete=True, proven=False) == [] and crd.versions == ("v1beta1", "v1")


def test_what_was_trimmed_and_is_proven_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    crd = Crd(monkeypatch, "v1")
    assert [trimmed.after for trimmed in trimmed_by_controller(complete=True, proven=True)] == [("v1",)]
    assert crd.versions == ("v1",)


# Issue 13, number 10: a controller that was given up


def conflict(name: str, kind: str = "configmaps") -> tuple[int, dict[str, Any]]:
    return 409, {"kind": "Status", "reason": "Conflict", "details": {"kind": kind, "name": name}}


class Stubborn(Played):
    """Its controller stops in the middle, and goes on ``at`` the first request of that method after it was given up.

    ``lingers``: for how many lists a deleted migration is still there.
    """

    def __init__(self, at: str = "", lingers: int = 0, says: Says = lambda _document, _look: says("Running")) -> None:
        super().__init__(says, frozenset({"a", "b", "c"}))
        self.at = at
        self.lingers = lingers
        self.deletions: list[Any] = []

    def answer(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        name = path.rpartition("/")[2]
        if method == "POST":
            body["metadata"].update(uid="own", resourceVersion="1")
        if method == "PATCH" and body["metadata"]["resourceVersion"] != str(self.objects[name]):
            return conflict(name)
        answered = self.delete(name, body) if method == "DELETE" else super().answer(method, path, body)
        if self.deletions and method == self.at:
            self.at = ""
            self.objects["b"] += 1
            self.objects["c"] += 1
        if self.deletions and (method, path) == ("GET", MIGRATIONS):
            self.lingers -= 1
            if self.lingers < 0:
                self.migrations.clear()
        return answered

    def delete(self, name: str, body: Any) -> tuple[int, dict[str, Any]]:
        metadata = self.migrations[name]["metadata"]
        if any(metadata[field] != value for field, value in body["preconditions"].items()):
            return conflict(name, "storageversionmigrations")
        self.deletions.append(body["preconditions"])
        metadata["deletionTimestamp"] = "2026-11-27T12:00:00Z"
        return 200, {}


@pytest.mark.parametrize("at", ["DELETE", "GET", "PATCH"])
def test_a_controller_that_goes_on_after_it_was_given_up_spoils_no_count(at: str) -> None:
    played = Stubborn(at)
    run, control, _told = run_against(played, stall_timeout=0.02)
    assert control.stopped is None and run.complete and played.at == ""
    assert run.tally.without(run.visits.twice) == OutcomeCounts(rewritten=3)
    assert played.objects == {"a": 2, "b": 2, "c": 2}


def test_counts_come_after_the_migration_is_gone() -> None:
    played = Stubborn(lingers=3)
    run, _control, _told = run_against(played, stall_timeout=0.02)
    assert run.tally.without(run.visits.twice) == OutcomeCounts(rewritten=3) and played.deletions == [
        {"uid": "own", "resourceVersion": "1"}
    ]
    gone = max(number for number, sent in enumerate(played.sent) if sent == ("GET", MIGRATIONS))
    assert gone < min(number for number, (method, _path) in enumerate(played.sent) if method == "PATCH")


def test_one_that_stays_because_of_finalizers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "_GONE_WITHIN", 0.05)
    run, _control, told = run_against(Stubborn(lingers=10**6), stall_timeout=0.02)
    assert run.tally.without(run.visits.twice) == OutcomeCounts(rewritten=3)
    assert "could not be deleted" in told[0] and "finalizers" in told[0]


@pytest.mark.parametrize("begins", [True, False])
def test_what_a_run_that_ends_knows_of_a_migration_that_was_not_taken_up(begins: bool) -> None:
    """The controller may take it up between our last look and its deletion; otherwise nothing was written for sure."""
    control = Control()

    def waits(document: dict[str, Any], look: int) -> list[dict[str, str]]:
        if look == 2:
            control.stop(MigrationIncompleteError("Interrupted."))
        return says("Running") if document["metadata"]["resourceVersion"] == "2" else []

    class Late(Stubborn):
        def delete(self, name: str, body: Any) -> tuple[int, dict[str, Any]]:
            if begins:
                self.migrations[name]["metadata"]["resourceVersion"] = "2"
            return super().delete(name, body)

    played = Late(says=waits)
    run, _control, told = run_against(played, control=control)
    assert run.tally.unknown == begins and not run.complete and played.migrations == {}
    assert len(played.deletions) == 1
    assert any("may still write the rest" in text for text in told) is begins


def test_a_migration_of_another_with_our_name_is_left_alone() -> None:
    class Replaced(Stubborn):
        def answer(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
            if self.looks == 3:
                self.migrations[MIGRATION]["metadata"]["uid"] = "another"
            return super().answer(method, path, body)

    control = Control()

    def at_work(_document: dict[str, Any], look: int) -> list[dict[str, str]]:
        if look == 3:
            control.stop(MigrationIncompleteError("Interrupted."))
        return says("Running")

    played = Replaced(says=at_work)
    run_against(played, control=control)
    assert played.deletions == [] and MIGRATION in played.migrations


def test_what_a_stuck_controller_does_not_take_up_is_done_by_the_direct_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 17: every later run failed, since the migrator retries a refused object forever."""
    monkeypatch.setattr(InTree, "may_hang", True)
    played = Played(lambda _document, _look: [])
    run, control, told = run_against(played, stall_timeout=0.05)
    assert run.complete and control.stopped is None and run.engine == "direct" and played.migrations == {}
    assert "nothing took it up within 0.05 s" in told[0] and "The direct engine finishes configmaps" in told[0]
    _run, control, _told = run_against(Played(lambda _document, _look: []), allowed=False, stall_timeout=0.05)
    assert isinstance(control.stopped, MigrationIncompleteError)


@pytest.mark.parametrize(
    ("conditions", "kept"), [([], 0), (says("Running"), 0), (says("Failed", "it can't"), 1), (says("Succeeded"), 1)]
)
def test_only_what_the_controller_has_ended_is_kept(
    monkeypatch: pytest.MonkeyPatch, conditions: list[dict[str, str]], kept: int
) -> None:
    """One that was given up would be taken up when the controller is restarted, after the run."""
    monkeypatch.setattr(InTree, "may_hang", True)
    played = Played(lambda _document, _look: conditions)
    run, _control, told = run_against(played, stall_timeout=0.05, keep=True)
    assert run.complete and len(played.migrations) == kept
    assert not any("may still write" in text for text in told), "nothing is held or stopped"


def test_how_long_a_controller_with_a_limit_takes_is_told_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 17."""
    monkeypatch.setattr(InTree, "objects_per_second", 0.01)
    run, _control, told = run_against(Played(succeeds))
    assert (
        run.complete
        and "at most about 0.01 objects per second" in told[0]
        and "3 objects take at least 5 min" in told[0]
    ), told
    monkeypatch.setattr(InTree, "objects_per_second", 1.0)
    assert run_against(Played(succeeds))[2] == []
