# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 15, numbers 1 and 4: which plays and variables the role refuses, before anything is touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kube_storage.upgrade.plugins.filter.masters_at_release import masters_at_release
from ansible_collections.kube_storage.upgrade.plugins.filter.play_refusals import play_refusals
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _play
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._play import Play
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.files import report_identity
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._variables import (
    BOOLEANS,
    CHOICES,
    DICTIONARIES,
    NUMBERS,
    WHOLE_NUMBERS,
    tasks_file_refusals,
    wrong_values,
)

THREE = ("master-1", "master-2", "master-3")
ROLE = Path(__file__).resolve().parents[4] / "roles" / "rolling_upgrade"


@pytest.mark.parametrize(
    ("strategy", "batch", "refused"),
    [
        ("linear", THREE, False),
        ("ansible.builtin.linear", THREE, False),
        ("debug", THREE, False),
        ("mitogen_linear", THREE, False),
        ("free", THREE, True),
        ("ansible.builtin.free", THREE, True),
        ("host_pinned", THREE, True),
        ("mitogen_free", THREE, True),
        ("mitogen_host_pinned", THREE, True),
        ("somebodys.own", THREE, True),
        ("free", THREE[:1], False),
        ("host_pinned", THREE[:1], False),
    ],
)
def test_strategies(strategy: str, batch: tuple[str, ...], refused: bool) -> None:
    found = _play.strategy_refusal(Play(strategy, THREE, THREE, batch))
    assert bool(found) is refused and ("strategy: linear" in found) is refused


def test_several_clusters_in_a_play() -> None:
    play = Play("linear", (*THREE, "other-1"), (*THREE, "other-1"), (*THREE, "other-1"))
    same = dict.fromkeys(THREE, "a")
    assert _play.clusters_refusal(play, "master-1", "a", THREE, same) == ""
    assert "has no rolling_upgrade_cluster_group" in _play.clusters_refusal(play, "other-1", "", THREE, same)
    assert "is not among the masters" in _play.clusters_refusal(play, "other-1", "a", THREE, same)
    mixed = {**same, "master-2": "b", "master-3": ""}
    assert "master-2 ('b'), master-3 ('')" in _play.clusters_refusal(play, "master-1", "a", THREE, mixed)
    limited = replace(play, most_failures=0.0)
    assert "max_fail_percentage" in _play.clusters_refusal(limited, "master-1", "a", THREE, same)
    free = replace(play, strategy="free")
    assert "3 masters of a" in _play.clusters_refusal(free, "master-1", "a", THREE, same)
    turns = replace(free, batch=("master-2", "other-1"))
    assert "remove serial" in _play.clusters_refusal(turns, "master-2", "a", THREE, same)
    single = replace(free, batch=("master-2", "other-1"))
    assert _play.clusters_refusal(single, "master-2", "a", ["master-2"], {"master-2": "a"}) == ""


def test_a_group_of_a_cluster_is_refused_where_a_play_has_one_cluster() -> None:
    assert "upgrade_clusters" in _play.one_cluster_refusal("main", "a")
    assert "upgrade_clusters" in _play.one_cluster_refusal("rotate_encryption_key", "a")
    assert _play.one_cluster_refusal("main", "") == _play.one_cluster_refusal("upgrade_master", "a") == ""


def test_each_cluster_has_a_report_of_its_own() -> None:
    found = _play.shared_reports(
        [("a", "r.html"), ("a", "r.html"), ("b", "./r.json"), ("c", "c.html"), ("d", ""), ("e", "")], report_identity
    )
    assert set(found) == {"a", "b"} and "r.html for the clusters of a, b" in found["a"]
    assert "./r.json for the clusters of a, b" in found["b"]
    hosts: dict[str, dict[str, Any]] = {
        "master-1": {
            "rolling_upgrade_play": {"shared_reports": found, "first": "master-1"},
            "rolling_upgrade_cluster_group": "c",
        },
        "master-2": {
            "rolling_upgrade_play": {"problems": [], "first": "master-1"},
            "rolling_upgrade_cluster_group": "b",
        },
    }
    assert play_refusals(["master-2"], hosts, ["master-1", "master-2"]) == [found["b"]]
    assert play_refusals(["master-2"], hosts, ["master-2"]) == [found["b"]], "the first host was refused meanwhile"
    assert _play.report_refusal(["master-1"], hosts, ["master-1", "master-2"]) == []
    assert _play.report_refusal(["master-9", "master-1"], hosts, ["master-1", "master-2"]) == []


