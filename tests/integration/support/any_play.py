# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plays of any shape around the role's entry points, on one cluster of three masters and beside it one of one master.

The cluster of three has its masters in the inventory twice: in the group ``masters``, and for the entry point clusters in ``clustered``.
In ``others`` is the master of the other cluster; in ``shops`` each host stands for a cluster, as a fleet has them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.control_plane.cluster import Cluster

from . import warm_python
from .plays import DRIVERS, cluster_variables, run_playbook
from .readiness import sampled

AROUND = ("check", "snapshot", "converge", "migrate", "verify")
ROLLS = ("main", "several_releases", "upgrade_master", "clusters")
_HOSTS = {"clusters": "clustered", "fleet": "shops"}
_VARIABLES = {
    "several_releases": {"rolling_upgrade_final_version": "1.37"},
    "rotate_encryption_key": {"rolling_upgrade_encryption_key": "new"},
    "fleet": {"rolling_upgrade_fleet_path": "fleet"},
}
_ROLE = "kube_storage.upgrade.rolling_upgrade"
# Where nobody listens.
_UNREACHABLE = {"ansible_connection": "ssh", "ansible_port": 9, "ansible_host": "127.0.0.1"}


@dataclass(frozen=True)
class Shape:
    """What is around the role: ``keywords`` of the play, of the ``task`` that includes the role, and the ``role``'s; ``flags`` of the command.

    ``first``: plays before it. ``lost``: masters that Ansible can't reach. ``each``: more variables of each master.
    """

    keywords: Mapping[str, Any] = field(default_factory=dict)
    include: str = "include_role"
    role: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)
    flags: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    first: Sequence[Mapping[str, Any]] = ()
    lost: Sequence[str] = ()
    each: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fresh: bool = False

    def play(self, entry: str, *, name: str = "", rescue: bool = False, **variables: Any) -> dict[str, Any]:
        """A play for one entry point. ``rescue``: it then says why it failed, and lets other plays begin."""
        task: dict[str, Any] = {
            f"ansible.builtin.{self.include}": {"name": _ROLE, "tasks_from": entry, **self.role},
            **self.task,
        }
        if entry in AROUND:
            task["when"] = "inventory_hostname == ansible_play_hosts_all | first"
        tags = {"tags": ["always"]} if "tags" in self.task else {}
        block: dict[str, Any] = {"block": [task]}
        if rescue:
            told = "rescued: {{ ansible_failed_result.msg | default('') }}"
            # Otherwise any_errors_fatal would keep the other masters out of the next play.
            block["rescue"] = [
                {"ansible.builtin.debug": {"msg": told}, **tags},
                {"ansible.builtin.meta": "clear_host_errors", **tags},
            ]
        return {
            "name": name or entry,
            "hosts": _HOSTS.get(entry, "masters"),
            "gather_facts": False,
            "vars": {
                **_VARIABLES.get(entry, {"rolling_upgrade_version": "1.37"}),
                "turns": name or entry,
                **variables,
            },
            **({"serial": 1} if entry == "upgrade_master" else {}),
            **self.keywords,
            "tasks": [block],
        }


@dataclass
class Told:
    """What a run of ansible-playbook said, by play, and what became of the masters.

    ``turns``: by play and master, when its restart began and ended. ``worst``: the masters that were down at once.
    """

    code: int
    said: str
    turns: dict[str, dict[str, list[float]]]
    worst: tuple[str, ...]
    samples: int

    def of(self, play: str) -> str:
        """All its batches, in one line."""
        plays = re.findall(r"(?ms)^PLAY \[([^\]]*)\](.*?)(?=^PLAY |\Z)", self.said)
        return " ".join(" ".join(said.split()) for name, said in plays if name == play)

    def order(self, play: str) -> tuple[str, ...]:
        """The masters in the order of their turns, which must not overlap."""
        turns = sorted(self.turns.get(play, {}).items(), key=lambda item: item[1])
        assert all(earlier[1][-1] <= later[1][0] for earlier, later in zip(turns, turns[1:])), turns
        return tuple(master for master, _times in turns)


