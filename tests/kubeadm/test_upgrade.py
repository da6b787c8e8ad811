# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook upgrade with the driver kubeadm, on masters that kubeadm made, over ssh."""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.control_plane import build, releases
from tests.control_plane.processes import from_dict, wait_for
from tests.integration.support.etcd import etcd_request, read_etcd, steady
from tests.integration.support.modules import ROOT, environment
from tests.integration.support.objects import config_maps, widgets_crd

from . import images
from .cluster import RESTART_KUBELET, KubeadmCluster

OLD, NEW = images.OLD.kubernetes_version, images.NEW.kubernetes_version
NEW_ETCD, OLD_ETCD = (release.etcd for release in releases.KUBEADM_HOST)
API_SERVER_IMAGE = f"{images.REPOSITORY}/kube-apiserver:{NEW}"
MINOR = OLD.removeprefix("v").rpartition(".")[0]
POLICIES = "mutatingadmissionpolicies"
# Whoever asks from elsewhere doesn't see how the API servers are to encrypt, so "stale" would claim too much.
PROVEN = r"Proven from etcd: 0 of \d+ objects are (stale|in an old version or encoding)\."
# Checks of kubeadm that fail on a machine like this one.
TROUBLE_HERE = ["SystemVerification", "ContainerRuntimeVersion"]
WITHOUT_ADDONS = {
    "ignorePreflightErrors": ["all"],
    "imagePullPolicy": "Never",
    "skipPhases": ["addon/coredns", "addon/kube-proxy"],
}


@contextmanager
def masters(folder: Path, **options: Any) -> Iterator[KubeadmCluster]:
    """Masters of the old release with something to migrate. They are removed as if their owner had been killed."""
    # It ends with its standard input, and so when this process is killed.
    owner = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    cluster = KubeadmCluster.up(folder, owner_pid=owner.pid, **options)
    fill(cluster)
    yield cluster
    containers = set(cluster.containers())
    owner.kill()
    owner.wait()
    assert_gone(cluster, containers)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[KubeadmCluster]:
    with masters(tmp_path / "cluster") as made:
        yield made


def assert_gone(cluster: KubeadmCluster, containers: set[str]) -> None:
    assert len(containers) >= len(cluster.masters) * 6  # three pods or more on each master, and the sandbox of each
    assert wait_for(lambda: not (cluster.folder / "kubeadm.json").exists(), 120.0, 0.5)
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    assert cluster.network.namespace("") not in listed
    assert not Path(f"/sys/class/net/{cluster.network.bridge}").exists()
    assert not [found for found, _, _ in os.walk("/sys/fs/cgroup") if Path(found).name in containers]
    assert wait_for(lambda: not users(cluster.folder / "hosts"), 20.0), users(cluster.folder / "hosts")


