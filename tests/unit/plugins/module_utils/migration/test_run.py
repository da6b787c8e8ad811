# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole runs over an API server in memory."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    EtcdError,
    EtcdFullError,
    MigrationIncompleteError,
    NotConvergedError,
    StateStoreError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.space import (
    Amount,
    Fit,
    Member,
    Outlook,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration import run as run_module
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.options import MigrateOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Selection
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import StoreOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.migration.fake_api_server import (
    STATE,
    FakeApiServer,
)

SECRETS = "/api/v1/namespaces/default/secrets"


class Setting:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = FakeApiServer()
        self.events: list[Event] = []
        self.niceness: list[int] = []
        monkeypatch.setattr(run_module, "open_cluster", lambda options: self.server.cluster())
        monkeypatch.setattr(run_module, "give_way", self.niceness.append)  # Not of the process that runs the tests.
        for number in range(5):
            self.server.add(f"{SECRETS}/s{number}", stale=number < 3)

    def migrate(self, *, check_mode: bool = False, select: str = "all", **options: Any) -> dict[str, Any]:
        given = replace(MigrateOptions(selection=Selection(select)), **options)
        return asyncio.run(asyncio.wait_for(run_module.storage_migrate(given, check_mode, self.events.append), 60))


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Setting]:
    yield Setting(monkeypatch)


def test_phases_from_observing_to_recording(setting: Setting) -> None:
    done = setting.migrate()
    assert (done["rewritten"], done["failures"], done["proven_by"]) == (3, [], "each_server")
    assert done["resources"]["secrets"]["persisted"] and not setting.server.stale
    assert STATE in setting.server.objects, "what is proven is on record"
    again = setting.migrate(select="changed")
    assert again["changed"] is False and again["resources"] == {}


@pytest.mark.parametrize(("impact", "niceness"), [("low", 10), ("normal", 5), ("high", 0)])
def test_only_high_impact_competes_with_other_processes_of_the_host(
    setting: Setting, impact: str, niceness: int
) -> None:
    setting.migrate(impact=impact)
    assert setting.niceness == [niceness]


@pytest.mark.parametrize(("accepts", "counts"), [(False, False), (True, True)])
def test_without_the_leases_nothing_counts_unless_that_is_accepted(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, accepts: bool, counts: bool
) -> None:
    """Issue 13, number 3."""
    monkeypatch.setattr(run_module, "open_cluster", lambda options: setting.server.cluster(accepts_unchecked=accepts))
    setting.server.before = lambda method, path: (
        Response(403, {}, b"{}") if path.endswith("kube-system/leases") and method == "GET" else None
    )
    done = setting.migrate()
    assert done["rewritten"] == 3 and done["cross_checked"] is False and done["proven_by"] == "listed_servers"
    assert done["resources"]["secrets"]["persisted"] is counts and "was not cross-checked" in done["msg"]
    assert any("accept_unchecked" in warning for warning in done["warnings"]) is not accepts
    assert bool(setting.migrate(select="changed")["resources"]) is not counts


def test_check_mode_writes_nothing(setting: Setting) -> None:
    assert setting.migrate(check_mode=True)["would_visit"] == 5
    assert {method for method, _path in setting.server.requests} == {"GET"}


def test_the_runs_own_record_and_lease_may_be_among_the_objects(setting: Setting) -> None:
    """Issue 13, number 2: with a new encryption key, the run rewrites the record and the Lease that it uses itself."""
    setting.migrate()
    server = setting.server
    for name in ("aa", "zz"):
        server.add(f"/api/v1/namespaces/kube-system/configmaps/{name}", stale=True)
    server.add("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/zz", stale=True)
    server.requests.clear()
    lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-storage-upgrade"
    server.stale |= {*server.objects}
    done = setting.migrate()
    assert done["failures"] == [] and not server.stale
    # Each visit moves the resourceVersion that the run goes by, so both come after everything else.
    others = [number for number, path in enumerate(server.patched) if path not in (STATE, lease)]
    assert len(others) == 8 and min(map(server.patched.index, (STATE, lease))) > max(others)
    assert server.patched.count(lease) == 1 and server.patched.count(STATE) == 3, "visited, and saved at the second try"


