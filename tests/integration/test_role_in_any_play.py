# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 15, number 1: the role in any play, as a table of settings and entry points, which the role's README has, too.

In each cell the role works, or refuses before the first master, with a sentence that says what to do. Never are two masters down, and no
play ends green that did nothing. What rolls is a plan here (check mode), and restarts the masters in the long tests, which have the same rows.
That rotate_encryption_key works means that it gets as far as its search for the encryption configuration, which these masters don't have;
whole rotations are in test_rotate_encryption_key.py.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._play import Play, fleet_refusal, strategy_refusal

from tests.control_plane.cluster import Cluster
from tests.tools.prepare import mitogen

from .support.any_play import AROUND, ROLLS, Masters, Shape, Told, said_in
from .support.modules import ROOT

# What a cell says: nothing (not tested, or there is no such case), that it works, or the sentence with which it refuses.
NONE, WORKS = "", "works"
# upgrade_master has serial: 1 where its row has no other. The last but one stands for check, snapshot, converge, migrate and verify.
COLUMNS = ("main", "several_releases", "upgrade_master", "rotate_encryption_key", "clusters", "verify", "fleet")
ALL_WORK = (WORKS,) * 7
MASTERS = ["master-1", "master-2", "master-3"]


@dataclass(frozen=True)
class Row:
    shapes: Mapping[str, Shape]
    cells: tuple[str, ...]

    def of(self, entry: str) -> str:
        return self.cells[COLUMNS.index("verify" if entry in AROUND else entry)]

    def refused(self) -> dict[str, str]:
        return {entry: self.of(entry) for entry in ENTRIES if self.of(entry) not in (NONE, WORKS)}

    def working(self, *entries: str) -> list[str]:
        return [entry for entry in entries if self.of(entry) == WORKS]


ENTRIES = ("main", "several_releases", "upgrade_master", "rotate_encryption_key", "clusters", *AROUND, "fleet")


def keywords(**given: Any) -> Shape:
    return Shape(keywords=given)


def cached(facts: Mapping[str, Any]) -> Shape:
    """Facts on disk, as an earlier run left them: the same for each master."""
    return Shape(
        settings={
            "ANSIBLE_CACHE_PLUGIN": "jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": "cache",
            "ANSIBLE_GATHERING": "smart",
        },
        each={master: {} for master in facts},
    )


STRATEGY = "This play has the strategy"
IN_ONE_BATCH = "needs all masters in one play without serial"
ROTATES_IN_ONE_BATCH = "run the play without serial"
CLUSTERS_IN_ONE_BATCH = "have all masters of clustered in one batch; remove serial"
FLEET_IN_ONE_BATCH = "This play has serial, and a fleet has waves instead; remove serial"
TAGS = "'apply: {tags: [upgrade]}'"
FACT = "rolling_upgrade_may_begin is not a variable of the role"
ONE_OF_THREE = "is expected, 3 are known"
TAGGED: dict[str, Any] = {"task": {"tags": ["upgrade"]}, "flags": ("--tags", "upgrade")}
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
        (WORKS, WORKS, ORDER, WORKS, WORKS, WORKS, WORKS),
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
        (WORKS, WORKS, WORKS, WORKS, "This play has max_fail_percentage", WORKS, WORKS),
    ),
    "`--limit` to one master": Row(
        {"limit": Shape(flags=("--limit", "master-1,a-1,shop-1"))},
        (ONE_OF_THREE,) * 6 + (WORKS,),
    ),
    "`--tags` of `include_role` alone": Row({"tags": Shape(**TAGGED)}, (TAGS,) * 7),
    "`--tags` of `include_role` and its `apply`, or of `import_role`": Row(
        {
            "tags-apply": Shape(**TAGGED, role={"apply": {"tags": ["upgrade"]}}),
            "tags-import": Shape(**TAGGED, include="import_role"),
        },
        ALL_WORK,
    ),
    "`--skip-tags always`": Row(
        {"skip-always": Shape(flags=("--skip-tags", "always"))},
        ("left out", "left out", "left out", WORKS, "left out", WORKS, WORKS),
    ),
    "`-e` with a fact of the role": Row(
        {"e-fact": Shape(extra={"rolling_upgrade_may_begin": True, "rolling_upgrade_inside": True})}, (FACT,) * 7
    ),
    "`-e rolling_upgrade_masters` with other masters": Row(
        {"e-masters": Shape(extra={"rolling_upgrade_masters": ["master-1"]})},
        (ONE_OF_THREE,) * 4 + ("rolling_upgrade_cluster_group of a-1",) + (ONE_OF_THREE, WORKS),
    ),
    "facts cached on disk": Row({"cache": cached({})}, ALL_WORK),
}
SHAPES = [pytest.param(name, shape, id=shape) for name, row in TABLE.items() for shape in row.shapes]
# Rows that have tests of their own below or, in this order, in test_no_loss_role.py, test_role.py and test_role_truth.py.
OTHER_ROWS: dict[str, tuple[str, ...]] = {}