def users(folder: Path) -> list[str]:
    """Processes that have something mounted which lies in the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found += [process.name] if str(folder) in (process / "mountinfo").read_text(encoding="utf-8") else []
    return found


def fill(cluster: KubeadmCluster) -> None:
    secrets = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"secret-{i}"},
            "data": {"key": base64.b64encode(b"value").decode()},
        }
        for i in range(20)
    ]
    policies = [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": f"policy-{i}"},
            "spec": {
                "failurePolicy": "Ignore",
                "reinvocationPolicy": "Never",
                "matchConstraints": {
                    "resourceRules": [
                        {
                            "apiGroups": ["shop.example.com"],
                            "apiVersions": ["*"],
                            "operations": ["CREATE"],
                            "resources": ["nothing"],
                        }
                    ]
                },
                "mutations": [
                    {
                        "patchType": "ApplyConfiguration",
                        "applyConfiguration": {"expression": "Object{metadata: Object.metadata{labels: {'a': 'b'}}}"},
                    }
                ],
            },
        }
        for i in range(3)
    ]
    # Something that is moved away from a master while its kubelet is upgraded.
    container = {"name": "pause", "image": f"{images.REPOSITORY}/pause:3.10.2", "imagePullPolicy": "Never"}
    pod = {
        "containers": [container],
        "terminationGracePeriodSeconds": 1,
        "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "moved"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "moved"}},
            "template": {"metadata": {"labels": {"app": "moved"}}, "spec": pod},
        },
    }
    apply(cluster, deployment, config_maps(60), *secrets, *policies, widgets_crd("v1alpha1"))
    cluster.kubectl("wait", "--for=condition=Established", "crd/widgets.shop.example.com", "--timeout=60s")
    widgets = [
        {"apiVersion": "shop.example.com/v1alpha1", "kind": "Widget", "metadata": {"name": f"widget-{i}"}}
        for i in range(10)
    ]
    apply(cluster, *widgets)
    apply(cluster, widgets_crd("v1"))
    cluster.kubectl("rollout", "status", "deployment/moved", "--timeout=120s")


def pods(cluster: KubeadmCluster) -> set[str]:
    """The pods that are to be moved, by uid."""
    found = json.loads(cluster.kubectl("get", "pods", "-l", "app=moved", "-o", "json"))["items"]
    return {pod["metadata"]["uid"] for pod in found}


def apply(cluster: KubeadmCluster, *documents: Mapping[str, Any]) -> None:
    text = "\n---\n".join(json.dumps(document) for document in documents)
    cluster.kubectl("apply", "--server-side", "-f", "-", input=text)


def kubelet_versions(cluster: KubeadmCluster) -> dict[str, str]:
    nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    return {node["metadata"]["name"]: node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes}


def versions(cluster: KubeadmCluster) -> dict[str, str]:
    """What each API server reports, at its own address."""
    return {name: json.loads(cluster.ask(name, "/version") or b"{}").get("gitVersion", "") for name in cluster.masters}


def stored_as(cluster: KubeadmCluster, resource: str) -> set[str]:
    """In which versions etcd holds a resource, read by nothing of the collection."""
    found = read_etcd(cluster, f"/registry/{resource}/")
    assert found, f"etcd holds no {resource}"
    # Objects of custom resources are JSON; of others a protobuf begins with the version.
    pattern = rb'^k8s\0\n.\n.([a-z0-9./]+)|^\{.*"apiVersion":"([a-z0-9./]+)"'
    matches = [re.match(pattern, entry.value, re.DOTALL) for entry in found.values()]
    return {(match[1] or match[2]).decode() if match else "unknown" for match in matches}


def life(cluster: KubeadmCluster, master: str) -> dict[str, Any]:
    """Everything that would show that something was done to a master: its processes with their starts, its manifests, its programs."""
    manifests = cluster.path(master, "/etc/kubernetes/manifests")
    programs = cluster.path(master, "/usr/local/sbin")
    listed = []
    for pid in cluster.pids(master):
        with suppress(OSError):
            listed.append(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8"))
    wanted = {"kubelet", "etcd", "kube-apiserver"}
    processes = {
        (line.split("(")[1].split(")")[0], line.split()[0], line.rpartition(")")[2].split()[19]) for line in listed
    }
    return {
        "processes": {process for process in processes if process[0] in wanted},
        "manifests": {
            path.name: (path.stat().st_mtime_ns, path.read_text(encoding="utf-8")) for path in manifests.iterdir()
        },
        "programs": {path.name: os.readlink(path) for path in programs.iterdir()},
        "kubernetes": sorted(path.name for path in cluster.path(master, "/etc/kubernetes").iterdir()),
    }


@dataclass
class Watch:
    """Watches all masters all the time: whose API server or etcd is down?"""

    cluster: KubeadmCluster
    down: list[frozenset[str]] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.3):
            self.down.append(frozenset(name for name in self.cluster.masters if self._is_down(name)))

    def _is_down(self, master: str) -> bool:
        pki = self.cluster.path(self.cluster.masters[0], "/etc/kubernetes/pki")
        api = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        etcd = ssl.create_default_context(cafile=str(pki / "etcd" / "ca.crt"))
        etcd.load_cert_chain(pki / "etcd" / "healthcheck-client.crt", pki / "etcd" / "healthcheck-client.key")
        address = self.cluster.address(master)
        for url, context in ((f"https://{address}:6443/readyz", api), (f"https://{address}:2379/health", etcd)):
            try:
                urllib.request.urlopen(url, context=context, timeout=5).close()
            except urllib.error.HTTPError:
                return True
            except (OSError, urllib.error.URLError) as error:
                # On a busy machine an answer may take long; that is not being down.
                if "timed out" not in str(error):
                    return True
        return False


def run(
    cluster: KubeadmCluster,
    folder: Path,
    common: Mapping[str, Any] = WITHOUT_ADDONS,
    patience: str = "5m",
    **variables: Any,
) -> subprocess.CompletedProcess[str]:
    """The playbook, as a user runs it; the package step installs the release that is asked for.

    ``common``: what the UpgradeConfiguration says for the first master and for the others. ``patience``: how long kubeadm waits for a static
    pod before it rolls back.
    """
    programs = build.binaries(images.OLD if variables.get("rolling_upgrade_version") == OLD else images.NEW)
    hosts = {name: {"ansible_host": cluster.address(name), **cluster.ssh} for name in cluster.masters}
    (folder / "inventory.yml").write_text(yaml.safe_dump({"kube_control_plane": {"hosts": hosts}}), encoding="utf-8")
    (folder / "packages.yml").write_text(
        "- name: Replace the programs, as packages do\n"
        "  ansible.builtin.file:\n"
        f"    src: '{programs}/{{{{ item }}}}'\n"
        "    path: /usr/local/sbin/{{ item }}\n"
        "    state: link\n"
        "    force: true\n"
        '  loop: "{{ rolling_upgrade_kubeadm_package_names }}"\n',
        encoding="utf-8",
    )
    configuration = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "UpgradeConfiguration",
        "apply": dict(common),
        "node": dict(common),
        "plan": {"ignorePreflightErrors": ["all"]},
        "timeouts": {"upgradeManifests": patience},
    }
    (folder / "upgrade-configuration.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    given = {
        "rolling_upgrade_version": "1.37",
        "rolling_upgrade_driver": "kubeadm",
        "rolling_upgrade_kubeadm_package_tasks_file": str(folder / "packages.yml"),
        "rolling_upgrade_kubeadm_config_file": str(folder / "upgrade-configuration.yml"),
        "rolling_upgrade_kubeadm_restart_command": RESTART_KUBELET,
        "rolling_upgrade_kubeconfig": str(cluster.kubeconfig),
        "rolling_upgrade_etcd": cluster.etcd,
        "rolling_upgrade_etcd_snapshot_path": str(folder / "snapshots"),
        "rolling_upgrade_report_path": str(folder / "report.html"),
        **variables,
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "kube_storage.upgrade.upgrade"]
    command += ["-i", str(folder / "inventory.yml"), "-e", json.dumps(given)]
    settings = {**environment(), "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false", "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"}
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False, timeout=2400)
    # Whoever wants to know how long something took, or what a user sees, looks here.
    (cluster.folder / "logs" / f"playbook-{time.time():.0f}.log").write_text(
        done.stdout + done.stderr, encoding="utf-8"
    )
    return done


def unfolded(done: subprocess.CompletedProcess[str]) -> str:
    """What was printed, in one line: Ansible's is folded."""
    return " ".join(done.stdout.split())