@pytest.mark.parametrize(
    "other", ["r.html", "./r.html", "x/../r.json", "R/../r.HTM", "r", "$HOME_OF_REPORTS/r.html", "~/r.html"]
)
def test_one_report_has_many_names(other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HOME_OF_REPORTS", str(tmp_path))
    assert report_identity(other) == report_identity("r.html") != report_identity("r.html.html")


def test_the_migrations_of_a_fleet_have_a_report_each() -> None:
    def refusals(*extra: str, purpose: str = "migrate") -> list[str]:
        return _play.fleet_report_refusals(extra, {"rolling_upgrade_fleet_purpose": purpose})

    (refusal,) = refusals("rolling_upgrade_hosts", "rolling_upgrade_report_path")
    assert "all clusters would have the same report" in refusal
    assert refusals("rolling_upgrade_hosts") == [] == refusals("rolling_upgrade_report_path", purpose="audit")


def test_run_once_is_refused_with_several_clusters() -> None:
    def refusals(tasks: list[dict[str, Any]], clusters: bool) -> list[str]:
        given = {"rolling_upgrade_tasks_file": "mine.yml"}
        return tasks_file_refusals(given, lambda name: name, lambda path: tasks, lambda task: "", clusters)

    once = [{"name": "once", "block": [{"command": "true", "run_once": True}]}]
    assert refusals(once, False) == [] == refusals([{"command": "true"}], True)
    (refusal,) = refusals(once, True)
    assert "run_once" in refusal


def test_a_fleet_has_waves_instead_of_serial_and_needs_linear() -> None:
    assert _play.fleet_refusal(Play("linear", THREE, THREE, THREE)) == ""
    assert "remove serial" in _play.fleet_refusal(Play("linear", THREE, THREE, THREE[:1]))
    assert "strategy: linear" in _play.fleet_refusal(Play("free", THREE, THREE, THREE))
    assert _play.fleet_refusal(Play("free", THREE[:1], THREE[:1], THREE[:1])) == ""


def test_values_of_a_fleet() -> None:
    given = {"purpose": "check", "waves": "canary", "stop_on": "blockers", "max_failures": -1}
    found = " ".join(wrong_values({f"rolling_upgrade_fleet_{name}": value for name, value in given.items()}, "fleet"))
    assert all(
        word in found
        for word in ("needs rolling_upgrade_version", "list of waves", "did you mean blocker?", "at least 0")
    )
    assert (
        wrong_values({"rolling_upgrade_fleet_waves": [1, "10%"], "rolling_upgrade_fleet_purpose": "migrate"}, "fleet")
        == []
    )


@pytest.mark.parametrize(
    ("tags", "only", "refused"),
    [
        ((), (), False),
        ((), ("all",), False),
        ((), ("upgrade",), True),
        (("upgrade",), ("upgrade",), False),
        (("other",), ("upgrade",), True),
        (("upgrade",), ("tagged",), False),
        ((), ("tagged",), True),
        ((), ("untagged",), False),
        (("upgrade",), ("untagged",), True),
        (("never",), ("all",), True),
        (("never", "upgrade"), ("upgrade",), False),
    ],
)
def test_tags(tags: tuple[str, ...], only: tuple[str, ...], refused: bool) -> None:
    found = _play.tags_refusal(tags, only)
    assert bool(found) is refused
    if refused:
        assert f"apply: {{tags: [{', '.join(only)}]}}" in found


@pytest.mark.parametrize(
    ("only", "skipped", "option"),
    [
        (("all",), (), ""),
        ((), (), ""),
        (("untagged",), ("other",), ""),
        (("upgrade", "other"), (), "--tags other,upgrade"),
        (("tagged",), (), "--tags tagged"),
        (("all",), ("all",), "--skip-tags all"),
        (("all",), ("untagged",), "--skip-tags untagged"),
    ],
)
def test_tags_of_a_playbook_of_the_collection(only: tuple[str, ...], skipped: tuple[str, ...], option: str) -> None:
    """Issue 15, number 1: it ended green, having done nothing."""
    found = _play.playbook_tags_refusal(only, skipped)
    assert bool(found) is bool(option) and f"With {option} nothing would run" in found if option else not found


ANOTHER_ORDER = "in another order than that of its masters"


@pytest.mark.parametrize(
    ("serial", "order", "masters", "refused"),
    [
        ((), "shuffle", THREE, ""),
        ((), "reverse_inventory", THREE, ""),
        ((1,), None, THREE, ""),
        ((1,), "inventory", THREE, ""),
        ((1,), "sorted", THREE, ""),
        ((3,), "shuffle", THREE, ""),
        (("100%",), "reverse_inventory", THREE, ""),
        ((0,), "shuffle", THREE, ""),
        ((1,), "shuffle", THREE, ANOTHER_ORDER),
        ((2,), "shuffle", THREE, ANOTHER_ORDER),
        ((1,), "reverse_inventory", THREE, ANOTHER_ORDER),
        (("67%",), "reverse_sorted", THREE, ANOTHER_ORDER),
        ((1,), "reverse_inventory", THREE[::-1], ""),
        ((1,), None, THREE[::-1], ANOTHER_ORDER),
        ((1,), None, ("master-1", "master-3", "master-2"), ANOTHER_ORDER),
        ((2,), None, ("master-2", "master-1", "master-3"), ""),
        ((1,), None, ("master-1", "elsewhere"), ""),
    ],
)
def test_batches_in_the_order_of_the_masters(
    serial: tuple[Any, ...], order: str | None, masters: tuple[str, ...], refused: str
) -> None:
    """Issue 15, number 1: some masters were upgraded before a later one refused."""
    play = Play("linear", THREE, THREE, THREE[:1], order=order, serial=serial)
    for one_each in (True, False):
        found = _play.batches_refusal(play, masters, one_each=one_each and serial in ((), (1,)))
        assert bool(found) is bool(refused) and refused in found
    if refused:
        assert ("remove order" in found) is (order is not None) and "or remove serial" in found


@pytest.mark.parametrize(
    ("serial", "refused"), [((1,), False), ((1, 2), True), ((2, 1), False), (("34%", "67%"), True), (("40%", 0), True)]
)
def test_a_later_batch_of_several(serial: tuple[Any, ...], refused: bool) -> None:
    """That the first has several is found out when they begin: a play may include upgrade_master on one host after another."""
    play = Play("linear", THREE, THREE, THREE[:1], serial=serial)
    assert ("a later batch" in _play.batches_refusal(play, THREE, one_each=True)) is refused
    assert _play.batches_refusal(play, THREE, one_each=False) == ""


def test_hosts() -> None:
    inventory = {name: {} for name in (*THREE, "other")}
    assert _play.hosts_refusals(Play("linear", THREE, THREE, THREE[:1]), THREE, inventory) == []
    assert _play.hosts_refusals(Play("linear", ("other",), ("other",), ("other",)), THREE, inventory) == []
    implicit = ("localhost",)
    assert _play.hosts_refusals(Play("linear", implicit, implicit, implicit), implicit, inventory) == []
    (failed,) = _play.hosts_refusals(Play("linear", THREE, THREE[:2], THREE[:2]), THREE, inventory)
    assert failed.startswith("master-3 is no longer in this play")
    (strange,) = _play.hosts_refusals(Play("linear", THREE, THREE, THREE), [*THREE, "master-4"], inventory)
    assert "master-4, which the inventory doesn't have" in strange
    (twice,) = _play.hosts_refusals(Play("linear", THREE, THREE, THREE), [*THREE, "master-1"], inventory)
    assert "lists master-1 more than once" in twice
    limited = Play("linear", THREE[:2], THREE[:2], THREE[:2])
    assert _play.hosts_refusals(limited, THREE, inventory) == [], "upgrade_master"
    (left_out,) = _play.hosts_refusals(limited, THREE, inventory, all_in_play=True)
    assert left_out.startswith("rolling_upgrade_masters lists master-3, which this play leaves out")
    assert _play.hosts_refusals(Play("linear", THREE, THREE, THREE[:1]), THREE, inventory, all_in_play=True) == []
    assert _play.hosts_refusals(Play(), [], inventory)


def test_extra_variables_that_are_no_options() -> None:
    options = {"rolling_upgrade_version", "rolling_upgrade_engine"}
    given = [
        "rolling_upgrade_version",
        "rolling_upgrade_verison",
        "rolling_upgrade_may_begin",
        "mine",
        "rolling_upgrade_hosts",
    ]
    first, second = _play.unknown_extra_variables(given, options)
    assert first.startswith("rolling_upgrade_may_begin is not a variable") and "ansible-doc" in first
    assert second == "rolling_upgrade_verison is not a variable of the role; did you mean rolling_upgrade_version?"


def test_mistyped_variables_from_anywhere() -> None:
    """Not those of the role itself, and not what only looks a little like an option."""
    options = {"rolling_upgrade_version", "rolling_upgrade_engine"}
    given = [
        "rolling_upgrade_verison",
        "rolling_upgrade_versions",
        "rolling_upgrade_mine",
        "upgrade_version",
        "rolling_upgrade_engine",
    ]
    found = _play.mistyped_variables(given, options, {"rolling_upgrade_versions"})
    assert found == ["rolling_upgrade_verison is not a variable of the role; did you mean rolling_upgrade_version?"]


def test_masters_that_are_a_text() -> None:
    assert _play.text_refusal(["master-1"]) == "" and _play.text_refusal(("master-1",)) == ""
    assert "is 'master-1', but must be a list, such as [master-1" in _play.text_refusal("master-1")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, 'rolling_upgrade_version is required: the release to upgrade to, such as "1.37".'),
        ({"version": 1.4}, 'is the number 1.4; put it in quotes, because an unquoted 1.40 is the same number: "1.40".'),
        ({"version": 1.37}, ""),
        ({"version": "v1.37.2+rke2r1"}, ""),
        ({"version": "1.37."}, "is '1.37.', but must be a release"),
        ({"version": "latest"}, "is 'latest', but must be a release"),
        ({"select": "stael"}, "is 'stael', but must be all, changed or stale; did you mean stale?"),
        ({"select": "stale"}, "set rolling_upgrade_etcd, or select 'changed'"),
        ({"select": "stale", "etcd": {"endpoints": ["https://127.0.0.1:2379"]}}, ""),
        ({"engine": "directly"}, "did you mean direct?"),
        ({"managed_fields": "purge"}, "must be keep, rewrite or prune"),
        ({"workers": 0}, "rolling_upgrade_workers is '0', but must be a whole number of at least 1."),
        ({"workers": "many"}, "rolling_upgrade_workers is 'many'"),
        ({"workers": 2.5}, "rolling_upgrade_workers is '2.5'"),
        (
            {"wait_timeout": "15m"},
            "rolling_upgrade_wait_timeout is '15m', but must be a whole number of seconds, at least 0.",
        ),
        ({"rollback": "perhaps"}, "rolling_upgrade_rollback is 'perhaps', but must be true or false."),
        ({"rollback": "yes", "etcd_become": False, "accept_unchecked": "ON", "kubeadm_drain": 0}, ""),
        ({"kubeadm_drain": "y"}, "rolling_upgrade_kubeadm_drain is 'y', but must be true or false."),
        ({"workers": ""}, "rolling_upgrade_workers is ''"),
        ({"ignore_blockers": "webhooks"}, "rolling_upgrade_ignore_blockers is 'webhooks', but must be a list"),
        ({"kubeadm_feature_gates": "A=true"}, "rolling_upgrade_kubeadm_feature_gates must be a dictionary."),
        ({"workers": "8", "max_rate": "2.5"}, ""),
        ({"max_rate": -1}, "at least 0"),
        ({"request_timeout": 0}, "request_timeout is '0', but must be a number of seconds, more than 0."),
        ({"request_timeout": "0.5"}, ""),
        ({"servers": ["10.0.0.1:6443"]}, "has '10.0.0.1:6443', which is not the URL of an API server"),
        ({"servers": "https://10.0.0.1:6443"}, "must be a list of URLs"),
        ({"server": "master-1"}, "rolling_upgrade_server has 'master-1'"),
        ({"etcd": {"endpoint": ["https://x:2379"]}}, "has the unknown key 'endpoint'; did you mean endpoints?"),
        ({"etcd": {"ca_cert": "/x"}}, "rolling_upgrade_etcd has no endpoints"),
        ({"etcd": "https://x:2379"}, "rolling_upgrade_etcd must be a dictionary"),
        ({"sampling": {"connections": "few"}}, "rolling_upgrade_sampling: "),
        ({"ignore_blockers": ["rolback"]}, "there is no check 'rolback'; did you mean rollback?"),
        ({"ignore_blockers": ["downgrade", "webhook/deny.example.com"]}, ""),
        ({"emulate": 1.36}, "emulate is '1.36', but must be a minor release in quotes"),
        ({"emulate": "v1.36.5"}, "emulate is 'v1.36.5'"),
        # Servers of 1.37 count as emulating it, so a run would end before a second step that there isn't.
        ({"emulate": "1.37"}, "emulate is '1.37', but must be older than rolling_upgrade_version, which is '1.37'."),
        ({"version": "v1.37.2", "emulate": "1.38"}, "must be older than rolling_upgrade_version, which is 'v1.37.2'."),
        ({"version": "v1.40.0", "emulate": "1.9"}, ""),
        (
            {"stop_before": "finalise"},
            "stop_before is 'finalise', but must be finalize, migrate or trim; did you mean finalize?",
        ),
        ({"stop_before": "finalize"}, "stop_before is 'finalize', which needs rolling_upgrade_emulate"),
        ({"stop_before": "finalize", "emulate": "1.36"}, ""),
    ],
)
def test_values(values: dict[str, Any], says: str) -> None:
    given = {
        f"rolling_upgrade_{name}": value for name, value in ({"version": "1.37", **values} if values else {}).items()
    }
    found = wrong_values(given, "main")
    if says:
        assert any(says in sentence for sentence in found), found
    else:
        assert found == []


