# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Playbooks over the masters of a test cluster, from tests/integration/playbooks or the collection."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.control_plane.cluster import Cluster
from tests.tools.schemas import violations

from . import warm_ansible, warm_python
from .modules import ANSIBLE, ROOT, environment

CLUSTER = ROOT / "tests" / "control_plane" / "cluster.py"
PLAYBOOKS = ROOT / "tests" / "integration" / "playbooks"
TASKS = PLAYBOOKS / "tasks"
DRIVERS = PLAYBOOKS / "drivers"


def run_playbook(
    playbook: str | Path,
    folder: Path,
    *arguments: str,
    timeout: float = 900,
    variables: Mapping[str, Any],
    settings: Mapping[str, str] | None = None,
    fresh: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Runs ansible-playbook in a folder; ``arguments`` are more of the command line, ``variables`` extra vars, ``settings`` of Ansible's environment.

    ``fresh``: as a program of its own, which has imported nothing.
    No snapshot of etcd is taken unless they say where; it would be taken in the home directory.
    """
    if "rolling_upgrade_etcd_snapshot_path" not in variables and "folders" not in variables:
        variables = {**variables, "rolling_upgrade_etcd_snapshot_path": ""}
    given = {"ansible_python_interpreter": warm_python.interpreter(), **variables}  # Of the implicit localhost, too.
    command = [str(ANSIBLE.with_name("ansible-playbook")), str(playbook), *arguments, "-e", json.dumps(given)]
    env = {**environment(), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"), **(settings or {})}
    if fresh:
        return subprocess.run(
            command, cwd=folder, env=env, timeout=timeout, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    return warm_ansible.run(command, cwd=folder, env=env, timeout=timeout)


def write_inventory(
    folder: Path, cluster: Cluster, group: str = "masters", *, reverse: bool = False, each: str = ""
) -> str:
    """Writes an inventory of the masters, which are all this machine for Ansible; returns its name.

    ``each``: more variables of each master, with ``{name}`` for its name.
    """
    names = cluster.masters[::-1] if reverse else cluster.masters
    addresses = {name: cluster.data["masters"][name]["address"] for name in names}
    hosts = "\n".join(f"{name} ansible_host={addresses[name]} {each.format(name=name)}".rstrip() for name in names)
    common = f"ansible_connection=local\nansible_python_interpreter={warm_python.interpreter()}"
    (folder / "inventory.ini").write_text(f"[{group}]\n{hosts}\n[{group}:vars]\n{common}\n", encoding="utf-8")
    return "inventory.ini"


def cluster_variables(cluster: Cluster, results: Path) -> dict[str, str]:
    """What the tasks in tests/integration/playbooks want to know; they note in ``results`` when each master was down."""
    return {"cluster_program": str(CLUSTER), "cluster_folder": str(cluster.folder), "results_folder": str(results)}


@dataclass
class Play:
    """A play over the masters, and when each was down."""

    cluster: Cluster
    folder: Path

    def run(
        self, *, tasks: str = "upgrade_master", reverse: bool = False, variables: Mapping[str, Any] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs roll.yml; ``tasks`` (a file in playbooks/tasks) upgrade one master."""
        given = {
            **cluster_variables(self.cluster, self.folder),
            "rolling_upgrade_version": "1.37",
            "rolling_upgrade_tasks_file": str(TASKS / f"{tasks}.yml"),
            "rolling_upgrade_kubeconfig": str(self.cluster.kubeconfig),
            "rolling_upgrade_etcd": self.cluster.etcd,
            "rolling_upgrade_stable_for": 1,
            "rolling_upgrade_wait_timeout": 15,
            "rolling_upgrade_report_path": str(self.folder / "report.html"),
            **(variables or {}),
        }
        inventory = write_inventory(self.folder, self.cluster, reverse=reverse)
        return run_playbook(PLAYBOOKS / "roll.yml", self.folder, "-i", inventory, variables=given)

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        assert violations(found) == []
        return found

    def downtimes(self) -> list[tuple[float, float]]:
        found = []
        for name in self.cluster.masters:
            path = self.folder / f"{name}.json"
            if path.exists():
                data = json.loads(path.read_text(encoding="utf-8"))
                found.append((data["down_at"], data["up_at"]))
        return sorted(found)