def assert_finished(cluster: KubeadmCluster, done: subprocess.CompletedProcess[str], folder: Path) -> None:
    """All at the new release, all migrated, all proven; each thing asked from Kubernetes and etcd themselves."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("Masters are mixed now; nothing may be migrated yet" in done.stdout) == (len(cluster.masters) > 1)
    assert re.search(PROVEN, done.stdout)
    assert set(versions(cluster).values()) == set(kubelet_versions(cluster).values()) == {NEW}
    assert stored_as(cluster, "mutatingadmissionpolicies") == {"admissionregistration.k8s.io/v1"}
    assert stored_as(cluster, "shop.example.com/widgets") == {"shop.example.com/v1"}
    crd = json.loads(cluster.kubectl("get", "crd", "widgets.shop.example.com", "-o", "json"))
    assert crd["status"]["storedVersions"] == ["v1"]
    nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    assert not [node for node in nodes if node["spec"].get("unschedulable")]
    assert f"kubernetesVersion: {NEW}" in cluster.kubectl(
        "get", "cm", "-n", "kube-system", "kubeadm-config", "-o", "yaml"
    )
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["status"] == "succeeded" and report["proof"]["etcd"] is True


def test_from_the_old_release_to_the_new_and_nothing_a_second_time(cluster: KubeadmCluster, tmp_path: Path) -> None:
    assert set(versions(cluster).values()) == {OLD}
    assert stored_as(cluster, "mutatingadmissionpolicies") == {"admissionregistration.k8s.io/v1beta1"}
    assert stored_as(cluster, "shop.example.com/widgets") == {"shop.example.com/v1alpha1"}
    before = pods(cluster)
    with Watch(cluster) as watch:
        done = run(cluster, tmp_path)
    assert_finished(cluster, done, tmp_path)
    assert len(before) == 3 and not before & pods(cluster), "each was moved"
    assert max(map(len, watch.down)) == 1, "two masters were down at the same time"
    assert frozenset().union(*watch.down) == set(cluster.masters), "each was down once, or nothing was watched"
    # kubeadm's plan is shown, and the mixed masters for what they are.
    assert re.search(rf"kube-apiserver +master-1 +{OLD} +{NEW}", done.stdout), done.stdout
    assert re.search(r"mutatingadmissionpolicies.*v1beta1", done.stdout), done.stdout

    lives, stored = {name: life(cluster, name) for name in cluster.masters}, steady(read_etcd(cluster))
    again = run(cluster, tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.findall(r"changed=(\d+)", again.stdout) == ["0"] * 3, again.stdout
    assert {name: life(cluster, name) for name in cluster.masters} == lives
    kept = steady(read_etcd(cluster))
    assert {key: entry.mod_revision for key, entry in kept.items() if "/minions/" not in key} == {
        key: entry.mod_revision for key, entry in stored.items() if "/minions/" not in key
    }


def etcd_versions(cluster: KubeadmCluster) -> set[str]:
    return {
        etcd_request(cluster, "/v3/maintenance/status", {}, member)["version"] for member in cluster.etcd["endpoints"]
    }


def emulated(cluster: KubeadmCluster) -> set[tuple[str, ...]]:
    """Of each master: which minor its API server emulates, and which releases the manifests of its control plane name."""
    found = set()
    for name in cluster.masters:
        told = json.loads(cluster.ask(name, "/version"))
        manifests = cluster.path(name, "/etc/kubernetes/manifests")
        flags = [
            flag
            for program in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
            for flag in re.findall(
                r"--emulated-version=(\S+)", (manifests / f"{program}.yaml").read_text(encoding="utf-8")
            )
        ]
        found.add((f"{told['emulationMajor']}.{told['emulationMinor']}", *flags))
    return found


def kubeadm_configuration(cluster: KubeadmCluster) -> dict[str, Any]:
    """What kubeadm keeps about the cluster."""
    found = json.loads(cluster.kubectl("get", "configmap", "-n", "kube-system", "kubeadm-config", "-o", "json"))
    configuration: dict[str, Any] = yaml.safe_load(found["data"]["ClusterConfiguration"])
    return configuration


def emulating(configuration: Mapping[str, Any], version: str, minor: str) -> dict[str, Any]:
    """kubeadm's configuration, when all three programs of a release emulate another one."""
    flag = {"name": "emulated-version", "value": minor}
    sections = ("apiServer", "controllerManager", "scheduler")
    return {
        **configuration,
        "kubernetesVersion": version,
        **{section: {**(configuration.get(section) or {}), "extraArgs": [flag]} for section in sections},
    }


