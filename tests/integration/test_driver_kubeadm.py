# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the driver kubeadm refuses before it touches anything. make test-kubeadm upgrades real masters."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.control_plane.cluster import Cluster

from .support import warm_ansible, warm_python
from .support.modules import ROOT, environment
from .support.objects import apply

ROLE = ROOT / "roles" / "rolling_upgrade"
CHECK = {"name": "kube_storage.upgrade.rolling_upgrade", "tasks_from": "check"}


def refusals(
    folder: Path,
    cluster: Cluster | None,
    cases: Mapping[str, Mapping[str, Any]],
    tasks_from: str = "check",
    packages: str = "[]\n",
) -> dict[str, str]:
    """Runs the driver's check for each case in one play; the message of each, empty where nothing was refused.

    Programs in the folder ``bin`` come before those of this machine. ``packages``: the tasks that install packages.
    """
    tasks: list[dict[str, Any]] = []
    # By its path, as the role does, where a file includes others beside it.
    role = {"ansible.builtin.include_role": {**CHECK, "tasks_from": tasks_from}}
    included = {"ansible.builtin.include_tasks": tasks_from} if tasks_from.endswith(".yml") else role
    for name, variables in cases.items():
        tasks.append(
            {
                "name": name,
                "vars": {"rolling_upgrade_case": name},
                "block": [{**included, "vars": dict(variables)}],
                "rescue": [
                    {
                        "ansible.builtin.set_fact": {
                            "messages": "{{ messages | default({}) | combine({rolling_upgrade_case: ansible_failed_result.msg}) }}"
                        }
                    }
                ],
            }
        )
    tasks.append({"ansible.builtin.debug": {"msg": "SAID {{ messages | default({}) | to_json }}"}})
    (folder / "packages.yml").write_text(packages, encoding="utf-8")
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(ROLE / name / "main.yml") for name in ("defaults", "vars")]
        if tasks_from.endswith(".yml")
        else [],
        "environment": {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"},
        "vars": {
            "rolling_upgrade_version": "1.37",
            "rolling_upgrade_driver": "kubeadm",
            "rolling_upgrade_kubeadm_package_tasks_file": str(folder / "packages.yml"),
            "rolling_upgrade_kubeconfig": str(cluster.kubeconfig) if cluster else "/nowhere",
            "ansible_python_interpreter": warm_python.interpreter(),
        },
        "tasks": tasks,
    }
    (folder / "play.yml").write_text(json.dumps([play]), encoding="utf-8")
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    done = warm_ansible.run([program, str(folder / "play.yml")], cwd=ROOT, env=environment(), timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    said = next(line for line in done.stdout.splitlines() if "SAID " in line)
    found: dict[str, str] = json.loads(json.loads(said.split(":", 1)[1].strip())[5:])
    return {name: found.get(name, "") for name in cases}


def test_bad_options_are_refused_before_anything_is_touched(tmp_path: Path) -> None:
    two, other = tmp_path / "two.yml", tmp_path / "other.yml"
    good = {"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "UpgradeConfiguration"}
    two.write_text("kind: ClusterConfiguration\n", encoding="utf-8")
    other.write_text(json.dumps({**good, "apply": {"kubernetesVersion": "v1.36.3"}}), encoding="utf-8")
    distribution = {"rolling_upgrade_kubeadm_packages": "distribution"}
    prefix = "rolling_upgrade_kubeadm_"
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "version": (
            {"rolling_upgrade_version": "newest"},
            'rolling_upgrade_version is \'newest\', but must be a release such as "1.37" or "v1.37.2".',
        ),
        "packages": ({f"{prefix}packages": "snap"}, f"{prefix}packages is 'snap', but must be tasks or distribution."),
        "no tasks": ({f"{prefix}package_tasks_file": ""}, f"{prefix}package_tasks_file must be the absolute path"),
        "no file": ({f"{prefix}package_tasks_file": "/not/there.yml"}, "there is no file '/not/there.yml'"),
        "relative": (
            {f"{prefix}package_tasks_file": "packages.yml"},
            f"{prefix}package_tasks_file must be the absolute path",
        ),
        "not pinned": (
            distribution,
            "To pin the distribution's packages, give a full rolling_upgrade_version such as v1.37.2",
        ),
        "other package": (
            {**distribution, f"{prefix}package_version": "1.36.3-1.1"},
            f"{prefix}package_version is '1.36.3-1.1', which is not a package of 1.37.",
        ),
        "no config": ({f"{prefix}config_file": "/not/there.yml"}, "There is no file '/not/there.yml'"),
        "not kubeadm's": ({f"{prefix}config_file": str(two)}, "must hold one UpgradeConfiguration of kubeadm"),
        "another version": ({f"{prefix}config_file": str(other)}, "must fit 1.37"),
        "both": (
            {f"{prefix}config_file": str(two), f"{prefix}patches": "/p"},
            "kubeadm takes no patches directory beside",
        ),
        "patches": ({f"{prefix}patches": "patches"}, f"{prefix}patches must be an absolute path on the masters."),
        "gates": (
            {f"{prefix}feature_gates": {"RootlessControlPlane": "on"}},
            f"{prefix}feature_gates must be a dictionary",
        ),
    }
    found = refusals(tmp_path, None, {name: variables for name, (variables, _) in cases.items()})
    for name, (_, message) in cases.items():
        assert message in found[name] and "No master was touched." in found[name], (name, found[name])


def test_only_a_cluster_of_kubeadm_and_only_one_release_at_a_time(single_master: Cluster, tmp_path: Path) -> None:
    none = refusals(tmp_path, single_master, {"none": {}})["none"]
    assert (
        "kube-system/kubeadm-config doesn't exist, so kubeadm didn't set up this cluster; use another driver." in none
    )
    configuration = "kind: ClusterConfiguration\nkubernetesVersion: v1.36.3\n"
    apply(
        single_master,
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "kubeadm-config", "namespace": "kube-system"},
            "data": {"ClusterConfiguration": configuration},
        },
    )
    found = refusals(
        tmp_path,
        single_master,
        {
            "far": {"rolling_upgrade_version": "v1.38.0"},
            "back": {"rolling_upgrade_version": "1.35"},
            "far back": {"rolling_upgrade_version": "1.34", "rolling_upgrade_rollback": True},
            "up": {"rolling_upgrade_version": "1.37", "rolling_upgrade_rollback": True},
            "one back": {"rolling_upgrade_version": "1.35", "rolling_upgrade_rollback": True},
            "next": {},
        },
    )
    for name, version in (("far back", "1.34"), ("up", "1.37")):
        assert "kubeadm goes back one minor release at a time, and this cluster is at v1.36.3" in found[name]
        assert f"so it can't go to {version}. No master was touched." in found[name]
    assert "admin.conf" in found["one back"]
    for name, version in (("far", "v1.38.0"), ("back", "1.35")):
        assert "kubeadm upgrades one minor release at a time, and this cluster is at v1.36.3" in found[name]
        assert f"so it can't go to {version}. No master was touched." in found[name]
    # This machine was not made a master by kubeadm.
    assert (
        "because localhost:/etc/kubernetes/admin.conf, localhost:/etc/kubernetes/manifests/kube-apiserver.yaml is missing"
        in found["next"]
    )