def word(cell: str) -> str:
    return cell if cell in (NONE, WORKS, "stops") else "refused"


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


# What each says that has done its work; what rolls has turns, too.
SIGNS = {
    "check": "From 1.37 to 1.37: 0 blockers",
    "snapshot": r"Record the storage versions as the baseline\] \*+ (ok|changed): \[master-1",
    "converge": r"Remember that all API servers agree\] \*+ ok: \[master-1",
    "migrate": r"\d objects were rewritten, ",
    "verify": "Whether etcd still holds stale objects was not checked",
    "fleet": r"[12] clusters?",
    "rotate_encryption_key": "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "main": "DONE: master-1, master-2, master-3 are at 1.37",
    "several_releases": "DONE: master-1, master-2, master-3 are at 1.37",
    "clusters": "DONE: a-1, a-2, a-3 are at 1.37",
    "upgrade_master": r"Remember that this master is done\] \*+ ok: \[master-3",
}
PLANS = {
    **{entry: r"NOTHING WAS CHANGED: would upgrade (\w-1|master-1), \S+, \S+ " for entry in ROLLS},
    "upgrade_master": SIGNS["upgrade_master"],
}


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
    bad += [entry for entry in sentences if "Rewrite stored objects in the new storage versions]" in told.of(entry)]
    return [
        *(f"{entry} did not refuse: {told.of(entry)}" for entry in dict.fromkeys(bad)),
        *wrong(told, {entry: re.escape(sentence) for entry, sentence in sentences.items()}),
    ]


def poisoned(masters: Masters) -> None:
    """Somebody left a yes to everything in the facts that are cached on disk."""
    cache = masters.folder / "cache"
    cache.mkdir()
    yes = dict.fromkeys(("may_begin", "done", "roll", "looked", "may_touch", "check_passed", "alone", "inside"), True)
    facts = json.dumps({f"rolling_upgrade_{fact}": value for fact, value in yes.items()})
    for name in [*MASTERS, "a-1", "a-2", "a-3"]:
        for path in (cache / name, cache / f"s1_{name}"):
            path.write_text(facts, encoding="utf-8")


def prepare(masters: Masters, shape: Shape) -> Shape:
    if "ANSIBLE_CACHE_PLUGIN" not in shape.settings:
        return shape
    poisoned(masters)
    cache = {"ANSIBLE_CACHE_PLUGIN_CONNECTION": str(masters.folder / "cache")}
    return replace(shape, settings={**shape.settings, **cache})


@pytest.mark.parametrize(("name", "variant"), SHAPES)
def test_a_row(masters: Masters, name: str, variant: str) -> None:
    """What is refused, and what needs no turns, in one run; the plans of what rolls in another."""
    row = TABLE[name]
    shape = prepare(masters, row.shapes[variant])
    refused, working = row.refused(), row.working(*AROUND, "fleet", "rotate_encryption_key")
    told = masters.run(
        shape,
        *(shape.play(entry, rescue=True) for entry in refused),
        *(shape.play(entry, rescue=entry == "rotate_encryption_key") for entry in working),
        wait_timeout=2,
    )
    problems = not_refused(told, refused) + wrong(told, {entry: SIGNS[entry] for entry in working})
    assert not problems and told.turns == {} and told.worst == () and told.code == 0, (problems, told.said)
    rolls = row.working(*ROLLS)
    if rolls:
        told = masters.run(shape, *map(shape.play, rolls), flags=["--check"])
        problems = wrong(told, {entry: PLANS[entry] for entry in rolls})
        assert not problems and told.turns == {} and told.worst == () and told.code == 0, (problems, told.said)


@pytest.mark.long
@pytest.mark.parametrize(("name", "variant"), SHAPES)
def test_the_rolls_of_a_row(masters: Masters, name: str, variant: str) -> None:
    row = TABLE[name]
    shape = prepare(masters, row.shapes[variant])
    rolls = row.working(*ROLLS)
    if not rolls:
        pytest.skip("nothing rolls in this row")
    told = masters.run(shape, *map(shape.play, rolls))
    assert_rolled(told, rolls)


def assert_rolled(told: Told, rolls: list[str]) -> None:
    """All masters had their turn in each play, one after another, and the last words say so."""
    problems = wrong(told, {entry: SIGNS[entry] for entry in rolls})
    assert not problems and told.code == 0, (problems, told.said)
    assert {entry: told.order(entry) for entry in rolls} == dict.fromkeys(rolls, MASTERS), told.said
    assert len(told.worst) == 1 and told.samples > 10, told.worst
