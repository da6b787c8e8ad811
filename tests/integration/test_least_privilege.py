# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifests of playbooks/files: they suffice, each rule is needed, and the Job's account can run the Job."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.control_plane.cluster import Cluster

from .support.controllers import CONTROLLERS, MIGRATOR_CRDS, Migrator, busy
from .support.etcd import read_etcd
from .support.modules import ROOT, Result, environment
from .support.objects import apply, config_maps, install_widgets, make_json
from .support.permissions import FILES, OPENSHIFT, RBAC, ROLES, USER, Limited, P, documents
from .support.printed import blocks
from .support.waiting import wait_until

JOB = FILES / "in_cluster" / "job.yml"
ACCOUNT = FILES / "rbac" / "kube-storage-upgrade-user.yml"
CRON_JOB = FILES / "in_cluster" / "cronjob.yml"


class Pod:
    """A pod's only container, with nothing but what a pod has: its account's token, the CA, and the variables of its manifest.

    As the manifest wants, it can write nothing but /tmp, which is ``tmp`` outside.
    """

    def __init__(self, cluster: Cluster, spec: dict[str, Any], folder: Path) -> None:
        self.cluster, self.folder, self.tmp = cluster, folder, folder / "tmp"
        self.account = spec["serviceAccountName"]
        (self.container,) = spec["containers"]
        self.token = cluster.kubectl("create", "token", self.account, "-n", "kube-storage-upgrade").strip()

    @property
    def variables(self) -> dict[str, str]:
        return {found["name"]: found["value"] for found in self.container.get("env", [])}

    def run(self, **variables: str) -> subprocess.CompletedProcess[str]:
        account = self.folder / "account"
        account.mkdir()
        (account / "token").write_text(self.token, encoding="utf-8")
        (account / "namespace").write_text("kube-storage-upgrade", encoding="utf-8")
        shutil.copy(self.cluster.certificate("ca").cert, account / "ca.crt")
        entry = urlsplit(self.cluster.balancer_url)
        given = {
            **self.variables,
            **variables,
            "KUBERNETES_SERVICE_HOST": str(entry.hostname),
            "KUBERNETES_SERVICE_PORT": str(entry.port),
        }
        # The kubelet replaces $(NAME) in a command.
        command = [re.sub(r"\$\((\w+)\)", lambda name: given[name[1]], part) for part in self.container["command"]]
        program = [str(Path(sys.executable).with_name(command[0])), *command[1:]]
        place = "/run/secrets/kubernetes.io/serviceaccount"
        self.tmp.mkdir()
        script = f"""
            mount -t tmpfs none /run && mkdir -p {place} && cp "$0"/* {place}/
            mount --bind "$1" /tmp && mount -o remount,bind,ro /
            shift && exec "$@"
        """
        return subprocess.run(
            ["unshare", "--mount", "sh", "-ec", script, str(account), str(self.tmp), *program],
            cwd=ROOT,
            env={**environment(), **given},
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )


class Pushgateway(http.server.ThreadingHTTPServer):
    """Keeps what is put, as Prometheus' Pushgateway does: by path, and answers 200."""

    def __init__(self) -> None:
        self.pushed: dict[str, str] = {}
        gateway = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                gateway.pushed[self.path] = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def __enter__(self) -> Pushgateway:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.shutdown()
        self.server_close()


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    cluster = Cluster.up(
        tmp_path_factory.mktemp("limited") / "cluster", masters=1, controllers=CONTROLLERS, owner_pid=os.getpid()
    )
    install_widgets(cluster, 5)
    cluster.kubectl("apply", "-f", str(MIGRATOR_CRDS))
    cluster.kubectl("apply", "-f", str(RBAC))
    make_json(cluster, "master-1", config_maps(20))
    yield Limited(cluster)
    cluster.down()


def stale(cluster: Cluster) -> int:
    return sum(1 for entry in read_etcd(cluster, "/registry/configmaps/default/").values() if entry.encoding == "json")


