# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 18: Prometheus' own promtool, from its Go module, on the metrics and the alert rules."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.metrics import exposition, families
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.fleet.fleet_data import (
    blocked,
    dead,
    report,
    run_over,
    stale,
)

from tests.control_plane import build

HERE = Path(__file__).resolve().parent
RULES = HERE.parents[1] / "playbooks" / "files" / "monitoring" / "rules.yml"
EVENTS = RULES.with_name("version_change.yml")

Promtool = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    if shutil.which("go") is None:
        pytest.skip("Go is needed to build promtool")
    program = build.binaries(build.promtool()) / "promtool"

    def run(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(program), *arguments], input=text, capture_output=True, text=True, check=False, cwd=HERE
        )

    return run


def test_the_rules_are_valid(promtool: Promtool) -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES), str(EVENTS))
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_fires_when_it_should_and_only_then(promtool: Promtool) -> None:
    done = promtool("test", "rules", "rules_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    tested = yaml.safe_load((HERE / "rules_test.yml").read_text(encoding="utf-8"))["tests"]
    named = {case["alertname"] for test in tested for case in test["alert_rule_test"] if case["exp_alerts"]}
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    assert named == {rule["alert"] for group in groups for rule in group["rules"]}, "an alert has no test"


def test_a_new_version_is_an_event(promtool: Promtool) -> None:
    done = promtool("test", "rules", "version_change_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_fires_too_early_is_found(promtool: Promtool, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(
        RULES.read_text(encoding="utf-8").replace("for: 7d", "for: 6d"), encoding="utf-8"
    )
    text = (HERE / "rules_test.yml").read_text(encoding="utf-8")
    (tmp_path / "rules_test.yml").write_text(
        text.replace(f"../../{RULES.relative_to(HERE.parents[1])}", "rules.yml"), encoding="utf-8"
    )
    done = promtool("test", "rules", str(tmp_path / "rules_test.yml"))
    assert done.returncode == 1 and "KubeStorageStaleObjects" in done.stdout + done.stderr


def test_the_metrics_follow_the_conventions(promtool: Promtool) -> None:
    record = run_over("abcde", {"a": stale(), "b": dead(), "c": blocked(), "d": report(states="767")})
    text = exposition(record)
    assert len([family for family in families(record) if family.samples]) > 15
    done = promtool("check", "metrics", "--lint=all", text=text)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = promtool("check", "metrics", text=text.replace("# HELP kube_storage_releases ", "# "))
    assert wrong.returncode != 0 and "kube_storage_releases no help text" in wrong.stderr
