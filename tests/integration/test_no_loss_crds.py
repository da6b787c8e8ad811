# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CRDs that change under a migration: whatever was trimmed or counts as persisted, etcd holds nothing older."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.control_plane.cluster import Cluster

from .support.modules import Result, run_module
from .support.objects import apply
from .support.runs import Running, during, finish, start_process
from .support.servers import FaultyServer, HttpsServer, Seen
from .support.stock import GROUP, Api, Stock
from .support.waiting import wait_until

NAME = "storage_migrate"


def is_true(stock: Stock, result: dict[str, Any]) -> None:
    """What the run claims about the resource, compared with etcd; and an operator may drop what storedVersions doesn't name."""
    stale = stock.stale()
    counts = result["resources"].get(stock.name, {})
    assert not (counts.get("persisted") and stale), f"counts as persisted, but {stale} are stale"
    if stock.stored_versions() == [stock.storage]:
        assert stale == [], f"was trimmed, but {stale} are stale"
        stock.update(versions=(stock.storage,))
        stock.objects()


class SlowBody:
    """A POST in v1alpha1 whose handler has begun, and whose body ends when ``end`` is called."""

    def __init__(self, stock: Stock, name: str) -> None:
        body = {"apiVersion": f"{GROUP}/{stock.served}", "kind": stock.kind, "metadata": {"name": name}, "spec": {}}
        self._body = json.dumps(body).encode()
        self._connection = stock.api.connect()
        self._connection.putrequest("POST", stock.path())
        self._connection.putheader("Content-Type", "application/json")
        self._connection.putheader("Content-Length", str(len(self._body)))
        self._connection.putheader("Expect", "100-continue")
        self._connection.endheaders()
        # Go's server says so when the handler first reads the body; by then it has the CRD's storage.
        socket = self._connection.sock
        assert socket is not None
        assert socket.recv(1024).startswith(b"HTTP/1.1 100 Continue")
        self._connection.send(self._body[:-1])

    def end(self) -> int:
        """Its status."""
        self._connection.send(self._body[-1:])
        answer = self._connection.getresponse()
        answer.read()
        return answer.status


class SlowWebhook:
    """A webhook for creations of one resource that answers when ``release`` is called; ``asked``: one is waiting."""

    def __init__(self, cluster: Cluster, stock: Stock) -> None:
        self._stock = stock
        self._released = threading.Event()
        self.asked = threading.Event()
        self.server = HttpsServer(cluster, self._answer)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        review = json.loads(await request.read())["request"]
        self.asked.set()
        while not self._released.is_set():
            await asyncio.sleep(0.05)
        response = {"uid": review["uid"], "allowed": True}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})

    def __enter__(self) -> SlowWebhook:
        self.server.__enter__()
        apply(
            self._stock.cluster,
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingWebhookConfiguration",
                "metadata": {"name": f"slow-{self._stock.plural}"},
                "webhooks": [
                    {
                        "name": f"slow.{self._stock.name}",
                        "admissionReviewVersions": ["v1"],
                        "sideEffects": "None",
                        "timeoutSeconds": 30,
                        "clientConfig": {"url": self.server.url, "caBundle": self.server.ca_bundle},
                        "matchPolicy": "Exact",
                        "rules": [
                            {
                                "apiGroups": [GROUP],
                                "apiVersions": ["v1alpha1"],
                                "resources": [self._stock.plural],
                                "operations": ["CREATE"],
                            }
                        ],
                    }
                ],
            },
        )
        return self

    def __exit__(self, *error: Any) -> None:
        self._released.set()
        self._stock.cluster.kubectl(
            "delete", "validatingwebhookconfigurations", f"slow-{self._stock.plural}", "--ignore-not-found"
        )
        self.server.__exit__(None, None, None)

    def post(self) -> tuple[threading.Thread, list[int]]:
        """Creates an object; returns when the webhook holds it up. Until the server knows the webhook, others pass it."""
        statuses: list[int] = []
        for number in range(100):

            def create(number: int = number) -> None:
                metadata = {"name": f"slow-{number:03d}"}
                body = {"apiVersion": f"{GROUP}/v1alpha1", "kind": self._stock.kind, "metadata": metadata, "spec": {}}
                statuses.append(self._stock.api.send("POST", self._stock.path(), body)[0])

            thread = threading.Thread(target=create)
            thread.start()
            wait_until(lambda thread=thread: self.asked.is_set() or not thread.is_alive())  # type: ignore[misc]
            if self.asked.is_set():
                return thread, statuses
        raise AssertionError("the webhook was never asked")

    def release(self) -> None:
        self._released.set()