def test_null_is_a_value() -> None:
    """With an empty rolling_upgrade_emulate no master was ever at "1.37 emulating None"; other options failed in a template, some after the masters."""
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    for entry, spec in specs.items():
        for name in spec["options"]:
            given = {"rolling_upgrade_version": "1.37", name: None}
            assert [sentence for sentence in wrong_values(given, entry) if name in sentence] == [
                f"{name} is null (empty after its colon, or a template without a value); give it a value, or remove it."
            ]


def test_what_ansible_does_not_check_is_checked_here() -> None:
    """It would print the whole specification for every host."""
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    options = {name: option for spec in specs.values() for name, option in spec["options"].items()}
    assert {option["type"] for option in options.values()} == {"raw", "str", "path", "list"}
    kinds = {
        "A boolean. ": BOOLEANS,
        "A whole number. ": WHOLE_NUMBERS,
        "A number. ": NUMBERS,
        "A dictionary. ": DICTIONARIES,
    }
    for name, option in options.items():
        short = name.removeprefix("rolling_upgrade_")
        text = option["description"]
        start = f"{text} " if isinstance(text, str) else f"{text[0]} "
        assert [kind for kind, known in kinds.items() if short in known] == [
            kind for kind in kinds if option["type"] == "raw" and start.startswith(kind)
        ], name
        if option["type"] == "raw":
            assert any(name in sentence for sentence in wrong_values({name: "!"}, "check")), name