def readable(cluster: KubeadmCluster) -> set[str]:
    """Every object, as type and name, except those that come and go by themselves; each master lists them all."""
    found = set()
    for name in cluster.masters:
        server = ("--server", f"https://{cluster.address(name)}:6443")
        types = cluster.kubectl("api-resources", "--verbs=list", "-o", "name", *server).split()
        lasting = [kind for kind in types if not kind.startswith(("events", "leases.", "certificatesigningrequests."))]
        listed = cluster.kubectl("get", ",".join(lasting), "-A", "--no-headers", "-o", "name", *server).split()
        found.add(frozenset(line for line in listed if not line.startswith(("job.batch/upgrade-health", "pod/"))))
    assert len(found) == 1, found
    return set(*found)


def contents(cluster: KubeadmCluster) -> dict[str, bytes]:
    """What etcd holds of what ``fill`` made and of what kubeadm set up, without what controllers write all the time."""
    groups = (
        "clusterrolebindings",
        "clusterroles",
        "configmaps",
        POLICIES,
        "namespaces",
        "rolebindings",
        "roles",
        "secrets",
        "serviceaccounts",
        "shop.example.com/widgets",
    )
    found = {}
    for group in groups:
        stored = steady(read_etcd(cluster, f"/registry/{group}/"))
        assert stored, f"etcd holds no {group}"
        found.update({key: entry.value for key, entry in stored.items()})
    return found