def await_trimmed(stock: Stock, deadline: float) -> None:
    """Until its CRD was trimmed, or the time is out."""
    while time.monotonic() < deadline and "v1alpha1" in stock.stored_versions():
        time.sleep(0.2)


def test_writes_in_flight(single_master: Cluster) -> None:
    """Number 2: writes begun before the edit end after a run that was begun right after it, and 20 s after it.

    The servers have the default request timeout, and so has the run.
    """
    early, late = Stock(single_master, "earlybirds"), Stock(single_master, "latecomers")
    early.fill(20)
    late.fill(20)
    with SlowWebhook(single_master, early) as webhook:
        thread, statuses = webhook.post()
        begun = time.monotonic()
        early.store("v1")
        time.sleep(max(0.0, begun + 20 - time.monotonic()))
        body = SlowBody(late, "slow")
        late.store("v1")
        run = Running(single_master, resources=[early.name, late.name], request_timeout=60)
        # A webhook may take 30 s, and an API server 34 s for a write. By then a run that doesn't wait has trimmed both.
        await_trimmed(early, begun + 28)
        webhook.release()
        thread.join()
        await_trimmed(late, begun + 20 + 31)
        assert statuses[-1] == 201 and body.end() == 201
        assert early.stale() or late.stale(), "no write landed in the old version"
        done = run.end()
    for stock in (early, late):
        is_true(stock, done.data)
        assert done["resources"][stock.name]["persisted"] is True and stock.stored_versions() == ["v1"]
    assert done["seconds"] > 60
    early.remove()
    late.remove()


def test_what_is_settled_does_not_wait(single_master: Cluster, module: Callable[..., Result], tmp_path: Path) -> None:
    """Number 2: what an earlier check saw, a baseline or a run, counts; and a run says what it waits for."""
    stock = Stock(single_master, "patients")
    stock.fill(3)
    stock.store("v1")
    store = {"kind": "file", "path": str(tmp_path / "state.json"), "name": "patients"}
    short = module(single_master, NAME, resources=[stock.name], request_timeout=60, timeout=20, state_store=store)
    assert short.failed and "may still be stored in the old version of patients" in short.message
    assert "option timeout" in short.message and short.data["trimmed"] == [] and len(stock.stale()) == 3
    assert short.data["resources"][stock.name]["persisted"] is False

    module(single_master, "storage_version_hashes", state="recorded", state_store=store)
    seen_at = time.monotonic()
    wait_until(lambda: time.monotonic() - seen_at > 17, 30)
    done = module(single_master, NAME, resources=[stock.name], request_timeout=10, state_store=store)
    assert done["seconds"] < 10 and done["trimmed"][0]["after"] == ["v1"]
    is_true(stock, done.data)
    stock.remove()


def made_anew(stock: Stock, number: int) -> None:
    """The CRD goes and comes back with as many edits, so with the same generation and hash, and with stale objects."""
    generation = stock.api.good("GET", stock.crd_path)["metadata"]["generation"]
    stock.remove()
    stock.storage = "v1alpha1"
    stock.api.good("POST", stock.crd_path.rpartition("/")[0], stock.crd())
    stock.settle()
    stock.fill(number, prefix="again")
    stock.store("v1")
    assert stock.api.good("GET", stock.crd_path)["metadata"]["generation"] == generation


