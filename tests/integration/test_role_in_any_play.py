# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 15, number 1: the role in any play, as a table of settings and entry points, which the role's README has, too.

In each cell the role works, or refuses before the first master, with a sentence that says what to do. Never are two masters down, and no
play ends green that did nothing. The rolls of each row are long tests.
That rotate_encryption_key works means that it gets as far as its search for the encryption configuration, which these masters don't have;
whole rotations are in test_rotate_encryption_key.py.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._play import Play, fleet_refusal, strategy_refusal

from tests.control_plane.cluster import Cluster
from tests.tools.prepare import mitogen

from .support.any_play import AROUND, ROLLS, Masters, Shape, Told, said_in
from .support.modules import ROOT

# What a cell says: nothing (not tested, or there is no such case), that it works, or the sentence with which it refuses.
NONE, WORKS, STOPS = "", "works", "stops"
# upgrade_master has serial: 1 where its row has no other. The last but one stands for check, snapshot, converge, migrate and verify.
COLUMNS = ("main", "several_releases", "upgrade_master", "rotate_encryption_key", "clusters", "verify", "fleet")
# Until the rolls of several_releases, upgrade_master and clusters in these rows were seen.
ALL_WORK = (WORKS, NONE, NONE, WORKS, NONE, WORKS, WORKS)
MASTERS = ("master-1", "master-2", "master-3")


@dataclass(frozen=True)
class Row:
    """``other``: entry points that differ from verify, which has their column; ``turns``: the masters that are upgraded."""

    shapes: Mapping[str, Shape]
    cells: tuple[str, ...]
    other: Mapping[str, str] = field(default_factory=dict)
    turns: tuple[str, ...] = MASTERS

    def of(self, entry: str) -> str:
        return self.other.get(entry) or self.cells[COLUMNS.index("verify" if entry in AROUND else entry)]

    def refused(self) -> dict[str, str]:
        return {entry: self.of(entry) for entry in ENTRIES if self.of(entry) not in (NONE, WORKS)}

    def working(self, *entries: str) -> list[str]:
        return [entry for entry in entries if self.of(entry) == WORKS]


ENTRIES = ("main", "several_releases", "upgrade_master", "rotate_encryption_key", "clusters", *AROUND, "fleet")


def keywords(**given: Any) -> Shape:
    return Shape(keywords=given)


STRATEGY = "This play has the strategy"
IN_ONE_BATCH = "needs all masters in one play without serial"
ROTATES_IN_ONE_BATCH = "run the play without serial"
CLUSTERS_IN_ONE_BATCH = "have all masters of clustered in one batch; remove serial"
FLEET_IN_ONE_BATCH = "This play has serial, and a fleet has waves instead; remove serial"
TAGS = "'apply: {tags: [upgrade]}'"
FACT = "rolling_upgrade_may_begin is not a variable of the role"
ONE_OF_THREE = "is expected, 3 are known"
TAGGED: dict[str, Any] = {"task": {"tags": ["upgrade"]}, "flags": ("--tags", "upgrade")}
SKIPPED = "This run left out the role's own check of the play (--skip-tags always)"
UNSEEN = "Whether an upgrade step is still running on"
ORDER = "in another order than that of its masters"