@pytest.mark.parametrize("option", ["failures_file", "store"])
def test_a_path_that_cannot_be_written_is_found_before_the_first_write(
    setting: Setting, option: str, tmp_path: Path
) -> None:
    """Issue 13, number 11."""
    (tmp_path / "file").write_text("x", encoding="utf-8")
    path = tmp_path / "file" / "below"
    with pytest.raises(StateStoreError, match="can't be (written|read)"):
        setting.migrate(**{option: StoreOptions(path) if option == "store" else path})
    assert setting.server.patched == []


def test_a_failures_file_that_cannot_be_written_at_the_end_loses_no_count(setting: Setting, tmp_path: Path) -> None:
    """Issue 13, number 11."""
    folder = tmp_path / "folder"

    def in_the_way(method: str, path: str) -> Response | None:
        if method == "PATCH" and folder.is_dir():
            folder.rmdir()
            folder.write_text("x", encoding="utf-8")
        return None

    setting.server.before = in_the_way
    with pytest.raises(StateStoreError, match="can't be written") as failed:
        setting.migrate(failures_file=folder / "failures")
    assert failed.value.result["rewritten"] == 3


def test_a_record_that_cannot_be_written_hides_no_failure(setting: Setting) -> None:
    """Issue 13, number 2."""

    def refuse(method: str, path: str) -> Response | None:
        if (method, path) == ("PATCH", f"{SECRETS}/s1"):
            return Response(403, {}, b'{"kind": "Status", "message": "denied by a webhook", "reason": "Forbidden"}')
        return Response(403, {}, b"{}") if method == "POST" and path.endswith("/configmaps") else None

    setting.server.before = refuse
    with pytest.raises(StateStoreError, match="could not be recorded.*secrets default/s1: denied by a webhook"):
        setting.migrate()


class Etcd:
    """What a run asks of StaleObjects, after whose scan an API server is no longer ready."""

    withheld: dict[str, Any] = {}
    rewritten: dict[str, Any] = {}
    wrote = False

    def __init__(self, server: FakeApiServer) -> None:
        self._server = server

    async def read(self, _entry: Any, _servers: Any, seen: Observation, resources: Any, _report: Any) -> None:
        assert set(seen.resources) > {*resources}, "etcd is read with all resources in view"
        self._server.before = lambda method, path: Response(500, {}, b"not ready") if path == "/readyz" else None

    async def withhold(self, *_args: Any) -> None:
        pass

    def members_look(self) -> Any:
        async def look() -> dict[str, tuple[Member, ...]]:
            return {"etcd": (Member("etcd", 10 << 20, 5 << 20),)}

        return look

    def amounts(self, _names: Any) -> dict[str, Amount]:
        return {}

    def select(self, _changed: Any, *, unseen: bool) -> dict[str, None]:
        return {"secrets": None}

    async def probe(self, *_args: Any) -> None:
        raise AssertionError("nothing may be written anymore")


class Written(Etcd):
    """A server rewrites an object to show how it writes; then etcd goes away, or the run is interrupted."""

    wrote = True

    def __init__(self, server: FakeApiServer, ending: BaseException) -> None:
        super().__init__(server)
        self._ending = ending

    async def read(self, *_args: Any) -> None:
        pass

    async def probe(self, *_args: Any) -> None:
        if isinstance(self._ending, SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)
        raise self._ending


@pytest.mark.parametrize("ending", [EtcdError("It is away."), SystemExit()])
def test_what_was_rewritten_before_the_run_began_is_a_change(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, ending: BaseException
) -> None:
    monkeypatch.setattr(run_module, "_open_stale_objects", lambda options: nullcontext(Written(setting.server, ending)))
    with pytest.raises((EtcdError, MigrationIncompleteError)) as failed:
        setting.migrate(selection=Selection("stale", ("secrets",)))
    assert failed.value.result["changed"] is True