def different(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> set[str]:
    """The keys that are gone or have other bytes, except for what kubeadm and API servers write of themselves at a new release."""
    changed = {key for key, value in before.items() if after.get(key) != value}
    return {key for key in changed if not any(part in key for part in ("kubeadm", "kubelet", "/system:"))}


def kubelets(cluster: KubeadmCluster) -> dict[str, set[tuple[str, ...]]]:
    """The kubelet of each master, with its pid and start."""
    found = {name: life(cluster, name)["processes"] for name in cluster.masters}
    return {name: {process for process in all_ if process[0] == "kubelet"} for name, all_ in found.items()}


def test_the_first_of_two_steps_and_back(cluster: KubeadmCluster, tmp_path: Path) -> None:
    """1.37 as 1.36, and back. Kubelets, which must not be newer than their API servers, stay at 1.36; so does what etcd holds."""
    configuration, there, stored = kubeadm_configuration(cluster), readable(cluster), contents(cluster)
    running, moved = kubelets(cluster), pods(cluster)
    assert configuration["kubernetesVersion"] == OLD and all(running.values())
    with Watch(cluster) as watch:
        done = run(cluster, tmp_path, rolling_upgrade_version=NEW, rolling_upgrade_emulate=MINOR)
    assert done.returncode == 0 and f"is at {NEW} and emulates {MINOR}, so it stores" in unfolded(done), done.stdout
    assert max(map(len, watch.down)) == 1, "two masters were down at the same time"
    assert set(versions(cluster).values()) == {NEW} and set(kubelet_versions(cluster).values()) == {OLD}
    assert emulated(cluster) == {(MINOR, MINOR, MINOR, MINOR)}
    assert kubeadm_configuration(cluster) == emulating(configuration, NEW, MINOR)
    assert different(stored, contents(cluster)) == set()
    assert stored_as(cluster, POLICIES) == {"admissionregistration.k8s.io/v1beta1"}
    assert there <= readable(cluster), there - readable(cluster)

    with Watch(cluster) as watch:
        back = run(cluster, tmp_path, rolling_upgrade_version=OLD, rolling_upgrade_rollback=True)
    assert back.returncode == 0 and re.search(PROVEN, back.stdout), back.stdout
    assert max(map(len, watch.down)) == 1, "two masters were down at the same time"
    assert set(versions(cluster).values()) == set(kubelet_versions(cluster).values()) == {OLD}
    assert emulated(cluster) == {(MINOR,)} and kubeadm_configuration(cluster) == configuration
    assert kubelets(cluster) == running and pods(cluster) == moved, "they had nothing to do with it"
    assert {key for key in different(stored, contents(cluster)) if "/widgets/" not in key} == set()
    assert stored_as(cluster, POLICIES) == {"admissionregistration.k8s.io/v1beta1"}
    assert stored_as(cluster, "shop.example.com/widgets") == {"shop.example.com/v1"}
    assert there <= readable(cluster), there - readable(cluster)
    assert etcd_versions(cluster) == {NEW_ETCD}, "kubeadm leaves a newer etcd alone"


def coredns(cluster: KubeadmCluster) -> str:
    """The version of CoreDNS that kubeadm has deployed."""
    found = json.loads(cluster.kubectl("get", "deployment", "-n", "kube-system", "coredns", "-o", "json"))
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(":")[2])


