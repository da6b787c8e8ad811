# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""storage_migrate when servers return errors, clients write at the same time, and the run itself is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.control_plane.cluster import Cluster

from .support.modules import ROOT, Result, environment, run_module
from .support.runs import finish, start_process
from .support.servers import Fault, FaultyServer, Seen
from .support.stock import GROUP, MERGE_PATCH, Stock, Watcher, version_hash
from .support.waiting import wait_until

NAME = "storage_migrate"


def rewrites(watcher: Watcher, name: str, before: dict[str, Any]) -> int:
    """How many events an object made that changed nothing in it; all of its other fields must be as before."""
    found = 0
    for kind, item in watcher.of(name):
        assert kind == "MODIFIED"
        item = json.loads(json.dumps(item))
        del item["metadata"]["resourceVersion"]
        item["apiVersion"] = before["apiVersion"]
        assert item == before
        found += 1
    return found


def test_every_kind_of_bad_answer(single_master: Cluster, module: Callable[..., Result]) -> None:
    """Each object is rewritten once, whatever the server answers the first time, and controllers see it once."""
    stock = Stock(single_master, "parcels")
    names = stock.fill(240)
    stock.store("v1")
    stock.await_older()
    before = stock.objects()
    faults = {
        0: Fault(status=429, retry_after=2),
        1: Fault(status=500),
        2: Fault(status=503),
        3: Fault(status=504, passed_on=True),
        4: Fault(reset=True),
        5: Fault(reset=True, passed_on=True),
    }

    def fault(seen: Seen, times: int) -> Fault | None:
        tail = seen.path.rpartition("/")[2]
        if seen.method == "PATCH" and tail in names and times == 1:
            number = names.index(tail)
            return Fault(silence=45, passed_on=True) if number == 100 else faults.get(number % 20)
        if seen.method == "GET" and "parcels" in seen.path and "limit=40" in seen.query and times == 1:
            pages.append(seen.query)
            return {2: Fault(status=503), 3: Fault(reset=True), 4: Fault(status=429, retry_after=1)}.get(len(pages))
        if seen.method in ("PATCH", "POST") and "configmaps" in seen.path:
            saves.append(seen.path)
            return Fault(reset=True, passed_on=True) if len(saves) in (1, 3) else None
        return Fault(status=500) if seen.method == "PUT" and "leases" in seen.path and times == 2 else None

    pages: list[str] = []
    saves: list[str] = []
    with FaultyServer(single_master, "master-1") as server, Watcher(stock) as watcher:
        server.fault = fault
        done = module(
            single_master,
            NAME,
            **server.options,
            resources=[stock.name],
            page_size=40,
            state_store={"name": "faulty"},
        )
        patches = [seen for seen in server.seen if seen.method == "PATCH" and "parcels/" in seen.path]
    counts = done["resources"][stock.name]
    assert counts["failed"] == 0 and stock.stale() == []
    # Where the answer was lost, the second try finds the object written since, and that nothing else has changed it.
    assert (counts["rewritten"], counts["conflicts"], counts["uncertain"]) == (240, 0, 0)
    assert counts["persisted"] is True and done["trimmed"][0]["after"] == ["v1"]
    assert [name for name in names if rewrites(watcher, name, before[name]) != 1] == []
    assert len(pages) >= 6 and len(saves) >= 2
    for name in names[::20]:
        first, second = (seen.at for seen in patches if seen.path.endswith(f"/{name}"))
        assert second - first >= 2, "Retry-After was not waited for"
    assert (
        module(single_master, NAME, select="changed", resources=[stock.name], state_store={"name": "faulty"})[
            "resources"
        ]
        == {}
    )


