# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The life of one CRD on real API servers, in whatever order hypothesis comes up with.

Objects are written through either server in either version, slowly too; the storage version goes back and forth;
objects and the CRD itself are deleted and recreated; runs are finished, killed, and suspended at any step. Whatever
happens: once storedVersions was trimmed or the resource counts as persisted, etcd holds nothing older, and nothing
older arrives later from a write that was in flight.

``KSU_MODEL_EXAMPLES`` and ``KSU_MODEL_STEPS`` in the environment make it search longer (issue 11, "Proof").
"""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.control_plane.cluster import Cluster

from .support.runs import finish, start_process
from .support.stock import GROUP, MERGE_PATCH, Api, Stock, version_hash
from .support.waiting import wait_until

VERSIONS = ("v1alpha1", "v1")
STORE = "kube-storage-upgrade-model"
# Long enough for a busy machine, short enough that a run can wait for writes in flight.
REQUEST_TIMEOUT = 5
EXAMPLES = int(os.environ.get("KSU_MODEL_EXAMPLES", "4"))
STEPS = int(os.environ.get("KSU_MODEL_STEPS", "7"))


@dataclass
class SlowWrite:
    """A POST whose body is half sent: its API server has picked the storage already."""

    connection: http.client.HTTPSConnection
    rest: bytes

    def end(self) -> None:
        try:
            self.connection.send(self.rest)
            self.connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            pass  # It came too late, or its CRD is gone: then nothing was stored.
        finally:
            self.connection.close()


@dataclass(frozen=True)
class Claim:
    """What a run claimed: everything of the CRD with this uid is stored in this version."""

    uid: str
    version: str
    by: str


class CrdLife(RuleBasedStateMachine):
    """See the module's docstring."""

    cluster: Cluster

    @initialize(objects=st.integers(0, 4), flipped=st.booleans())
    def create(self, objects: int, flipped: bool) -> None:
        """Mostly what the collection is for: objects in an old version, and a storage version that moved on."""
        self.slow: list[SlowWrite] = []
        self.claim: Claim | None = None
        self.written = 0
        self.servers = [Api(self.cluster, url) for url in self.cluster.urls]
        self.forget_record()
        self.make_crd(VERSIONS[0])
        for number in range(objects):
            self.write(number % 2, VERSIONS[number % 2], number)
        if flipped:
            self.store_as(VERSIONS[1], False)

    def teardown(self) -> None:
        """Every life ends with a run, and with the writes that were in flight all the while."""
        if not hasattr(self, "stock"):
            return
        try:
            self.stock.settle()
            result = finish(self.start("all"), timeout=180)
            self.heard(result)
            assert self.claim is not None, f"nobody was in the way of this run: {result['msg']}"
            self.nothing_older_is_stored()
            for write in self.slow:
                write.end()
            self.nothing_older_is_stored()
        finally:
            self.stock.remove()

    # What users and clients do

    @rule(server=st.integers(0, 1), version=st.sampled_from(VERSIONS), number=st.integers(0, 5), gone=st.booleans())
    def change(self, server: int, version: str, number: int, gone: bool) -> None:
        if gone:
            self.servers[server].send("DELETE", f"{self.collection(version)}/item-{number}")
        self.write(server, version, number)

    @rule(server=st.integers(0, 1), version=st.sampled_from(VERSIONS))
    def slow_write(self, server: int, version: str) -> None:
        """Begins one; if two are already in progress, the first of them ends."""
        if len(self.slow) == 2:
            self.slow.pop(0).end()
        self.written += 1
        body = json.dumps(self.body(version, f"slow-{self.written}")).encode()
        connection = self.servers[server].connect()
        connection.putrequest("POST", self.collection(version))
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:10])
        self.slow.append(SlowWrite(connection, body[10:]))

    @rule(version=st.sampled_from(VERSIONS), settle=st.booleans())
    def store_as(self, version: str, settle: bool) -> None:
        """Edits the CRD; sometimes without waiting until every server has picked it up."""
        if version != self.stock.storage:
            self.claim = None
        self.stock.storage = version
        self.stock.edit()
        if settle:
            self.stock.settle()

    @rule(version=st.sampled_from(VERSIONS), edits=st.booleans())
    def recreate(self, version: str, edits: bool) -> None:
        """Uninstalls and reinstalls the CRD; with as many edits it has the generation of the one before."""
        self.claim = None
        self.stock.remove()
        other = next(other for other in VERSIONS if other != version)
        self.make_crd(other if edits else version)
        if edits:
            self.write(0, other, 0)
            self.store_as(version, True)

    # What runs do

    @rule(select=st.sampled_from(["all", "changed", "stale"]))
    def migrate(self, select: str) -> None:
        self.heard(finish(self.start(select), timeout=180))

    @rule(select=st.sampled_from(["all", "changed"]))
    def migrate_and_die(self, select: str) -> None:
        """kill -9, as soon as something is on record."""
        process = self.start(select, max_rate=2)
        wait_until(lambda: process.poll() is not None or self.is_recorded())
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.release_lease()

    @rule(
        select=st.sampled_from(["all", "stale"]),
        version=st.sampled_from(VERSIONS),
        recreated=st.booleans(),
        number=st.integers(0, 5),
    )
    def migrate_suspended(self, select: str, version: str, recreated: bool, number: int) -> None:
        """A laptop that sleeps while others keep running."""
        process = self.start(select, max_rate=3)
        during_or_ended(process, self.is_recorded)
        process.send_signal(signal.SIGSTOP)
        try:
            other = next(other for other in VERSIONS if other != version)
            if recreated:
                self.recreate(other, False)
            else:
                self.store_as(other, True)
            self.write(1, other, number)
            self.store_as(version, True)
        finally:
            process.send_signal(signal.SIGCONT)
        self.heard(finish(process, timeout=240))

    # What must hold

    @invariant()
    def nothing_older_is_stored(self) -> None:
        if not hasattr(self, "stock"):
            return
        self.look_for_claims()
        if self.claim is None:
            return
        wanted = f"{GROUP}/{self.claim.version}"
        older = {
            key: json.loads(entry.value)["apiVersion"]
            for key, entry in self.stock.stored().items()
            if json.loads(entry.value)["apiVersion"] != wanted
        }
        assert not older, f"{self.claim} although etcd holds {older}"

    # Helpers

    def write(self, server: int, version: str, number: int) -> None:
        """Creates or changes an object; a server that is just picking up an edit of the CRD may refuse."""
        api, name = self.servers[server], f"item-{number}"
        self.written += 1
        status, _document = api.send("POST", self.collection(version), self.body(version, name))
        if status == 409:
            change = {"spec": {"count": self.written}}
            api.send("PATCH", f"{self.collection(version)}/{name}", change, MERGE_PATCH)

    def make_crd(self, storage: str) -> None:
        order = (storage, *(version for version in VERSIONS if version != storage))
        self.stock = Stock(self.cluster, "lives", versions=order)
        document = self.crd()
        self.uid = document["metadata"]["uid"]
        self.stored_before = tuple(document["status"]["storedVersions"])

    def crd(self) -> dict[str, Any]:
        return self.stock.api.good("GET", self.stock.crd_path)

    def collection(self, version: str) -> str:
        return f"/apis/{GROUP}/{version}/namespaces/default/lives"

    def body(self, version: str, name: str) -> dict[str, Any]:
        return {
            "apiVersion": f"{GROUP}/{version}",
            "kind": "Lives",
            "metadata": {"name": name},
            "spec": {"count": self.written},
        }

    def start(self, select: str, **params: Any) -> subprocess.Popen[str]:
        if select == "stale":
            params["etcd"] = self.cluster.etcd
        return start_process(
            self.cluster,
            select=select,
            resources=[self.stock.name],
            state_store={"name": STORE},
            request_timeout=REQUEST_TIMEOUT,
            **params,
        )

    def heard(self, result: dict[str, Any]) -> None:
        """A run ended, well or not: what does it claim? What it says about another version is history."""
        found = (result.get("resources") or {}).get(self.stock.name) or {}
        if found.get("persisted") and found["storage_version"] == f"{GROUP}/{self.stock.storage}":
            self.claim = Claim(self.uid, self.stock.storage, "persisted")

    def look_for_claims(self) -> None:
        """storedVersions that became fewer are a claim, and so is a record of a complete migration."""
        document = self.crd()
        if document["metadata"]["uid"] != self.uid:
            return
        stored = tuple(document["status"]["storedVersions"])
        if len(stored) == 1 and len(self.stored_before) > 1:
            self.claim = Claim(self.uid, stored[0], "trimmed")
        self.stored_before = stored

    def record(self) -> dict[str, Any]:
        """What the runs wrote down about the resource."""
        path = f"/api/v1/namespaces/kube-system/configmaps/{STORE}"
        status, document = self.servers[0].send("GET", path)
        packed = (document.get("binaryData") or {}).get("state.json.gz") if status == 200 else None
        if packed is None:
            return {}
        state = json.loads(gzip.decompress(base64.b64decode(packed)))
        found: dict[str, Any] = (state.get("resources") or {}).get(self.stock.name) or {}
        return found

    def is_recorded(self) -> bool:
        """Whether the run is working on it, or has it on record as done."""
        found = self.record()
        hashed = version_hash(GROUP, self.stock.storage, "Lives")
        return bool(found.get("progress")) or found.get("persisted") == [hashed]

    def forget_record(self) -> None:
        self.servers[0].send("DELETE", f"/api/v1/namespaces/kube-system/configmaps/{STORE}")
        self.release_lease()

    def release_lease(self) -> None:
        """What a killed run held would expire on its own, later."""
        self.servers[0].send("DELETE", f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{STORE}")


def during_or_ended(process: subprocess.Popen[str], condition: Any) -> None:
    wait_until(lambda: process.poll() is not None or condition())


@pytest.fixture(scope="module")
def two_masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster.up(
        tmp_path_factory.mktemp("model") / "cluster",
        masters=2,
        flags=[f"request-timeout={REQUEST_TIMEOUT}s"],
        owner_pid=os.getpid(),
    )
    yield cluster
    cluster.down()


def test_whatever_happens_no_claim_hides_anything_older(two_masters: Cluster) -> None:
    """Invariant: trimmed or persisted means that etcd holds nothing older, now and later."""
    CrdLife.cluster = two_masters
    run_state_machine_as_test(
        seed(20261126)(CrdLife),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            # Each example is half a minute of real servers: what failed is shown as it is, not made smaller.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