def test_only_who_upgrades_needs_a_release() -> None:
    assert wrong_values({}, "migrate") == [] and wrong_values({"rolling_upgrade_version": ""}, "check") == []


def test_ansible_itself_refuses_none_of_it() -> None:
    """Its check prints the whole specification for every host."""
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    for entry in ("main", "check", "snapshot", "upgrade_master", "converge", "migrate", "verify"):
        options = specs[entry]["options"]
        assert not [name for name, option in options.items() if option.get("required") or option.get("choices")], entry
    for name, choices in CHOICES.items():
        for spec in specs.values():
            option = spec["options"].get(f"rolling_upgrade_{name}")
            if option and name not in ("engine",):
                text = str(option["description"])
                assert [choice for choice in choices if f"V({choice})" not in text] == [], name


def test_the_tasks_file() -> None:
    found = {"there.yml": "/x/there.yml"}

    def refusal(given: dict[str, Any], content: Any = ({"name": "a"},)) -> str:
        return " ".join(
            tasks_file_refusals(
                {f"rolling_upgrade_{k}": v for k, v in given.items()},
                found.get,
                lambda path: content,
                lambda task: "no such module." if "nobody.knows.it" in task else "",
            )
        )

    assert refusal({"tasks_file": "there.yml"}) == "" and refusal({"driver": "kubeadm"}) == ""
    assert "needs rolling_upgrade_tasks_file" in refusal({})
    assert "there is no such file; give its absolute path" in refusal({"tasks_file": "gone.yml"})
    assert "must hold a list of tasks" in refusal({"tasks_file": "there.yml"}, {"hosts": "all"})
    assert "is a playbook; put the tasks" in refusal({"tasks_file": "there.yml"}, [{"hosts": "all", "tasks": []}])
    wrong = {"nobody.knows.it": {}}
    nested: list[dict[str, Any]] = [{"ping": {}}, {"block": [{"ping": {}}], "rescue": [{"block": [wrong]}]}]
    for content in ([wrong], nested):
        assert refusal({"tasks_file": "there.yml"}, content).endswith(
            "a task in /x/there.yml is wrong: no such module."
        )
    packages = {"driver": "kubeadm", "kubeadm_package_tasks_file": "there.yml"}
    assert "is a playbook" in refusal(packages, [{"hosts": "all"}])
    assert refusal({**packages, "kubeadm_package_tasks_file": "gone.yml"}) == ""
    rotation = {"driver": "", "encryption_reload_tasks_file": "there.yml", "encryption_write_tasks_file": "gone.yml"}
    assert "reload_tasks_file must hold" in refusal(rotation, "text") and "write_tasks_file is 'gone.yml'" in refusal(
        rotation
    )
    assert refusal({"tasks_file": "there.yml"}, [{"collections": ["mine"], **wrong}]) == ""