def test_each_module_does_its_work_with_its_own_rules(limited: Limited, module: Callable[..., Result]) -> None:
    cluster, auth = limited.cluster, {"kubeconfig": str(limited.kubeconfig)}
    limited.bind("view", "etcd")
    stored = module(cluster, "stored_versions_info", etcd=cluster.etcd, **auth)
    assert stored["totals"]["stale"] > 0 and stored["problems"] == [] and stored["cluster_verified"] is True
    limited.bind("view", "state", "in-tree")
    assert module(cluster, "storage_version_hashes", state="recorded", **auth)["changed"] is True
    with busy(cluster, "configmaps"):
        done = module(cluster, "storage_migrate", engine="auto", resources=["configmaps"], **auth)
    assert done["engine"] == "storage_version_migration" and "cannot list and patch" in done["engine_reason"]
    assert stale(cluster) == 0 and done["changed"] is True
    # They could not be counted, as the user may not list them: that is not 0.
    assert done["rewritten"] is None and done["totals"]["unchanged"] is None
    assert done["resources"]["configmaps"]["rewritten"] is None and done["resources"]["configmaps"]["rate"] is None
    # Nor could anybody see whether the controller's report is true.
    assert done["resources"]["configmaps"]["persisted"] is False and done["totals"]["failed"] == 0
    assert "could not be listed" in done["resources"]["configmaps"]["unproven"]

    limited.bind("view", "state", "migrator", "crds")
    with Migrator(cluster):
        done = module(cluster, "storage_migrate", engine="kube_storage_version_migrator", resources=["secrets"], **auth)
    assert done["rewritten"] is None and done["resources"]["secrets"]["persisted"] is False
    state = json.loads(cluster.kubectl("get", "storagestates.migration.k8s.io", "secrets", "-o", "json"))
    assert state["status"]["persistedStorageVersionHashes"] == ["Unknown"]

    limited.bind("view", "cross-check", "read")
    assert module(cluster, "readable_objects_info", resources=["secrets"], **auth)["readable"] is True

    limited.bind("view", "cross-check", "state", "direct", "crds", "metrics")
    assert module(cluster, "storage_version_hashes", **auth)["converged"] is True
    assert module(cluster, "encryption_config_info", **auth)["servers"][0]["error"] is None
    done = module(cluster, "storage_migrate", **auth)
    assert done["resources"]["widgets.shop.example.com"]["rewritten"] == 5
    assert [crd["crd"] for crd in done["trimmed"]] == ["widgets.shop.example.com"]
    assert done["totals"]["failed"] == 0


MIGRATE = ("storage_migrate", {"resources": ["secrets", "widgets.shop.example.com"]})
IN_TREE = ("storage_migrate", {"resources": ["secrets"], "engine": "storage_version_migration"})
MIGRATOR = ("storage_migrate", {"resources": ["secrets"], "engine": "kube_storage_version_migrator"})
# For each rule that is needed: what is run without it, and what the message names.
NEEDED = {
    ("ClusterRole", "view", 0): (("storage_version_hashes", {}), "list apiservices.apiregistration.k8s.io"),
    ("Role", "view", 0): (("storage_version_hashes", {}), "list endpointslices.discovery.k8s.io"),
    ("Role", "state", 0): (MIGRATE, "get configmaps"),
    ("Role", "state", 1): (MIGRATE, "create configmaps in namespace kube-system"),
    ("Role", "state", 2): (MIGRATE, "get leases.coordination.k8s.io kube-storage-upgrade in namespace kube-system"),
    ("Role", "state", 3): (MIGRATE, "create leases.coordination.k8s.io in namespace kube-system"),
    ("ClusterRole", "direct", 0): (MIGRATE, "list secrets, patch secrets"),
    ("ClusterRole", "crds", 0): (MIGRATE, "list customresourcedefinitions.apiextensions.k8s.io"),
    ("ClusterRole", "crds", 1): (MIGRATE, "patch customresourcedefinitions.apiextensions.k8s.io/status"),
    ("ClusterRole", "in-tree", 0): (IN_TREE, "create storageversionmigrations.storagemigration.k8s.io"),
    ("ClusterRole", "migrator", 0): (MIGRATOR, "create storageversionmigrations.migration.k8s.io"),
    ("ClusterRole", "migrator", 1): (MIGRATOR, "get storagestates.migration.k8s.io"),
    ("ClusterRole", "migrator", 2): (MIGRATOR, "patch storagestates.migration.k8s.io/status"),
    ("ClusterRole", "metrics", 0): (("encryption_config_info", {}), "get the path /metrics"),
}


