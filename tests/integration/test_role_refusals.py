# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 15, numbers 1 and 4: what the role refuses before it asks the cluster anything, said once. No cluster is needed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from .support import warm_python
from .support.modules import ROOT
from .support.plays import PLAYBOOKS, run_playbook

ROLL, INCLUDED = PLAYBOOKS / "roll.yml", PLAYBOOKS / "included.yml"
HOSTS = """[masters]
master-1
master-2 {second}
master-3
[masters:vars]
ansible_connection=local
ansible_python_interpreter={python}
"""


def run(
    folder: Path, playbook: Path, *arguments: str, second: str = "", more: str = "", **variables: Any
) -> subprocess.CompletedProcess[str]:
    """``second``: variables of master-2; ``more``: of the inventory."""
    inventory = HOSTS.format(second=second, python=warm_python.interpreter()) + more
    (folder / "hosts").write_text(inventory, encoding="utf-8")
    (folder / "driver.yml").write_text("- ansible.builtin.debug: {msg: drives}\n", encoding="utf-8")
    given = {"rolling_upgrade_kubeconfig": "/nowhere", **variables}
    return run_playbook(playbook, folder, "-i", "hosts", *arguments, timeout=60, variables=given)


def assert_refused(done: subprocess.CompletedProcess[str], *sentences: str) -> None:
    assert done.returncode == 2, done.stdout
    assert done.stdout.count("fatal: ") == 1 and "Take the Lease, so" not in done.stdout, done.stdout
    for sentence in sentences:
        assert sentence in done.stdout, done.stdout


def test_mistakes_of_all_masters_are_told_once_by_the_first(tmp_path: Path) -> None:
    assert_refused(
        run(
            tmp_path,
            ROLL,
            second="rolling_upgrade_server=master-2",
            rolling_upgrade_verison="1.37",
            rolling_upgrade_select="stael",
            rolling_upgrade_tasks_file="gone.yml",
        ),
        "rolling_upgrade_verison is not a variable of the role; did you mean rolling_upgrade_version?",
        "rolling_upgrade_version is required",
        "did you mean stale?",
        "rolling_upgrade_tasks_file is 'gone.yml', and there is no such file",
        "master-2: rolling_upgrade_server has 'master-2', which is not the URL",
        "No master was touched",
    )


def test_a_master_of_a_later_batch_is_checked_with_the_first(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        ROLL,
        second="rolling_upgrade_server=master-2",
        rolling_upgrade_version=1.4,
        rolling_upgrade_tasks_file=str(tmp_path / "driver.yml"),
        play_serial=1,
    )
    assert_refused(
        done, "put it in quotes, because an unquoted 1.40", "master-2: rolling_upgrade_server has 'master-2'"
    )


def test_masters_that_limit_leaves_out(tmp_path: Path) -> None:
    """Those that were left were upgraded, nothing was migrated, and the run ended without an error and with the Lease."""
    done = run(
        tmp_path,
        ROLL,
        "--limit",
        "master-1,master-2",
        rolling_upgrade_masters=["master-1", "master-2", "master-3"],
        rolling_upgrade_version="1.37",
        rolling_upgrade_tasks_file=str(tmp_path / "driver.yml"),
    )
    assert_refused(done, "rolling_upgrade_masters lists master-3, which this play leaves out", "without --limit")


@pytest.mark.parametrize("strategy", ["free", "host_pinned"])
def test_a_strategy_that_does_not_keep_the_order(tmp_path: Path, strategy: str) -> None:
    done = run(
        tmp_path,
        ROLL,
        play_strategy=strategy,
        rolling_upgrade_version="1.37",
        rolling_upgrade_tasks_file=str(tmp_path / "driver.yml"),
    )
    assert done.returncode == 2 and f"This play has the strategy {strategy}" in done.stdout, done.stdout
    assert "Take the Lease, so" not in done.stdout


def test_tags_that_would_run_nothing(tmp_path: Path) -> None:
    """With the tag of include_role; other tags leave the role out, as they should."""
    for entry in ("main", "migrate"):
        done = run(tmp_path, INCLUDED, "--tags", "upgrade", entry_point=entry)
        assert done.returncode == 2 and "apply: {tags: [upgrade]}" in done.stdout, done.stdout
    other = run(tmp_path, INCLUDED, "--tags", "other")
    assert other.returncode == 0 and "was run" in other.stdout, other.stdout
    static = run(tmp_path, ROLL, "--tags", "other", rolling_upgrade_version="1.37")
    assert static.returncode == 0, static.stdout