def test_all_masters_are_asked_before_the_first_is_touched() -> None:
    """What is the same everywhere is said once; a master of a later batch counts as the first saw it."""
    ok: dict[str, Any] = {"problems": [], "later": {"master-3": ["its file is missing."]}}
    hosts = {"master-1": {"rolling_upgrade_play": ok}, "master-2": {"rolling_upgrade_play": {"problems": ["wrong."]}}}
    assert play_refusals(THREE, hosts, THREE[:2]) == ["master-2: wrong.", "master-3: its file is missing."]
    alike = {name: {"rolling_upgrade_play": {"problems": ["wrong."]}} for name in THREE}
    assert play_refusals(THREE, alike, THREE) == ["wrong."]
    assert (
        play_refusals(THREE, {**alike, "master-2": {}}, THREE)[1]
        == "master-2: the role did not run there; include it for every master, without run_once or a condition."
    )
    left_out = {name: {"rolling_upgrade_play": {}} for name in THREE}
    assert "--skip-tags always" in play_refusals(THREE, left_out, THREE)[0]


def test_a_host_that_is_no_master() -> None:
    assert _play.stranger_refusal("master-1", THREE) == ""
    assert "worker is not in rolling_upgrade_masters (master-1" in _play.stranger_refusal("worker", THREE)