def test_answers_that_get_lost_count_as_what_etcd_holds(single_master: Cluster, module: Callable[..., Result]) -> None:
    """Issue 13, number 12. What cannot be known is a count of its own."""
    stock = Stock(single_master, "letters")
    names = stock.fill(50)
    taken = set(names[-5:])
    stock.store("v1")
    stock.await_older()
    before = stock.stored()

    def fault(seen: Seen, times: int) -> Fault | None:
        tail = seen.path.rpartition("/")[2]
        if seen.method != "PATCH" or tail not in names or times > 1:
            return None
        number = names.index(tail)
        if tail in taken:
            # A client writes while the answer is lost: whether the run was first is unknown.
            stock.api.good("PATCH", stock.path(tail), {"spec": {"count": 1}}, MERGE_PATCH)
            return Fault(reset=True)
        return Fault(reset=True, passed_on=number % 4 != 3) if number % 2 else None

    options: dict[str, Any] = {"resources": [stock.name], "state_store": {"name": "letters"}, "request_timeout": 1}
    with FaultyServer(single_master, "master-1") as server:
        server.fault = fault
        done = module(single_master, NAME, **server.options, **options)
    counts = done["resources"][stock.name]
    after = stock.stored()
    moved = {key.partition("/")[2] for key in after if after[key].mod_revision != before[key].mod_revision}
    assert moved == set(names) and stock.stale() == []
    assert counts["rewritten"] == len(moved - taken) and counts["uncertain"] == len(taken)
    assert counts["conflicts"] == counts["unchanged"] == counts["failed"] == 0 and done["changed"] is True
    assert done["totals"]["uncertain"] == done["uncertain"] == 5
    assert "5 were written after an answer got lost, by this run or by others (uncertain)" in done.message


def test_clients_write_meanwhile(single_master: Cluster) -> None:
    """None of their writes is lost, reordered or resurrected, and the run changes nothing but resourceVersion."""
    owner = Stock(single_master, "owners")
    owner.fill(1)
    metadata = {
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": '{"kept":"as it is"}'},
        "labels": {"a": "b"},
        "ownerReferences": [
            {
                "apiVersion": f"{GROUP}/v1",
                "kind": owner.kind,
                "name": "item-0000",
                "uid": owner.get("item-0000")["metadata"]["uid"],
            }
        ],
    }
    stock = Stock(single_master, "ledgers")
    names = stock.fill(200, metadata=metadata)
    stock.store("v1")
    before = stock.objects()
    written, deleted = names[100:104], names[180:190]
    acknowledged = dict.fromkeys(written, 0)
    ending = threading.Event()

    def write(name: str) -> None:
        while not ending.is_set():
            count = acknowledged[name] + 1
            stock.api.good("PATCH", stock.path(name) + "?fieldManager=writer", {"spec": {"count": count}}, MERGE_PATCH)
            acknowledged[name] = count
            time.sleep(0.02)

    with Watcher(stock) as watcher:
        threads = [threading.Thread(target=write, args=(name,)) for name in written]
        for thread in threads:
            thread.start()
        try:
            process = start_process(single_master, resources=[stock.name], max_rate=50, page_size=40)
            wait_until(lambda: len(stock.stale()) < 160)
            for name in deleted:
                stock.api.good("DELETE", stock.path(name))
            stock.fill(5, prefix="new")
            done = finish(process)
        finally:
            ending.set()
            for thread in threads:
                thread.join()
    after = stock.objects()
    assert done["totals"]["failed"] == 0 and stock.stale() == []
    assert not set(deleted) & set(after) and {f"new-{i:04d}" for i in range(5)} <= set(after)
    for name in set(names) - set(written) - set(deleted):
        assert after[name] == before[name]
        assert rewrites(watcher, name, before[name]) == 1
    for name in deleted:
        kinds = [kind for kind, _object in watcher.of(name)]
        assert kinds in (["DELETED"], ["MODIFIED", "DELETED"])
    for name in written:
        assert after[name]["spec"]["count"] == acknowledged[name] > 3
        assert after[name]["metadata"]["generation"] == 1 + acknowledged[name]
        assert {entry["manager"] for entry in after[name]["metadata"]["managedFields"]} <= {
            "writer",
            before[name]["metadata"]["managedFields"][0]["manager"],
        }
        for field in ("annotations", "labels", "ownerReferences", "uid", "creationTimestamp"):
            assert after[name]["metadata"][field] == before[name]["metadata"][field]
        seen = [item["spec"]["count"] for _kind, item in watcher.of(name)]
        assert seen == sorted(seen) and set(range(1, acknowledged[name] + 1)) <= set(seen)
        assert len(seen) - len(set(seen)) <= 1, "more than one rewrite"
    assert all(kind == "ADDED" for i in range(5) for kind, _object in watcher.of(f"new-{i:04d}")[:1])
    assert done["rewritten"] <= 200
    owner.remove()


