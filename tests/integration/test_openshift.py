# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The driver openshift: real API servers, equivalent CRDs for OpenShift's API, and stand-ins for its operators."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster, ClusterError
from tests.control_plane.processes import wait_for

from .support import warm_python
from .support.controllers import Migrator, install_migrator
from .support.etcd import read_etcd
from .support.modules import Result, run_module
from .support.objects import apply, await_established
from .support.permissions import OPENSHIFT, RBAC, Limited, P, binding, documents
from .support.plays import PLAYBOOKS, run_playbook
from .support.waiting import wait_until

CRDS = Path(__file__).parent / "support" / "openshift_crds.yml"
MODULE = "openshift_update"
OLD, NEW = "4.23.7", "4.24.1"
GATE, GATE_TEXT = (
    "ack-4.23-kube-1.37-api-removals-in-4.24",
    "Kubernetes 1.37 removes APIs. Make sure that nothing uses them.",
)
POLICIES = "/registry/mutatingadmissionpolicies/"


class OpenShift:
    """A cluster that looks like one, and what its operators say; ``least`` may do what the manifests allow."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.limited = Limited(cluster)
        self.kubectl = str(cluster.folder / "bin" / "kubectl")

    def install(self) -> None:
        cluster = self.cluster
        cluster.kubectl("apply", "-f", str(CRDS))
        await_established(cluster, "-f", str(CRDS))
        for master in cluster.masters:
            own = cluster.folder / f"kubeconfig-{master}"
            wait_until(
                lambda own=own: (
                    "kubeapiservers"
                    in cluster.kubectl("api-resources", "--api-group=operator.openshift.io", kubeconfig=own)
                )
            )
        config, operator = "config.openshift.io/v1", "operator.openshift.io/v1"
        apply(
            cluster,
            *(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                for name in ("openshift-config", "openshift-config-managed")
            ),
            {
                "apiVersion": config,
                "kind": "ClusterVersion",
                "metadata": {"name": "version"},
                "spec": {"clusterID": "test"},
            },
            *(
                {"apiVersion": config, "kind": "ClusterOperator", "metadata": {"name": name}}
                for name in ("etcd", "kube-apiserver")
            ),
            {"apiVersion": operator, "kind": "KubeAPIServer", "metadata": {"name": "cluster"}, "spec": {}},
        )
        install_migrator(cluster)  # OpenShift has it
        cluster.kubectl("apply", "-f", str(RBAC), "-f", str(OPENSHIFT))
        # Not check and direct, which allow so much that a missing rule would go unnoticed; etcd allows every list.
        names = {P + name for name in ("view", "cross-check", "etcd", "state", "crds", "migrator", "openshift")}
        roles = [role for role in documents(RBAC) + documents(OPENSHIFT) if role["metadata"]["name"] in names]
        apply(cluster, *(binding(role) for role in roles))
        for role in roles:
            self.limited.await_rules(role)

    def reset(self, version: str = OLD, gates: dict[str, str] | None = None) -> None:
        """Nothing is in progress, nothing wrong, and ``NEW`` is offered."""
        self.patch("clusterversion", "version", {"spec": {"channel": "stable-4.23", "desiredUpdate": None}})
        self.say(history=[entry(version)], conditions=[], availableUpdates=[{"version": NEW, "image": image(NEW)}])
        self.masters({name: 7 for name in self.cluster.masters}, latest=7)
        for name in ("etcd", "kube-apiserver"):
            self.operator(name)
        for namespace, name, data in (
            ("openshift-config-managed", "admin-gates", gates or {}),
            ("openshift-config", "admin-acks", {}),
        ):
            metadata = {"name": name, "namespace": namespace}
            self.cluster.kubectl("delete", "configmap", name, "-n", namespace, "--ignore-not-found")
            apply(self.cluster, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})

    def say(self, **status: Any) -> None:
        self.patch("clusterversion", "version", {"status": status}, "--subresource=status")

    def masters(self, revisions: dict[str, int], *, latest: int, **of_the_last: Any) -> None:
        nodes: list[dict[str, Any]] = [
            {"nodeName": name, "currentRevision": revision} for name, revision in revisions.items()
        ]
        nodes[-1].update(of_the_last)
        status = {"latestAvailableRevision": latest, "nodeStatuses": nodes}
        self.patch("kubeapiserver", "cluster", {"status": status}, "--subresource=status")

    def operator(self, name: str, degraded: str = "", **status: Any) -> None:
        condition = (
            said("Degraded", "True", "PodsMissing", degraded)
            if degraded
            else said("Degraded", "False", "AsExpected", "")
        )
        self.patch("clusteroperator", name, {"status": {"conditions": [condition], **status}}, "--subresource=status")

    def patch(self, kind: str, name: str, patch: dict[str, Any], *more: str) -> None:
        """The load balancer may not have noticed yet that a master is down."""

        def done() -> bool:
            try:
                self.cluster.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(patch), *more)
            except ClusterError as error:
                failures.append(str(error))
                return False
            return True

        failures: list[str] = []
        assert wait_for(done, 120, 0.5), failures

    def version(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cluster.kubectl("get", "clusterversion", "version", "-o", "json"))
        return found

    def acknowledged(self) -> dict[str, str]:
        found = json.loads(
            self.cluster.kubectl("get", "configmap", "admin-acks", "-n", "openshift-config", "-o", "json")
        )
        return found.get("data") or {}

    def run(self, **params: Any) -> Result:
        given = {
            "kubeconfig": str(self.limited.kubeconfig),
            "oc": self.kubectl,
            "version": NEW,
            "interval": 0.5,
            "timeout": 60,
            "grace": 30,
        }
        return run_module(self.cluster, MODULE, **{**given, **params})


def image(version: str) -> str:
    return f"registry.example.com/release@sha256:{version.replace('.', '').ljust(64, '0')}"


def entry(version: str, state: str = "Completed") -> dict[str, str]:
    return {"version": version, "image": image(version), "state": state, "startedTime": "2026-01-01T00:00:00Z"}


def said(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


class Operators:
    """Plays the cluster-version operator and the kube-apiserver operator: takes an update up and rolls the masters.

    ``real`` replaces the masters' processes, and there is a gate; else just their revisions are told. ``stuck_at``: the master that can't be updated.
    """

    def __init__(self, shift: OpenShift, *, real: bool = False, stuck_at: str = "") -> None:
        self._shift = shift
        self._real = real
        self._stuck_at = stuck_at
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._stack = ExitStack()
        self.migrator = Migrator(shift.cluster)

    def __enter__(self) -> Operators:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ending.set()
        self._thread.join()
        self._stack.close()

    def _run(self) -> None:
        while not self._ending.wait(0.3):
            try:
                found = self._shift.version()
                self._say_whether_upgradeable(found)
            except ClusterError:
                continue  # The test has taken something away for a moment.
            history = found["status"]["history"]
            wanted = (found["spec"].get("desiredUpdate") or {}).get("version")
            if wanted and (wanted != history[0]["version"] or history[0]["state"] == "Partial"):
                done = [update for update in history if update["state"] == "Completed"]
                self._roll(wanted, done)
                return

    def _say_whether_upgradeable(self, found: dict[str, Any]) -> None:
        closed = self._real and GATE not in self._shift.acknowledged()
        gate = (
            said("Upgradeable", "False", "AdminAckRequired", GATE_TEXT)
            if closed
            else said("Upgradeable", "True", "AsExpected", "")
        )
        if found["status"].get("conditions") != [gate]:
            self._shift.say(conditions=[gate])

    def _roll(self, wanted: str, before: list[dict[str, str]]) -> None:
        shift, cluster = self._shift, self._shift.cluster
        progressing = said("Progressing", "True", "ClusterOperatorUpdating", f"Working towards {wanted}: 3 of 9 done")
        shift.say(history=[entry(wanted, "Partial"), *before], conditions=[progressing])
        # Each operator is degraded for a moment while it is updated, which is fine.
        shift.operator("etcd", "1 of 3 members is down")
        revisions = {name: 7 for name in cluster.masters}
        for name in cluster.masters:
            if name == self._stuck_at:
                failed = {
                    "lastFailedRevision": 8,
                    "lastFailedReason": "InstallerFailed",
                    "lastFailedRevisionErrors": ["no space left"],
                }
                shift.masters(revisions, latest=8, targetRevision=8, **failed)
                return
            shift.masters(revisions, latest=8)
            if self._real:
                cluster.upgrade(name, "1.37")
            revisions[name] = 8
        shift.operator("etcd")
        shift.masters(revisions, latest=8)
        shift.operator(
            "kube-apiserver",
            versions=[{"name": "operator", "version": wanted}, {"name": "kube-apiserver", "version": "1.37.2"}],
        )
        shift.say(history=[entry(wanted), *before], conditions=[])
        if self._real:
            self._stack.enter_context(self.migrator)


@dataclass
class Updated:
    """What the role did, from start to proof, and what it did when run again."""

    shift: OpenShift
    folder: Path
    first: subprocess.CompletedProcess[str]
    second: subprocess.CompletedProcess[str]
    stored_before: bytes
    migrated: list[str]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenShift, Result]]:
    """The cluster, and what the module says while it isn't OpenShift."""
    cluster = Cluster.up(tmp_path_factory.mktemp("openshift") / "cluster", version="1.36", owner_pid=os.getpid())
    try:
        shift = OpenShift(cluster)
        refused = shift.run()
        shift.install()
        yield shift, refused
    finally:
        cluster.down()


