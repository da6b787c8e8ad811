# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 15, number 1: the role in any play, as a table of settings and entry points, which the role's README has, too.

In each cell the role works, or refuses before the first master, with a sentence that says what to do. Never are two masters down, and the
last words are the verdict. Where a setting changes nothing about a roll, those that roll are run in check mode; the rolls are long tests.
That rotate_encryption_key works means here that it gets as far as its search for the encryption configuration, which these masters don't
have; whole rotations are in test_rotate_encryption_key.py.
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

WORKS, REFUSED, STOPS, NONE = "works", "refused", "stops", ""
# upgrade_master with serial: 1, which it needs; the last but one stands for check, snapshot, converge, migrate and verify.
COLUMNS = ("main", "several_releases", "upgrade_master", "rotate_encryption_key", "verify", "fleet")
AROUND = ("check", "snapshot", "converge", "migrate", "verify")
ALL_WORK, ALL_REFUSED = (WORKS,) * 6, (REFUSED,) * 6
NO_ORDER = (REFUSED, REFUSED, REFUSED, REFUSED, WORKS, REFUSED)
# Empty where there is no such case, or no test. In other files: rescue, and main that loses a master, in test_no_loss_role.py,
# and verify with --start-at-task in test_role_truth.py.
TABLE = {
    "`strategy: free` or `host_pinned`": NO_ORDER,
    "`mitogen_free` or `mitogen_host_pinned`": NO_ORDER,
    "`serial: 1`, also with `strategy: free`": (WORKS, REFUSED, WORKS, REFUSED, WORKS, REFUSED),
    "`serial: 2`, `[1, 2]` or `67%`": (WORKS, REFUSED, REFUSED, REFUSED, WORKS, REFUSED),
    "`order: reverse_inventory`": (WORKS, WORKS, REFUSED, WORKS, WORKS, WORKS),
    "`max_fail_percentage`, `any_errors_fatal` or `ignore_unreachable`": ALL_WORK,
    "a driver that fails, with `max_fail_percentage`, `any_errors_fatal` or `rescue`": (
        STOPS,
        STOPS,
        STOPS,
        NONE,
        NONE,
        NONE,
    ),
    "`--limit` to some masters": (REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, WORKS),
    "`--start-at-task` inside the role": (REFUSED, REFUSED, REFUSED, REFUSED, WORKS, NONE),
    "`--tags` of `include_role` alone": ALL_REFUSED,
    "`--tags` of `include_role` and its `apply`": ALL_WORK,
    "`--skip-tags always`": (REFUSED, REFUSED, REFUSED, WORKS, WORKS, WORKS),
    "`-e` with a fact of the role": ALL_REFUSED,
    "facts cached on disk": ALL_WORK,
    "two plays in one run": ALL_WORK,
    "a master that can't be reached, also with `ignore_unreachable`": (
        REFUSED,
        REFUSED,
        REFUSED,
        REFUSED,
        WORKS,
        WORKS,
    ),
    "a master that can't be reached anymore in its turn": (STOPS, STOPS, STOPS, NONE, NONE, NONE),
}