def test_killed_at_several_points(single_master: Cluster, tmp_path: Path) -> None:
    """SIGKILL before the first write, after it, and again and again: nothing is rewritten twice, no record is torn."""
    stock = Stock(single_master, "barrels")
    names = stock.fill(240)
    stock.store("v1")
    before = stock.objects()
    record = tmp_path / "record" / "state.json"
    store = {"kind": "file", "path": str(record), "name": "killed"}
    lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/killed"

    def holder() -> str:
        status, found = stock.api.send("GET", lease)
        return found["spec"].get("holderIdentity", "") if status == 200 else ""

    with Watcher(stock) as watcher:
        for left, rate in ((240, 60), (239, 60), (200, 60), (120, 12), (60, 60)):
            process = start_process(
                single_master, resources=[stock.name], max_rate=rate, page_size=20, state_store=store
            )
            wait_until(lambda: bool(holder()))
            wait_until(lambda left=left: len(stock.stale()) <= left)
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=30)
            if record.exists():
                assert json.loads(record.read_text(encoding="utf-8"))["formatVersion"] == 1
            stock.api.good("DELETE", lease)
        assert record.exists(), "no progress was kept although a run lasted longer than five seconds"
        rest = len(stock.stale())
        assert rest > 0
        done = run_module(single_master, NAME, resources=[stock.name], state_store=store)
    assert done["rewritten"] == rest and done["resumed"] is True and stock.stale() == []
    assert [name for name in names if rewrites(watcher, name, before[name]) != 1] == []
    assert done["trimmed"] == [{"crd": stock.name, "before": ["v1alpha1", "v1"], "after": ["v1"]}]


def test_two_runs_and_one_that_hangs(single_master: Cluster) -> None:
    """The second is refused while the first holds the Lease, and takes over when that has expired."""
    stock = Stock(single_master, "crates")
    stock.fill(300)
    stock.store("v1")
    store = {"name": "twice"}
    first = start_process(single_master, resources=[stock.name], max_rate=8, page_size=20, state_store=store)
    wait_until(lambda: len(stock.stale()) < 290)
    refused = run_module(single_master, NAME, resources=[stock.name], state_store=store)
    assert refused.failed and "Another run is active" in refused.message
    assert "holds the Lease kube-system/twice" in refused.message and "takes over" in refused.message
    first.send_signal(signal.SIGSTOP)
    try:
        time.sleep(0.5)
        left = len(stock.stale())
        second: list[Result] = []

        def took_over() -> bool:
            second.append(run_module(single_master, NAME, resources=[stock.name], state_store=store))
            return not second[-1].failed

        wait_until(took_over)
    finally:
        first.send_signal(signal.SIGCONT)
    assert second[-1]["rewritten"] == left and stock.stale() == []
    told = finish(first)
    assert told["failed"] is True
    assert "another run took over" in told["msg"] or "was written by somebody else" in told["msg"], told["msg"]
    # What the second one recorded stands.
    again = run_module(single_master, NAME, select="changed", resources=[stock.name], state_store=store)
    assert again["resources"] == {}