def during_first_patch(stock: Stock, act: Callable[[], None]) -> Callable[[Seen, bytes], bytes]:
    """For FaultyServer.rewrite: does it when the first object was patched, before the run hears of it."""
    done: list[str] = []

    def rewrite(seen: Seen, body: bytes) -> bytes:
        if seen.method == "PATCH" and f"/{stock.plural}/" in seen.path and not done:
            done.append(seen.path)
            act()
        return body

    return rewrite


def test_a_crd_recreated_during_a_run(single_master: Cluster, module: Callable[..., Result]) -> None:
    """Number 3: uninstalled and installed again with as many edits, it has the same generation and hash."""
    stock = Stock(single_master, "phoenixes")
    stock.fill(10)
    stock.store("v1")
    with FaultyServer(single_master, "master-1") as server:
        server.rewrite = during_first_patch(stock, lambda: made_anew(stock, 8))
        done = module(
            single_master,
            NAME,
            **server.options,
            resources=[stock.name],
            workers=1,
        )
    is_true(stock, done.data)
    assert done["resources"][stock.name]["persisted"] is True and stock.stale() == []
    stock.remove()


def test_a_crd_recreated_between_runs(single_master: Cluster, tmp_path: Path) -> None:
    """Number 3: what an interrupted run did to the CRD of that name before counts for nothing."""
    stock = Stock(single_master, "revenants")
    stock.fill(60)
    stock.store("v1")
    store = {"kind": "file", "path": str(tmp_path / "state.json"), "name": "revenants"}
    process = start_process(single_master, resources=[stock.name], max_rate=5, page_size=5, state_store=store)
    during(process, lambda: len(stock.stale()) < 40)
    process.send_signal(signal.SIGTERM)
    assert "Interrupted" in finish(process)["msg"]
    record = json.loads((tmp_path / "state.json").read_text(encoding="utf-8"))
    assert record["resources"][stock.name]["progress"]["token"]
    made_anew(stock, 60)
    done = run_module(single_master, NAME, resources=[stock.name], state_store=store)
    is_true(stock, done.data)
    assert done["rewritten"] == 60 and done["resources"][stock.name]["persisted"] is True
    stock.remove()


def test_there_and_back_during_a_run(single_master: Cluster, module: Callable[..., Result]) -> None:
    """Number 2, 3: after two edits the hash is what it was, and what was written in between is stale."""
    stock = Stock(single_master, "pendulums")
    stock.fill(10)
    stock.store("v1")

    def swing() -> None:
        stock.store("v1alpha1")
        stock.fill(1, prefix="aaa")
        stock.store("v1")

    with FaultyServer(single_master, "master-1") as server:
        server.rewrite = during_first_patch(stock, swing)
        done = module(
            single_master,
            NAME,
            **server.options,
            resources=[stock.name],
            workers=1,
            trim_stored_versions=False,
        )
    is_true(stock, done.data)
    assert done["resources"][stock.name]["persisted"] is True and stock.stale() == []
    # As it is not trimmed, storedVersions says nothing; the record does, and about exactly this edit.
    again = module(single_master, NAME, resources=[stock.name], select="changed", trim_stored_versions=False)
    assert again["resources"] == {}
    swing_again = Stock.store
    swing_again(stock, "v1alpha1")
    stock.fill(1, prefix="bbb")
    swing_again(stock, "v1")
    again = module(single_master, NAME, resources=[stock.name], select="changed", trim_stored_versions=False)
    assert again["rewritten"] == 1 and stock.stale() == []
    stock.remove()