def test_the_cluster_of_kubernetes_core_must_be_the_same(single_master: Cluster, tmp_path: Path) -> None:
    """It has module_defaults of its own, and another cluster may have Nodes of the same names."""
    configuration = "kind: ClusterConfiguration\nkubernetesVersion: v1.36.3\n"
    found = {
        "metadata": {"name": "kubeadm-config", "namespace": "kube-system"},
        "apiVersion": "v1",
        "kind": "ConfigMap",
    }
    apply(single_master, {**found, "data": {"ClusterConfiguration": configuration}})
    uid = single_master.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}").strip()
    inside = "{{ lookup('kube_storage.upgrade.upgrade_run') }}"
    cases: dict[str, dict[str, Any]] = {
        "same": {"rolling_upgrade_found": {"cluster": {"uid": uid}}},
        "other": {"rolling_upgrade_found": {"cluster": {"uid": "of-another"}}},
        "by the Lease": {"rolling_upgrade_lease": {"uid": "of-another"}, "rolling_upgrade_inside": inside},
        "said from outside": {"rolling_upgrade_lease": {"uid": "of-another"}, "rolling_upgrade_inside": True},
        "an earlier Lease": {"rolling_upgrade_lease": {"uid": "of-another"}},
        "unknown": {"rolling_upgrade_found": {"cluster": None}},
    }
    said = refusals(tmp_path, single_master, cases, tasks_from="drivers/kubeadm/cluster")
    assert [name for name, message in said.items() if message] == ["other", "by the Lease"], said
    assert (
        f"reach another cluster than those of this collection: its namespace kube-system has the uid {uid}, not of-another."
        in said["other"]
    )
    assert said["other"].endswith("localhost was not touched.")