TABLE = {
    "`strategy: free` or `host_pinned`": Row(
        {name: keywords(strategy=name, serial=3) for name in ("free", "host_pinned")},
        (STRATEGY, STRATEGY, STRATEGY, STRATEGY, STRATEGY, WORKS, STRATEGY),
    ),
    "`serial: 1`, also with `strategy: free`": Row(
        {"serial-1": keywords(serial=1), "serial-1-free": keywords(serial=1, strategy="free")},
        (
            WORKS,
            IN_ONE_BATCH,
            WORKS,
            ROTATES_IN_ONE_BATCH,
            CLUSTERS_IN_ONE_BATCH,
            WORKS,
            FLEET_IN_ONE_BATCH,
        ),
    ),
    "`serial` with several in a batch": Row(
        {"serial-67%": keywords(serial="67%"), "serial-1-2": keywords(serial=[1, 2])},
        (
            WORKS,
            IN_ONE_BATCH,
            "upgrade_master",
            ROTATES_IN_ONE_BATCH,
            CLUSTERS_IN_ONE_BATCH,
            WORKS,
            FLEET_IN_ONE_BATCH,
        ),
    ),
    "`order: reverse_inventory` or `shuffle`": Row(
        {name: keywords(order=name) for name in ("reverse_inventory", "shuffle")},
        (WORKS, NONE, ORDER, WORKS, NONE, WORKS, WORKS),
    ),
    "`serial` with `order: reverse_inventory` or `shuffle`": Row(
        {f"serial-2-{name}": keywords(serial=2, order=name) for name in ("reverse_inventory", "shuffle")},
        (
            ORDER,
            IN_ONE_BATCH,
            ORDER,
            ROTATES_IN_ONE_BATCH,
            CLUSTERS_IN_ONE_BATCH,
            WORKS,
            NONE,  # two clusters are one batch
        ),
    ),
    "`any_errors_fatal` or `ignore_unreachable`": Row(
        {name: Shape(keywords={name: True}) for name in ("any_errors_fatal", "ignore_unreachable")}, ALL_WORK
    ),
    "`max_fail_percentage`": Row(
        {"max_fail_percentage": keywords(max_fail_percentage=100)},
        (NONE, NONE, NONE, WORKS, "This play has max_fail_percentage", WORKS, WORKS),
    ),
    "`--limit` to one master": Row(
        {"limit": Shape(flags=("--limit", "master-1,a-1,shop-1"))},
        # A baseline of all API servers is right whatever hosts the play has, and so is the upgrade of one master while the others are ready.
        (ONE_OF_THREE, ONE_OF_THREE, WORKS, ONE_OF_THREE, ONE_OF_THREE, ONE_OF_THREE, WORKS),
        other={"snapshot": WORKS},
        turns=("master-1",),
    ),
    "`--tags` of `include_role` alone": Row({"tags": Shape(**TAGGED)}, (TAGS,) * 7),
    "`--tags` of `include_role` and its `apply`, or of `import_role`": Row(
        {
            "tags-apply": Shape(**TAGGED, role={"apply": {"tags": ["upgrade"]}}),
            "tags-import": Shape(**TAGGED, include="import_role"),
        },
        (NONE, *ALL_WORK[1:]),
    ),
    "`--skip-tags always`": Row(
        {"skip-always": Shape(flags=("--skip-tags", "always"))},
        (SKIPPED, SKIPPED, "this run left out tasks of the role", WORKS, SKIPPED, WORKS, WORKS),
    ),
    "`-e` with a fact of the role": Row(
        {"e-fact": Shape(extra={"rolling_upgrade_may_begin": True, "rolling_upgrade_inside": True})}, (FACT,) * 7
    ),
    "`-e rolling_upgrade_masters` with other masters": Row(
        {"e-masters": Shape(extra={"rolling_upgrade_masters": ["master-1"]})},
        (ONE_OF_THREE, ONE_OF_THREE, NONE, ONE_OF_THREE, "rolling_upgrade_cluster_group of a-1", ONE_OF_THREE, WORKS),
        other={"snapshot": WORKS},
    ),
    "a master that can't be reached, also with `ignore_unreachable`": Row(
        {
            f"lost-{lost}{'-ignored' if ignored else ''}": Shape(
                lost=(f"master-{lost}",), keywords={"ignore_unreachable": True} if ignored else {}
            )
            for lost, ignored in ((1, False), (2, False), (2, True))
        },
        (UNSEEN, UNSEEN, UNSEEN, UNSEEN, UNSEEN, WORKS, WORKS),
    ),
}
LONG = pytest.mark.long
# The first shape of each row stands for the others, which are long tests.
SHAPES = [
    pytest.param(name, shape, id=shape, marks=[LONG] if number else [])
    for name, row in TABLE.items()
    for number, shape in enumerate(row.shapes)
]
# Rows that have tests of their own below or, in this order, in test_no_loss_role.py, test_role.py and test_role_truth.py.
OTHER_ROWS: dict[str, tuple[str, ...]] = {
    "`mitogen_free` or `mitogen_host_pinned`": (STRATEGY, STRATEGY, STRATEGY, STRATEGY, NONE, WORKS, STRATEGY),
    "`mitogen_linear`": (WORKS, NONE, NONE, NONE, NONE, WORKS, NONE),
    "`ignore_errors` or `rescue`": (WORKS, *[NONE] * 6),
    "`--start-at-task` inside the role": ("left out",) * 5 + (WORKS, "left out"),
    "several plays in one run, for one cluster or two": (WORKS, *[NONE] * 6),
    "a driver that fails, whatever the play makes of errors": (STOPS, STOPS, STOPS, *[NONE] * 4),
    "a master that can't be reached anymore in its turn": (STOPS, STOPS, STOPS, *[NONE] * 4),
}


