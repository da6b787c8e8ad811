# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs that miss what happens meanwhile: suspended, killed, disconnected. Their claims are compared with etcd."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support.etcd import put
from .support.modules import Result, run_module
from .support.objects import POLICIES, apply, old_policies, policy, service_accounts, stale_accounts
from .support.runs import during, finish, start_process
from .support.servers import Fault, FaultyServer, Seen
from .support.waiting import wait_until

NAME = "storage_migrate"
# The policies are visited within the first second, the accounts take a while.
SLOW = {"resources": [POLICIES, "serviceaccounts"], "max_rate": 12, "page_size": 20}
LEASE = "kube-storage-upgrade"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One master at 1.37."""
    cluster = Cluster.up(tmp_path_factory.mktemp("filled") / "cluster", masters=1, owner_pid=os.getpid())
    yield cluster
    cluster.down()


def fill(cluster: Cluster, accounts: int) -> None:
    """ServiceAccounts as JSON, which the master does not write, and two policies stored in the current version; nothing on record."""
    for account in service_accounts(accounts)["items"]:
        metadata = {**account["metadata"], "uid": str(uuid.uuid4()), "creationTimestamp": "2026-01-01T00:00:00Z"}
        key = f"/registry/serviceaccounts/default/{metadata['name']}"
        put(cluster, key, json.dumps({**account, "metadata": metadata}).encode())
    apply(cluster, policy("first"), policy("second"))
    for kind in ("configmap", "lease"):
        cluster.kubectl("delete", kind, LEASE, "-n", "kube-system", "--ignore-not-found")
    wait_until(lambda: stale_accounts(cluster) >= accounts)


def roll_back_write_and_come_again(cluster: Cluster) -> None:
    """The master goes back to 1.36, through which a policy is written, and comes back."""
    cluster.upgrade("master-1", "1.36")
    cluster.kubectl("annotate", "mutatingadmissionpolicy", "second", f"touched=x{time.time_ns()}", "--overwrite")
    cluster.upgrade("master-1", "1.37")
    assert old_policies(cluster) == ["second"]


def started(process: subprocess.Popen[str], cluster: Cluster, left: int) -> None:
    """Waits until a run has got that far; then the policies were visited, and progress was saved."""
    during(process, lambda: stale_accounts(cluster) <= left)
    during(process, lambda: LEASE in cluster.kubectl("get", "configmaps", "-n", "kube-system", "-o", "name"))


def on_record(cluster: Cluster) -> dict[str, Any]:
    """The state as the collection saved it."""
    found = json.loads(cluster.kubectl("get", "configmap", LEASE, "-n", "kube-system", "-o", "json"))
    state: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(found["binaryData"]["state.json.gz"])))
    return state


def told(cluster: Cluster, **params: Any) -> dict[str, Any]:
    """What a run returns, with its warnings, which Ansible leaves out of a result in one line."""
    done = finish(start_process(cluster, **params))
    assert not done.get("failed"), done["msg"]
    return {**done, "warnings": [json.dumps(warning) for warning in done.get("warnings", ())]}


def test_a_rollback_while_the_run_is_suspended(filled: Cluster) -> None:
    """Issue 11, number 5: nothing older remains of what counts as persisted."""
    fill(filled, 200)
    process = start_process(filled, **SLOW)
    started(process, filled, 180)
    process.send_signal(signal.SIGSTOP)
    try:
        roll_back_write_and_come_again(filled)
    finally:
        process.send_signal(signal.SIGCONT)
    done = finish(process)
    assert not done.get("failed"), done["msg"]
    counts = done["resources"][POLICIES]
    assert counts["persisted"] is True and counts["rewritten"] == 1
    assert "restarted during the run" in counts["reason"] or "suspended or disconnected" in counts["reason"], counts
    assert old_policies(filled) == [] and stale_accounts(filled) == 0


def test_a_rollback_between_a_killed_run_and_the_next(filled: Cluster, module: Callable[..., Result]) -> None:
    """Issue 11, number 5: what the killed run had done is visited again, and that is said."""
    fill(filled, 400)
    process = start_process(filled, **SLOW)
    started(process, filled, 300)
    during(process, lambda: POLICIES in on_record(filled)["lastRun"]["done"])
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    filled.kubectl("delete", "lease", LEASE, "-n", "kube-system")
    roll_back_write_and_come_again(filled)
    # Also by a selection that would trust what is on record.
    preview = module(filled, NAME, check=True, select="changed", resources=[POLICIES])
    assert POLICIES in preview["resources"]
    done = told(filled, resources=SLOW["resources"])
    counts = done["resources"][POLICIES]
    assert done["resumed"] is False and counts["persisted"] is True and counts["rewritten"] == 1
    assert "was restarted since the run that did this" in counts["reason"]
    assert "What the previous run had done is visited again: API server" in done["warnings"][0]
    assert old_policies(filled) == [] and stale_accounts(filled) == 0
    # After a finished run, select: changed goes by the record, but says what it can't know.
    assert told(filled, select="changed", resources=[POLICIES])["warnings"] == []
    filled.upgrade("master-1", "1.37")
    later = told(filled, select="changed", resources=[POLICIES])
    assert later["resources"] == {} and "select: all does" in later["warnings"][0]


def test_a_master_that_restarts_during_a_run(filled: Cluster) -> None:
    """Issue 11, number 5: watched or not, who knows what ran in between; what was done is visited again."""
    fill(filled, 150)
    process = start_process(filled, **{**SLOW, "max_rate": 20})
    started(process, filled, 130)
    filled.upgrade("master-1", "1.37")
    done = finish(process)
    assert not done.get("failed"), done["msg"]
    counts = done["resources"]
    assert counts[POLICIES]["persisted"] is True and "was restarted during the run" in counts[POLICIES]["reason"]
    accounts = counts["serviceaccounts"]
    # Of a patch whose answer was lost, the second visit finds no more than that the object is current.
    assert accounts["rewritten"] + accounts["conflicts"] + accounts["unchanged"] >= 150 and accounts["rewritten"] > 100
    assert stale_accounts(filled) == 0


def test_what_is_written_to_a_resource_of_which_etcd_held_nothing(filled: Cluster) -> None:
    """Issue 11: select: stale found no policy in its first scan, so none was to be migrated; then an old server wrote one."""
    fill(filled, 60)
    filled.kubectl("delete", "mutatingadmissionpolicies", "--all")
    process = start_process(filled, **SLOW, select="stale", etcd=filled.etcd)
    during(process, lambda: stale_accounts(filled) <= 50)
    metadata = {"name": "late", "uid": str(uuid.uuid4()), "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1}
    late = {**policy("late"), "apiVersion": "admissionregistration.k8s.io/v1beta1", "metadata": metadata}
    put(filled, "/registry/mutatingadmissionpolicies/late", json.dumps(late).encode())
    assert old_policies(filled) == ["late"]
    done = finish(process)
    assert not done.get("failed"), done["msg"]
    counts = done["resources"][POLICIES]
    assert counts["rewritten"] == 1 and counts["persisted"] is True
    assert done["proof"]["stale"] == 0 and old_policies(filled) == [] and stale_accounts(filled) == 0


def test_a_user_who_may_not_identify_processes_starts_over(filled: Cluster) -> None:
    """Issue 11, number 5: without the permission to know, a run that resumes another trusts none of its work."""
    fill(filled, 120)
    user = filled.user_kubeconfig("blind")
    rules = [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "patch", "create"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
    ]
    # Everything but to list Leases, and no path.
    groups = ["", "discovery.k8s.io", "admissionregistration.k8s.io", "apiregistration.k8s.io", "apiextensions.k8s.io"]
    rules[0]["apiGroups"] = groups
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "blind"},
        "rules": rules,
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "blind"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "blind"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "blind"}],
    }
    apply(filled, role, binding)
    wait_until(lambda: "yes" in allowed(filled, "blind"))
    process = start_process(filled, kubeconfig=str(user), **SLOW)
    started(process, filled, 60)
    process.send_signal(signal.SIGTERM)
    assert "Interrupted by SIGTERM" in finish(process)["msg"]
    left = stale_accounts(filled)
    done = told(filled, kubeconfig=str(user), resources=SLOW["resources"])
    assert done["resumed"] is False and done["resources"]["serviceaccounts"]["rewritten"] == left
    assert done["resources"]["serviceaccounts"]["unchanged"] >= 120 - left
    assert "whether API servers were restarted" in done["resources"]["serviceaccounts"]["reason"]
    assert any("get /metrics/slis" in warning for warning in done["warnings"]) and stale_accounts(filled) == 0


def allowed(cluster: Cluster, user: str) -> str:
    try:
        return cluster.kubectl("auth", "can-i", "patch", "serviceaccounts", "--as", user)
    except Exception:
        return ""


def writes(server: FaultyServer, since: float) -> list[Seen]:
    """What would change objects; the Lease is asked for and renewed by PUT."""
    return [seen for seen in server.seen if seen.at >= since and seen.method not in ("GET", "PUT")]


def test_a_run_suspended_for_longer_than_its_lease(filled: Cluster, module: Callable[..., Result]) -> None:
    """Issue 11, number 20: after it woke up it sends not one patch, and the rightful run's state stands."""
    fill(filled, 150)
    with FaultyServer(filled, "master-1") as server:
        options = {**SLOW, **server.options}
        process = start_process(filled, **options)
        started(process, filled, 130)
        process.send_signal(signal.SIGSTOP)
        try:
            rightful: list[Result] = []

            def took_over() -> bool:
                rightful.append(run_module(filled, NAME, resources=SLOW["resources"]))
                return not rightful[-1].failed

            wait_until(took_over)
            state, woken = on_record(filled), time.monotonic()
        finally:
            process.send_signal(signal.SIGCONT)
        stopped = finish(process)
        assert writes(server, woken) == []
    assert stopped["failed"] is True and stopped["error"] == "already_running"
    assert "another run took over the Lease kube-system/kube-storage-upgrade" in stopped["msg"]
    assert "Nothing has been written or saved since" in stopped["msg"]
    assert on_record(filled) == state and state["lastRun"]["finished"] is True
    assert rightful[-1]["resources"]["serviceaccounts"]["persisted"] is True and stale_accounts(filled) == 0
    assert module(filled, NAME, select="changed", resources=SLOW["resources"])["resources"] == {}


