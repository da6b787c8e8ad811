# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The driver openshift: real API servers, OpenShift's own CRDs, and stand-ins for its operators that keep to their rules."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane import build
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

# In github.com/openshift/api. The ClusterVersion of TechPreviewNoUpgrade has all that Default's has, and acceptRisks.
API = Path(build.__file__).parent / "go" / "openshift-api"
CRDS = (
    "config/v1/zz_generated.crd-manifests/0000_00_cluster-version-operator_01_clusterversions-TechPreviewNoUpgrade.crd.yaml",
    "config/v1/zz_generated.crd-manifests/0000_00_cluster-version-operator_01_clusteroperators.crd.yaml",
    "operator/v1/zz_generated.crd-manifests/0000_20_kube-apiserver_01_kubeapiservers-Default.crd.yaml",
)
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
        files = build.files_of(API, "github.com/openshift/api")
        crds = [part for path in CRDS for part in ("-f", str(files / path))]
        cluster.kubectl("apply", "--server-side", *crds)
        await_established(cluster, *crds)
        for master in cluster.masters:
            own = cluster.folder / f"kubeconfig-{master}"
            wait_until(
                lambda own=own: (
                    "kubeapiservers"
                    in cluster.kubectl("api-resources", "--api-group=operator.openshift.io", kubeconfig=own)
                )
            )
        config = "config.openshift.io/v1"
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
                {"apiVersion": config, "kind": "ClusterOperator", "metadata": {"name": name}, "spec": {}}
                for name in ("etcd", "kube-apiserver")
            ),
        )
        required = {"observedGeneration": 1, "versionHash": "none", "availableUpdates": None, "desired": release(OLD)}
        self.patch_status([{"op": "add", "path": "/status", "value": required}])
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
        self.specify(channel="stable-4.23", desiredUpdate=None)
        self.say(
            history=[entry(version)],
            conditions=[],
            availableUpdates=[release(NEW)],
            conditionalUpdates=[],
        )
        documents = [
            {
                "apiVersion": "operator.openshift.io/v1",
                "kind": "KubeAPIServer",
                "metadata": {"name": "cluster"},
                "spec": {"managementState": "Managed"},
            },
            config_map("openshift-config-managed", "admin-gates", gates or {}),
            config_map("openshift-config", "admin-acks", {}),
        ]
        # Deleted and created, because revisions only rise; a node begins without one.
        text = "\n---\n".join(json.dumps(document) for document in documents)
        self.cluster.kubectl("replace", "--force", "-f", "-", input=text)
        self.masters({name: 0 for name in self.cluster.masters}, latest=7)
        self.masters({name: 7 for name in self.cluster.masters}, latest=7)
        self.operators("etcd", "kube-apiserver")

    def say(self, **status: Any) -> None:
        """Replaces these parts of the ClusterVersion's status."""
        if "history" in status:
            status["desired"] = release(status["history"][0]["version"])
        self.patch_status([{"op": "add", "path": f"/status/{name}", "value": value} for name, value in status.items()])

    def patch_status(self, patch: list[dict[str, Any]]) -> None:
        """A JSON patch, because a merge patch leaves out null, and completionTime must be there: null while an update is Partial."""
        self._patch("clusterversion", "version", patch=patch, form="json", more=["--subresource=status"])

    def masters(self, revisions: Mapping[str, int], *, latest: int, rolling: str = "", **of_that: Any) -> None:
        """Where the masters are; 0: nothing is known of it. At most one is on its way to the latest revision, with what else is known about that one."""
        nodes: list[dict[str, Any]] = [
            {"nodeName": name, **({"currentRevision": revision} if revision else {})}
            for name, revision in revisions.items()
        ]
        for node in nodes:
            if node["nodeName"] == rolling:
                node.update(targetRevision=latest, **of_that)
        status = {"latestAvailableRevision": latest, "nodeStatuses": nodes}
        self._patch("kubeapiserver", "cluster", patch={"status": status}, more=["--subresource=status"])

    def revisions(self) -> dict[str, int]:
        """Each master's, as the kube-apiserver operator reports them."""
        found = json.loads(self.cluster.kubectl("get", "kubeapiserver", "cluster", "-o", "json"))
        return {node["nodeName"]: node["currentRevision"] for node in found["status"]["nodeStatuses"]}

    def operators(self, *names: str, degraded: str = "", **status: Any) -> None:
        condition = (
            said("Degraded", "True", "PodsMissing", degraded)
            if degraded
            else said("Degraded", "False", "AsExpected", "")
        )
        patch = {"status": {"conditions": [condition], **status}}
        self._patch("clusteroperator", *names, patch=patch, more=["--subresource=status"])

    def specify(self, **spec: Any) -> None:
        """A merge patch of the ClusterVersion's spec."""
        self._patch("clusterversion", "version", patch={"spec": spec})

    def _patch(self, kind: str, *names: str, patch: object, form: str = "merge", more: Sequence[str] = ()) -> None:
        """The load balancer may not have noticed yet that a master is down."""

        def done() -> bool:
            try:
                self.cluster.kubectl("patch", kind, *names, f"--type={form}", "-p", json.dumps(patch), *more)
            except ClusterError as error:
                if "invalid" in str(error):
                    raise  # The CRD forbids it.
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


def release(version: str) -> dict[str, str]:
    return {"version": version, "image": image(version)}


def entry(version: str, state: str = "Completed") -> dict[str, Any]:
    """Of the history."""
    ended = "2026-01-01T01:00:00Z" if state == "Completed" else None
    times = {"startedTime": "2026-01-01T00:00:00Z", "completionTime": ended}
    return {**release(version), "state": state, "verified": False, **times}