def test_every_master_is_matched_with_an_api_server_first() -> None:
    servers = [{"url": f"https://10.0.0.{at}:6443", "name": f"node-{at}"} for at in (1, 2, 3)]

    def look(name: str, names: list[str], server: str = "", sure: bool = True, located: bool = False) -> dict[str, Any]:
        return {"names": {name: names}, "server": {name: server}, "sure": {name: sure}, "located": located}

    def refusals(third: dict[str, Any]) -> list[str]:
        hosts = {
            "master-1": {"rolling_upgrade_play": look("master-1", ["node-1"])},
            "master-2": {"rolling_upgrade_play": look("master-2", ["x", "10.0.0.2"])},
            "master-3": {"rolling_upgrade_play": third},
        }
        return play_refusals(THREE, hosts, THREE, found={"servers": servers})

    assert refusals(look("master-3", ["NODE-3"])) == []
    assert refusals(look("master-3", ["x"], "https://10.0.0.3:6443/")) == []
    assert refusals(look("master-3", ["x"], sure=False)) == []
    (none,) = refusals(look("master-3", ["x"]))
    assert (
        none.startswith("No API server could be matched with master-3")
        and "set rolling_upgrade_server for this host" in none
    )
    strangers = {name: {"rolling_upgrade_play": look(name, ["x"])} for name in THREE}
    (none,) = play_refusals(THREE, strangers, THREE, found={"servers": servers})
    assert (
        "could be matched with master-1 or master-2 or master-3 (known are" in none
        and "for each host to its own URL, or use the kubeconfig of the cluster of these masters." in none
    )
    (shared,) = refusals(look("master-3", [], "https://10.0.0.1:6443"))
    assert shared.startswith("https://10.0.0.1:6443 is the API server of master-3 and of another master, master-1")
    assert refusals(look("master-3", ["node-3", "10.0.0.3"], located=True)) == []
    assert refusals(look("master-3", ["node-3", "10.9.0.3"], "https://10.0.0.3:6443", located=True)) == []
    (elsewhere,) = refusals(look("master-3", ["node-3", "10.9.0.3"], located=True))
    assert (
        elsewhere.startswith("No API server could be matched with master-3 (known are")
        and "use the kubeconfig" in elsewhere
    )
    servers[2]["url"] = "https://master3.example.com:6443"
    assert refusals(look("master-3", ["node-3", "10.9.0.3"], located=True)) == []