@pytest.fixture
def shift(bare: tuple[OpenShift, Result]) -> OpenShift:
    bare[0].reset()
    return bare[0]


def play(shift: OpenShift, folder: Path) -> subprocess.CompletedProcess[str]:
    given = {
        "rolling_upgrade_driver": "openshift",
        "rolling_upgrade_version": "1.37",
        "rolling_upgrade_openshift_version": NEW,
        "rolling_upgrade_openshift_channel": "stable-4.24",
        "rolling_upgrade_openshift_acknowledge": [GATE],
        "rolling_upgrade_openshift_oc": shift.kubectl,
        "rolling_upgrade_openshift_interval": 1,
        "rolling_upgrade_openshift_timeout": 200,
        "rolling_upgrade_openshift_grace": 120,
        "rolling_upgrade_kubeconfig": str(shift.limited.kubeconfig),
        "rolling_upgrade_etcd": shift.cluster.etcd,
        "rolling_upgrade_select": "changed",
        "rolling_upgrade_stable_for": 1,
        "rolling_upgrade_wait_timeout": 60,
        "rolling_upgrade_report_path": str(folder / "report.html"),
        "ansible_python_interpreter": warm_python.interpreter(),
    }
    return run_playbook(PLAYBOOKS / "roll_on_localhost.yml", folder, timeout=400, variables=given)