def test_each_removed_rule_is_named(limited: Limited, module: Callable[..., Result]) -> None:
    cluster, auth = limited.cluster, {"kubeconfig": str(limited.kubeconfig)}
    every = {(kind, name.removeprefix(P), i) for (kind, name), role in ROLES.items() for i in range(len(role["rules"]))}
    # Without these the modules say what they could not see.
    optional = {
        ("Role", "cross-check", 0),
        *(
            ("ClusterRole", *rule)
            for rule in (("cross-check", 0), ("cross-check", 1), ("check", 0), ("check", 1), ("sampling", 0))
        ),
    }
    # readable_objects_info reports each object that the user may not get, which is not an error.
    optional.add(("ClusterRole", "read", 0))
    # Without it nothing says whose state a ConfigMap holds, but that is in the cluster itself.
    optional.add(("Role", "state", 4))
    # What its driver does with kubernetes.core has a test of its own.
    optional |= {
        ("ClusterRole", "kubeadm", 0),
        ("ClusterRole", "kubeadm", 1),
        ("ClusterRole", "kubeadm", 2),
        ("Role", "kubeadm", 0),
    }
    # Its lists are all that direct may be without, so that role has a test of its own.
    optional |= {("ClusterRole", "etcd", 0), ("ClusterRole", "etcd", 1)}
    assert set(NEEDED) == every - optional
    before = read_etcd(cluster, "/registry/secrets/")
    # direct allows everything that the other roles of the cluster do, so a missing rule would go unnoticed.
    narrow = {**ROLES["ClusterRole", P + "direct"], "rules": NARROW}
    limited.bind("view", "state", "direct", "crds", "in-tree", "migrator", "metrics")
    apply(cluster, narrow)
    wait_until(lambda: not limited.may("list", "pods"))
    wait_until(lambda: limited.may("patch", "widgets.shop.example.com"))
    for (kind, name, number), ((what, params), message) in NEEDED.items():
        role = narrow if name == "direct" else ROLES[kind, P + name]
        limited.take_away(role, number)
        refused = module(cluster, what, **params, **auth)
        told = refused.message if refused.failed else str(refused.data)
        assert refused.failed or name == "metrics", f"{name} {number} is not needed"
        assert f"user {USER} cannot" in told and message in told, f"{name} {number}: {told}"
        assert "grant it with a clusterrole" in told.lower()
        apply(cluster, role)
        limited.await_rules(role)
    assert read_etcd(cluster, "/registry/secrets/") == before
    assert module(cluster, MIGRATE[0], **MIGRATE[1], **auth)["totals"]["failed"] == 0


def test_what_reads_etcd_needs_both_rules(limited: Limited, module: Callable[..., Result]) -> None:
    """Numbers 4 and 15: without the first nothing shows whose etcd it is, without the second not whether it has all."""
    cluster, auth = limited.cluster, {"kubeconfig": str(limited.kubeconfig), "etcd": limited.cluster.etcd}
    role = ROLES["ClusterRole", P + "etcd"]
    limited.bind("view", "cross-check", "etcd")
    limited.take_away(role, 0)
    refused = module(cluster, "stored_versions_info", **auth)
    assert refused.failed and f"user {USER} cannot get namespaces" in refused.message, refused.message
    assert "grant it with a clusterrole" in refused.message.lower() and "this cluster's" in refused.message
    apply(cluster, role)
    limited.await_rules(role)
    limited.take_away(role, 1)
    found = module(cluster, "stored_versions_info", **auth)
    assert found["cluster_verified"] is True
    (problem,) = found["problems"]
    assert "the permission to list is missing" in problem and "configmaps" in problem
    assert found["resources"]["configmaps"]["unprovable_reasons"].keys() == {"not_counted"}
    apply(cluster, role)


# As the manifest says: to migrate only some resources, name just those.
NARROW = [
    {
        "apiGroups": ["", "shop.example.com"],
        "resources": ["secrets", "widgets"],
        "verbs": ["get", "list", "patch"],
    }
]


def test_the_manifests_are_what_the_api_server_accepts(limited: Limited) -> None:
    cluster = limited.cluster
    for namespace in ("openshift-config", "openshift-config-managed", "kube-storage-upgrade"):
        cluster.kubectl("create", "namespace", namespace)
    for path in (RBAC, OPENSHIFT, JOB, CRON_JOB, ACCOUNT):
        told = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(path))
        assert told.count("(server dry run)") == len(documents(path))
    cluster.kubectl("apply", "-f", str(OPENSHIFT))


def test_upgrade_check_by_the_manifests(limited: Limited, module: Callable[..., Result]) -> None:
    cluster, auth = limited.cluster, {"kubeconfig": str(limited.kubeconfig)}
    cluster.kubectl("apply", "-f", str(RBAC))
    limited.bind("view", "state", "check")
    assert isinstance(module(cluster, "upgrade_check", target_version="1.37", **auth)["safe"], bool)