def test_several_releases_from_its_middle(tmp_path: Path) -> None:
    """No release was found, so that no master was upgraded: Ansible said that a variable was undefined."""
    task = "*Upgrade to each release in turn"
    given = {"rolling_upgrade_final_version": "1.37"}
    role = "{name: kube_storage.upgrade.rolling_upgrade, tasks_from: several_releases}"
    playbook = tmp_path / "play.yml"
    playbook.write_text(
        f"- {{hosts: masters, gather_facts: false, tasks: [{{import_role: {role}}}]}}\n", encoding="utf-8"
    )
    done = run(tmp_path, playbook, "--start-at-task", task, **given)
    words = " ".join(done.stdout.split())
    assert done.returncode == 2 and "Nothing is proven: this run left out tasks of the role" in words, done.stdout


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("rollback", "perhaps", "rolling_upgrade_rollback is 'perhaps', but must be true or false."),
        ("wait_timeout", "15m", "is '15m', but must be a whole number of seconds, at least 0."),
        ("etcd", "https://127.0.0.1:2379", "rolling_upgrade_etcd must be a dictionary with the keys"),
        ("masters", "master-1", "rolling_upgrade_masters is 'master-1', but must be a list"),
        (
            "tasks_file",
            "playbook.yml",
            "playbook.yml is a playbook; put the tasks of its plays into a file of their own.",
        ),
        ("tasks_file", "unknown.yml", "unknown.yml is wrong: couldn't resolve module/action 'nobody.knows.it'"),
    ],
)
def test_values_of_a_wrong_kind(tmp_path: Path, name: str, value: str, sentence: str) -> None:
    """Ansible's own check printed the whole specification for every host; what the tasks file has was found after the first check."""
    (tmp_path / "playbook.yml").write_text("- {hosts: all, tasks: []}\n", encoding="utf-8")
    (tmp_path / "unknown.yml").write_text("- block: [{nobody.knows.it: {state: present}}]\n", encoding="utf-8")
    given = {"rolling_upgrade_version": "1.37", "rolling_upgrade_tasks_file": str(tmp_path / "driver.yml")}
    if name == "tasks_file":
        value = str(tmp_path / value)
    done = run(tmp_path, ROLL, **{**given, f"rolling_upgrade_{name}": value})
    assert_refused(done, sentence)
    last = done.stdout[done.stdout.index("TASK [kube_storage.upgrade.rolling_upgrade : Show how the run ended") :]
    assert last.count("STOPPED: ") == 1 and len(done.stdout) < 6000, done.stdout


@pytest.mark.parametrize(
    ("entry", "names"), [("main", ("emulate", "sampling")), ("verify", ("emulate", "final_version"))]
)
def test_null(tmp_path: Path, entry: str, names: tuple[str, ...]) -> None:
    """Also of an option that this entry point doesn't have: the release that all expect is made of several."""
    given = {"rolling_upgrade_version": "1.37", "rolling_upgrade_tasks_file": str(tmp_path / "driver.yml")}
    given |= {f"rolling_upgrade_{name}": None for name in names}
    done = run(tmp_path, INCLUDED, "--limit", "master-1", entry_point=entry, **given)
    assert_refused(
        done,
        *(f"rolling_upgrade_{name} is null (empty after its colon, or a template without a value)" for name in names),
    )


def test_the_engine_that_the_driver_chose_is_that_of_all_masters(tmp_path: Path) -> None:
    """Its check runs on the first one, the migration on the last one."""
    role = {"name": "kube_storage.upgrade.rolling_upgrade", "tasks_from": "forget", "public": True}
    first = "inventory_hostname == rolling_upgrade_masters | first"
    tasks = [
        {"ansible.builtin.include_role": role},
        {"ansible.builtin.set_fact": {"rolling_upgrade_driver_engine": "auto"}, "when": first},
        {"ansible.builtin.debug": {"msg": "engine={{ rolling_upgrade_engine }}"}},
    ]
    play = [{"hosts": "masters", "gather_facts": False, "tasks": tasks}]
    (tmp_path / "play.yml").write_text(json.dumps(play), encoding="utf-8")
    done = run(tmp_path, tmp_path / "play.yml")
    assert done.stdout.count("engine=auto") == 3, done.stdout
    named = run(tmp_path, tmp_path / "play.yml", rolling_upgrade_engine="direct")
    assert named.stdout.count("engine=direct") == 3, named.stdout


def test_check_mode_checks_the_first_of_several_releases(tmp_path: Path) -> None:
    """The second check found the cluster unchanged, and failed. The role's own tasks, after the check that asks the cluster."""
    (whole,) = yaml.safe_load((ROOT / "roles/rolling_upgrade/tasks/several_releases.yml").read_text(encoding="utf-8"))
    names = [task["name"] for task in whole["block"]]
    between = whole["block"][names.index("Remember the releases") : names.index("Upgrade to each release in turn")]
    path = [{"release": release, "migrate_first": [], "unreadable": []} for release in ("1.35", "1.36", "1.37")]
    found = {"error": None, "current_version": "1.34", "target_version": "1.37", "path": path}
    options = {"rolling_upgrade_way": found, "rolling_upgrade_releases": [], "rolling_upgrade_stop_before": ""}
    told = {
        "ansible.builtin.debug": {"msg": "way={{ rolling_upgrade_way_chosen | map(attribute='release') | join('+') }}="}
    }
    play = [{"hosts": "masters", "gather_facts": False, "vars": options, "tasks": [*between, told]}]
    (tmp_path / "play.yml").write_text(json.dumps(play), encoding="utf-8")
    really = run(tmp_path, tmp_path / "play.yml", rolling_upgrade_final_version="1.37")
    assert "way=1.35+1.36+1.37=" in really.stdout and "In check mode" not in really.stdout, really.stdout
    checked = run(tmp_path, tmp_path / "play.yml", "--check", rolling_upgrade_final_version="1.37")
    assert "way=1.35=" in checked.stdout and "In check mode only 1.35 is checked" in checked.stdout, checked.stdout