def mutating_policy() -> dict[str, Any]:
    match = {
        "resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["bindings"]}
        ]
    }
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": "unbound"},
        "spec": {"reinvocationPolicy": "Never", "matchConstraints": match, "mutations": [mutation]},
    }


@pytest.fixture(scope="module")
def updated(bare: tuple[OpenShift, Result], tmp_path_factory: pytest.TempPathFactory) -> Updated:
    shift, folder = bare[0], tmp_path_factory.mktemp("play")
    apply(shift.cluster, mutating_policy())
    shift.reset(gates={GATE: GATE_TEXT})
    (before,) = read_etcd(shift.cluster, POLICIES).values()
    with Operators(shift, real=True) as operators:
        first = play(shift, folder)
    migrated = [migration["spec"]["resource"]["resource"] for migration in operators.migrator.seen]
    return Updated(shift, folder, first, play(shift, folder), before.value, migrated)


def test_the_role_from_start_to_proof(updated: Updated) -> None:
    output = updated.first.stdout + updated.first.stderr
    assert updated.first.returncode == 0, output
    assert updated.shift.version()["spec"]["desiredUpdate"] == {"version": NEW, "image": image(NEW)}
    assert updated.shift.version()["spec"]["channel"] == "stable-4.24"
    assert updated.shift.acknowledged() == {GATE: "true"}
    assert f"OpenShift was updated from {OLD} to {NEW}" in output
    assert f"Acknowledged {GATE}" in output and "masters are mixed" in output, output
    assert "Proven from etcd" in output
    report = json.loads((updated.folder / "report.json").read_text(encoding="utf-8"))
    assert report["status"] == "succeeded" and report["proof"]["etcd"] is True
    releases = [{server["version"] for server in seen["servers"]} for seen in report["observations"]]
    assert any({"1.36"} < seen for seen in releases), "the mixed masters are not in the report"
    assert "mutatingadmissionpolicies" in updated.migrated, "OpenShift's own migrator was not used"
    assert b"admissionregistration.k8s.io/v1beta1\x12" in updated.stored_before
    (stored,) = read_etcd(updated.shift.cluster, POLICIES).values()
    assert b"admissionregistration.k8s.io/v1\x12" in stored.value


def test_a_second_run_changes_nothing(updated: Updated) -> None:
    output = updated.second.stdout + updated.second.stderr
    assert updated.second.returncode == 0, output
    assert " changed=0 " in updated.second.stdout and "Acknowledged" not in output, output


