#!/usr/bin/env python3
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Three masters by kubeadm on one machine, with kubelets, containerd, static pods and stacked etcd.

Each is a host in a network namespace, with its own mounts, host name and sshd. As a program it has the
verbs that README.md lists; as a module it offers KubeadmCluster.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.control_plane import build, hosts, processes
from tests.control_plane.folder import ClusterFolder, await_end, get, short_name
from tests.control_plane.processes import Process, wait_for
from tests.kubeadm import images

_PORT = 6443
_CERTIFICATE_KEY = "ab" * 32
_TOKEN = "abcdef.0123456789abcdef"
_SOCKET = "unix:///run/containerd/containerd.sock"
_CNI = "/usr/lib/cni"
_NEEDED = ("containerd", "ctr", "runc", "sshd", "ip", "nsenter")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What a host has for itself; everything else it shares with this machine.
_OWN = (
    "/etc/cni",
    "/etc/kubernetes",
    "/root/.ansible",
    "/run/containerd",
    "/run/netns",
    "/usr/libexec/kubernetes",
    "/usr/local/sbin",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
)
_KUBELET = """
while :; do
  if [ -e /var/lib/kubelet/config.yaml ]; then
    KUBELET_KUBEADM_ARGS=
    [ -e /var/lib/kubelet/kubeadm-flags.env ] && . /var/lib/kubelet/kubeadm-flags.env
    kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf \\
      --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS &
    echo $! > /var/lib/kubelet/pid
    wait $!
  fi
  sleep 0.5
done
"""
# On hosts without systemd, what restarts the kubelet: the loop above starts it again.
RESTART_KUBELET = ["sh", "-c", "kill $(cat /var/lib/kubelet/pid)"]

_CONTAINERD = f"""
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{images.REPOSITORY}/pause:3.10.2"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{_CNI}"
"""


class KubeadmError(Exception):
    """Something that the caller can fix; one sentence."""


