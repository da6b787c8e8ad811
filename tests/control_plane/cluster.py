#!/usr/bin/env python3
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real, highly available Kubernetes control plane on one machine: for tests, demo and benchmarks.

Each master and each etcd member runs in a network namespace of its own. As a program it has the verbs
that README.md lists; as a module it offers Cluster.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.control_plane import build, cgroups, hosts, processes, releases
from tests.control_plane.certificates import Authority, Pair, service_account_key
from tests.control_plane.folder import ClusterFolder, Server, await_end, get, short_name
from tests.control_plane.processes import Process, wait_for

_MASTER_HOST, _ETCD_HOST = 11, 21
_PORT = 6443
_READY = 120.0
_SERVICE_ADDRESS = "10.96.0.1"
# As k3s starts it.
_SQLITE = "_journal_mode=WAL&_busy_timeout=30000&_synchronous=NORMAL&_txlock=immediate&cache=shared"
_DNS_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")


class ClusterError(Exception):
    """Something that the caller can fix; one sentence."""


class Cluster(ClusterFolder):
    """A control plane in a folder; its state is in ``cluster.json`` there."""

    STATE = "cluster.json"
    ERROR = ClusterError

    # Making and removing

    @classmethod
    def up(
        cls,
        folder: Path,
        *,
        masters: int = 3,
        version: str = "1.37",
        etcd_members: int = 1,
        flags: Sequence[str] = (),
        controllers: str = "",
        controllers_version: str = "",
        controllers_flags: Sequence[str] = (),
        etcd_version: str = "",
        kine: bool = False,
        kine_endpoint: str = "",
        cpu_quota: float = 0.0,
        fsync: bool = False,
        owner_pid: int = 0,
    ) -> Cluster:
        """Makes a cluster and returns when every master is ready and listed in the EndpointSlice.

        ``version``: ``1.36.5`` runs that release's own kube-apiserver, ``1.36`` the newest binary emulating it.
        ``flags`` are NAME=VALUE for kube-apiserver, ``master-2:NAME=VALUE`` for one of them.
        ``controllers``: names for kube-controller-manager, which runs only if there are any.
        ``controllers_flags``: NAME=VALUE for it.
        ``controllers_version`` and ``etcd_version``: other releases than the newest, such as ``1.36.5`` and ``3.6.8``.
        ``kine``: in the place of etcd, with the database that ``kine_endpoint`` is (kine's ``--endpoint``), or SQLite.
        ``cpu_quota``: cores for each kube-apiserver. ``owner_pid``: the cluster goes down when that process ends.
        """
        hosts.require_root()
        folder = folder.resolve()
        if cls.exists(folder):
            cls(folder).down()
        _build_all(version, controllers_version, etcd_version)
        if kine:
            build.binaries(build.kine())
        bin_folder = build.binaries()
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("logs", "certificates", "etcd", "encryption", "bin"):
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir()
        for program in build.CONTROL_PLANE.programs:
            (folder / "bin" / program).symlink_to(bin_folder / program)
        network = hosts.take_network(folder)
        data: dict[str, Any] = {
            "network": network.number,
            "members": {
                f"etcd-{i}": {"address": network.address(_ETCD_HOST + i - 1)} for i in range(1, etcd_members + 1)
            },
            "masters": {
                f"master-{i}": {"address": network.address(_MASTER_HOST + i - 1), "version": version, "flags": {}}
                for i in range(1, masters + 1)
            },
            "processes": {},
            "cpu_quota": cpu_quota,
            "fsync": fsync,
            "controllers": controllers,
            "controllers_version": controllers_version,
            "controllers_flags": dict(flag.split("=", 1) for flag in controllers_flags),
            "etcd_version": etcd_version,
            "kine": kine,
            "kine_endpoint": kine_endpoint,
        }
        (folder / cls.STATE).write_text(json.dumps(data), encoding="utf-8")
        cluster = cls(folder)
        try:
            if owner_pid:
                cluster._start_reaper(owner_pid)
            cluster.set_flags(flags)
            cluster._make_hosts()
            cluster._make_certificates()
            for name in cluster.data["members"]:
                cluster._start_etcd(name)
            cluster._await_etcd()
            for name in cluster.data["masters"]:
                cluster._start_master(name)
            cluster._start_balancer()
            cluster._await_masters()
            if controllers:
                cluster.start("controller-manager")
        except BaseException:
            cluster.down()
            raise
        return cluster

    def down(self) -> None:
        """Stops everything and removes the namespaces; logs and certificates stay in the folder."""
        self._catch_up()
        known = [
            process for process in map(processes.from_dict, self.data["processes"].values()) if process is not None
        ]
        running = [process for process in known if process.pid != os.getpid()]  # the reaper itself may be what calls
        for process in running:
            process.send(signal.SIGCONT)
            process.send(signal.SIGKILL)
        for process in running:
            process.kill()
        hosts.release_network(self.data["network"])
        for name in self.data["masters"]:
            cgroups.remove(self._cgroup(name))
        (self.folder / self.STATE).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    # What it is

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; it points at the load balancer, as users have it."""
        return self.folder / "kubeconfig"

    def url(self, master: str) -> str:
        """A master's own address."""
        return f"https://{self.address(master)}:{_PORT}"

    @property
    def urls(self) -> list[str]:
        return [self.url(master) for master in self.masters]

    @property
    def balancer_url(self) -> str:
        return f"https://{self.network.gateway}:{_PORT}"

    def certificate(self, name: str) -> Pair:
        folder = self.folder / "certificates"
        return Pair(folder / f"{name}.crt", folder / f"{name}.key")

    @property
    def etcd(self) -> dict[str, Any]:
        """The option ``etcd`` of the collection's modules."""
        client = self.certificate("etcd-client")
        return {
            "endpoints": [f"https://{member['address']}:2379" for member in self.data["members"].values()],
            "ca_cert": str(self.certificate("etcd-ca").cert),
            "client_cert": str(client.cert),
            "client_key": str(client.key),
            "prefix": "/registry",
        }

    def describe(self) -> dict[str, Any]:
        """What ``up`` prints."""
        admin = self.certificate("admin")
        return {
            "dir": str(self.folder),
            "servers": [
                {
                    "name": name,
                    "url": self.url(name),
                    "address": master["address"],
                    "hostname": name,
                    "version": master["version"],
                    "kubeconfig": str(self.folder / f"kubeconfig-{name}"),
                }
                for name, master in self.data["masters"].items()
            ],
            "balancer": self.balancer_url,
            "kubeconfig": str(self.kubeconfig),
            "ca_cert": str(self.certificate("ca").cert),
            "client_cert": str(admin.cert),
            "client_key": str(admin.key),
            "etcd": self.etcd,
            "kubectl": str(self.folder / "bin" / "kubectl"),
        }

    def status(self) -> dict[str, Any]:
        """Which processes run, and which masters are ready."""
        return {
            name: {
                "running": (process := processes.from_dict(data)) is not None and process.alive,
                **({"version": self.data["masters"][name]["version"], "ready": self.is_ready(name)} if name in self.data["masters"] else {}),
            }
            for name, data in self.data["processes"].items()
        }  # fmt: skip

    # Steering

    def start(self, name: str, *, version: str | None = None, flags: Sequence[str] = ()) -> dict[str, Any]:
        """Starts a master (its readiness is awaited), an etcd member or the controller-manager."""
        self._catch_up()
        if self._running(name):
            raise ClusterError(f"{name} is running already.")
        if name in self.data["members"]:
            self._start_etcd(name)
            return {"name": name}
        if name == "controller-manager":
            if version:
                build.binaries(build.control_plane(releases.release(version)))
                self._change(lambda data: data.update(controllers_version=version))
            self._start_controller_manager()
            return {"name": name}
        self._require_master(name)
        if version:
            releases.server(version)
            self._change(lambda data: data["masters"][name].update(version=version))
        self.set_flags([flag if flag.startswith("master-") else f"{name}:{flag}" for flag in flags])
        self._start_master(name)
        self._await_ready(name)
        return {"name": name, "version": self.data["masters"][name]["version"], "up_at": time.time()}

    def stop(self, name: str) -> None:
        """Stops in an orderly way."""
        self._catch_up()
        self._process(name).stop()
        self._forget(name)

    def kill(self, name: str) -> None:
        """SIGKILL: as if the machine lost power."""
        self._catch_up()
        self._process(name).kill()
        self._forget(name)

    def pause(self, name: str) -> None:
        """SIGSTOP: the host hangs."""
        self._catch_up()
        self._process(name).send(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self._catch_up()
        self._process(name).send(signal.SIGCONT)

    def upgrade(self, name: str, version: str, *, flags: Sequence[str] = ()) -> dict[str, Any]:
        """Replaces one master's process with another version's; returns when it is ready again."""
        self._catch_up()
        self._require_master(name)
        before = self.data["masters"][name]["version"]
        build.binaries(build.control_plane(releases.server(version).release))  # A master isn't down for a build.
        down_at = time.time()
        if self._running(name):
            self.stop(name)
        result = self.start(name, version=version, flags=flags)
        return {**result, "from": before, "down_at": down_at, "seconds": round(result["up_at"] - down_at, 3)}

    def restore(self, snapshot: Path) -> None:
        """Makes every member of etcd again from a snapshot, with etcdutl; no master runs meanwhile, and none afterwards."""
        program = build.binaries(build.etcdutl()) / "etcdutl"
        self._catch_up()
        for name in (*self.data["masters"], *self.data["members"]):
            if self._running(name):
                self.stop(name)
        for name, member in self.data["members"].items():
            folder = self.folder / "etcd" / name
            shutil.rmtree(folder)
            command = [str(program), "snapshot", "restore", str(snapshot), f"--data-dir={folder}", f"--name={name}"]
            command += [
                f"--initial-advertise-peer-urls=https://{member['address']}:2380",
                f"--initial-cluster={self._peers()}",
            ]
            command += ["--initial-cluster-token=restored", "--bump-revision=1000000000", "--mark-compacted"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise ClusterError(f"etcdutl can't restore {snapshot}: {done.stderr[-500:]}")
            self._start_etcd(name)
        self._await_etcd()

    def _peers(self) -> str:
        """etcd's members as each is told about all."""
        return ",".join(f"{name}=https://{member['address']}:2380" for name, member in self.data["members"].items())

    def encrypt(self, name: str, config: Path) -> dict[str, Any]:
        """Restarts a master with another encryption configuration."""
        self._catch_up()
        self._require_master(name)
        own = self.folder / "encryption" / f"{name}.yaml"
        shutil.copyfile(config, own)
        own.chmod(0o600)
        version = self.data["masters"][name]["version"]
        return self.upgrade(name, version, flags=[f"encryption-provider-config={own}"])

    def limit_cpu(self, cores: float) -> None:
        """Changes how many cores each kube-apiserver may use; only for clusters made with a ``cpu_quota``."""
        if not self.data["cpu_quota"]:
            raise ClusterError("This cluster was made without a CPU quota; start it with --cpu-quota.")
        self._change(lambda data: data.update(cpu_quota=cores))
        for name in self.masters:
            cgroups.limited(self._cgroup(name), cores)

    def kubectl(self, *arguments: str, input: str | None = None, kubeconfig: Path | None = None) -> str:
        """Runs kubectl and returns its output; raises ClusterError with what it says on failure."""
        done = subprocess.run(
            [str(self.folder / "bin" / "kubectl"), "--kubeconfig", str(kubeconfig or self.kubeconfig), *arguments],
            input=input,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HOME": str(self.folder)},
        )
        if done.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout

    def user_kubeconfig(self, name: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig for another user, who has no rights but those given to that name or groups."""
        pair = Authority(self.folder / "certificates", "ca").issue(f"user-{name}", name, organizations=groups)
        return self._write_kubeconfig(f"kubeconfig-user-{name}", self.balancer_url, pair)

    def is_ready(self, master: str) -> bool:
        """Whether a master says that it is ready, asked at its own address."""
        return self._ask(self.address(master), _PORT, "/readyz", "ca", "admin") == b"ok"

    def server(self, master: str) -> Server:
        """One to ask often, as an administrator."""
        return Server(self.address(master), _PORT, self._context("ca", "admin"))

    # Inside

    def _catch_up(self) -> None:
        """Other processes (a playbook that upgrades masters) may have restarted some since this object was made."""
        self.data = Cluster(self.folder).data

    def _require_master(self, name: str) -> None:
        if name not in self.data["masters"]:
            raise ClusterError(f"There is no {name}; this cluster has {', '.join(self.masters)}.")

    def _process(self, name: str) -> Process:
        process = processes.from_dict(self.data["processes"].get(name))
        if process is None:
            known = ", ".join(self.data["processes"])
            raise ClusterError(f"{name} does not run; running are {known}.")
        return process

    def _running(self, name: str) -> bool:
        process = processes.from_dict(self.data["processes"].get(name))
        return process is not None and process.alive

    def _forget(self, name: str) -> None:
        self._change(lambda data: data["processes"].pop(name, None))

    def _cgroup(self, name: str) -> str:
        return f"ksu{self.data['network']}-{name}"

    def _spawn(self, name: str, command: Sequence[str], *, host: str | None = None, quota: float = 0.0) -> None:
        prefix = hosts.enter(self.network, short_name(host), host) if host else []
        group = cgroups.limited(self._cgroup(name), quota) if quota else None
        self._keep(name, processes.spawn([*prefix, *command], self.folder / "logs" / f"{name}.log", cgroup=group))

    def set_flags(self, flags: Sequence[str]) -> None:
        """Flags of all masters, or as ``master-2:NAME=VALUE`` of one, from its next start on."""
        changed: dict[str, dict[str, str]] = defaultdict(dict)
        for flag in flags:
            found = re.fullmatch(r"(?:(master-\d+):)?(?:--)?([a-z0-9-]+)=(.*)", flag, re.DOTALL)
            if found is None:
                raise ClusterError(f"'{flag}' is not a flag; write it as NAME=VALUE or master-2:NAME=VALUE.")
            master, name, value = found.groups()
            for named in [master] if master else self.masters:
                self._require_master(named)
                changed[named][name] = value

        def change(data: dict[str, Any]) -> None:
            for master, values in changed.items():
                data["masters"][master]["flags"].update(values)

        self._change(change)

    def _make_hosts(self) -> None:
        for name, member in self.data["members"].items():
            hosts.add_host(self.network, short_name(name), int(member["address"].rpartition(".")[2]))
        for name, master in self.data["masters"].items():
            hosts.add_host(self.network, short_name(name), int(master["address"].rpartition(".")[2]))

    def _make_certificates(self) -> None:
        folder = self.folder / "certificates"
        cluster, etcd, front = (Authority(folder, name) for name in ("ca", "etcd-ca", "front-proxy-ca"))
        for name, member in self.data["members"].items():
            etcd.issue(name, name, addresses=[member["address"], "127.0.0.1"], dns_names=[name, "localhost"])
        etcd.issue("etcd-client", "kube-apiserver-etcd-client")
        front.issue("front-proxy-client", "front-proxy-client")
        for name, master in self.data["masters"].items():
            addresses = [master["address"], self.network.gateway, _SERVICE_ADDRESS, "127.0.0.1"]
            cluster.issue(name, "kube-apiserver", addresses=addresses, dns_names=[name, *_DNS_NAMES])
        admin = cluster.issue("admin", "kubernetes-admin", organizations=["system:masters"])
        # All controllers share one identity here, which therefore needs the rights of all of them.
        manager = cluster.issue(
            "controller-manager", "system:kube-controller-manager", organizations=["system:masters"]
        )
        service_account_key(folder / "sa.key")
        self._write_kubeconfig("kubeconfig", self.balancer_url, admin)
        self._write_kubeconfig("kubeconfig-controller-manager", self.balancer_url, manager)
        for name in self.masters:
            self._write_kubeconfig(f"kubeconfig-{name}", self.url(name), admin)

    def _write_kubeconfig(self, name: str, url: str, pair: Pair) -> Path:
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "test", "cluster": {"server": url, "certificate-authority": str(self.certificate("ca").cert)}}
            ],
            "users": [{"name": "me", "user": {"client-certificate": str(pair.cert), "client-key": str(pair.key)}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "me"}}],
            "current-context": "test",
        }
        path = self.folder / name
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")
        path.chmod(0o600)
        return path

    def _program(self, name: str, release: releases.Release | releases.Etcd) -> str:
        """The newest is that of the cluster's start, which needs no Go and no checkout anymore."""
        if release == releases.NEWEST:
            return str(self.folder / "bin" / name)
        return str(build.binaries(build.control_plane(release)) / name)

    @property
    def database(self) -> Path:
        """The file in which kine keeps everything if it was given no other database."""
        return self.folder / "etcd" / "state.db"

    def _start_kine(self, name: str) -> None:
        pair, ca = self.certificate(name), self.certificate("etcd-ca").cert
        command = [
            str(build.binaries(build.kine()) / "kine"),
            f"--endpoint={self.data['kine_endpoint'] or f'sqlite://{self.database}?{_SQLITE}'}",
            f"--listen-address=tcp://{self.data['members'][name]['address']}:2379",
            f"--server-cert-file={pair.cert}",
            f"--server-key-file={pair.key}",
            f"--trusted-ca-file={ca}",
            "--metrics-bind-address=0",
        ]
        self._spawn(name, command, host=name)

    def _start_etcd(self, name: str) -> None:
        if self.data["kine"]:
            self._start_kine(name)
            return
        version = self.data["etcd_version"]
        address = self.data["members"][name]["address"]
        pair, ca = self.certificate(name), self.certificate("etcd-ca").cert
        command = [
            self._program("etcd", releases.with_etcd(version, build.is_built) if version else releases.NEWEST),
            f"--name={name}",
            f"--data-dir={self.folder / 'etcd' / name}",
            f"--listen-client-urls=https://{address}:2379",
            f"--advertise-client-urls=https://{address}:2379",
            f"--listen-peer-urls=https://{address}:2380",
            f"--initial-advertise-peer-urls=https://{address}:2380",
            f"--initial-cluster={self._peers()}",
            f"--cert-file={pair.cert}",
            f"--key-file={pair.key}",
            f"--trusted-ca-file={ca}",
            "--client-cert-auth=true",
            f"--peer-cert-file={pair.cert}",
            f"--peer-key-file={pair.key}",
            f"--peer-trusted-ca-file={ca}",
            "--peer-client-cert-auth=true",
            "--log-level=warn",
        ]
        if not self.data["fsync"]:
            command.append("--unsafe-no-fsync")
        self._spawn(name, command, host=name)

    def _await_etcd(self) -> None:
        for name, member in self.data["members"].items():
            address = member["address"]

            def healthy(address: str = address) -> bool:
                if self.data["kine"]:
                    return _listens(address, 2379)
                return b'"true"' in self._ask(address, 2379, "/health", "etcd-ca", "etcd-client")

            if not wait_for(healthy, 60.0):
                raise ClusterError(f"{name} did not become healthy; see {self.folder}/logs/{name}.log")

    def _start_master(self, name: str) -> None:
        master = self.data["masters"][name]
        server = releases.server(master["version"])
        certificates, own = self.folder / "certificates", self.certificate(name)
        etcd, front = self.certificate("etcd-client"), self.certificate("front-proxy-client")
        flags: dict[str, str] = {
            "advertise-address": master["address"],
            "authorization-mode": "Node,RBAC",
            "bind-address": "0.0.0.0",
            "cert-dir": str(self.folder / "certificates" / f"{name}-self"),
            "client-ca-file": str(self.certificate("ca").cert),
            **({"emulated-version": server.emulated} if server.emulated else {}),
            "enable-aggregator-routing": "true",
            "etcd-cafile": str(self.certificate("etcd-ca").cert),
            "etcd-certfile": str(etcd.cert),
            "etcd-keyfile": str(etcd.key),
            "etcd-servers": ",".join(self.etcd["endpoints"]),
            "proxy-client-cert-file": str(front.cert),
            "proxy-client-key-file": str(front.key),
            "requestheader-allowed-names": "front-proxy-client",
            "requestheader-client-ca-file": str(self.certificate("front-proxy-ca").cert),
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-username-headers": "X-Remote-User",
            "secure-port": str(_PORT),
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-account-key-file": str(certificates / "sa.key"),
            "service-account-signing-key-file": str(certificates / "sa.key"),
            "service-cluster-ip-range": "10.96.0.0/16",
            "tls-cert-file": str(own.cert),
            "tls-private-key-file": str(own.key),
            **master["flags"],
        }
        program = self._program("kube-apiserver", server.release)
        command = [program, *(f"--{key}={value}" for key, value in flags.items())]
        self._spawn(name, command, host=name, quota=float(self.data["cpu_quota"]))
        # API servers tell when they were started in hundredths of a second, and on hosts of their own hardly two are in the same one.
        started = time.monotonic()
        wait_for(lambda: time.monotonic() > started + 0.02, 1.0, 0.005)

    def _start_balancer(self) -> None:
        backends = ",".join(f"{master['address']}:{_PORT}" for master in self.data["masters"].values())
        command = [
            str(self.folder / "bin" / "tcp-proxy"),
            "--listen",
            f"{self.network.gateway}:{_PORT}",
            "--backends",
            backends,
        ]
        self._spawn("balancer", command)

    def _start_controller_manager(self) -> None:
        kubeconfig = str(self.folder / "kubeconfig-controller-manager")
        flags: Mapping[str, str] = {
            "authentication-kubeconfig": kubeconfig,
            "authorization-kubeconfig": kubeconfig,
            "bind-address": "127.0.0.1",
            "controllers": self.data["controllers"] or "garbage-collector-controller,namespace-controller",
            "kubeconfig": kubeconfig,
            "leader-elect": "false",
            "root-ca-file": str(self.certificate("ca").cert),
            "secure-port": "0",
            "service-account-private-key-file": str(self.folder / "certificates" / "sa.key"),
            "use-service-account-credentials": "false",
            **self.data["controllers_flags"],
        }
        version = self.data["controllers_version"]
        release = releases.release(version) if version else releases.NEWEST
        program = self._program("kube-controller-manager", release)
        self._spawn("controller-manager", [program, *(f"--{key}={value}" for key, value in flags.items())])

    def _start_reaper(self, owner_pid: int) -> None:
        self._spawn("reaper", [sys.executable, str(Path(__file__).resolve()), "reap", str(self.folder), str(owner_pid)])

    def _await_masters(self) -> None:
        for name in self.masters:
            self._await_ready(name)
        self.await_listed()

    def await_listed(self) -> None:
        """Until the EndpointSlice lists all masters, also one that was started just now: each lists itself every ten seconds."""
        addresses = {master["address"] for master in self.data["masters"].values()}

        def listed() -> bool:
            # Where no server has written it yet, there is none, which is not an error here.
            text = self.kubectl("get", "endpointslice", "kubernetes", "--ignore-not-found", "-o", "json") or "{}"
            endpoints = json.loads(text).get("endpoints") or []
            return {address for endpoint in endpoints for address in endpoint["addresses"]} == addresses

        if not wait_for(listed, 60.0, 0.2):
            raise ClusterError("The EndpointSlice default/kubernetes does not list all masters.")

    def _await_ready(self, name: str) -> None:
        if not wait_for(lambda: self.is_ready(name) or not self._running(name), _READY, 0.1) or not self.is_ready(name):
            log = self.folder / "logs" / f"{name}.log"
            tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
            raise ClusterError(f"{name} did not become ready; the end of {log}: {' | '.join(tail)}")

    def _ask(self, address: str, port: int, path: str, ca: str, client: str) -> bytes:
        """The body of a GET; empty where there is no good answer."""
        return get(address, port, path, self._context(ca, client))

    def _context(self, ca: str, client: str) -> ssl.SSLContext:
        pair = self.certificate(client)
        context = ssl.create_default_context(cafile=str(self.certificate(ca).cert))
        context.load_cert_chain(pair.cert, pair.key)
        return context


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=5):
            return True
    except OSError:
        return False


def _build_all(version: str, controllers_version: str, etcd_version: str) -> None:
    """Checks whether these can run before anything else is done, and builds what is missing."""
    needed: set[releases.Release | releases.Etcd] = {releases.NEWEST, releases.server(version).release}
    if controllers_version:
        needed.add(releases.release(controllers_version))
    if etcd_version:
        needed.add(releases.with_etcd(etcd_version, lambda row: row in needed or build.is_built(row)))
    for release in (*releases.CONTROL_PLANE, *releases.ETCD):
        if release in needed:
            build.binaries(build.control_plane(release))


def reap(folder: Path, owner_pid: int) -> None:
    """Waits for a process to end, then takes the cluster down."""
    await_end(owner_pid)
    try:
        cluster = Cluster(folder)
    except ClusterError:
        return
    cluster.down()


def clean() -> list[str]:
    """Takes down every registered cluster, whoever started it; returns their folders."""
    found = []
    for number, folder in hosts.registered().items():
        found.append(folder)
        if (Path(folder) / "kubeadm.json").exists():
            program = Path(__file__).resolve().parents[1] / "kubeadm" / "cluster.py"
            subprocess.run([sys.executable, str(program), "down", folder], check=False)
        try:
            Cluster(Path(folder)).down()
        except (ClusterError, ValueError, KeyError):
            hosts.release_network(int(number))
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cluster.py", description="A real control plane for tests.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    building = verbs.add_parser("build", help="build the binaries, if that was not done before")
    building.add_argument("--promtool", action="store_true", help="build just promtool, for tests/monitoring")
    building.add_argument("--version", action="append", help="of this release; default: those that make test runs")
    up = verbs.add_parser("up", help="make a cluster; prints JSON")
    up.add_argument("--dir", required=True, type=Path)
    up.add_argument("--masters", type=int, default=3)
    up.add_argument("--version", default="1.37", help="1.36.5: that release itself; 1.36: the newest, emulating it")
    up.add_argument("--etcd-members", type=int, default=1)
    up.add_argument("--controllers", default="", help="run kube-controller-manager with these controllers")
    up.add_argument("--controllers-version", default="", help="release of kube-controller-manager; default: the newest")
    up.add_argument("--etcd-version", default="", help="release of etcd, such as 3.6.8; default: the newest")
    up.add_argument("--kine", action="store_true", help="kine with SQLite, in the place of etcd")
    up.add_argument("--cpu-quota", type=float, default=0.0, help="cores for each kube-apiserver")
    up.add_argument("--fsync", action="store_true", help="let etcd sync to disk, as in production")
    up.add_argument("--owner-pid", type=int, default=0, help="take the cluster down when this process ends")
    for name, text in (
        ("upgrade", "replace a master's process with another version's"),
        ("start", "start what was killed"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("dir", type=Path)
        verb.add_argument("name")
        verb.add_argument("--version", required=name == "upgrade")
        verb.add_argument("--flag", action="append", default=[], help="NAME=VALUE for its kube-apiserver")
    up.add_argument("--flag", action="append", default=[], help="NAME=VALUE, or master-2:NAME=VALUE")
    for name, text in (
        ("stop", "SIGTERM, and wait"),
        ("kill", "SIGKILL"),
        ("pause", "SIGSTOP"),
        ("resume", "SIGCONT"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("dir", type=Path)
        verb.add_argument("name", help="master-1, etcd-1, controller-manager")
    encrypt = verbs.add_parser("encrypt", help="restart a master with this EncryptionConfiguration")
    encrypt.add_argument("dir", type=Path)
    encrypt.add_argument("name")
    encrypt.add_argument("--config", required=True, type=Path)
    for name, text in (("status", "what runs; prints JSON"), ("down", "stop and remove everything")):
        verbs.add_parser(name, help=text).add_argument("dir", type=Path)
    verbs.add_parser("clean", help="take down every cluster on this machine, also those of callers that crashed")
    reaper = verbs.add_parser("reap")
    reaper.add_argument("dir", type=Path)
    reaper.add_argument("owner_pid", type=int)
    return parser


def _run(options: argparse.Namespace) -> Any:
    if options.verb == "build" and options.promtool:
        return {"promtool": str(build.binaries(build.promtool()))}
    if options.verb == "build":
        rows = [releases.release(version) for version in options.version or ()] or releases.OF_MAKE_TEST
        alone = [] if options.version else [build.kine(), build.migrator()]
        built = {row.kubernetes: str(build.binaries(build.control_plane(row))) for row in rows}
        return built | {module.name: str(build.binaries(module)) for module in alone}
    if options.verb == "up":
        return Cluster.up(
            options.dir,
            masters=options.masters,
            version=options.version,
            etcd_members=options.etcd_members,
            flags=options.flag,
            controllers=options.controllers,
            controllers_version=options.controllers_version,
            etcd_version=options.etcd_version,
            kine=options.kine,
            cpu_quota=options.cpu_quota,
            fsync=options.fsync,
            owner_pid=options.owner_pid,
        ).describe()
    if options.verb == "clean":
        return {"removed": clean()}
    if options.verb == "reap":
        return reap(options.dir, options.owner_pid)
    cluster = Cluster(options.dir)
    if options.verb in ("upgrade", "start"):
        act = cluster.upgrade if options.verb == "upgrade" else cluster.start
        return act(options.name, version=options.version, flags=options.flag)
    if options.verb == "encrypt":
        return cluster.encrypt(options.name, options.config)
    if options.verb == "status":
        return cluster.status()
    if options.verb == "down":
        cluster.down()
        return None
    getattr(cluster, options.verb)(options.name)
    return None


def main() -> int:
    options = _parser().parse_args()
    try:
        result = _run(options)
    except (ClusterError, build.BuildError, hosts.HostError, releases.VersionError) as error:
        print(f"cluster.py: {error}", file=sys.stderr)
        return 2
    if result is not None:
        print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