def test_the_second_step_and_back_with_kubelet_and_addons(tmp_path: Path) -> None:
    """Both steps, but nothing is migrated, then back. kubeadm can't replace CoreDNS with an older version, so it stays."""
    common = {"ignorePreflightErrors": TROUBLE_HERE, "imagePullPolicy": "Never", "skipPhases": ["addon/kube-proxy"]}
    with masters(tmp_path / "cluster", masters=1) as cluster:
        setup = ("--config", str(cluster.folder / "kubeadm-master-1.yml"), "--kubeconfig", "/etc/kubernetes/admin.conf")
        cluster.run("master-1", "kubeadm", "init", "phase", "addon", "coredns", *setup)
        # kubeadm init was told to leave it out, and remembers that.
        configuration = {**kubeadm_configuration(cluster), "dns": {}}
        patch = json.dumps({"data": {"ClusterConfiguration": yaml.safe_dump(configuration)}})
        cluster.kubectl("patch", "configmap", "-n", "kube-system", "kubeadm-config", "--type=merge", "-p", patch)
        there, older = readable(cluster), coredns(cluster)
        step = {"rolling_upgrade_version": NEW, "rolling_upgrade_emulate": MINOR}
        first = run(cluster, tmp_path, {**common, "etcdUpgrade": False}, **step)
        assert first.returncode == 0, first.stdout
        assert set(kubelet_versions(cluster).values()) == {OLD} and coredns(cluster) == older
        assert etcd_versions(cluster) == {OLD_ETCD}

        second = run(cluster, tmp_path, common, rolling_upgrade_version=NEW, rolling_upgrade_stop_before="migrate")
        assert second.returncode == 0 and "no old object was rewritten" in unfolded(second), second.stdout
        assert set(versions(cluster).values()) == set(kubelet_versions(cluster).values()) == {NEW}
        assert emulated(cluster) == {(NEW.removeprefix("v").rpartition(".")[0],)}
        assert kubeadm_configuration(cluster) == {**configuration, "kubernetesVersion": NEW}
        assert stored_as(cluster, POLICIES) == {"admissionregistration.k8s.io/v1beta1"}
        newer = coredns(cluster)
        assert newer != older, "nothing would be left that kubeadm refuses"
        assert etcd_versions(cluster) == {NEW_ETCD}

        back = run(cluster, tmp_path, common, rolling_upgrade_version=OLD, rolling_upgrade_rollback=True)
        assert back.returncode == 0 and "Proven from etcd: 0 of" in back.stdout, back.stdout
        assert set(versions(cluster).values()) == set(kubelet_versions(cluster).values()) == {OLD}
        assert emulated(cluster) == {(MINOR,)} and kubeadm_configuration(cluster) == configuration
        assert coredns(cluster) == newer and there <= readable(cluster)
        assert etcd_versions(cluster) == {NEW_ETCD}, "kubeadm leaves a newer etcd alone"
        (node,) = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
        assert not node["spec"].get("unschedulable")