@dataclass
class Masters:
    cluster: Cluster
    other: Cluster
    folder: Path

    def run(
        self,
        shape: Shape,
        *plays: Mapping[str, Any],
        flags: Sequence[str] = (),
        wait_timeout: int = 30,
        **extra: Any,
    ) -> Told:
        """With a driver that restarts each API server once in each play, though all are at the release."""
        self._write_inventory(shape, wait_timeout)
        (self.folder / "play.yml").write_text(json.dumps([*shape.first, *plays]), encoding="utf-8")
        with sampled(self.cluster) as seen:
            done = run_playbook(
                "play.yml",
                self.folder,
                "-i",
                "inventory.json",
                *shape.flags,
                *flags,
                timeout=600,
                variables={**shape.extra, **extra},
                settings=shape.settings,
                fresh=shape.fresh,
            )
        return Told(done.returncode, done.stdout + done.stderr, self._turns(), seen.worst, seen.samples)

    def report(self, group: str = "masters") -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / f"{group}.json").read_text(encoding="utf-8"))
        return found

    def _turns(self) -> dict[str, dict[str, list[float]]]:
        found: dict[str, dict[str, list[float]]] = {}
        for path in self.folder.glob("*.turn"):
            play, master = path.stem.split("@")
            found.setdefault(play, {})[master] = [float(line) for line in path.read_text(encoding="utf-8").split()]
            path.unlink()
        return found

    def _write_inventory(self, shape: Shape, wait_timeout: int) -> None:
        groups = {
            "masters": self._hosts(self.cluster, "master", shape),
            "clustered": self._hosts(self.cluster, "a", shape),
            "others": self._hosts(self.other, "other", shape),
        }
        children: dict[str, Any] = {
            name: {"hosts": hosts, "vars": self._group(name, wait_timeout)} for name, hosts in groups.items()
        }
        children["clustered"]["vars"]["rolling_upgrade_cluster_group"] = "clustered"
        shops = {"shop-1": self.cluster, "shop-2": self.other}
        children["shops"] = {
            "hosts": {name: {"rolling_upgrade_kubeconfig": str(cluster.kubeconfig)} for name, cluster in shops.items()},
            "vars": {"ansible_connection": "local", "ansible_python_interpreter": warm_python.interpreter()},
        }
        (self.folder / "inventory.json").write_text(json.dumps({"all": {"children": children}}), encoding="utf-8")

    def _hosts(self, cluster: Cluster, prefix: str, shape: Shape) -> dict[str, dict[str, Any]]:
        return {
            f"{prefix}-{number}": {
                "ansible_host": cluster.data["masters"][master]["address"],
                "master": master,
                **(
                    {**_UNREACHABLE, "rolling_upgrade_server": cluster.url(master)}
                    if master in shape.lost and cluster is self.cluster
                    else {}
                ),
                **shape.each.get(master, {}),
            }
            for number, master in enumerate(cluster.masters, 1)
        }

    def _group(self, name: str, wait_timeout: int) -> dict[str, Any]:
        cluster = self.other if name == "others" else self.cluster
        return {
            "ansible_connection": "local",
            "ansible_python_interpreter": warm_python.interpreter(),
            **cluster_variables(cluster, self.folder),
            "rolling_upgrade_driver": str(DRIVERS / "restarting"),
            "rolling_upgrade_kubeconfig": str(cluster.kubeconfig),
            "rolling_upgrade_stable_for": 0,
            "rolling_upgrade_wait_timeout": wait_timeout,
            "rolling_upgrade_request_timeout": 0.1,
            "rolling_upgrade_report_path": str(self.folder / f"{name}.html"),
        }


def said_in(told: Told, play: str, pattern: str) -> bool:
    return re.search(pattern, told.of(play)) is not None