def test_what_is_not_openshift_is_reported(bare: tuple[OpenShift, Result]) -> None:
    assert bare[1].failed and "This is not an OpenShift cluster" in bare[1].message


def test_a_gate_that_is_not_listed_is_named_and_left_alone(shift: OpenShift) -> None:
    shift.reset(gates={GATE: GATE_TEXT})
    refused = shift.run()
    assert refused.failed and GATE in refused.message and GATE_TEXT.rstrip(".") in refused.message
    assert shift.acknowledged() == {} and "desiredUpdate" not in shift.version()["spec"]


def test_it_refuses_before_anything_is_changed(shift: OpenShift) -> None:
    for expected, status in (
        (
            "not upgradeable (Pinned: Drivers are pinned)",
            {"conditions": [said("Upgradeable", "False", "Pinned", "Drivers are pinned")]},
        ),
        (
            "does not offer 4.24.1: channel stable-4.23 offers 4.23.9",
            {"availableUpdates": [{"version": "4.23.9", "image": image("4.23.9")}]},
        ),
        ("An update to 4.23.8 has been in progress", {"history": [entry("4.23.8", "Partial"), entry(OLD)]}),
    ):
        shift.reset()
        shift.say(**status)
        refused = shift.run()
        assert refused.failed and expected in refused.message, refused.message
        assert "desiredUpdate" not in shift.version()["spec"]


def test_a_stuck_update_is_reported_with_the_master_and_a_second_run_resumes(shift: OpenShift) -> None:
    with Operators(shift, stuck_at="master-3"):
        stuck = shift.run(timeout=8, acknowledge=[GATE])
    assert stuck.failed and "did not finish within 8 s" in stuck.message
    assert "master-3 is at revision 7, not 8" in stuck.message
    assert "InstallerFailed: no space left" in stuck.message and "its history says Partial" in stuck.message
    assert stuck.data["started"] is True and stuck.data["state"] == "Partial" and stuck.data["error"] == "update"
    with Operators(shift):
        on = shift.run()
    assert (on["changed"], on["started"], on["state"]) == (False, False, "Completed")
    assert [master["revision"] for master in on["masters"]] == [8, 8, 8]


def test_an_operator_that_stays_degraded_ends_it(shift: OpenShift) -> None:
    shift.say(history=[entry(NEW, "Partial"), entry(OLD)])
    shift.operator("etcd", "1 of 3 members is down")
    degraded = shift.run(grace=1)
    assert degraded.failed and "Operator etcd is degraded (PodsMissing: 1 of 3 members is down)" in degraded.message
    assert "oc describe clusteroperator etcd" in degraded.message and "run again" in degraded.message
    shift.say(history=[entry(NEW), entry(OLD)])
    at_the_end = shift.run(grace=1)
    assert at_the_end.failed and "Operator etcd is degraded" in at_the_end.message
    accepted = shift.run(grace=1, allow_upgrade_with_warnings=True)
    assert (accepted["changed"], accepted["state"]) == (False, "Completed")


def test_each_removed_rule_is_named(shift: OpenShift) -> None:
    cluster, limited = shift.cluster, shift.limited
    shift.reset(gates={GATE: GATE_TEXT})
    everywhere, gates, acknowledgements = documents(OPENSHIFT)
    with limited.without("etcd"):  # It may list everything.
        for role, number, expected in (
            (everywhere, 0, "get clusterversions.config.openshift.io version"),
            (everywhere, 1, "list clusteroperators.config.openshift.io"),
            (everywhere, 2, "get kubeapiservers.operator.openshift.io cluster"),
            (gates, 0, "get configmaps admin-gates in namespace openshift-config-managed"),
            (acknowledgements, 0, "get configmaps admin-acks in namespace openshift-config"),
        ):
            limited.take_away(role, number)
            assert_lacking(shift, expected)
            apply(cluster, role)
            limited.await_rules(role)
        apply(cluster, {**acknowledgements, "rules": [{**acknowledgements["rules"][0], "verbs": ["get"]}]})
        wait_until(lambda: not limited.may("patch", "configmaps/admin-acks", "-n", "openshift-config"))
        assert_lacking(shift, "patch configmaps admin-acks in namespace openshift-config")
        apply(cluster, acknowledgements)
        limited.await_rules(acknowledgements)


def assert_lacking(shift: OpenShift, expected: str) -> None:
    refused = shift.run(acknowledge=[GATE])
    assert refused.failed and f"cannot {expected}" in refused.message, refused.message
    assert shift.acknowledged() == {} and "desiredUpdate" not in shift.version()["spec"]