def test_a_run_that_cannot_renew_its_lease(filled: Cluster) -> None:
    """Issue 11, number 20: before anybody else may begin it writes no more, until it has its Lease again."""
    fill(filled, 450)
    cut: list[float] = []

    def fault(seen: Seen, times: int) -> Fault | None:
        away = cut and cut[0] <= seen.at < cut[0] + 27 and seen.path.endswith(f"/leases/{LEASE}")
        return Fault(reset=True) if away else None

    with FaultyServer(filled, "master-1") as server:
        server.fault = fault
        process = start_process(filled, **{**SLOW, **server.options})
        started(process, filled, 430)
        cut.append(time.monotonic())
        done = finish(process)
        patches = [seen.at - cut[0] for seen in server.seen if seen.method == "PATCH"]
        renewals = [seen.at - cut[0] for seen in server.seen if seen.method == "PUT" and seen.path.endswith(LEASE)]
    assert any(0 < at < 15 for at in patches), "it stopped too early"
    assert [at for at in patches if 21 < at < 27] == [], "it wrote without a Lease"
    assert min(at for at in renewals if at >= 27) <= min(at for at in patches if at >= 21)
    assert not done.get("failed"), done["msg"]
    assert stale_accounts(filled) == 0 and done["resources"]["serviceaccounts"]["persisted"] is True


def test_a_baseline_recorded_during_a_run(filled: Cluster, module: Callable[..., Result]) -> None:
    """Issue 11, number 20: the run reads what others wrote into its record, and keeps it."""
    fill(filled, 120)
    process = start_process(filled, **SLOW)
    started(process, filled, 110)
    assert module(filled, "storage_version_hashes", state="recorded")["changed"] is True
    recorded = on_record(filled)["recordedAt"]
    filled.kubectl("label", "lease", LEASE, "-n", "kube-system", "by=hand")
    filled.kubectl("label", "configmap", LEASE, "-n", "kube-system", "by=hand")
    done = finish(process)
    assert not done.get("failed"), done["msg"]
    state = on_record(filled)
    assert state["recordedAt"] == recorded and state["lastRun"]["finished"] is True
    assert len(state["resources"]["serviceaccounts"]["persisted"]) == 1 and "secrets" in state["resources"]
    assert "progress" not in state["resources"]["serviceaccounts"] and stale_accounts(filled) == 0
    lease = json.loads(filled.kubectl("get", "lease", LEASE, "-n", "kube-system", "-o", "json"))
    assert lease["spec"]["holderIdentity"] == "", "it was not released"