def test_a_mistyped_variable_in_the_inventory(tmp_path: Path) -> None:
    """Otherwise a report that was asked for would not be written."""
    done = run(
        tmp_path,
        ROLL,
        second="rolling_upgrade_report_pth=report.html",
        rolling_upgrade_version="1.37",
        rolling_upgrade_tasks_file=str(tmp_path / "driver.yml"),
    )
    sentence = (
        "master-2: rolling_upgrade_report_pth is not a variable of the role; did you mean rolling_upgrade_report_path?"
    )
    assert_refused(done, sentence)


@pytest.mark.parametrize(
    "playbook", ["audit", "check", "fleet", "migrate", "rotate_encryption_key", "upgrade", "upgrade_clusters"]
)
def test_a_group_that_is_not_there(tmp_path: Path, playbook: str) -> None:
    """Ansible itself said that no hosts matched, and ended green."""
    given = (
        {}
        if playbook in ("rotate_encryption_key", "upgrade", "upgrade_clusters")
        else {"rolling_upgrade_hosts": "masers"}
    )
    done = run(tmp_path, Path(f"kube_storage.upgrade.{playbook}"), **given)
    assert done.returncode != 0, done.stdout + done.stderr
    sentence = f"No host of the inventory matches '{given.get('rolling_upgrade_hosts', 'kube_control_plane')}', so there is nothing to do"
    assert sentence in " ".join((done.stdout + done.stderr).split()), done.stdout + done.stderr


def test_a_syntax_check_of_the_playbooks_needs_no_inventory(tmp_path: Path) -> None:
    """As ansible-lint does it for a playbook of a user that imports them; no group exists then."""
    names = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
    assert len(names) == 7
    imports = [{"ansible.builtin.import_playbook": f"kube_storage.upgrade.{name}"} for name in names]
    (tmp_path / "site.yml").write_text(json.dumps(imports), encoding="utf-8")
    done = run_playbook(tmp_path / "site.yml", tmp_path, "--syntax-check", timeout=60, variables={})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("playbook", ["check", "upgrade"])
def test_a_limit_that_leaves_no_host(tmp_path: Path, playbook: str) -> None:
    """Ansible itself ended green. In a playbook that imports this one, it may be for another play."""
    name = f"kube_storage.upgrade.{playbook}"
    given = {"rolling_upgrade_hosts": "masters", "rolling_upgrade_version": "1.37"}
    done = run(tmp_path, Path(name), "--limit", "workers", more="[workers]\nworker-1\n", **given)
    assert done.returncode != 0 and "PLAY RECAP" not in done.stdout, done.stdout + done.stderr
    sentence = (
        "--limit workers leaves no host of 'masters', so there is nothing to do; run without --limit, or name the hosts"
    )
    assert sentence in " ".join((done.stdout + done.stderr).split()), done.stdout + done.stderr
    site = tmp_path / "site.yml"
    site.write_text(
        f"- import_playbook: {name}\n- {{hosts: workers, gather_facts: false, tasks: [{{debug: {{msg: the workers}}}}]}}\n",
        encoding="utf-8",
    )
    done = run(tmp_path, site, "--limit", "workers", more="[workers]\nworker-1\n", **given)
    assert done.returncode == 0 and "the workers" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("flags", [("--tags", "upgrade"), ("--skip-tags", "untagged")])
def test_tags_of_a_playbook_that_has_none(tmp_path: Path, flags: tuple[str, str]) -> None:
    """It ended green, having done nothing. In a playbook that imports this one, the tags may be for another play, or come from there."""
    name, given = "kube_storage.upgrade.check", {"rolling_upgrade_hosts": "masters", "rolling_upgrade_version": "1.37"}
    done = run(tmp_path, Path(name), *flags, **given)
    assert done.returncode != 0 and "PLAY RECAP" not in done.stdout, done.stdout + done.stderr
    sentence = f"With {' '.join(flags)} nothing would run, because the tasks of this playbook have no tags"
    assert sentence in " ".join((done.stdout + done.stderr).split()), done.stdout + done.stderr
    site = tmp_path / "site.yml"
    site.write_text(f"- import_playbook: {name}\n", encoding="utf-8")
    done = run(tmp_path, site, *flags, **given)
    assert done.returncode == 0, done.stdout + done.stderr