def test_the_job_does_its_work_as_its_own_account(limited: Limited, tmp_path: Path) -> None:
    """Its command with nothing but what a pod has: the ServiceAccount's token, the CA, and two variables."""
    cluster = limited.cluster
    job = next(document for document in documents(JOB) if document["kind"] == "Job")
    cluster.kubectl("apply", "-f", str(RBAC))
    apply(cluster, *(document for document in documents(JOB) if document["kind"] != "Job"))
    cluster.kubectl("delete", "crd", "widgets.shop.example.com")
    install_widgets(cluster, 10)
    wait_until(
        lambda: limited.may("patch", "pods", who="system:serviceaccount:kube-storage-upgrade:kube-storage-upgrade")
    )
    pod = Pod(cluster, job["spec"]["template"]["spec"], tmp_path)
    done = pod.run()
    assert done.returncode == 0, done.stdout + done.stderr
    stored = read_etcd(cluster, "/registry/shop.example.com/widgets/").values()
    assert [json.loads(entry.value)["apiVersion"] for entry in stored] == ["shop.example.com/v1"] * 10
    assert "1 CRD was trimmed" in done.stdout and pod.token not in done.stdout + done.stderr


def test_the_cron_job_audits_as_its_own_account(limited: Limited, tmp_path: Path) -> None:
    cluster = limited.cluster
    job = next(document for document in documents(CRON_JOB) if document["kind"] == "CronJob")
    who = "system:serviceaccount:kube-storage-upgrade:kube-storage-audit"
    cluster.kubectl("apply", "-f", str(RBAC))
    apply(cluster, *documents(CRON_JOB))
    wait_until(lambda: limited.may("get", "configmaps/kube-storage-upgrade", "-n", "kube-system", who=who))
    wait_until(lambda: limited.may("list", "apiservices.apiregistration.k8s.io", who=who))
    assert not any(
        limited.may(verb, what, "-n", "kube-system", who=who)
        for verb in ("list", "update", "patch", "create", "delete")
        for what in ("secrets", "configmaps/kube-storage-upgrade")
    )
    before = {key: stored.mod_revision for key, stored in read_etcd(cluster, "/registry/configmaps/").items()}
    pod = Pod(cluster, job["spec"]["jobTemplate"]["spec"]["template"]["spec"], tmp_path)
    with Pushgateway() as gateway:
        path = urlsplit(pod.variables["PUSH_URL"]).path
        done = pod.run(CLUSTER_NAME="the shop", PUSH_URL=f"http://127.0.0.1:{gateway.server_port}{path}")
    assert done.returncode == 0, done.stdout + done.stderr
    pushed = gateway.pushed[path]
    uid = cluster.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
    (row,) = json.loads((pod.tmp / "fleet" / "fleet.json").read_text(encoding="utf-8"))["clusters"]
    assert (row["state"], row["agree"], row["uid"], row["name"]) == ("fine", True, uid, "the shop"), row
    assert 'kube_storage_cluster_reached{cluster="the shop"} 1' in pushed.splitlines()
    assert 'kube_storage_api_servers_agree{cluster="the shop"} 1' in pushed.splitlines()
    after = {key: stored.mod_revision for key, stored in read_etcd(cluster, "/registry/configmaps/").items()}
    assert after == before, "it only reads"
    assert pod.token not in done.stdout + done.stderr


GUIDE = ROOT / "docs" / "docsite" / "rst" / "permissions.rst"