def test_changed_looks_at_storedversions(single_master: Cluster, module: Callable[..., Result]) -> None:
    """Number 6: there and back again unseen, storedVersions shows that objects may be older."""
    stock = Stock(single_master, "boomerangs")
    stock.fill(4)
    stock.store("v1")
    assert module(single_master, NAME, resources=[stock.name])["trimmed"][0]["after"] == ["v1"]
    assert "nothing to migrate" in module(single_master, NAME, resources=[stock.name], select="changed").message
    stock.store("v1alpha1")
    stock.fill(3, prefix="older")
    stock.store("v1")
    assert len(stock.stale()) == 3
    preview = module(single_master, NAME, resources=[stock.name], select="changed", check=True)
    assert preview["would_visit"] == 7

    kubeconfig = str(narrow_user(single_master, stock))
    blind = module(
        single_master, NAME, resources=[stock.name], select="changed", kubeconfig=kubeconfig, trim_stored_versions=False
    )
    assert (
        "nothing to migrate" not in blind.message and "status.storedVersions of the CRD can't be read" in blind.message
    )
    assert len(stock.stale()) == 3

    done = module(single_master, NAME, resources=[stock.name], select="changed")
    assert done["rewritten"] == 3 and done["trimmed"][0]["before"] == ["v1", "v1alpha1"]
    is_true(stock, done.data)
    stock.remove()


def narrow_user(cluster: Cluster, stock: Stock) -> Path:
    """Who may migrate this resource, but not read CRDs."""
    rules = [
        {"apiGroups": [GROUP], "resources": [stock.plural], "verbs": ["get", "list", "patch"]},
        {"apiGroups": ["apiregistration.k8s.io"], "resources": ["apiservices"], "verbs": ["list"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch", "create"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "update", "create"]},
    ]
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    name = f"narrow-{stock.plural}"
    subject = {"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
    apply(
        cluster,
        {**kind, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {
            **kind,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"kind": "ClusterRole", "name": name, "apiGroup": "rbac.authorization.k8s.io"},
            "subjects": [subject],
        },
    )
    path = cluster.user_kubeconfig(name)
    wait_until(lambda: "yes" in can_i(cluster, path, "create", "leases.coordination.k8s.io", "-n", "kube-system"))
    return path


def can_i(cluster: Cluster, kubeconfig: Path, *what: str) -> str:
    try:
        return cluster.kubectl("auth", "can-i", *what, kubeconfig=kubeconfig)
    except Exception:  # kubectl fails where the answer is no
        return "no"


def test_a_user_who_may_not_read_crds_learns_that_nothing_counts(
    single_master: Cluster, module: Callable[..., Result]
) -> None:
    """Number 2, 3: a missing permission proves nothing."""
    stock = Stock(single_master, "blinds")
    stock.fill(5)
    stock.store("v1")
    kubeconfig = str(narrow_user(single_master, stock))
    process = start_process(single_master, resources=[stock.name], kubeconfig=kubeconfig, trim_stored_versions=False)
    done = finish(process)
    assert done["rewritten"] == 5 and stock.stale() == [], done["msg"]
    assert done["resources"][stock.name]["persisted"] is False and done["trimmed"] == []
    assert "cannot list customresourcedefinitions" in done["resources"][stock.name]["unproven"]
    assert f"Not proven to be migrated: {stock.name}" in done["msg"]
    assert "does not count as persisted" in json.dumps(done["warnings"])
    again = module(single_master, NAME, resources=[stock.name], select="changed")
    assert again["trimmed"][0]["after"] == ["v1"] and again["resources"][stock.name]["persisted"] is True
    stock.remove()


def test_a_crd_that_is_gone_at_the_end(single_master: Cluster, module: Callable[..., Result]) -> None:
    """Number 3: nothing is claimed about it, and no other CRD of that name is touched."""
    stock = Stock(single_master, "ghosts")
    stock.fill(5)
    stock.store("v1")
    with FaultyServer(single_master, "master-1") as server:
        server.rewrite = during_first_patch(stock, stock.remove)
        done = module(
            single_master,
            NAME,
            **server.options,
            resources=[stock.name],
            workers=1,
        )
    assert done.data["trimmed"] == [] and done.data["resources"][stock.name]["persisted"] is False
    assert Api(single_master).send("GET", stock.crd_path)[0] == 404
