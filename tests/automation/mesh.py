# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes of automation mesh: receptor in network, process and host name spaces of their own, as on machines of their own.

All connect to the node ``control``, which gives them work as AWX does: what ansible-runner transmits is run by ansible-runner's worker there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.control_plane import hosts, processes
from tests.control_plane.cluster import Cluster
from tests.control_plane.processes import Process, wait_for

CONTROL = "control"
_PORT = 27199
# The last part of a node's addresses; masters and etcd members have lower ones.
_FIRST = 100


class MeshError(Exception):
    """A node or a job doesn't do what it should; one sentence."""


@dataclass(frozen=True)
class Job:
    """One run of Ansible on a node. ``unit``: receptor's name for it. ``folder``: what was transmitted, and what came back."""

    node: str
    unit: str
    folder: Path

    @property
    def output(self) -> str:
        """What Ansible printed."""
        path = self.folder / "artifacts" / "stdout"
        return path.read_text(encoding="utf-8") if path.exists() else ""


class Mesh:
    """Use as a context manager. ``clusters``: each node has an address in each of their networks."""

    def __init__(
        self, folder: Path, receptor: str, programs: Path, nodes: Sequence[str], clusters: Sequence[Cluster]
    ) -> None:
        self.folder, self.receptor, self.programs = folder, receptor, programs
        self.nodes, self.clusters = [CONTROL, *nodes], clusters
        self._processes: dict[str, Process] = {}
        folder.mkdir(parents=True)
        self.network = hosts.take_network(folder)

    def __enter__(self) -> Mesh:
        try:
            for number, name in enumerate(self.nodes):
                self._make_host(name, _FIRST + number)
                self._start(name)
            self._await(lambda: set(self.nodes) <= self.reachable(), "the nodes don't see one another")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        for process in self._processes.values():
            process.kill()
        hosts.release_network(self.network.number)

    def _make_host(self, name: str, number: int) -> None:
        hosts.add_host(self.network, name, number)
        for cluster in self.clusters:
            hosts.add_leg(self.network.namespace(name), cluster.network, name, number)

    def _start(self, name: str) -> None:
        own = self.folder / name
        own.mkdir()
        config = own / "receptor.yml"
        config.write_text(yaml.safe_dump(self._config(name, own), sort_keys=False), encoding="utf-8")
        # The first process of a name space takes all others with it when it ends.
        alone = ["unshare", "--pid", "--mount-proc", "--fork", "--kill-child"]
        # ansible-runner starts the ansible-playbook that it finds there.
        path = ["env", f"PATH={self.programs}:{os.environ['PATH']}"]
        command = [*hosts.enter(self.network, name, name), *alone, *path, self.receptor, "--config", str(config)]
        self._processes[name] = processes.spawn(command, own / "receptor.log")

    def _config(self, name: str, own: Path) -> list[dict[str, Any]]:
        address = self.network.address(_FIRST)
        common: list[dict[str, Any]] = [
            {"node": {"id": name, "datadir": str(own / "data")}},
            {"log-level": {"level": "info"}},
            {"control-service": {"service": "control", "filename": str(own / "control.sock")}},
        ]
        if name == CONTROL:
            return [*common, {"tcp-listener": {"bindaddr": address, "port": _PORT}}]
        worker = {
            "worktype": "ansible-runner",
            "command": str(self.programs / "ansible-runner"),
            "params": "worker",
            "allowruntimeparams": True,
        }
        return [*common, {"tcp-peer": {"address": f"{address}:{_PORT}", "redial": True}}, {"work-command": worker}]

    def kill(self, name: str) -> None:
        """As if the node lost power."""
        self._processes.pop(name).kill()
        self._await(lambda: name not in self.reachable(), f"{name} is still seen")

    def reachable(self) -> set[str]:
        """The nodes that the control node has a way to, and itself."""
        try:
            status = json.loads(self._ctl("status", "--json"))
        except MeshError:
            return set()
        return {CONTROL, *(status.get("RoutingTable") or {})}

    # Work

    def submit(self, node: str, folder: Path, inventory: Mapping[str, Any], variables: Mapping[str, Any]) -> Job:
        """Has a node run the project's playbook fleet.yml, and doesn't wait for it."""
        (folder / "env").mkdir(parents=True)
        (folder / "env" / "extravars").write_text(json.dumps(variables), encoding="utf-8")
        (folder / "env" / "envvars").write_text(json.dumps(dict(self.environment())), encoding="utf-8")
        (folder / "inventory").mkdir()
        (folder / "inventory" / "hosts.json").write_text(json.dumps(inventory), encoding="utf-8")
        (folder / "project").mkdir()
        (folder / "project" / "fleet.yml").write_text(
            "- import_playbook: kube_storage.upgrade.fleet\n", encoding="utf-8"
        )
        payload = folder.with_suffix(".payload")
        with open(payload, "wb") as file:
            subprocess.run(
                [str(self.programs / "ansible-runner"), "transmit", str(folder), "-p", "fleet.yml"],
                check=True,
                stdout=file,
            )
        there = f"--private-data-dir={self.folder / node / folder.name} --delete"
        told = self._ctl(
            "work", "submit", "ansible-runner", "--node", node, "--payload", str(payload), "--param", f"params={there}"
        )
        unit = next((line.split()[-1] for line in told.splitlines() if line.startswith("Unit ID:")), "")
        if not unit:
            raise MeshError(f"receptor gave the job no name: {told}")
        return Job(node, unit, folder)

    def environment(self) -> Mapping[str, str]:
        """Ansible's settings on the nodes."""
        root = Path(__file__).resolve().parents[2]
        return {
            "ANSIBLE_COLLECTIONS_PATH": str(root / ".ansible" / "collections"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
        }

    def finish(self, job: Job, timeout: float = 600) -> int:
        """Waits until it has ended, fetches what it made, and returns Ansible's exit status."""
        results = job.folder.with_suffix(".results")
        with open(results, "wb") as file:
            # It fails if the playbook has failed.
            subprocess.run(
                [*self._client(), "work", "results", job.unit],
                check=False,
                stdout=file,
                stderr=subprocess.DEVNULL,
                timeout=timeout,
            )
        with open(results, "rb") as file:
            subprocess.run(
                [str(self.programs / "ansible-runner"), "process", str(job.folder)],
                stdin=file,
                stdout=subprocess.DEVNULL,
                check=False,
            )
        code = job.folder / "artifacts" / "rc"
        if not code.exists():
            raise MeshError(f"Nothing came back from {job.node}: {results.read_text(encoding='utf-8')[-2000:]}")
        return int(code.read_text(encoding="utf-8"))

    def state(self, job: Job) -> str:
        """As the control node knows it: Pending, Running, Succeeded or Failed."""
        found: dict[str, Any] = json.loads(self._ctl("work", "list", "--unit_id", job.unit))
        return str(found[job.unit]["StateName"])

    def _client(self) -> list[str]:
        return [str(self.programs / "receptorctl"), "--socket", str(self.folder / CONTROL / "control.sock")]

    def _ctl(self, *arguments: str) -> str:
        done = subprocess.run([*self._client(), *arguments], capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            raise MeshError(f"receptorctl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _await(self, condition: Callable[[], bool], otherwise: str) -> None:
        if not wait_for(condition, 60, 0.2):
            logs = [f"{name}: {(self.folder / name / 'receptor.log').read_text()[-600:]}" for name in self.nodes]
            raise MeshError("\n".join([otherwise, *logs]))


def find_receptor() -> str | None:
    """Execution nodes have it from a package; none is in the Python Package Index."""
    return shutil.which("receptor")