def test_the_guide_makes_a_user_for_everything(limited: Limited, tmp_path: Path) -> None:
    """Its commands as printed; then what it says that this user may do, and something that the user may not."""
    cluster = limited.cluster
    settings = {**environment(), "KUBECONFIG": str(cluster.kubeconfig)}
    settings["PATH"] = f"{cluster.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    (tmp_path / "playbooks").symlink_to(ROOT / "playbooks")
    (script,) = (block.content for block in blocks(GUIDE) if "create token upgrader" in block.content)

    def run(*command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=tmp_path, env={**settings, **more}, capture_output=True, text=True, check=False, timeout=300
        )

    made = run("bash", "-ec", re.sub(r"^\$ ", "", script, flags=re.MULTILINE))
    assert made.returncode == 0, made.stdout + made.stderr
    own = tmp_path / "upgrader.kubeconfig"
    written = yaml.safe_load(own.read_text(encoding="utf-8"))
    assert own.stat().st_mode & 0o077 == 0
    assert [(user["name"], list(user["user"])) for user in written["users"]] == [("upgrader", ["token"])]
    account = "system:serviceaccount:kube-storage-upgrade:upgrader"
    wait_until(lambda: limited.may("patch", "pods", who=account) and limited.may("get", "/metrics", who=account))

    make_json(cluster, "master-1", config_maps(20))
    (tmp_path / "etcd.yml").write_text(json.dumps({"rolling_upgrade_etcd": cluster.etcd}), encoding="utf-8")
    as_user = {"K8S_AUTH_KUBECONFIG": str(own), "KUBECONFIG": ""}
    for playbook in ("audit", "check", "migrate"):
        command = ["ansible-playbook", f"kube_storage.upgrade.{playbook}", "-e", "rolling_upgrade_version=1.37"]
        done = run(*command, "-e", "@etcd.yml", **as_user)
        said = done.stdout + done.stderr
        assert done.returncode == 0 and "ermission" not in said, f"{playbook}: {said}"
    assert stale(cluster) == 0
    assert not limited.may("delete", "configmaps", who=account) and not limited.may("create", "pods", who=account)


def test_the_guide_s_user_who_only_looks(limited: Limited, module: Callable[..., Result]) -> None:
    cluster = limited.cluster
    cluster.kubectl("apply", "-f", str(RBAC))
    (manifest,) = (yaml.safe_load(block.content) for block in blocks(GUIDE) if "name: looker" in block.content)
    apply(cluster, *manifest["items"])
    auth = {"kubeconfig": str(cluster.user_kubeconfig("looker"))}
    wait_until(lambda: limited.may("get", "/metrics/slis", who="looker"))
    wait_until(lambda: limited.may("list", "leases.coordination.k8s.io", "-n", "kube-system", who="looker"))
    wait_until(lambda: limited.may("get", "configmaps/kube-storage-upgrade", "-n", "kube-system", who="looker"))
    found = module(cluster, "storage_version_hashes", **auth)
    assert found["converged"] is True and found["cross_checked"] is True
    refused = module(cluster, "storage_migrate", **auth)
    assert refused.failed and "user looker cannot" in refused.message


def pod_on_a_node() -> list[dict[str, Any]]:
    """A Node, and what a pod on it needs; no kubelet runs, so a pod is gone as soon as it is evicted only if nothing is to be waited for."""
    core = {"apiVersion": "v1"}
    place = {"namespace": "drained", "name": "default"}
    spec = {
        "nodeName": "drained",
        "containers": [{"name": "c", "image": "none"}],
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
    }
    return [
        {**core, "kind": "Namespace", "metadata": {"name": "drained"}},
        {**core, "kind": "ServiceAccount", "metadata": place},
        {**core, "kind": "Node", "metadata": {"name": "drained"}},
        {**core, "kind": "ConfigMap", "metadata": {"namespace": "kube-system", "name": "kubeadm-config"}},
        {**core, "kind": "Pod", "metadata": {**place, "name": "evicted"}, "spec": spec},
    ]


def test_the_driver_kubeadm_drains_with_its_own_rules_and_needs_each(limited: Limited) -> None:
    cluster = limited.cluster

    def drain() -> subprocess.CompletedProcess[str]:
        apply(cluster, *pod_on_a_node())
        command = ["ansible-playbook", str(ROOT / "tests/integration/playbooks/as_the_driver_kubeadm.yml")]
        command += ["-e", json.dumps({"least_kubeconfig": str(limited.kubeconfig)})]
        program = str(Path(sys.executable).with_name(command[0]))
        return subprocess.run(
            [program, *command[1:]], env=environment(), capture_output=True, text=True, check=False, timeout=200
        )

    def pods() -> list[str]:
        return cluster.kubectl("get", "pods", "-n", "drained", "-o", "name").split()

    cluster.kubectl("apply", "-f", str(RBAC))
    limited.bind("kubeadm")
    done = drain()
    assert done.returncode == 0, done.stdout + done.stderr
    assert pods() == []
    for role in (ROLES["ClusterRole", P + "kubeadm"], ROLES["Role", P + "kubeadm"]):
        for number in range(len(role["rules"])):
            limited.take_away(role, number)
            assert drain().returncode != 0, f"{role['kind']} {number} is not needed"
            apply(cluster, role)
            limited.await_rules(role)
    cluster.kubectl("delete", "node", "drained")
