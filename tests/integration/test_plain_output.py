# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What users see at the end: short results, and the pages of the playbooks that change nothing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster
from tests.tools.ansible_test import newest_core

from .support import browser, warm_python
from .support.modules import ANSIBLE, ROOT, environment
from .support.objects import apply, config_maps, freeze

PREFIX = "kube_storage.upgrade."
FROZEN = 3


@pytest.fixture(scope="module")
def cluster(single_master: Cluster) -> Cluster:
    """Of its ConfigMaps three can't be rewritten."""
    apply(single_master, config_maps(FROZEN, prefix="frozen"))
    freeze(single_master, "frozen", "configmaps", "!object.metadata.name.startsWith('frozen')", "frozen-0000")
    return single_master


def programs(name: str) -> list[Any]:
    """Of the ansible-core that we develop on, and of the newest where there is a Python for it."""
    folders = {"core we develop on": ANSIBLE.parent, "newest core": newest_core()}
    return [pytest.param(folder / name, id=core) for core, folder in folders.items() if folder]


def run(*command: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env={**environment(), "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def adhoc(cluster: Cluster, module: str, params: dict[str, Any], *more: str) -> tuple[str, Any]:
    """What is printed, and the result in it."""
    params = {"kubeconfig": str(cluster.kubeconfig), "progress": False, **params}
    interpreter = f"ansible_python_interpreter={warm_python.interpreter()}"
    done = run(ANSIBLE, "localhost", "-m", PREFIX + module, "-a", json.dumps(params), "-e", interpreter, *more)
    shown = done.stdout + done.stderr
    text = done.stdout[done.stdout.index(" => ") + 4 :]
    return shown, json.JSONDecoder().raw_decode(text)[0]


WAIT = {"state": "converged", "expected_version": "1.38", "wait_timeout": 1}
RUNS: list[tuple[str, dict[str, Any], str, str]] = [
    ("storage_migrate", {}, "history", "default/frozen-0001"),
    ("storage_migrate", {"resources": ["namespaces"]}, "resources", "nothing had to be rewritten: 1."),
    ("storage_version_hashes", {}, "resources", "No baseline is on record"),
    ("storage_version_hashes", WAIT, "history", ", not at 1.38."),
    ("stored_versions_info", {"etcd": ...}, "resources", ""),
    ("upgrade_check", {"target_version": "1.37"}, "stored", "write_refused/configmaps"),
]


@pytest.mark.parametrize(("module", "params", "detail", "said"), RUNS)
def test_ad_hoc_it_is_short(cluster: Cluster, module: str, params: dict[str, Any], detail: str, said: str) -> None:
    params = {**params, **({"etcd": cluster.etcd} if "etcd" in params else {})}
    shown, result = adhoc(cluster, module, params)
    assert result["msg"] and detail not in result, shown
    assert said in "\n".join(result["summary"]), shown
    assert len(shown.splitlines()) < 60 and max(map(len, result["summary"]), default=0) <= 120, shown


@pytest.mark.parametrize("more", [["-v"], ["-o"], ["--tree", "..."]], ids=lambda more: more[0])
def test_ad_hoc_it_is_whole_if_requested_or_read_by_a_program(
    cluster: Cluster, tmp_path: Path, more: list[str]
) -> None:
    more = [str(tmp_path) if argument == "..." else argument for argument in more]
    shown, result = adhoc(cluster, "storage_version_hashes", {}, *more)
    assert result["resources"]["secrets"]["storage_version"] == "v1" and "summary" not in result, shown


PLAY = """
- hosts: localhost
  gather_facts: false
  module_defaults:
    group/kube_storage.upgrade.k8s: {{kubeconfig: {kubeconfig}, progress: false}}
  tasks:
    - block:
        - ansible.builtin.include_tasks: {inner}
      rescue:
        - ansible.builtin.debug: {{msg: "read {{{{ ansible_failed_result.failures | length }}}} in a rescue"}}
    - kube_storage.upgrade.storage_migrate: {{resources: [configmaps]}}
      register: migration
      ignore_errors: true
    - ansible.builtin.debug: {{msg: "registered {{{{ migration.resources.configmaps.failed }}}}"}}
    - kube_storage.upgrade.storage_migrate: {{resources: [configmaps], details: false}}
      register: short
      failed_when: false
    - ansible.builtin.debug: {{msg: "as asked {{{{ short.left_out }}}} {{{{ short.error }}}}"}}
    - name: The last one
      kube_storage.upgrade.storage_migrate:
"""


@pytest.mark.parametrize("program", programs("ansible-playbook"))
def test_in_a_playbook_a_failure_is_short_unless_something_can_read_it(
    cluster: Cluster, program: Path, tmp_path: Path
) -> None:
    inner, playbook = tmp_path / "inner.yml", tmp_path / "play.yml"
    inner.write_text("- kube_storage.upgrade.storage_migrate: {resources: [configmaps]}\n", encoding="utf-8")
    playbook.write_text(PLAY.format(kubeconfig=cluster.kubeconfig, inner=inner), encoding="utf-8")
    done = run(program, playbook, "-e", f"ansible_python_interpreter={warm_python.interpreter()}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"read {FROZEN} in a rescue" in done.stdout, done.stdout
    assert f"registered {FROZEN}" in done.stdout, done.stdout
    assert "as asked resources, failures, history and " in done.stdout and " incomplete" in done.stdout, done.stdout
    last = done.stdout[done.stdout.index("TASK [The last one]") :]
    assert '"left_out"' in last and '"history"' not in last and '\n        "What failed:"' in last, last
    assert len(last.splitlines()) < 60 and len(last) < 5000, last


@browser.NEEDED
@pytest.mark.parametrize(
    ("playbook", "status", "parts"),
    [
        (
            "check",
            2,
            ("1 thing blocks the upgrade", "write_refused/configmaps", "How to fix it:", "API servers ready"),
        ),
        (
            "audit",
            0,
            ("Nothing is", "Stored in etcd", "none (plain)", "All API servers report the same storage version"),
        ),
    ],
)
def test_a_browser_shows_what_was_found(
    cluster: Cluster, tmp_path: Path, playbook: str, status: int, parts: tuple[str, ...]
) -> None:
    """PICTURES names a folder to keep the screenshots in."""
    given = {
        "rolling_upgrade_kubeconfig": str(cluster.kubeconfig),
        "rolling_upgrade_etcd": cluster.etcd,
        "rolling_upgrade_version": "1.37",
        "rolling_upgrade_report_path": str(tmp_path / f"{playbook}.html"),
        "ansible_python_interpreter": warm_python.interpreter(),
    }
    done = run(ANSIBLE.with_name("ansible-playbook"), PREFIX + playbook, "-e", json.dumps(given))
    assert done.returncode == status, done.stdout + done.stderr
    text = browser.read(tmp_path / f"{playbook}.html", Path(os.environ.get("PICTURES") or tmp_path))
    for part in parts:
        assert part in text, text
    found = (tmp_path / f"{playbook}.json").read_text(encoding="utf-8")
    assert json.loads(found)["kind"] == playbook and "/registry/" not in found
