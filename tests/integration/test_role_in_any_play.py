# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 15, number 1: the role in any play, as a table of settings and entry points, which the role's README has, too.

A refusal comes before the first master, with a sentence that says what to do.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._play import Play, fleet_refusal, strategy_refusal

from tests.control_plane.cluster import Cluster
from tests.tools.prepare import mitogen

from .support.modules import ROOT
from .support.plays import DRIVERS, cluster_variables, run_playbook, write_inventory
from .support.readiness import sampled

WORKS, REFUSED, STOPS, UNTESTED = "works", "refused", "stops", ""
# upgrade_master with serial: 1; the last but one stands for check, snapshot, converge, migrate and verify.
COLUMNS = ("main", "several_releases", "upgrade_master", "rotate_encryption_key", "verify", "fleet")
AROUND = ("check", "snapshot", "converge", "migrate", "verify")
ONLY_MAIN = (WORKS, *[UNTESTED] * 5)
# Empty where no test says anything. Rows without a test here: test_role.py, test_role_refusals.py, test_role_truth.py and test_no_loss_role.py.
TABLE = {
    "`strategy: free` or `host_pinned`": (REFUSED, REFUSED, REFUSED, REFUSED, WORKS, REFUSED),
    "`mitogen_free` or `mitogen_host_pinned`": (REFUSED, REFUSED, REFUSED, REFUSED, WORKS, REFUSED),
    "`mitogen_linear`": (WORKS, UNTESTED, UNTESTED, UNTESTED, WORKS, UNTESTED),
    "`serial: 1`": ONLY_MAIN,
    "`serial` with several in a batch": (WORKS, REFUSED, REFUSED, REFUSED, UNTESTED, REFUSED),
    "`order: reverse_inventory`": ONLY_MAIN,
    "`ignore_errors` or `rescue`": ONLY_MAIN,
    "`--start-at-task` inside the role": (REFUSED, UNTESTED, UNTESTED, REFUSED, UNTESTED, UNTESTED),
    "`--tags` of `include_role` alone": (REFUSED,) * 6,
    "`-e` with a fact of the role": (REFUSED,) * 6,
    "facts cached on disk": ONLY_MAIN,
    "several plays in one run": ONLY_MAIN,
    "a master that can't be reached in its turn": (STOPS, *[UNTESTED] * 5),
}