class KubeadmCluster(ClusterFolder):
    """Masters by kubeadm in a folder; their state is in ``kubeadm.json`` there."""

    STATE = "kubeadm.json"
    ERROR = KubeadmError

    # Making and removing

    @classmethod
    def up(cls, folder: Path, *, masters: int = 3, external_etcd: bool = False, owner_pid: int = 0) -> KubeadmCluster:
        """Makes a cluster of the old release; every host has the images of both. It goes down when ``owner_pid`` ends.

        ``external_etcd``: it is not a static pod but a program on the first host, which kubeadm has nothing to do with.
        """
        hosts.require_root()
        _require_programs()
        folder = folder.resolve()
        if cls.exists(folder):
            cls(folder).down()
        archives = [images.archive(module) for module in (images.OLD, images.NEW)]
        folder.mkdir(parents=True, exist_ok=True)
        network = hosts.take_network(folder)
        names = [f"master-{i}" for i in range(1, masters + 1)]
        data = {
            "network": network.number,
            "masters": {name: {"address": network.address(10 + i)} for i, name in enumerate(names, 1)},
            "processes": {},
            "external_etcd": external_etcd,
            "made": [path for path in _OWN if not Path(path).exists()],
        }
        (folder / cls.STATE).write_text(json.dumps(data), encoding="utf-8")
        cluster = cls(folder)
        try:
            if owner_pid:
                program = [sys.executable, str(Path(__file__).resolve()), "reap", str(folder), str(owner_pid)]
                cluster._keep("reaper", processes.spawn(program, folder / "reaper.log"))
            cluster._make_keys()
            for path in _OWN:
                Path(path).mkdir(parents=True, exist_ok=True)
            Path("/run/sshd").mkdir(exist_ok=True)
            for name in cluster.masters:
                cluster._make_host(name)
                cluster.install(name, images.OLD)
                cluster._start_containerd(name)
            cluster._start_balancer()
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda name: cluster._import_images(name, archives), cluster.masters))
            if external_etcd:
                cluster._start_etcd()
            for name in cluster.masters:
                cluster._start_kubelet(name)
                cluster._run_kubeadm(name)
            cluster.kubectl("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=120s")
        except BaseException:
            cluster.down()
            raise
        return cluster

    def down(self) -> None:
        """Stops everything and removes hosts, mounts and cgroups; logs and etcd's certificates stay in the folder."""
        for name, kept in self.data["processes"].items():
            process = processes.from_dict(kept)
            if process is not None and process.pid != os.getpid():
                process.send(signal.SIGKILL)
                if name != "reaper":
                    process.kill()
        containers = self.containers()
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        hosts.release_network(self.data["network"])
        _remove_cgroups(containers)
        # A program of this machine may have it in use, or another cluster, which would lose what it has mounted there.
        wait_for(lambda: not self.pids(), 20.0, 0.2)
        for path in set(self.data["made"]) - mount_points():
            with suppress(OSError):
                os.rmdir(path)
        shutil.rmtree(self.folder / "hosts", ignore_errors=True)
        (self.folder / self.STATE).unlink(missing_ok=True)

    # What it is

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, which points at the load balancer."""
        return self.path(self.masters[0], "/etc/kubernetes/admin.conf")

    @property
    def etcd(self) -> dict[str, Any]:
        """The option ``etcd`` of the collection's modules."""
        if self.data["external_etcd"]:
            return {"endpoints": [f"http://{self.address(self.masters[0])}:2379"], "prefix": "/registry"}
        pki = self.path(self.masters[0], "/etc/kubernetes/pki/etcd")
        return {
            "endpoints": [f"https://{self.address(name)}:2379" for name in self.masters],
            "ca_cert": str(pki / "ca.crt"),
            "client_cert": str(pki / "healthcheck-client.crt"),
            "client_key": str(pki / "healthcheck-client.key"),
            "prefix": "/registry",
        }

    @property
    def ssh(self) -> dict[str, str]:
        """How Ansible reaches each host."""
        return {
            "ansible_user": "root",
            # Debian's, which has nothing of ours, as masters have it; this machine's user may have others in its PATH.
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_private_key_file": str(self.folder / "ssh" / "user"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.folder}/ssh/known_hosts -o StrictHostKeyChecking=yes",
        }

    def path(self, master: str, path: str) -> Path:
        """Where a file of a host lies on this machine."""
        return self.folder / "hosts" / master / path.strip("/").replace("/", "-", _depth(path))

    # Steering

    def install(
        self, master: str, module: build.Module, programs: Sequence[str] = ("kubeadm", "kubelet", "kubectl")
    ) -> None:
        """What a package would do: the host's programs are those of this release."""
        for program in programs:
            link = self.path(master, "/usr/local/sbin") / program
            link.unlink(missing_ok=True)
            link.symlink_to(build.binaries(module) / program)

    def run(self, master: str, *command: str, input: str | None = None) -> str:
        """Runs a command on a host and returns its output; raises KubeadmError with what it says on failure."""
        done = subprocess.run(
            [*self._inside(master), *command], input=input, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip()[-6000:]
            raise KubeadmError(f"{' '.join(command)} failed on {master}: {said}")
        return done.stdout

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        return self.run(self.masters[0], "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", *arguments, input=input)

    def ask(self, master: str, path: str) -> bytes:
        """The body of a GET at a master's own address; empty where there is no good answer."""
        pki = self.path(self.masters[0], "/etc/kubernetes/pki")
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "apiserver-kubelet-client.crt", pki / "apiserver-kubelet-client.key")
        return get(self.address(master), _PORT, path, context)

    def is_ready(self, master: str) -> bool:
        return self.ask(master, "/readyz") == b"ok"

    # Inside

    def _process(self, name: str) -> Process:
        process = processes.from_dict(self.data["processes"].get(name))
        if process is None or not process.alive:
            raise KubeadmError(f"{name} does not run.")
        return process

    def _inside(self, master: str) -> list[str]:
        """The command prefix that runs a program on a host."""
        enter = ["nsenter", "-t", str(self._process(f"{master}/host").pid), "-m", "-u", "-n", "-i", "--wd=/"]
        return [*enter, "env", "-i", f"PATH={_PATH}", "HOME=/root"]

    def _spawn(self, master: str, name: str, command: Sequence[str]) -> None:
        log = self.folder / "logs" / f"{master}-{name}.log"
        self._keep(f"{master}/{name}", processes.spawn([*self._inside(master), *command], log))

    def _make_keys(self) -> None:
        folder = self.folder / "ssh"
        for name in ("ssh", "logs"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
        public = " ".join((folder / "host.pub").read_text(encoding="utf-8").split()[:2])
        known = "".join(f"{self.address(name)} {public}\n" for name in self.masters)
        (folder / "known_hosts").write_text(known, encoding="utf-8")

    def _make_host(self, name: str) -> None:
        hosts.add_host(self.network, short_name(name), int(self.address(name).rpartition(".")[2]))
        for path in _OWN:
            self.path(name, path).mkdir(parents=True)
        binds = "\n".join(
            f"mount --bind '{self.path(name, path)}' {path} && mount --make-rshared {path}" for path in _OWN
        )
        # Names are known without asking anybody: a question that nobody answers holds the kubelet up for ten seconds each time.
        known = "".join(f"{self.address(master)} {master}\n" for master in self.masters)
        for path, text in {
            "etc-hosts": f"127.0.0.1 localhost\n{known}",
            "etc-resolv.conf": "nameserver 127.0.0.1\n",
        }.items():
            (self.folder / path).write_text(text, encoding="utf-8")
            binds += f"\nmount --bind '{self.folder / path}' /{path.replace('-', '/')}"
        setup = f"set -e\nmount --make-rshared /\n{binds}\nexec sleep infinity"
        private = ["unshare", "--mount", "--ipc", "--propagation", "private", "sh", "-c", setup]
        network = {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "ipam": {"type": "host-local", "ranges": [[{"subnet": f"10.244.{short_name(name)[1:]}.0/24"}]]},
                }
            ],
        }
        networks = self.path(name, "/etc/cni") / "net.d"
        networks.mkdir()
        (networks / "pods.conflist").write_text(json.dumps(network), encoding="utf-8")
        enter = hosts.enter(self.network, short_name(name), name)
        self._keep(f"{name}/host", processes.spawn([*enter, *private], self.folder / "logs" / f"{name}-host.log"))
        if not wait_for(lambda: " /etc/resolv.conf " in self.run(name, "cat", "/proc/self/mountinfo"), 20.0):
            raise KubeadmError(f"{name} has no mounts of its own; see {self.folder}/logs/{name}-host.log")
        folder, config = self.folder / "ssh", self.folder / "ssh" / f"{name}.conf"
        config.write_text(
            f"ListenAddress {self.address(name)}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\nPidFile none\n"
            "StrictModes no\nSubsystem sftp internal-sftp\nUsePAM no\nPasswordAuthentication no\n"
            "PermitRootLogin prohibit-password\nMaxStartups 100\n",
            encoding="utf-8",
        )
        self._spawn(name, "sshd", [str(shutil.which("sshd") or "/usr/sbin/sshd"), "-D", "-e", "-f", str(config)])

    def _start_containerd(self, name: str) -> None:
        config = self.folder / "containerd.toml"
        config.write_text(_CONTAINERD, encoding="utf-8")
        self._spawn(name, "containerd", ["containerd", "--config", str(config)])

    def _import_images(self, name: str, archives: Sequence[Path]) -> None:
        def serves() -> bool:
            with suppress(KubeadmError):
                return bool(self.run(name, "ctr", "-n", "k8s.io", "version"))
            return False

        if not wait_for(serves, 30.0, 0.2):
            raise KubeadmError(f"containerd does not answer on {name}; see {self.folder}/logs/{name}-containerd.log")
        for archive in archives:
            self.run(name, "ctr", "-n", "k8s.io", "image", "import", str(archive))

    def _start_kubelet(self, name: str) -> None:
        self._spawn(name, "kubelet", ["sh", "-c", _KUBELET])

    def _start_etcd(self) -> None:
        first = self.masters[0]
        url = f"http://{self.address(first)}:2379"
        command = [str(build.binaries(images.OLD) / "etcd"), "--data-dir=/var/lib/etcd/external", "--unsafe-no-fsync"]
        self._spawn(first, "etcd", [*command, f"--listen-client-urls={url}", f"--advertise-client-urls={url}"])

    def _start_balancer(self) -> None:
        backends = ",".join(f"{self.address(name)}:{_PORT}" for name in self.masters)
        command = [str(build.binaries() / "tcp-proxy"), "--listen", f"{self.network.gateway}:{_PORT}"]
        self._keep(
            "balancer", processes.spawn([*command, "--backends", backends], self.folder / "logs" / "balancer.log")
        )

    def _run_kubeadm(self, name: str) -> None:
        first = name == self.masters[0]
        config = self.folder / f"kubeadm-{name}.yml"
        config.write_text(yaml.safe_dump_all(self._init(name) if first else self._join(name)), encoding="utf-8")
        command = ["kubeadm", "init", "--upload-certs"] if first else ["kubeadm", "join"]
        self.run(name, *command, f"--config={config}")
        if not wait_for(lambda: self.is_ready(name), 120.0, 0.5):
            raise KubeadmError(f"{name} did not become ready; see {self.folder}/logs/{name}-kubelet.log")

    def _registration(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "criSocket": _SOCKET,
            "imagePullPolicy": "Never",
            # Not systemd, few cores, swap, ports and modules of a machine that is no server: none of it matters here.
            "ignorePreflightErrors": ["all"],
        }

    def _init(self, name: str) -> list[dict[str, Any]]:
        arguments = [{"name": "unsafe-no-fsync", "value": "true"}]
        etcd: dict[str, Any] = {"local": {"dataDir": "/var/lib/etcd", "extraArgs": arguments}}
        if self.data["external_etcd"]:
            etcd = {"external": {"endpoints": self.etcd["endpoints"]}}
        return [
            {
                "apiVersion": "kubeadm.k8s.io/v1beta4",
                "kind": "InitConfiguration",
                "bootstrapTokens": [{"token": _TOKEN}],
                "certificateKey": _CERTIFICATE_KEY,
                "localAPIEndpoint": {"advertiseAddress": self.address(name), "bindPort": _PORT},
                "nodeRegistration": self._registration(name),
                "skipPhases": ["addon/coredns", "addon/kube-proxy"],
            },
            {
                "apiVersion": "kubeadm.k8s.io/v1beta4",
                "kind": "ClusterConfiguration",
                "kubernetesVersion": images.OLD.kubernetes_version,
                "controlPlaneEndpoint": f"{self.network.gateway}:{_PORT}",
                "imageRepository": images.REPOSITORY,
                "etcd": etcd,
            },
            {
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "kind": "KubeletConfiguration",
                "cgroupDriver": "cgroupfs",
                "cgroupsPerQOS": False,
                "enforceNodeAllocatable": ["none"],
                "failCgroupV1": False,
                "failSwapOn": False,
                "fileCheckFrequency": "2s",
            },
        ]

    def _join(self, name: str) -> list[dict[str, Any]]:
        token = {
            "token": _TOKEN,
            "apiServerEndpoint": f"{self.network.gateway}:{_PORT}",
            "unsafeSkipCAVerification": True,
        }
        return [
            {
                "apiVersion": "kubeadm.k8s.io/v1beta4",
                "kind": "JoinConfiguration",
                "controlPlane": {
                    "certificateKey": _CERTIFICATE_KEY,
                    "localAPIEndpoint": {"advertiseAddress": self.address(name), "bindPort": _PORT},
                },
                "discovery": {"bootstrapToken": token},
                "nodeRegistration": self._registration(name),
            }
        ]

    def pids(self, master: str | None = None) -> list[int]:
        """What runs on one host or all, the pods with networks of their own included."""
        found = set()
        for name in [master] if master else self.masters:
            listed = ["ip", "netns", "pids", self.network.namespace(short_name(name))]
            done = subprocess.run(listed, capture_output=True, text=True, check=False)
            found |= set(map(int, done.stdout.split()))
        children: dict[int, list[int]] = {}
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                parent = path.joinpath("stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
                children.setdefault(int(parent), []).append(int(path.name))
        new = list(found)
        while new:
            new = [child for pid in new for child in children.get(pid, []) if child not in found]
            found |= set(new)
        return sorted(found)

    def containers(self) -> list[str]:
        found = []
        for name in self.masters:
            tasks = self.path(name, "/run/containerd") / "io.containerd.runtime.v2.task" / "k8s.io"
            found += [path.name for path in tasks.glob("*")]
        return found


def _depth(path: str) -> int:
    """How many of a path's leading folders are one of those that a host has for itself."""
    own = next((own for own in _OWN if path == own or path.startswith(own + "/")), None)
    if own is None:
        raise KubeadmError(f"{path} is not a host's own.")
    return own.strip("/").count("/")


def mount_points() -> set[str]:
    """Every mount point that some process sees."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        with suppress(OSError):
            found |= {line.split()[4] for line in path.read_text(encoding="utf-8").splitlines()}
    return found


def _require_programs() -> None:
    missing = [] if Path(_CNI, "bridge").exists() else ["CNI's bridge"]
    missing += [name for name in _NEEDED if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    if missing:
        raise KubeadmError(
            f"{', '.join(missing)} can't be found; install Debian's containerd, runc, containernetworking-plugins, openssh-server, iproute2 and util-linux, "
            "as make test-kubeadm does."
        )


def _remove_cgroups(containers: Sequence[str]) -> None:
    names = {*containers, "k8s.io"}  # the latter, which holds them, goes if it is empty

    def left() -> list[str]:
        found = []
        for base, folders, _files in os.walk("/sys/fs/cgroup", topdown=False):
            for folder in names.intersection(folders):
                with suppress(OSError):
                    os.rmdir(os.path.join(base, folder))
                    continue
                found.append(folder)
        return [name for name in found if name in containers]

    # A killed process may take a moment to leave.
    wait_for(lambda: not left(), 20.0, 0.2)


def reap(folder: Path, owner_pid: int) -> None:
    """Waits for a process to end, then takes the cluster down."""
    await_end(owner_pid)
    with suppress(KubeadmError):
        KubeadmCluster(folder).down()


def _run(options: argparse.Namespace) -> Mapping[str, Any] | None:
    if options.verb == "build":
        return {module.kubernetes_version: str(images.archive(module)) for module in (images.OLD, images.NEW)}
    if options.verb == "reap":
        reap(options.dir, options.owner_pid)
        return None
    if options.verb == "down":
        KubeadmCluster(options.dir).down()
        return None
    cluster = (
        KubeadmCluster.up(options.dir, masters=options.masters) if options.verb == "up" else KubeadmCluster(options.dir)
    )
    return {
        "kubeconfig": str(cluster.kubeconfig),
        "etcd": cluster.etcd,
        "hosts": {name: {"ansible_host": cluster.address(name), **cluster.ssh} for name in cluster.masters},
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="cluster.py", description="Real masters by kubeadm, for tests.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="build the programs and images, if that was not done before")
    up = verbs.add_parser("up", help="make a cluster; prints JSON")
    up.add_argument("--dir", required=True, type=Path)
    up.add_argument("--masters", type=int, default=3)
    verbs.add_parser("show", help="how it is reached; prints JSON").add_argument("dir", type=Path)
    verbs.add_parser("down", help="stop and remove everything").add_argument("dir", type=Path)
    reaper = verbs.add_parser("reap")
    reaper.add_argument("dir", type=Path)
    reaper.add_argument("owner_pid", type=int)
    options = parser.parse_args()
    try:
        result = _run(options)
    except (KubeadmError, build.BuildError, hosts.HostError) as error:
        print(f"cluster.py: {error}", file=sys.stderr)
        return 2
    if result is not None:
        print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