def test_a_signal_before_the_first_write(single_master: Cluster) -> None:
    for number in (signal.SIGHUP, signal.SIGTERM):
        with FaultyServer(single_master, "master-1") as server:
            server.fault = lambda seen, times: Fault(silence=20) if seen.path == "/readyz" else None
            process = start_process(single_master, **server.options)
            wait_until(lambda server=server: any(seen.path == "/readyz" for seen in server.seen))
            process.send_signal(number)
            told = finish(process, 15)
        assert f"Interrupted by {number.name}" in told["msg"]
        assert not any(seen.method in ("PATCH", "PUT") for seen in server.seen)


def test_a_state_file_is_never_half_written(tmp_path: Path) -> None:
    """A writer that is killed at any moment leaves the old content or the new one."""
    path = tmp_path / "state.json"
    program = (
        "import itertools, sys\nfrom pathlib import Path\n"
        "from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import write_whole\n"
        "for letter in itertools.cycle(b'ab'):\n    write_whole(Path(sys.argv[1]), bytes([letter]) * 300_000)\n"
    )
    env = {**environment(), "PYTHONPATH": str(ROOT / ".ansible" / "collections")}
    for wait in range(8):
        path.unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", program, str(path)], env=env)
        wait_until(path.exists)
        time.sleep(0.003 * wait)
        process.kill()
        process.wait()
        content = path.read_bytes()
        assert len(content) == 300_000 and len(set(content)) == 1
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_hash_that_changes_before_writes_do(single_master: Cluster, module: Callable[..., Result]) -> None:
    """Discovery tells the new version while objects are still written in the old one: the edit of the CRD is noticed.

    Only what was visited after it counts, and the trimming relies on that.
    """
    stock = Stock(single_master, "early")
    names = stock.fill(30)
    early, late = (version_hash(GROUP, version, stock.kind).encode() for version in ("v1", "v1alpha1"))
    patched: set[str] = set()

    def rewrite(seen: Seen, body: bytes) -> bytes:
        if seen.method == "PATCH" and f"/{stock.plural}/" in seen.path and len(patched) < len(names):
            patched.add(seen.path)
            if len(patched) == len(names):
                stock.store("v1")
        return body.replace(late, early) if seen.path.startswith(f"/apis/{GROUP}/") else body

    with FaultyServer(single_master, "master-1") as server:
        server.rewrite = rewrite
        done = module(single_master, NAME, **server.options, resources=[stock.name])
    counts = done["resources"][stock.name]
    assert stock.stale() == [] and counts["rewritten"] == 30 and counts["unchanged"] == 0
    assert counts["persisted"] is True
    assert done["trimmed"] == [{"crd": stock.name, "before": ["v1alpha1", "v1"], "after": ["v1"]}]
    assert stock.stored_versions() == ["v1"] and done["untrimmed"] == []
    assert module(single_master, NAME, select="changed", resources=[stock.name])["resources"] == {}


def test_resources_that_cannot_be_patched_are_named(single_master: Cluster, module: Callable[..., Result]) -> None:
    """No resource of this release lacks list or patch, so discovery is told to say so."""

    def rewrite(seen: Seen, body: bytes) -> bytes:
        if seen.path != "/api/v1":
            return body
        document = json.loads(body)
        for resource in document["resources"]:
            if resource["name"] == "configmaps":
                resource["verbs"].remove("patch")
        return json.dumps(document).encode()

    with FaultyServer(single_master, "master-1") as server:
        server.rewrite = rewrite
        done = module(
            single_master,
            NAME,
            **server.options,
            resources=["configmaps", "secrets"],
        )
        assert not any(
            seen.method == "PATCH" and "/namespaces/default/configmaps/" in seen.path for seen in server.seen
        )
    assert done["skipped_resources"] == [
        {"resource": "configmaps", "reason": "the API server does not support patch for it"}
    ]
    assert list(done["resources"]) == ["secrets"]