def test_one_host_under_several_names() -> None:
    apart = {
        "a": ("10.0.0.1", ""),
        "b": ("10.0.0.1", "2222"),
        "c": ("", ""),
        "d": ("", ""),
        "e": ("127.0.0.1", ""),
        "f": ("127.0.0.1", ""),
    }
    assert _play.same_hosts(apart) == []
    (same,) = _play.same_hosts({**apart, "g": ("10.0.0.1", "")})
    assert same.startswith("a, g have the same ansible_host, 10.0.0.1; ")
    users = {"a": ("10.0.0.1", "", "root@cp-1"), "b": ("10.0.0.1", "", "root@cp-2")}
    assert _play.same_hosts(users) == [], "a bastion takes the host from the user's name"
    one = {"a": ("10.0.0.1", ""), "b": ("10.0.0.1", "")}
    assert _play.same_hosts(one, {"a": "cp-1", "b": "cp-2"}) == []
    for nodenames in ({"a": "cp-1", "b": "cp-1"}, {"a": "cp-1", "b": ""}, {"a": "cp-1"}):
        assert len(_play.same_hosts(one, nodenames)) == 1, nodenames


def test_masters_at_the_release_are_those_that_are_surely_there() -> None:
    """Number 9: they have no turn. One that is down, or shares its API server with another master, has its turn, which says so."""

    def server(at: int, **more: Any) -> dict[str, Any]:
        known = {"url": f"https://10.0.0.{at}:6443", "name": f"node-{at}", "version": "v1.37.2", "ready": True}
        return {**known, "emulated_version": None, "error": None, **more}

    names = {"master-1": ["node-1"], "master-2": ["10.0.0.2"], "master-3": ["node-3"]}
    look = {"names": names, "server": dict.fromkeys(THREE, ""), "sure": dict.fromkeys(THREE, True)}

    def found(*servers: dict[str, Any], first: dict[str, Any] | None = None) -> list[str]:
        hosts = {"master-1": {"rolling_upgrade_play": first or look}, "master-2": {"rolling_upgrade_play": look}}
        return masters_at_release(THREE, hosts, THREE[:2], {"servers": list(servers)}, "1.37")

    assert found(server(1), server(2), server(3)) == list(THREE)
    assert found(server(1), server(2, emulated_version="1.36"), server(3, version="v1.36.9")) == ["master-1"]
    assert found(server(1, ready=False), server(2, error="timed out"), server(3)) == ["master-3"]
    assert found(server(1), server(2)) == ["master-1", "master-2"] and found() == []
    alike = {**look, "server": {**look["server"], "master-1": "https://10.0.0.2:6443"}}
    assert found(server(1), server(2), server(3), first=alike) == ["master-3"]