def test_the_table_in_the_readme() -> None:
    text = (ROOT / "roles" / "rolling_upgrade" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| ([^|]+) \|" + r" ([a-z]*) *\|" * 6 + "$", text)
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


def assert_rolled(told: Told, masters: Masters) -> None:
    """All had their turn, one after another, and the last words say so."""
    assert told.code == 0, told.said
    assert told.touched == masters.cluster.masters, told.said
    turns = sorted(told.turns.values())
    assert all(len(turn) == 2 for turn in turns)
    assert all(earlier[1] <= later[0] for earlier, later in zip(turns, turns[1:])), turns
    assert len(told.worst) <= 1, told.worst


def assert_refused(told: Told, sentences: Mapping[str, str]) -> None:
    """Each of these entry points, in a play of its own with a rescue."""
    assert told.touched == [] and told.worst == (), told.said
    for entry, sentence in sentences.items():
        said = " ".join(told.of(entry).split())
        assert "rescued: " in said and sentence in said, (entry, sentence, told.of(entry))
        assert "rolling_upgrade : Rewrite stored objects in the new storage versions]" not in said, told.of(entry)


# What changes nothing, or gets as far as it can on these masters.
CHEAP = ("check", "migrate", "verify", "fleet", "rotate_encryption_key")
APPLY = "tags: [upgrade]"


def cheap(keywords: str = "", entries: tuple[str, ...] = CHEAP, more: str = "") -> list[str]:
    return [play(entry, keywords, rescue=entry == "rotate_encryption_key", more=more) for entry in entries]


def assert_cheap(told: Told, entries: tuple[str, ...] = CHEAP) -> None:
    signs = {
        "check": "From 1.37 to 1.37: 0 blockers",
        "migrate": "objects were rewritten, ",
        "verify": "Whether etcd still holds stale objects was not checked",
        "fleet": r"\d clusters?:",
        "rotate_encryption_key": "/etc/kubernetes/manifests/kube-apiserver.yaml",
    }
    assert told.code == 0 and told.touched == [] and told.worst == (), told.said
    for entry in entries:
        assert re.search(signs[entry], " ".join(told.of(entry).split())), (entry, told.said)


def assert_planned(told: Told, *entries: str) -> None:
    """In check mode, each in a play of its own."""
    assert told.code == 0 and told.touched == [] and told.worst == (), told.said
    for entry in entries:
        said = " ".join(told.of(entry).split())
        if entry == "upgrade_master":
            assert said.count("Remember that this master is done") == 3, told.said
        else:
            assert "CHECKED, NOTHING WAS CHANGED: would upgrade master-1, master-2, master-3" in said, told.said


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


REFUSES_BATCHES = {
    "several_releases": "needs all masters in one play without serial",
    "upgrade_master": "upgrade_master is for one master at a time, and here it would run on master-2 at the same time as on master-1",
    "rotate_encryption_key": "run the play without serial",
    "fleet": "remove serial",
}


@pytest.mark.parametrize("keywords", ["serial: 67%", "serial: 1, strategy: free"])
def test_batches(masters: Masters, keywords: str) -> None:
    """Those whose stages need all masters refuse a batch of some, and upgrade_master a batch of several."""
    row = "`serial: 2`, `[1, 2]` or `67%`" if "67" in keywords else "`serial: 1`, also with `strategy: free`"
    refused = refused_by(row)
    around = ("check", "migrate", "verify")
    told = masters.run(*(play(entry, keywords, rescue=True) for entry in refused), *cheap(keywords, around))
    assert_refused(told, {entry: REFUSES_BATCHES[entry] for entry in refused})
    assert_cheap(told, around)
    planned = [entry for entry in ("main", "upgrade_master") if entry not in refused]
    assert_planned(masters.run(*(play(entry, keywords) for entry in planned), flags=("--check",)), *planned)


HARMLESS = "any_errors_fatal: true, max_fail_percentage: 100, ignore_unreachable: true"


@pytest.mark.parametrize("keywords", ["order: reverse_inventory", HARMLESS])
def test_what_the_play_makes_of_errors_and_its_order(masters: Masters, keywords: str) -> None:
    assert_cheap(masters.run(*cheap(keywords)))
    planned = ["main", "several_releases", *(["upgrade_master"] if keywords == HARMLESS else ())]
    assert_planned(masters.run(*(play(entry, keywords) for entry in planned), flags=("--check",)), *planned)


def cached(masters: Masters) -> dict[str, str]:
    """Settings for facts on disk, where somebody left a yes to everything."""
    cache = masters.folder / "cache"
    cache.mkdir()
    yes = dict.fromkeys(("may_begin", "done", "roll", "looked", "may_touch", "check_passed", "alone"), True)
    for name in masters.cluster.masters:
        facts = {f"rolling_upgrade_{fact}": value for fact, value in yes.items()}
        for path in (cache / name, cache / f"s1_{name}"):
            path.write_text(json.dumps(facts), encoding="utf-8")
    return {
        "ANSIBLE_CACHE_PLUGIN": "jsonfile",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(cache),
        "ANSIBLE_GATHERING": "smart",
    }


def test_facts_cached_on_disk(masters: Masters) -> None:
    on_disk = cached(masters)
    assert_cheap(masters.run(*cheap(), settings=on_disk))
    planned = ("main", "several_releases", "upgrade_master")
    assert_planned(masters.run(*map(play, planned), flags=("--check",), settings=on_disk), *planned)
    refused = masters.run(
        *(play(entry, rescue=True) for entry in planned), settings=on_disk, rolling_upgrade_expected_servers=4
    )
    sentences = {
        "main": "The upgrade can't begin: ",
        "several_releases": "4 API servers are expected, 3 are known",
        "upgrade_master": "master-1 was not touched",
    }
    assert_refused(refused, sentences)


@pytest.mark.long
def test_one_in_a_batch_with_any_strategy_and_facts_on_disk(masters: Masters) -> None:
    """The role leaves nothing of its own on disk."""
    on_disk = cached(masters)
    for path in Path(on_disk["ANSIBLE_CACHE_PLUGIN_CONNECTION"]).iterdir():
        path.unlink()
    told = masters.run(play("main", "serial: 1, strategy: free").replace("gather_facts: false, ", ""), settings=on_disk)
    assert_rolled(told, masters)
    assert told.verdict.endswith("for the proof; nothing else remains to be done."), told.verdict
    kept = [json.loads(path.read_text(encoding="utf-8")) for path in masters.folder.glob("cache/*master-*")]
    assert len(kept) == 3 and not [name for facts in kept for name in facts if "rolling_upgrade" in name]


@pytest.mark.long
def test_batches_in_another_order_and_two_plays_in_one_run(masters: Masters) -> None:
    """The second play finds all done, and takes nothing that the first found for granted: its check fails."""
    keywords = "serial: [1, 2], order: reverse_inventory"
    second = play("main", keywords, rescue=True).replace("{name: main, ", "{name: again, ")
    second = second.replace('"1.37"', '"1.37", "rolling_upgrade_expected_servers": 4')
    told = masters.run(play("main", keywords), second)
    assert_rolled(told, masters)
    assert list(sorted(told.turns, key=lambda name: told.turns[name])) == masters.cluster.masters
    assert "DONE: master-1, master-2, master-3 are at 1.37." in told.of("main"), told.said
    assert "rescued: The upgrade can't begin: " in told.of("again"), told.said
    assert [run["status"] for run in masters.report()["runs"]] == ["succeeded", "failed"]


def with_apply(text: str) -> str:
    return re.sub(r"(tasks_from: \w+)}", r"\1, apply: {tags: [upgrade]}}", text)


def test_tags_that_reach_all_entry_points(masters: Masters) -> None:
    assert_cheap(masters.run(*map(with_apply, cheap(more=APPLY)), flags=("--tags", "upgrade")))
    planned = ("main", "several_releases", "upgrade_master")
    plays = [with_apply(play(entry, more=APPLY)) for entry in planned]
    assert_planned(masters.run(*plays, flags=("--tags", "upgrade", "--check")), *planned)


@pytest.mark.long
def test_tags_that_reach_the_role(masters: Masters) -> None:
    told = masters.run(
        with_apply(play("main", "serial: 2, any_errors_fatal: true", more=APPLY)), flags=("--tags", "upgrade")
    )
    assert_rolled(told, masters)
    assert masters.report()["status"] == "succeeded"


@pytest.mark.long
def test_what_errors_and_the_order_of_the_play_do_not_change(masters: Masters) -> None:
    """several_releases finds one release on its way, the one that is there, and has main upgrade to it."""
    keywords = "order: reverse_inventory, any_errors_fatal: true, max_fail_percentage: 100"
    told = masters.run(
        play("several_releases", keywords),
        play("fleet", keywords),
        play("rotate_encryption_key", keywords, rescue=True),
        rolling_upgrade_etcd=masters.cluster.etcd,
        rolling_upgrade_etcd_snapshot_path="",
    )
    assert_rolled(told, masters)
    assert "DONE AND PROVEN: master-1, master-2, master-3 are at 1.37." in told.of("several_releases"), told.said
    assert "/etc/kubernetes/manifests/kube-apiserver.yaml" in told.of("rotate_encryption_key"), told.said


def test_tags_that_do_not(masters: Masters) -> None:
    """test_role_refusals.py has the same for migrate, and other tags."""
    entries = refused_by("`--tags` of `include_role` alone")
    told = masters.run(
        *(play(entry, rescue=True, more="tags: [upgrade]") for entry in entries), flags=("--tags", "upgrade")
    )
    for entry in entries:
        assert "'apply: {tags: [upgrade]}'" in " ".join(told.of(entry).split()), told.of(entry)
    assert told.code != 0 and told.touched == [] and told.worst == ()


@pytest.mark.parametrize("setting", ["max_fail_percentage: 100", "any_errors_fatal: true"])
@pytest.mark.parametrize("entry", ["main", "upgrade_master", "several_releases"])
def test_a_driver_that_fails(masters: Masters, setting: str, entry: str) -> None:
    """Whatever the play makes of errors. Ansible itself would go on with the other batches. With rescue it is in test_no_loss_role.py."""
    told = masters.run(
        play(entry, setting if entry == "several_releases" else f"serial: 1, {setting}"), fails_on="master-1"
    )
    assert told.code != 0 and told.touched == ["master-1"] and told.worst == (), told.said
    assert "non-zero return code 100: E: no power." in " ".join(told.said.split()), told.said
    report = masters.report()
    assert report["status"] == "failed" and [step["state"] for step in report["steps"]] == ["failed"]
    if entry == "main":
        assert told.verdict.startswith("STOPPED: The upgrade of master-1"), told.verdict


@pytest.mark.parametrize("entry", ["several_releases", "upgrade_master"])
def test_a_master_that_is_lost_in_its_turn(masters: Masters, entry: str) -> None:
    """For main it is in test_no_loss_role.py."""
    told = masters.run(play(entry), lost_on="master-1")
    assert told.code != 0 and told.touched == ["master-1"] and told.worst == () and "UNREACHABLE!" in told.said, (
        told.said
    )


@pytest.mark.long
def test_each_master_in_a_batch_of_its_own(masters: Masters) -> None:
    """upgrade_master as it is meant to be used, then in an order that isn't that of the masters."""
    told = masters.run(play("upgrade_master", "max_fail_percentage: 100"))
    assert_rolled(told, masters)
    told = masters.run(play("upgrade_master", "order: reverse_inventory"))
    assert told.code == 2 and told.touched == [], told.said
    assert "master-3 was not touched, because master-1, master-2 before it are not upgraded" in " ".join(
        told.said.split()
    )


@pytest.mark.parametrize("limit", ["master-1", "!master-2"])
def test_some_of_the_masters(masters: Masters, limit: str) -> None:
    refused = [*(entry for entry in refused_by("`--limit` to some masters") if entry != "verify"), "check"]
    told = masters.run(*(play(entry, rescue=True) for entry in refused), flags=("--limit", limit))
    words = ("is expected, 3 are known", "are expected, 3 are known")
    assert_refused(told, dict.fromkeys(refused, words[limit == "!master-2"]))
    assert_cheap(masters.run(*cheap(entries=("fleet",)), flags=("--limit", limit)), ("fleet",))
    main = " ".join(told.of("main").split())
    assert f"needs a host for each API server, so run it without --limit {limit}." in main, main


# For Ansible, master-2 is behind a port where nobody listens.
LOST = "ansible_connection=\"{{{{ 'ssh' if inventory_hostname == 'master-2' else 'local' }}}}\" ansible_port=9"


@pytest.mark.parametrize("ignored", [False, True])
def test_a_master_that_cannot_be_reached(masters: Masters, ignored: bool) -> None:
    """Where a play before the role has noticed it, and where that is ignored."""
    keywords = "ignore_unreachable: true" if ignored else ""
    first = f"- {{name: first, hosts: masters, gather_facts: false, {keywords and keywords + ', '}tasks: [{{ansible.builtin.ping: {{}}}}]}}\n"
    rolls = ("main", "several_releases", "upgrade_master")
    told = masters.run(
        first,
        *(play(entry, keywords, rescue=True) for entry in (*rolls, "rotate_encryption_key")),
        *cheap(keywords, ("check", "verify", "fleet")),
        each=LOST,
    )
    unknown = "Whether an upgrade step is still running on master-2 is unknown"
    # What rescues a play forgets that master-2 can't be reached, until the next one asks it.
    sentences = {**dict.fromkeys(rolls, unknown), "rotate_encryption_key": ""}
    assert_refused(told, sentences if ignored else {**sentences, "main": "master-2 is no longer in this play"})
    for entry in ("check", "verify", "fleet"):
        assert "fatal: [master-1]" not in told.of(entry), told.said


def test_a_fact_of_the_role_as_an_extra_variable(masters: Masters) -> None:
    entries = refused_by("`-e` with a fact of the role")
    told = masters.run(*(play(entry, rescue=True) for entry in entries), rolling_upgrade_may_begin=True)
    assert_refused(told, dict.fromkeys(entries, "rolling_upgrade_may_begin is not a variable of the role"))


@pytest.mark.parametrize(
    ("entry", "task", "sentence"),
    [
        ("main", "Upgrade one master after another", "Nothing is proven: this run left out tasks of the role"),
        (
            "several_releases",
            "Upgrade to each release in turn",
            "Nothing is proven: this run left out tasks of the role",
        ),
        ("upgrade_master", "Upgrade this master", "master-1 was not upgraded: this run left out tasks of the role"),
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


def test_without_what_is_tagged_always(masters: Masters) -> None:
    assert_cheap(masters.run(*cheap(), flags=("--skip-tags", "always")))
    refused = refused_by("`--skip-tags always`")
    told = masters.run(*(play(entry, rescue=True) for entry in refused), flags=("--skip-tags", "always"))
    assert_refused(told, dict.fromkeys(refused, "left out"))
