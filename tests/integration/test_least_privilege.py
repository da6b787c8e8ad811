# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifests of playbooks/files: they suffice, each rule is needed, and the Job's account can do the Job."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.control_plane.cluster import Cluster

from .conftest import ROOT, Result, apply, config_maps, environment, install_widgets, make_json, read_etcd, wait_until
from .test_engine_migrator import Migrator
from .test_engines import CONTROLLERS, busy

FILES = ROOT / "playbooks" / "files"
RBAC = FILES / "rbac" / "kube-storage-upgrade.yml"
OPENSHIFT = FILES / "rbac" / "kube-storage-upgrade-openshift.yml"
JOB = FILES / "in_cluster" / "job.yml"
USER = "least"
P = "kube-storage-upgrade-"


def documents(path: Path) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["items"]
    return items


ROLES = {(one["kind"], one["metadata"]["name"]): one for one in documents(RBAC)}


def binding(role: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": f"{USER}-{role['metadata']['name']}"}
    if "namespace" in role["metadata"]:
        metadata["namespace"] = role["metadata"]["namespace"]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": f"{role['kind']}Binding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": role["metadata"]["name"]},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}],
    }


class Limited:
    """A cluster and a user who may do nothing but what is bound."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.kubeconfig = cluster.user_kubeconfig(USER)
        self.bound: set[str] = set()

    def bind(self, *names: str) -> None:
        """Binds these roles and no others, and awaits that the API server knows."""
        for role in ROLES.values():
            one = binding(role)
            if role["metadata"]["name"] in {P + name for name in names}:
                apply(self.cluster, role, one)
                self.await_rules(role)
                self.bound.add(role["metadata"]["name"])
            elif role["metadata"]["name"] in self.bound:
                where = ["-n", one["metadata"]["namespace"]] if "namespace" in one["metadata"] else []
                self.cluster.kubectl("delete", one["kind"], one["metadata"]["name"], "--ignore-not-found", *where)
        wait_until(lambda: self.may("list", "pods") is bool({"direct", "check"} & set(names)))

    def take_away(self, role: dict[str, Any], number: int) -> None:
        rules = [rule for i, rule in enumerate(role["rules"]) if i != number]
        apply(self.cluster, {**role, "rules": rules})
        rule = role["rules"][number]
        wait_until(lambda: not self.may_rule(rule, role["metadata"].get("namespace")))

    def await_rules(self, role: dict[str, Any]) -> None:
        for rule in role["rules"]:
            wait_until(lambda rule=rule: self.may_rule(rule, role["metadata"].get("namespace")))

    def may_rule(self, rule: dict[str, Any], namespace: str | None) -> bool:
        if "nonResourceURLs" in rule:
            return self.may(rule["verbs"][-1], rule["nonResourceURLs"][0])
        group = f".{rule['apiGroups'][0]}" if rule["apiGroups"][0] not in ("", "*") else ""
        resource, _slash, subresource = rule["resources"][0].partition("/")
        resource = "pods" if resource == "*" else resource
        where = ["-n", namespace] if namespace else []
        what = "/".join([resource + group, *rule.get("resourceNames", [])[:1]])
        return self.may(rule["verbs"][-1], what, *(["--subresource", subresource] if subresource else []), *where)

    def may(self, verb: str, *what: str, who: str = USER) -> bool:
        command = [str(self.cluster.folder / "bin" / "kubectl"), "--kubeconfig", str(self.cluster.kubeconfig)]
        command += ["auth", "can-i", verb, *what, "--as", who]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "yes"


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    cluster = Cluster.up(
        tmp_path_factory.mktemp("limited") / "cluster", masters=1, controllers=CONTROLLERS, owner_pid=os.getpid()
    )
    install_widgets(cluster, 5)
    cluster.kubectl("apply", "-f", str(Path(__file__).with_name("migrator_crds.yml")))
    cluster.kubectl("apply", "-f", str(RBAC))
    make_json(cluster, "master-1", config_maps(20))
    yield Limited(cluster)
    cluster.down()


def stale(cluster: Cluster) -> int:
    return sum(1 for one in read_etcd(cluster, "/registry/configmaps/default/").values() if one.encoding == "json")


def test_each_module_does_its_work_with_its_own_rules(limited: Limited, module: Callable[..., Result]) -> None:
    cluster, auth = limited.cluster, {"kubeconfig": str(limited.kubeconfig)}
    limited.bind("view", "state", "in-tree")
    assert module(cluster, "storage_version_hashes", state="recorded", **auth)["changed"] is True
    assert module(cluster, "stored_versions_info", etcd=cluster.etcd, **auth)["totals"]["stale"] > 0
    with busy(cluster, "configmaps"):
        done = module(cluster, "storage_migrate", engine="auto", resources=["configmaps"], **auth)
    assert done["engine"] == "storage_version_migration" and "may not list and patch" in done["engine_reason"]
    assert stale(cluster) == 0 and done["changed"] is True
    # Nobody could count, as the user may not list them: that is not 0.
    assert done["rewritten"] is None and done["totals"]["unchanged"] is None
    assert done["resources"]["configmaps"]["rewritten"] is None and done["resources"]["configmaps"]["rate"] is None
    assert done["resources"]["configmaps"]["persisted"] is True and done["totals"]["failed"] == 0

    limited.bind("view", "state", "migrator", "crds")
    with Migrator(cluster):
        done = module(cluster, "storage_migrate", engine="kube_storage_version_migrator", resources=["secrets"], **auth)
    assert done["rewritten"] is None and done["resources"]["secrets"]["persisted"] is True
    state = json.loads(cluster.kubectl("get", "storagestates.migration.k8s.io", "secrets", "-o", "json"))
    assert len(state["status"]["persistedStorageVersionHashes"]) == 1

    limited.bind("view", "cross-check", "state", "direct", "crds", "metrics")
    assert module(cluster, "storage_version_hashes", **auth)["converged"] is True
    assert module(cluster, "encryption_config_info", **auth)["servers"][0]["error"] is None
    done = module(cluster, "storage_migrate", **auth)
    assert done["resources"]["widgets.shop.example.com"]["rewritten"] == 5
    assert [one["crd"] for one in done["trimmed"]] == ["widgets.shop.example.com"]
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


def test_each_rule_that_is_taken_away_is_named(limited: Limited, module: Callable[..., Result]) -> None:
    cluster, auth = limited.cluster, {"kubeconfig": str(limited.kubeconfig)}
    every = {(kind, name.removeprefix(P), i) for (kind, name), role in ROLES.items() for i in range(len(role["rules"]))}
    # Without these the modules say what they could not see.
    optional = {
        ("Role", "cross-check", 0),
        *(("ClusterRole", *one) for one in (("cross-check", 0), ("check", 0), ("check", 1), ("sampling", 0))),
    }
    assert set(NEEDED) == every - optional
    before = read_etcd(cluster, "/registry/secrets/")
    # direct as it is allows all that the other roles of the cluster do, so nothing could be seen to be missing.
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
        assert f"user {USER} may not" in told and message in told, f"{name} {number}: {told}"
        assert "grant it by a clusterrole" in told.lower()
        apply(cluster, role)
        limited.await_rules(role)
    assert read_etcd(cluster, "/registry/secrets/") == before
    assert module(cluster, MIGRATE[0], **MIGRATE[1], **auth)["totals"]["failed"] == 0


# As the manifest says: to migrate only some resources, name just those.
NARROW = [
    {
        "apiGroups": ["", "shop.example.com"],
        "resources": ["secrets", "widgets"],
        "verbs": ["get", "list", "patch"],
    }
]


def test_the_manifests_are_what_the_api_server_takes(limited: Limited) -> None:
    cluster = limited.cluster
    for namespace in ("openshift-config", "openshift-config-managed", "kube-storage-upgrade"):
        cluster.kubectl("create", "namespace", namespace)
    for path in (RBAC, OPENSHIFT, JOB):
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
    job = next(one for one in documents(JOB) if one["kind"] == "Job")
    cluster.kubectl("apply", "-f", str(RBAC))
    apply(cluster, *(one for one in documents(JOB) if one["kind"] != "Job"))
    cluster.kubectl("delete", "crd", "widgets.shop.example.com")
    install_widgets(cluster, 10)
    wait_until(
        lambda: limited.may("patch", "pods", who="system:serviceaccount:kube-storage-upgrade:kube-storage-upgrade")
    )
    account = tmp_path / "account"
    account.mkdir()
    token = cluster.kubectl("create", "token", "kube-storage-upgrade", "-n", "kube-storage-upgrade").strip()
    (account / "token").write_text(token, encoding="utf-8")
    (account / "namespace").write_text("kube-storage-upgrade", encoding="utf-8")
    shutil.copy(cluster.certificate("ca").cert, account / "ca.crt")
    entry = urlsplit(cluster.balancer_url)
    (command,) = [one["command"] for one in job["spec"]["template"]["spec"]["containers"]]
    program = [str(Path(sys.executable).with_name(command[0])), *command[1:]]
    place = "/run/secrets/kubernetes.io/serviceaccount"
    script = f'mount -t tmpfs none /run && mkdir -p {place} && cp "$0"/* {place}/ && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script, str(account), *program],
        cwd=ROOT,
        env={
            **environment(),
            "HOME": str(tmp_path),
            "KUBERNETES_SERVICE_HOST": str(entry.hostname),
            "KUBERNETES_SERVICE_PORT": str(entry.port),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    stored = read_etcd(cluster, "/registry/shop.example.com/widgets/").values()
    assert [json.loads(one.value)["apiVersion"] for one in stored] == ["shop.example.com/v1"] * 10
    assert "1 CRD was trimmed" in done.stdout and token not in done.stdout + done.stderr