def test_the_table_in_the_readme() -> None:
    text = (ROOT / "roles" / "rolling_upgrade" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| ([^|]+) \|" + r" ?([a-z]*) \|" * 6 + "$", text)
    assert {name: tuple(cells) for name, *cells in rows} == TABLE


VARIABLES = {
    "several_releases": {"rolling_upgrade_final_version": "1.37"},
    "rotate_encryption_key": {"rolling_upgrade_encryption_key": "new"},
    "fleet": {"rolling_upgrade_fleet_path": "fleet"},
}


def play(entry: str, keywords: str = "", *, include: str = "include_role", rescue: bool = False, more: str = "") -> str:
    """A play over the masters that uses one entry point, with more ``keywords`` in flow style, and ``more`` of the including task.

    ``rescue``: with what says why it failed, and lets other plays begin.
    """
    if entry == "upgrade_master" and "serial" not in keywords:
        keywords = f"serial: 1, {keywords}".removesuffix(", ")
    if entry in AROUND:  # Once for the cluster.
        more += ", when: inventory_hostname == ansible_play_hosts_all | first"
    variables = json.dumps(VARIABLES.get(entry, {"rolling_upgrade_version": "1.37"}))
    task = f"ansible.builtin.{include}: {{name: kube_storage.upgrade.rolling_upgrade, tasks_from: {entry}}}"
    told = "ansible.builtin.debug: {msg: \"rescued: {{ ansible_failed_result.msg | default('') }}\"}"
    # Otherwise any_errors_fatal would keep the other masters out of the next play.
    tags = ", tags: [always]" if "tags:" in more else ""
    rescued = f", rescue: [{{{told}{tags}}}, {{ansible.builtin.meta: clear_host_errors{tags}}}]" if rescue else ""
    return (
        f"- {{name: {entry}, hosts: masters, gather_facts: false, vars: {variables}, {keywords and keywords + ', '}"
        f"tasks: [{{block: [{{{task}{more and ', ' + more.lstrip(', ')}}}]{rescued}}}]}}\n"
    )


@dataclass
class Told:
    """What a run of ansible-playbook said, by play, and what became of the masters."""

    code: int
    said: str
    turns: dict[str, list[float]]
    worst: tuple[str, ...]

    def of(self, entry: str) -> str:
        return self.said.partition(f"PLAY [{entry}]")[2].partition("\nPLAY ")[0]

    @property
    def touched(self) -> list[str]:
        return sorted(self.turns)

    @property
    def verdict(self) -> str:
        """The last task's words, without Ansible's own lines, unwrapped."""
        last = self.said.rpartition("TASK [")[2].partition("PLAY RECAP")[0]
        return " ".join(
            line for line in last.splitlines()[1:] if not re.match(r"(ok|skipping|included): ", line)
        ).strip()


@dataclass
class Masters:
    cluster: Cluster
    folder: Path
    variables: dict[str, Any] = field(default_factory=dict)

    def run(
        self,
        *plays: str,
        flags: tuple[str, ...] = (),
        each: str = "",
        settings: Mapping[str, str] | None = None,
        fresh: bool = False,
        **variables: Any,
    ) -> Told:
        """A driver that restarts each API server once, though all are at the release."""
        for path in self.folder.glob("*.turn"):
            path.unlink()
        (self.folder / "play.yml").write_text("".join(plays), encoding="utf-8")
        inventory = write_inventory(self.folder, self.cluster, each=each)
        given = {
            **cluster_variables(self.cluster, self.folder),
            "rolling_upgrade_driver": str(DRIVERS / "restarting"),
            "rolling_upgrade_kubeconfig": str(self.cluster.kubeconfig),
            "rolling_upgrade_stable_for": 0,
            "rolling_upgrade_wait_timeout": 30,
            "rolling_upgrade_request_timeout": 0.1,
            "rolling_upgrade_report_path": str(self.folder / "report.html"),
            **variables,
        }
        with sampled(self.cluster) as seen:
            done = run_playbook(
                "play.yml",
                self.folder,
                "-i",
                inventory,
                *flags,
                timeout=600,
                variables=given,
                settings=settings,
                fresh=fresh,
            )
        turns = {
            path.stem: [float(line) for line in path.read_text(encoding="utf-8").split()]
            for path in self.folder.glob("*.turn")
        }
        return Told(done.returncode, done.stdout + done.stderr, turns, seen.worst)

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        return found


@pytest.fixture(scope="module")
def cluster(three_masters: Cluster) -> Cluster:
    return three_masters


@pytest.fixture
def masters(cluster: Cluster, tmp_path: Path) -> Masters:
    return Masters(cluster, tmp_path)


def assert_refused(told: Told, sentences: Mapping[str, str]) -> None:
    """Each of these entry points, in a play of its own with a rescue."""
    assert told.touched == [] and told.worst == (), told.said
    for entry, sentence in sentences.items():
        said = " ".join(told.of(entry).split())
        assert "rescued: " in said and sentence in said, (entry, sentence, told.of(entry))
        assert "rolling_upgrade : Rewrite stored objects in the new storage versions]" not in said, told.of(entry)


# What changes nothing on these masters.
CHEAP = ("check", "migrate", "verify")


def cheap(keywords: str = "", entries: tuple[str, ...] = CHEAP, more: str = "") -> list[str]:
    return [play(entry, keywords, more=more) for entry in entries]


def assert_cheap(told: Told, entries: tuple[str, ...] = CHEAP) -> None:
    signs = {
        "check": "From 1.37 to 1.37: 0 blockers",
        "migrate": "objects were rewritten, ",
        "verify": "Whether etcd still holds stale objects was not checked",
    }
    assert told.code == 0 and told.touched == [] and told.worst == (), told.said
    for entry in entries:
        assert re.search(signs[entry], " ".join(told.of(entry).split())), (entry, told.said)


def assert_rolled(told: Told, masters: Masters) -> None:
    """All had their turn, one after another, and the last words say so."""
    assert told.code == 0, told.said
    assert told.touched == masters.cluster.masters, told.said
    turns = sorted(told.turns.values())
    assert all(len(turn) == 2 for turn in turns)
    assert all(earlier[1] <= later[0] for earlier, later in zip(turns, turns[1:])), turns
    assert len(told.worst) <= 1, told.worst


def refused_by(row: str) -> list[str]:
    return [entry for entry, cell in zip(COLUMNS, TABLE[row]) if cell == REFUSED]


@pytest.mark.parametrize("strategy", ["free", "host_pinned"])
def test_a_strategy_without_an_order(masters: Masters, strategy: str) -> None:
    """What is around an upgrade needs none."""
    refused = refused_by("`strategy: free` or `host_pinned`")
    told = masters.run(
        *(play(entry, f"strategy: {strategy}, serial: 3", rescue=True) for entry in refused),
        *(play(entry, f"strategy: {strategy}") for entry in AROUND),
    )
    assert_refused(told, dict.fromkeys(refused, f"This play has the strategy {strategy}, but"))
    assert told.code == 0 and "objects were rewritten, " in told.of("migrate"), told.said


def test_the_strategies_of_mitogen() -> None:
    """The role knows them by their names; the test below has Mitogen itself."""
    batch = ("master-1", "master-2")
    for name in ("mitogen_free", "mitogen_host_pinned"):
        for refusal in (strategy_refusal, fleet_refusal):
            assert "strategy: linear" in refusal(Play(name, batch, batch, batch))
    for refusal in (strategy_refusal, fleet_refusal):
        assert refusal(Play("mitogen_linear", batch, batch, batch)) == ""


@pytest.mark.long
def test_mitogen(masters: Masters) -> None:
    """Mitogen itself, with the ansible-core that tests are run with."""
    packages = mitogen()
    settings = {
        "ANSIBLE_STRATEGY_PLUGINS": str(packages / "ansible_mitogen" / "plugins" / "strategy"),
        "PYTHONPATH": str(packages),
    }
    # Not the one that is kept warm: Mitogen starts Python in its own way.
    given: dict[str, Any] = {"settings": settings, "fresh": True, "ansible_python_interpreter": sys.executable}
    linear = "strategy: mitogen_linear"
    around = ("check", "migrate", "verify")
    assert_cheap(masters.run(*cheap(linear, around), **given), around)
    assert_rolled(masters.run(play("main", linear), **given), masters)
    refused = refused_by("`mitogen_free` or `mitogen_host_pinned`")
    told = masters.run(
        *(play(entry, "strategy: mitogen_free, serial: 3", rescue=True) for entry in refused),
        *cheap("strategy: mitogen_free", around),
        **given,
    )
    assert_refused(told, dict.fromkeys(refused, "This play has the strategy mitogen_free, but"))
    assert told.code == 0, told.said


def test_batches_of_several(masters: Masters) -> None:
    """Those whose stages need all masters refuse a batch of some, and upgrade_master a batch of several."""
    refused = ("several_releases", "upgrade_master", "rotate_encryption_key", "fleet")
    told = masters.run(*(play(entry, "serial: 67%", rescue=True) for entry in refused))
    assert_refused(
        told,
        {
            "several_releases": "needs all masters in one play without serial",
            "upgrade_master": "upgrade_master is for one master at a time, and here it would run on master-2 at the same time as on master-1",
            "rotate_encryption_key": "run the play without serial",
            "fleet": "remove serial",
        },
    )


def test_tags_that_do_not(masters: Masters) -> None:
    """test_role_refusals.py has the same for migrate, and other tags."""
    entries = list(COLUMNS)
    told = masters.run(
        *(play(entry, rescue=True, more="tags: [upgrade]") for entry in entries), flags=("--tags", "upgrade")
    )
    for entry in entries:
        assert "'apply: {tags: [upgrade]}'" in " ".join(told.of(entry).split()), told.of(entry)
    assert told.touched == [] and told.worst == ()


def test_a_fact_of_the_role_as_an_extra_variable(masters: Masters) -> None:
    entries = list(COLUMNS)
    told = masters.run(*(play(entry, rescue=True) for entry in entries), rolling_upgrade_may_begin=True)
    assert_refused(told, dict.fromkeys(entries, "rolling_upgrade_may_begin is not a variable of the role"))


@pytest.mark.parametrize(
    ("entry", "task", "sentence"),
    [
        ("main", "Upgrade one master after another", "Nothing is proven: this run left out tasks of the role"),
        (
            "rotate_encryption_key",
            "Make sure that the rotation was proven",
            "Nothing is proven: this run left out tasks",
        ),
    ],
)
def test_a_start_inside_the_role(masters: Masters, entry: str, task: str, sentence: str) -> None:
    flags = ("--start-at-task", f"*{task}")
    told = masters.run(play(entry, include="import_role"), flags=flags)
    assert told.code == 2 and told.touched == [] and sentence in " ".join(told.said.split()), told.said