def word(cell: str) -> str:
    return cell if cell in (NONE, WORKS, STOPS) else "refused"


def test_the_table_in_the_readme() -> None:
    text = (ROOT / "roles" / "rolling_upgrade" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| ([^|]+) \|" + r" ?([a-z]*) \|" * 7 + "$", text)
    here = {name: row.cells for name, row in TABLE.items()} | OTHER_ROWS
    assert {name: tuple(cells) for name, *cells in rows} == {
        name: tuple(map(word, cells)) for name, cells in here.items()
    }


@pytest.fixture(scope="module")
def cluster(three_masters: Cluster) -> Cluster:
    return three_masters


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster.up(tmp_path_factory.mktemp("other") / "cluster", masters=1, owner_pid=os.getpid())
    yield made
    made.down()


@pytest.fixture
def masters(cluster: Cluster, other: Cluster, tmp_path: Path) -> Masters:
    return Masters(cluster, other, tmp_path)


SKIPS = r"(skipping: \S+ )*"  # With import_role, each task has the condition.
# What each says that has done its work; what rolls has turns, too.
SIGNS = {
    "check": "From 1.37 to 1.37: 0 blockers",
    "snapshot": rf"Record the storage versions as the baseline\] \*+ {SKIPS}(ok|changed): \[master-1",
    "converge": rf"Remember that all API servers agree\] \*+ {SKIPS}ok: \[master-1",
    "migrate": r"\d objects were rewritten, ",
    "verify": "Whether etcd still holds stale objects was not checked",
    "fleet": r"clusters?: \d nothing found: shop-1",
    "rotate_encryption_key": "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "main": "DONE: master-1, master-2, master-3 are at 1.37",
    "several_releases": "DONE: master-1, master-2, master-3 are at 1.37",
    "clusters": "DONE: a-1, a-2, a-3 are at 1.37",
    "upgrade_master": r"Remember that this master is done\] \*+ ok: \[master-3",
}


def expect(told: Told, problems: list[str], *, code: int | None = 0, worst: int = 0) -> None:
    """No problems, this exit status, and at most so many masters down at once; otherwise all that was said is shown."""
    if code is not None and told.code != code:
        problems.append(f"It ended with {told.code}.")
    if len(told.worst) != worst or (worst and told.samples < 10):
        problems.append(f"These were down at once: {told.worst}, in {told.samples} samples.")
    if problems:
        pytest.fail("\n".join([*problems, told.said]), pytrace=False)


def wrong(told: Told, signs: Mapping[str, str]) -> list[str]:
    """The plays that did not say this."""
    return [
        f"{entry} did not say '{sign}': {told.of(entry)}"
        for entry, sign in signs.items()
        if not said_in(told, entry, sign)
    ]


def not_refused(told: Told, sentences: Mapping[str, str]) -> list[str]:
    """The plays, each with a rescue, that did not fail with this sentence, or did something before."""
    bad = [entry for entry in sentences if "rescued: " not in told.of(entry)]
    rewrites = "rolling_upgrade : Rewrite stored objects in the new storage versions]"
    bad += [entry for entry in sentences if entry != "migrate" and rewrites in told.of(entry)]
    return [
        *(f"{entry} did not refuse." for entry in dict.fromkeys(bad)),
        *wrong(told, {entry: re.escape(sentence) for entry, sentence in sentences.items()}),
    ]


def touched(told: Told) -> list[str]:
    return [f"{', '.join(masters)} had a turn in {play}." for play, masters in told.turns.items()]


@pytest.mark.parametrize(("name", "variant"), SHAPES)
def test_a_row_without_turns(masters: Masters, name: str, variant: str) -> None:
    """What is refused, and what works without touching a master."""
    row = TABLE[name]
    shape = row.shapes[variant]
    refused, working = row.refused(), row.working(*AROUND, "fleet", "rotate_encryption_key")
    told = masters.run(
        shape,
        *(shape.play(entry, rescue=True) for entry in refused),
        *(shape.play(entry, rescue=entry == "rotate_encryption_key") for entry in working),
        wait_timeout=2,
    )
    expect(told, not_refused(told, refused) + wrong(told, {entry: SIGNS[entry] for entry in working}) + touched(told))


@LONG
@pytest.mark.parametrize(
    ("name", "variant"), [shape for shape in SHAPES if TABLE[str(shape.values[0])].working(*ROLLS)]
)
def test_the_rolls_of_a_row(masters: Masters, name: str, variant: str) -> None:
    row = TABLE[name]
    shape = row.shapes[variant]
    rolls = row.working(*ROLLS)
    assert_rolled(masters.run(shape, *map(shape.play, rolls)), rolls, row.turns)


def assert_rolled(told: Told, rolls: list[str], turns: tuple[str, ...] = MASTERS) -> None:
    """These masters had their turn in each play, one after another, and the last words say so."""
    signs = {entry: SIGNS[entry].replace(MASTERS[-1], turns[-1]) for entry in rolls}
    problems = wrong(told, signs)
    problems += [f"In {entry} the turns were {told.order(entry)}." for entry in rolls if told.order(entry) != turns]
    problems += [f"{play} had turns." for play in set(told.turns) - set(rolls)]
    expect(told, problems, worst=1)


def refusals(row: str) -> dict[str, str]:
    return {entry: sentence for entry, sentence in zip(COLUMNS, OTHER_ROWS[row]) if sentence not in (NONE, WORKS)}


def test_the_strategies_of_mitogen() -> None:
    """The role knows them by their names; the test below has Mitogen itself."""
    batch = ("master-1", "master-2")
    for name in ("mitogen_free", "mitogen_host_pinned"):
        for refusal in (strategy_refusal, fleet_refusal):
            assert "strategy: linear" in refusal(Play(name, batch, batch, batch))
    for refusal in (strategy_refusal, fleet_refusal):
        assert refusal(Play("mitogen_linear", batch, batch, batch)) == ""


@LONG
def test_mitogen(masters: Masters) -> None:
    """Mitogen itself, with the ansible-core that tests are run with."""
    packages = mitogen()
    # Not the Python that is kept warm: Mitogen starts Python in its own way.
    given: dict[str, Any] = {
        "settings": {
            "ANSIBLE_STRATEGY_PLUGINS": str(packages / "ansible_mitogen" / "plugins" / "strategy"),
            "PYTHONPATH": str(packages),
        },
        "fresh": True,
        "each": {master: {"ansible_python_interpreter": sys.executable} for master in MASTERS},
    }
    linear = Shape(keywords={"strategy": "mitogen_linear"}, **given)
    around = ("check", "migrate", "verify")
    told = masters.run(linear, *map(linear.play, around))
    assert not wrong(told, {entry: SIGNS[entry] for entry in around}) and told.code == 0, told.said
    assert_rolled(masters.run(linear, linear.play("main")), ["main"])
    refused = refusals("`mitogen_free` or `mitogen_host_pinned`")
    free = Shape(keywords={"strategy": "mitogen_free", "serial": 3}, **given)
    told = masters.run(free, *(free.play(entry, rescue=True) for entry in refused), *map(free.play, around))
    problems = not_refused(told, refused) + wrong(told, {entry: SIGNS[entry] for entry in around})
    assert not problems and told.code == 0 and told.turns == {}, (problems, told.said)


STARTS = {
    "main": ("Upgrade one master after another", "Nothing is proven: this run left out tasks of the role"),
    "several_releases": ("Upgrade to each release in turn", "Nothing is proven: this run left out tasks of the role"),
    "upgrade_master": ("Upgrade this master", "master-1 was not upgraded: this run left out tasks of the role"),
    "rotate_encryption_key": ("Make sure that the rotation was proven", "Nothing is proven: this run left out tasks"),
    "clusters": ("Upgrade one master after another", "Nothing is proven: this run left out tasks of the role"),
    "fleet": ("Take one wave after another", "left out tasks of the role"),
}


@pytest.mark.parametrize("entry", STARTS)
def test_a_start_inside_the_role(masters: Masters, entry: str) -> None:
    """That of verify is in test_role_truth.py."""
    task, sentence = STARTS[entry]
    shape = Shape(include="import_role", flags=("--start-at-task", f"*{task}"))
    told = masters.run(shape, shape.play(entry))
    assert told.code == 2 and told.turns == {} and sentence in told.of(entry), told.said


# That the first of several batches fails must end the play, which max_fail_percentage alone would not.
HOW_ERRORS_COUNT = {
    "max_fail_percentage": Shape(keywords={"max_fail_percentage": 100}),
    "any_errors_fatal": Shape(keywords={"any_errors_fatal": True}),
    "ignore_errors": Shape(keywords={"ignore_errors": True}),
}


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=[LONG] if number else []) for number, name in enumerate(HOW_ERRORS_COUNT)]
)
@pytest.mark.parametrize("entry", ["main", "several_releases", "upgrade_master"])
def test_a_driver_that_fails(masters: Masters, entry: str, variant: str) -> None:
    """Whatever the play makes of errors. Ansible itself would go on with the other batches. rescue is in test_no_loss_role.py."""
    shape = HOW_ERRORS_COUNT[variant]
    if entry == "main":
        shape = replace(shape, keywords={**shape.keywords, "serial": 1})
    told = masters.run(shape, shape.play(entry), fails_on="master-1")
    assert told.code != 0 and list(told.turns[entry]) == ["master-1"] and told.worst == (), told.said
    assert "non-zero return code 100: E: no power." in told.of(entry), told.said
    report = masters.report()
    assert report["status"] == "failed" and [step["state"] for step in report["steps"]] == ["failed"]