def test_one_that_fails_halfway_stops_the_roll_which_resumes_once_it_is_repaired(
    cluster: KubeadmCluster, tmp_path: Path
) -> None:
    # Its etcd comes up in the new version; then there is no image for its API server, and no registry to get one from.
    cluster.run("master-2", "ctr", "-n", "k8s.io", "image", "rm", API_SERVER_IMAGE)
    third = life(cluster, "master-3")
    with Watch(cluster) as watch:
        done = run(cluster, tmp_path, patience="90s")
    assert done.returncode != 0, done.stdout
    assert max(map(len, watch.down)) == 1, "two masters were down at the same time"
    assert "kubeadm upgrade node failed with exit code 1." in done.stdout, done.stdout
    assert "The masters after it were not touched. Fix this one and run the playbook again" in done.stdout
    assert "upgrade/staticpods" in done.stdout and "kube-apiserver" in done.stdout  # what kubeadm said
    assert life(cluster, "master-3") == third
    assert cluster.is_ready("master-1") and cluster.is_ready("master-3")
    # One sentence, and below it the command and what it said, without colors.
    assert re.search(r"exit code 1\. Now: .* left alone\.\n\s+kubeadm upgrade node --config \S+\n", done.stdout), (
        done.stdout
    )
    assert "\x1b" not in done.stdout
    # kubeadm rolls master-2 back, so that it comes to work as well, beside the two that had to be left working.
    rolled_back = {"master-1": NEW, "master-2": OLD, "master-3": OLD}
    assert wait_for(lambda: versions(cluster) == rolled_back, 180.0, 1.0), versions(cluster)
    assert wait_for(lambda: cluster.is_ready("master-2"), 120.0, 1.0)
    apply(cluster, config_maps(3, "meanwhile"))
    assert stored_as(cluster, "mutatingadmissionpolicies") == {"admissionregistration.k8s.io/v1beta1"}

    first = life(cluster, "master-1")
    cluster.run(
        "master-2",
        "ctr",
        "-n",
        "k8s.io",
        "image",
        "tag",
        API_SERVER_IMAGE.replace("apiserver", "scheduler"),
        API_SERVER_IMAGE,
    )
    with Watch(cluster) as watch:
        done = run(cluster, tmp_path)
    assert_finished(cluster, done, tmp_path)
    assert max(map(len, watch.down)) == 1, "two masters were down at the same time"
    assert life(cluster, "master-1") == first
    assert "kubeadm upgrade apply" not in done.stdout  # the first master is done


def test_one_master_with_external_etcd_patches_and_a_feature_gate(tmp_path: Path) -> None:
    """While its API server restarts there is no other to ask. Here kubeadm is told by flags what it gets from a file elsewhere."""
    with masters(tmp_path / "cluster", masters=1, external_etcd=True) as cluster:
        etcd = from_dict(cluster.data["processes"]["master-1/etcd"])
        assert etcd is not None
        patches = cluster.path("master-1", "/etc/kubernetes") / "patches"
        patches.mkdir()
        patch = {"metadata": {"annotations": {"example.com/patched": "yes"}}}
        (patches / "kube-apiserver0+merge.json").write_text(json.dumps(patch), encoding="utf-8")
        done = run(
            cluster,
            tmp_path,
            rolling_upgrade_version=NEW,
            rolling_upgrade_kubeadm_config_file="",
            rolling_upgrade_kubeadm_patches="/etc/kubernetes/patches",
            rolling_upgrade_kubeadm_ignore_preflight_errors=["all"],
            rolling_upgrade_kubeadm_feature_gates={"RootlessControlPlane": False},
        )
        assert_finished(cluster, done, tmp_path)
        manifests = cluster.path("master-1", "/etc/kubernetes/manifests")
        assert "example.com/patched" in (manifests / "kube-apiserver.yaml").read_text(encoding="utf-8")
        configuration = cluster.kubectl("get", "cm", "-n", "kube-system", "kubeadm-config", "-o", "yaml")
        assert "RootlessControlPlane: false" in configuration
        assert etcd.alive and not (manifests / "etcd.yaml").exists(), "kubeadm has nothing to do with it"