def config_map(namespace: str, name: str, data: dict[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def said(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now}


def risky(version: str) -> dict[str, Any]:
    """An update that is only conditional: not recommended, as a risk applies."""
    advice = said("Recommended", "False", "Flaky", "Some pods restart")
    risk = {
        "name": "Flaky",
        "message": "Some pods restart.",
        "url": "https://example.com/flaky",
        "matchingRules": [{"type": "Always"}],
    }
    return {"release": release(version), "risks": [risk], "conditions": [advice]}


class Operators:
    """Plays the cluster-version operator and the kube-apiserver operator: takes an update up and rolls the masters.

    ``real`` replaces the masters' processes, and there is a gate; else just their revisions are told. ``stuck_at``: the master that can't be updated.
    """

    def __init__(self, shift: OpenShift, *, real: bool = False, stuck_at: str = "") -> None:
        self._shift = shift
        self._real = real
        self._stuck_at = stuck_at
        self._ending = threading.Event()
        self._failed: list[BaseException] = []
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
        assert not self._failed, f"the operators failed: {self._failed[0]!r}"

    def _run(self) -> None:
        try:
            self._operate()
        except BaseException as error:
            self._failed.append(error)

    def _operate(self) -> None:
        while not self._ending.wait(0.3):
            try:
                found = self._shift.version()
                self._say_whether_upgradeable(found)
            except ClusterError:
                continue  # The test has taken something away for a moment.
            history = found["status"]["history"]
            desired = found["spec"].get("desiredUpdate") or {}
            wanted = desired.get("version")
            # cluster-version-operator, lib/validation: without its image, a version must be in availableUpdates.
            offered = [update["version"] for update in found["status"].get("availableUpdates") or ()]
            if wanted and not desired.get("image") and wanted not in offered:
                why = f"{wanted} is not offered"
                self._say(found, conditions=[said("Invalid", "True", "InvalidClusterVersion", why)])
                continue
            if wanted and (wanted != history[0]["version"] or history[0]["state"] == "Partial"):
                self._roll(found, wanted)
                return

    def _say(self, found: dict[str, Any], **status: Any) -> None:
        """What it makes of a ClusterVersion that it has seen."""
        self._shift.say(observedGeneration=found["metadata"]["generation"], **status)

    def _say_whether_upgradeable(self, found: dict[str, Any]) -> None:
        closed = self._real and GATE not in self._shift.acknowledged()
        gate = (
            said("Upgradeable", "False", "AdminAckRequired", GATE_TEXT)
            if closed
            else said("Upgradeable", "True", "AsExpected", "")
        )
        known = {(told["type"], told["status"]) for told in found["status"].get("conditions") or ()}
        if known != {(gate["type"], gate["status"])}:
            self._say(found, conditions=[gate])

    def _roll(self, found: dict[str, Any], wanted: str) -> None:
        shift, cluster = self._shift, self._shift.cluster
        before = [update for update in found["status"]["history"] if update["state"] == "Completed"]
        progressing = said("Progressing", "True", "ClusterOperatorUpdating", f"Working towards {wanted}: 3 of 9 done")
        self._say(found, history=[entry(wanted, "Partial"), *before], conditions=[progressing])
        # Each operator is degraded for a moment while it is updated, which is fine.
        shift.operators("etcd", degraded="1 of 3 members is down")
        revisions = shift.revisions()
        for name in [name for name, revision in revisions.items() if revision < 8]:
            failed = {
                "lastFailedRevision": 8,
                "lastFailedCount": 1,
                "lastFailedReason": "InstallerFailed",
                "lastFailedRevisionErrors": ["no space left"],
            }
            stuck = name == self._stuck_at
            shift.masters(revisions, latest=8, rolling=name, **(failed if stuck else {}))
            if stuck:
                return
            if self._real:
                cluster.upgrade(name, "1.37")
            revisions[name] = 8
        shift.masters(revisions, latest=8)
        shift.operators("etcd")
        shift.operators(
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
    assert updated.shift.version()["spec"]["desiredUpdate"] == release(NEW)
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
            {"availableUpdates": [release("4.23.9")]},
        ),
        ("An update to 4.23.8 has been in progress", {"history": [entry("4.23.8", "Partial"), entry(OLD)]}),
    ):
        shift.say(**{"conditions": [], **status})
        refused = shift.run()
        assert refused.failed and expected in refused.message, refused.message
        assert "desiredUpdate" not in shift.version()["spec"]


def test_a_conditional_update_to_a_release_of_an_earlier_visit(shift: OpenShift) -> None:
    """By its version alone it would never start. Neither acceptRisks nor the visit before a rollback is this update."""
    shift.say(history=[entry(OLD), entry(NEW), entry(OLD)], availableUpdates=None, conditionalUpdates=[risky(NEW)])
    accepted = {"acceptRisks": [{"name": "Flaky"}]}
    shift.specify(desiredUpdate=accepted)
    assert shift.version()["spec"]["desiredUpdate"] == accepted
    with Operators(shift):
        done = shift.run(allow_not_recommended=True)
    assert (done["started"], done["state"]) == (True, "Completed")
    assert shift.version()["spec"]["desiredUpdate"] == {**accepted, **release(NEW)}


def test_what_the_operator_calls_invalid_is_reported_at_once(shift: OpenShift) -> None:
    shift.specify(desiredUpdate={"version": "4.24.9"})
    why = said("Invalid", "True", "InvalidClusterVersion", "4.24.9 is not offered")
    shift.say(conditions=[why], observedGeneration=shift.version()["metadata"]["generation"])
    refused = shift.run(version="4.24.9", timeout=600, grace=600)
    assert refused.failed and "InvalidClusterVersion: 4.24.9 is not offered" in refused.message, refused.message
    assert refused.data["seconds"] < 60


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
    shift.operators("etcd", degraded="1 of 3 members is down")
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