@pytest.mark.parametrize("entry", ["main", "several_releases", "upgrade_master"])
def test_a_master_that_is_lost_in_its_turn(masters: Masters, entry: str) -> None:
    """Also where the play ignores that. More about main is in test_no_loss_role.py."""
    shape = Shape(keywords={"ignore_unreachable": True})
    told = masters.run(shape, shape.play(entry), lost_on="master-1")
    assert told.code != 0 and list(told.turns[entry]) == ["master-1"] and told.worst == (), told.said
    assert "UNREACHABLE!" in told.of(entry), told.said


@pytest.mark.parametrize("lost", [pytest.param("master-1", marks=LONG), "master-2"])
def test_a_master_that_a_play_before_has_lost(masters: Masters, lost: str) -> None:
    """The API servers are there, so that only what would touch masters is refused."""
    ping = {"name": "first", "hosts": "masters", "gather_facts": False, "tasks": [{"ansible.builtin.ping": {}}]}
    shape = Shape(first=(ping,), lost=(lost,))
    rolls = ("main", "several_releases", "upgrade_master", "rotate_encryption_key")
    told = masters.run(shape, *(shape.play(entry, rescue=True) for entry in rolls))
    assert told.turns == {} and told.worst == (), told.said
    assert f"{lost} is no longer in this play" in told.of("main"), told.said