def test_step_one_after_an_interrupted_rollback_leaves_the_kubelet_and_uncordons(
    single_master: Cluster, tmp_path: Path
) -> None:
    """It upgraded the kubelet under an API server that was to emulate the older release.

    The API server is real; kubeadm, which would change this machine, is a program that only says its version.
    """
    memory, programs = tmp_path / "unfinished.json", tmp_path / "bin"
    note = {"verb": "node", "was_cordoned": False, "keeps_kubelet": False, "version": "v1.36.5"}
    memory.write_text(json.dumps(note), encoding="utf-8")
    programs.mkdir()
    for name, says in (("kubeadm", "v1.37.2"), ("kubelet", "Kubernetes v1.36.5")):
        (programs / name).write_text(f"#!/bin/sh\necho {says}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    head = {"metadata": {"name": "kubeadm-config", "namespace": "kube-system"}, "apiVersion": "v1", "kind": "ConfigMap"}
    configuration = {"kind": "ClusterConfiguration", "kubernetesVersion": "v1.36.5", "clusterName": "y"}
    node = {"metadata": {"name": "drained"}, "apiVersion": "v1", "kind": "Node", "spec": {"unschedulable": True}}
    apply(single_master, {**head, "data": {"ClusterConfiguration": json.dumps(configuration)}}, node)
    status = json.dumps({"status": {"nodeInfo": {"kubeletVersion": "v1.37.2"}}})
    single_master.kubectl("patch", "node", "drained", "--subresource=status", "--type=merge", "-p", status)
    packages = (
        "- name: Note what is to be installed\n  ansible.builtin.copy:\n    content: ''\n"
        f"    dest: '{tmp_path}/installed-{{{{ rolling_upgrade_kubeadm_package_names | length }}}}'\n"
    )
    try:
        step = {
            "rolling_upgrade_kubeconfig": str(single_master.kubeconfig),
            "rolling_upgrade_kubeadm_package_tasks_file": str(tmp_path / "packages.yml"),
            "rolling_upgrade_version": "v1.37.2",
            "rolling_upgrade_emulate": "1.36",
            "rolling_upgrade_kubeadm_memory": str(memory),
            "rolling_upgrade_kubeadm_node_name": "drained",
            "rolling_upgrade_own": [{"url": single_master.url(single_master.masters[0]), "version": "v1.36.5"}],
        }
        said = refusals(
            tmp_path,
            single_master,
            {"step one": step},
            tasks_from=str(ROLE / "tasks/drivers/kubeadm/main.yml"),
            packages=packages,
        )
        assert said == {"step one": ""}
        assert [path.name for path in tmp_path.glob("installed-*")] == ["installed-1"], (
            "kubelet and kubectl had to stay"
        )
        after = json.loads(single_master.kubectl("get", "node", "drained", "-o", "json"))
        assert not after["spec"].get("unschedulable") and not memory.exists()
        written = single_master.kubectl(
            "get", "cm", "-n", "kube-system", "kubeadm-config", "-o", "jsonpath={.data.ClusterConfiguration}"
        )
        flag = [{"name": "emulated-version", "value": "1.36"}]
        assert json.loads(written) == {
            **configuration,
            **{name: {"extraArgs": flag} for name in ("apiServer", "controllerManager", "scheduler")},
        }
    finally:
        single_master.kubectl("delete", "node", "drained")


def test_flags_that_are_only_in_a_manifest_are_not_dropped(single_master: Cluster, tmp_path: Path) -> None:
    """kubeadm rewrites manifests from its configuration, which has the first of these flags only."""
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    command = ["kube-apiserver", "--audit-log-path=/a", "--secure-port=6443", "--encryption-provider-config=/e"]
    pod = {"kind": "Pod", "spec": {"containers": [{"name": "kube-apiserver", "command": command}]}}
    (manifests / "kube-apiserver.yaml").write_text(json.dumps(pod), encoding="utf-8")
    arguments = [{"name": "audit-log-path", "value": "/a"}]
    common: dict[str, Any] = {
        "rolling_upgrade_kubeadm_manifests": str(manifests),
        "rolling_upgrade_kubeadm_configuration": {"apiServer": {"extraArgs": arguments}},
    }
    cases = {"lost": {}, "accepted": {"rolling_upgrade_kubeadm_drop_flags": ["--encryption-provider-config"]}}
    said = refusals(
        tmp_path,
        single_master,
        {name: {**common, **case} for name, case in cases.items()},
        tasks_from="drivers/kubeadm/flags",
    )
    assert (
        "have them: --encryption-provider-config of kube-apiserver on localhost. Add them to extraArgs" in said["lost"]
    )
    assert said["lost"].endswith("No master was touched.") and said["accepted"] == ""
