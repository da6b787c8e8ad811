# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stand-ins for the commands of other platforms: they accept what the recipes pass, and upgrade the test control plane.

Only the commands are stand-ins. API servers, etcd, the role and Ansible are real.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.control_plane.cluster import Cluster

from . import warm_ansible, warm_python
from .modules import ROOT, environment

_CLUSTER = ROOT / "tests" / "control_plane" / "cluster.py"

# Called under the name of each command; the host it is called on is in MASTER, as Ansible's shell there sets it.
_PROGRAM = f"""#!{sys.executable}
import json, os, pathlib, re, subprocess, sys

folder = pathlib.Path(__file__).resolve().parents[1]
name, words = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
master = os.environ.get("MASTER", "")
installed = folder / f"{{master}}.installed"
known = json.loads((folder / "cluster.json").read_text())


def upgrade(master, release):
    minor = re.match(r"v?(\\d+\\.\\d+)", release)[1]
    now = json.loads(pathlib.Path(known["cluster"], "cluster.json").read_text())["masters"][master]["version"]
    if now == minor:
        return
    flags = [part for flag in known["flags"] for part in ("--flag", flag)]
    command = [sys.executable, "{_CLUSTER}", "upgrade", known["cluster"], master, "--version", minor, *flags]
    done = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    note("upgraded", down_at=done["down_at"], up_at=done["up_at"], to=minor)


def note(did, **more):
    with open(folder / "log", "a") as log:
        log.write(json.dumps({{"by": name, "words": words, "master": master, "did": did, **more}}) + "\\n")


def option(name):
    return words[words.index(name) + 1]


if name in ("rke2", "k3s") and words == ["--version"]:
    print(f"{{name}} version {{installed.read_text() if installed.exists() else 'v1.0.0'}} (abc)")
elif name.endswith("-install.sh"):
    installed.write_text(os.environ[f"INSTALL_{{name.partition('-')[0].upper()}}_VERSION"])
    note("installed")
elif name == "systemctl" and words[0] == "show":
    print("LoadState=loaded\\nActiveState=active\\nSubState=running\\nId=" + words[1])
elif name == "systemctl" and words[0] == "restart":
    upgrade(master, installed.read_text())
elif name == "systemctl":
    sys.exit("is-enabled" in words)
elif name == "talosctl" and "upgrade-k8s" in words:
    for every_master in known["masters"]:
        upgrade(every_master, option("--to"))
elif name == "aws" and words[:2] == ["eks", "update-cluster-version"]:
    (folder / "wanted").write_text(option("--kubernetes-version"))
    note("wanted")
elif name == "aws" and words[:3] == ["eks", "wait", "cluster-active"]:
    for every_master in known["masters"]:
        upgrade(every_master, (folder / "wanted").read_text())
elif name == "kubespray":
    upgrade(master, words[0])
else:
    sys.exit(f"{{name}}: nobody plays {{words}}")
"""

_KUBESPRAY = """- name: Handle upgrades of the control plane
  hosts: kube_control_plane
  gather_facts: false
  any_errors_fatal: true
  serial: 1
  tasks:
    - name: Upgrade
      ansible.builtin.command: kubespray {{ kube_version }}
      changed_when: true
"""


def kubespray_collection(folder: Path) -> Path:
    """A path for collections with a playbook of Kubespray's name, for what imports it."""
    playbooks = folder / "ansible_collections" / "kubernetes_sigs" / "kubespray" / "playbooks"
    playbooks.mkdir(parents=True)
    (playbooks / "upgrade_cluster.yml").write_text(_KUBESPRAY, encoding="utf-8")
    return folder


class StandIns:
    """A folder with the commands, and what was done by them."""

    def __init__(
        self, folder: Path, cluster: Cluster, *, masters: list[str] | None = None, flags: tuple[str, ...] = ()
    ) -> None:
        self.folder = folder
        self.cluster = cluster
        self.hosts = masters or cluster.masters
        (folder / "bin").mkdir(parents=True)
        known = {"cluster": str(cluster.folder), "masters": self.hosts, "flags": flags}
        (folder / "cluster.json").write_text(json.dumps(known), encoding="utf-8")
        for name in ("rke2", "k3s", "systemctl", "talosctl", "aws", "kubespray"):
            self._program(folder / "bin" / name, _PROGRAM)
        (folder / "play").mkdir()
        for name in ("rke2", "k3s"):
            # A script is copied to where it runs, so that it can't find the others by its own place.
            link = folder / "bin" / f"{name}-install.sh"
            self._program(link, _PROGRAM)
            self._program(folder / "play" / link.name, f'#!/bin/sh\nexec {link} "$@"\n')
        for master in self.hosts:
            shell = f'#!/bin/sh\nexport MASTER={master} PATH={folder / "bin"}:$PATH\nexec /bin/sh "$@"\n'
            self._program(folder / f"shell-{master}", shell)
        kubespray_collection(folder / "collections")

    @staticmethod
    def _program(path: Path, content: str) -> None:
        path.write_text(content, encoding="utf-8")
        path.chmod(0o755)

    def run(
        self, playbook: str, group: str, files: dict[str, str] | None = None, **variables: Any
    ) -> subprocess.CompletedProcess[str]:
        """Runs a playbook over the masters, each with a shell of its own."""
        play = self.folder / "play"
        hosts = "\n".join(
            f"{name} ansible_host={self.cluster.data['masters'][name]['address']} ansible_shell_executable={self.folder}/shell-{name}"
            for name in self.hosts
        )
        common = f"ansible_python_interpreter={warm_python.interpreter()}"
        inventory = (
            f"localhost ansible_connection=local {common}\n[{group}]\n{hosts}\n"
            f"[{group}:vars]\nansible_connection=local\n{common}\n[etcd]\n{self.hosts[0]}\n"
        )
        for name, content in {"inventory.ini": inventory, "play.yml": playbook, **(files or {})}.items():
            (play / name).write_text(content, encoding="utf-8")
        given = {"rolling_upgrade_kubeconfig": str(self.cluster.kubeconfig), "ansible_become": False, **variables}
        collections = f"{ROOT / '.ansible' / 'collections'}:{self.folder / 'collections'}"
        settings = {
            **environment(),
            "ANSIBLE_COLLECTIONS_PATH": collections,
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "K8S_AUTH_KUBECONFIG": str(self.cluster.kubeconfig),
        }
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventory.ini", "play.yml"]
        return warm_ansible.run([*command, "-e", json.dumps(given)], cwd=play, env=settings, timeout=280)

    @property
    def log(self) -> list[dict[str, Any]]:
        path = self.folder / "log"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