def test_servers_are_asked_again_after_etcd_was_read(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 13, number 13."""
    monkeypatch.setattr(run_module, "_open_stale_objects", lambda options: nullcontext(Etcd(setting.server)))
    with pytest.raises(NotConvergedError, match="Nothing was migrated"):
        setting.migrate(selection=Selection("stale", ("secrets",)))
    assert setting.server.patched == []


def test_a_run_that_is_out_of_time_can_be_resumed(setting: Setting) -> None:
    with pytest.raises(MigrationIncompleteError, match="the option timeout allows") as stopped:
        setting.migrate(timeout=0.5, max_rate=2.0)
    done = stopped.value.result["rewritten"]
    assert setting.server.stale and stopped.value.result["resources"]["secrets"]["persisted"] is False
    assert done + setting.migrate()["rewritten"] == 3 and not setting.server.stale


@pytest.mark.parametrize("path", ["/apis", "/api/v1", "/apis/apiregistration.k8s.io/v1/apiservices"])
def test_an_answer_that_is_no_discovery_document_does_not_mean_that_nothing_is_stored(
    setting: Setting, path: str
) -> None:
    """Issue 11: a proxy's own page, or a Status."""

    def other(_method: str, where: str) -> Response | None:
        return Response(200, {}, b'{"kind": "Status", "metadata": {}}') if where == path else None

    setting.server.before = other
    with pytest.raises(NotConvergedError, match="not a document of kind"):
        setting.migrate()
    assert setting.server.patched == []


class Scan(Etcd):
    """One during which the API server is restarted."""

    async def read(self, *_args: Any) -> None:
        def restarted(_method: str, path: str) -> Response | None:
            return Response(200, {}, b"process_start_time_seconds 2.5\n") if path == "/metrics/slis" else None

        self._server.before = restarted


def test_a_server_that_is_restarted_while_etcd_is_read(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 11: encryption may hide what an old one wrote meanwhile."""
    monkeypatch.setattr(run_module, "_open_stale_objects", lambda options: nullcontext(Scan(setting.server)))
    with pytest.raises(NotConvergedError, match="was restarted while etcd was read"):
        setting.migrate(selection=Selection("stale", ("secrets",)))
    assert setting.server.patched == []


# etcd's space

MIB = 1 << 20


class Database:
    """What the API server's metrics say about etcd: ``sizes`` in MiB, one for each look, the last one from then on."""

    def __init__(self, server: FakeApiServer, *sizes: float) -> None:
        self.sizes = list(sizes)
        server.before = self.answer

    def answer(self, _method: str, path: str) -> Response | None:
        if path != "/metrics":
            return None
        size = self.sizes.pop(0) if len(self.sizes) > 1 else self.sizes[0]
        return Response(200, {}, f'apiserver_storage_size_bytes{{storage_cluster_id="etcd-0"}} {size * MIB}\n'.encode())


def test_without_etcd_and_metrics_its_space_is_not_known(setting: Setting) -> None:
    done = setting.migrate()
    assert done["rewritten"] == 3 and done["warnings"] == []
    assert done["etcd_space"]["source"] is None and "get /metrics" in done["etcd_space"]["unknown"]
    assert any("is unknown" in event.message for event in setting.events)


def test_its_size_before_and_after_by_metrics(setting: Setting) -> None:
    Database(setting.server, 10, 12)
    done = setting.migrate()
    space = done["etcd_space"]
    assert (space["source"], space["outlook"], space["held_seconds"]) == ("metrics", "fits", 0)
    assert [space[side][0]["size"] for side in ("before", "after")] == [10 * MIB, 12 * MIB]
    assert space["before"][0]["quota_from"] == "default" and space["after"][0]["defragmentation_frees"] is None


@pytest.mark.parametrize("check_mode", [False, True])
def test_nothing_is_written_where_it_can_not_fit(setting: Setting, check_mode: bool) -> None:
    Database(setting.server, 47.9)
    with pytest.raises(MigrationIncompleteError, match=r"Nothing was migrated.*47\.9 MiB.*Defragment") as refused:
        setting.migrate(etcd_quota=48 * MIB, check_mode=check_mode)
    assert refused.value.result["changed"] is False
    assert refused.value.result["etcd_space"]["outlook"] == "can't fit"
    assert {method for method, _path in setting.server.requests} == {"GET"}


def test_a_larger_quota_is_believed(setting: Setting) -> None:
    Database(setting.server, 47.9)
    assert setting.migrate(etcd_quota=480 * MIB)["rewritten"] == 3


def test_writes_are_held_until_there_is_room_again(setting: Setting) -> None:
    """It was defragmented while writes were held, which is the only thing that the size of the file shows."""
    Database(setting.server, 46.5, 46.5, 20)
    done = setting.migrate(etcd_quota=48 * MIB)
    assert done["rewritten"] == 3 and done["etcd_space"]["held_seconds"] > 0
    said = [event.message for event in setting.events]
    assert any(text.startswith("Writes are held: etcd needs space") for text in said)
    assert any(text.startswith("Writes resume after") for text in said)
    assert any("writes wait for etcd's compaction: etcd-0" in text for text in said), "the progress says why it stands"


def test_it_stops_before_etcd_is_full(setting: Setting) -> None:
    """Writes are held, and something else fills etcd."""
    Database(setting.server, 46.5, 47.5)
    with pytest.raises(
        MigrationIncompleteError, match="Stopped before etcd is full: etcd-0.*47.5 MiB.*defrag"
    ) as stopped:
        setting.migrate(etcd_quota=48 * MIB)
    assert setting.server.patched == [] and stopped.value.result["rewritten"] == 0
    assert stopped.value.result["etcd_space"]["held_seconds"] > 0
    Database(setting.server, 20)
    assert setting.migrate(etcd_quota=48 * MIB)["rewritten"] == 3, "the next run goes on"


def test_a_run_is_held_in_the_middle(setting: Setting) -> None:
    """Others fill etcd while it runs; nothing is written from then on."""
    Database(setting.server, 45, 46.5, 47.5)
    with pytest.raises(MigrationIncompleteError, match="Stopped before etcd is full") as stopped:
        setting.migrate(etcd_quota=48 * MIB, max_rate=0.7, workers=1)
    assert 1 <= stopped.value.result["rewritten"] < 3 and setting.server.stale


class Controlled(Database):
    """There is a controller, too, which reports ``says`` about each migration. Neither of both is asked for permissions."""

    path = "/apis/storagemigration.k8s.io/v1/storageversionmigrations"
    name = "kube-storage-upgrade-secrets"

    def __init__(self, server: FakeApiServer, *sizes: float, says: str = "") -> None:
        super().__init__(server, *sizes)
        self.says = says
        self.sent: list[str] = []

    def answer(self, method: str, path: str) -> Response | None:
        if path == "/apis/storagemigration.k8s.io":
            return Response(200, {}, b'{"versions": [{"version": "v1"}]}')
        if not path.startswith(self.path):
            return super().answer(method, path)
        if method != "GET":
            self.sent.append(method)
        conditions = [{"type": "Running", "status": "True", "message": self.says}]
        labels = {"app.kubernetes.io/managed-by": "kube-storage-upgrade"}
        migration = {"metadata": {"name": self.name, "labels": labels}, "status": {"conditions": conditions}}
        there = self.sent.count("POST") > self.sent.count("DELETE")
        return Response(200, {}, json.dumps({"metadata": {}, "items": [migration] if there else []}).encode())


IN_TREE = "storage_version_migration"


def test_a_controllers_migration_is_withdrawn_from_a_full_etcd(setting: Setting) -> None:
    """Otherwise the controller would go on as soon as somebody has freed space, and fill etcd again."""
    controlled = Controlled(setting.server, 20, says="etcdserver: mvcc: database space exceeded")
    with pytest.raises(EtcdFullError):
        setting.migrate(engine=IN_TREE, selection=Selection("all", ("secrets",)))
    assert controlled.sent == ["POST", "DELETE"] and setting.server.patched == []
    assert any("secrets was withdrawn, but" in event.message for event in setting.events)


def test_that_a_controller_can_not_wait_is_said_where_only_the_size_of_etcd_is_known(setting: Setting) -> None:
    """It goes through the whole resource, whatever becomes of its migration object; but there may be little to rewrite."""
    Controlled(setting.server, 30)
    done = setting.migrate(engine=IN_TREE, etcd_quota=48 * MIB, check_mode=True)
    assert done["etcd_space"]["outlook"] == "needs pacing"
    told = [event.message for event in setting.events if "can't be made to wait" in event.message]
    assert len(told) == 1 and "30.0 MiB" in told[0] and "Use engine: direct, which waits" in told[0]
    assert "storage_migrate waits" not in told[0]


class Paced:
    """etcd's space, in which a migration would have to wait."""

    async def evaluate(self, amounts: Mapping[str, Amount]) -> Outlook:
        return Outlook(Fit.PACED, "About 30.0 MiB must be rewritten.")

    def refusal(self, message: str) -> MigrationIncompleteError:
        return MigrationIncompleteError(message, {"changed": False})


@pytest.mark.parametrize(
    ("dialect", "amounts", "refused"),
    [("in-tree", {"etcd": Amount(1)}, True), ("in-tree", {}, False), (None, {"etcd": Amount(1)}, False)],
)
def test_a_controller_is_refused_if_a_scan_shows_that_it_would_have_to_wait(
    dialect: str | None, amounts: dict[str, Amount], refused: bool
) -> None:
    chosen = cast(Any, SimpleNamespace(name=IN_TREE, dialect=dialect))
    expected = pytest.raises(MigrationIncompleteError, match=r"can't be made to wait.*engine: direct.*30\.0 MiB")
    with expected if refused else nullcontext():
        seen = asyncio.run(run_module._evaluate_space(cast(Any, Paced()), amounts, chosen))
        assert seen.fit is Fit.PACED


def test_what_could_not_be_listed_is_not_counted_as_nothing(setting: Setting) -> None:
    setting.server.before = lambda method, path: Response(403, {}, b"{}") if path == "/api/v1/secrets" else None
    preview = setting.migrate(check_mode=True)
    assert preview["would_visit"] is None and preview["resources"]["secrets"]["would_visit"] is None
    assert "At least 0 objects of" in preview["msg"] and "because secrets could not be listed" in preview["msg"]
    assert "secrets" in preview["diff"]["after"] and "an unknown number to visit" in preview["diff"]["after"]


@pytest.mark.parametrize(("kind", "told"), [("Exempt", 1), ("Limited", 0)])
def test_a_run_as_an_exempt_user_says_so_once(setting: Setting, kind: str, told: int) -> None:
    headers = {"X-Kubernetes-PF-FlowSchema-UID": "s", "X-Kubernetes-PF-PriorityLevel-UID": "l"}

    def with_priority(method: str, path: str) -> Response | None:
        if path.endswith("/flowschemas") or path.endswith("/prioritylevelconfigurations"):
            uid, spec = path.rpartition("/")[2][0].replace("p", "l").replace("f", "s"), {"type": kind}
            return Response(
                200, {}, json.dumps({"items": [{"metadata": {"name": "n", "uid": uid}, "spec": spec}]}).encode()
            )
        if method == "PATCH" and path.startswith(SECRETS):
            return Response(200, headers, json.dumps(setting.server.objects[path]).encode())
        return None

    setting.server.before = with_priority
    pace = setting.migrate()["pace"]
    assert (pace["flow_schema"], pace["priority_level"], pace["exempt"]) == ("n", "n", kind == "Exempt")
    assert sum("exempts this user" in event.message for event in setting.events) == told
    assert pace["note"] is None and pace["servers"][0]["writes"] >= 5