def test_two_plays_for_one_cluster(masters: Masters) -> None:
    """The second finds all done, and takes nothing that the first found for granted: the check of the third fails.

    With all settings at once that change nothing; the long tests have each of them alone.
    """
    harmless = {"order": "reverse_inventory", "any_errors_fatal": True, "ignore_unreachable": True, "serial": 3}
    shape = Shape(keywords=harmless)
    told = masters.run(
        shape,
        shape.play("main"),
        shape.play("main", name="again", turns="main"),
        shape.play("main", name="third", rescue=True, rolling_upgrade_expected_servers=4),
    )
    assert told.order("main") == MASTERS and len(told.worst) == 1 and told.code == 0, told.said
    for name in ("main", "again"):
        assert said_in(told, name, SIGNS["main"]), told.said
    assert "rescued: The upgrade can't begin: " in told.of("third"), told.said
    assert [run["status"] for run in masters.report()["runs"]] == ["succeeded", "succeeded", "failed"]


def test_two_clusters_in_one_run(masters: Masters) -> None:
    """Each has its own masters, report and proof; what is true of the first says nothing about the second."""
    shape = Shape()
    second = {**shape.play("main", name="second"), "hosts": "others"}
    third = {**shape.play("main", name="third", rescue=True, rolling_upgrade_expected_servers=2), "hosts": "others"}
    told = masters.run(shape, shape.play("main"), second, third)
    assert told.order("main") == MASTERS and told.order("second") == ("master-1",) and told.code == 0, told.said
    assert set(told.turns) == {"main", "second"} and len(told.worst) == 1, told.worst
    assert said_in(told, "main", SIGNS["main"]) and said_in(told, "second", "DONE: other-1 is at 1.37"), told.said
    assert "rescued: The upgrade can't begin: " in told.of("third"), told.said
    assert [step["master"] for step in masters.report()["steps"]] == [*MASTERS]
    assert [step["master"] for step in masters.report("others")["steps"]] == ["other-1"]


@pytest.mark.parametrize("stop", ["migrate", pytest.param("trim", marks=LONG)])
def test_a_run_that_ends_before_a_step_on_purpose(masters: Masters, stop: str) -> None:
    """In batches of one, the last of which says how the run ended."""
    shape = Shape(keywords={"serial": 1})
    told = masters.run(shape, shape.play("main", rolling_upgrade_stop_before=stop))
    assert told.order("main") == MASTERS and told.code == 0 and len(told.worst) == 1, told.said
    migrated = "Rewrite stored objects in the new storage versions]" in told.of("main")
    assert migrated is (stop == "trim") and ("no old object was rewritten" in told.of("main")) is (stop == "migrate")


def test_a_host_that_is_no_master(masters: Masters) -> None:
    """Ansible said that slice indices must be integers."""
    shape = Shape(extra={"rolling_upgrade_masters": ["master-1"]})
    told = masters.run(shape, shape.play("upgrade_master", rescue=True))
    problems = wrong(told, {"upgrade_master": "rescued: master-2 is not in rolling_upgrade_masters"})
    expect(told, problems + ([] if told.order("upgrade_master") == ("master-1",) else touched(told)), worst=1)
