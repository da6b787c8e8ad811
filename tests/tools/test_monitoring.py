# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The alert rules and the dashboard: they use only metrics and labels that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.metrics import families, metric_names
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.fleet.fleet_data import blocked, run_over

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "playbooks" / "files" / "monitoring"


def rules() -> list[dict[str, Any]]:
    found = yaml.safe_load((MONITORING / "rules.yml").read_text(encoding="utf-8"))
    return [rule for group in found["groups"] for rule in group["rules"]]


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    dashboard = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (
        variable["query"]["query"]
        for variable in dashboard["templating"]["list"]
        if isinstance(variable["query"], dict)
    )


def test_each_metric_exists() -> None:
    used = {name for text in expressions() for name in re.findall(r"\bkube_storage_\w+", text)}
    assert len(used) > 10 and not used - set(metric_names())


def test_each_label_exists() -> None:
    labels = {
        name
        for family in families(run_over("a", {"a": blocked()}))
        for labels, _value in family.samples
        for name in labels
    }
    labels |= {"resource", "endpoint", "provider", "key"}  # which that cluster lacks
    grouped = {
        name for text in expressions() for found in re.findall(r"\bby \(([^)]*)\)", text) for name in found.split(", ")
    }
    shown = {name for rule in rules() for name in re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))}
    assert grouped | shown <= labels


def test_each_alert_says_what_and_what_to_do_and_is_in_the_guide() -> None:
    guide = (ROOT / "docs" / "docsite" / "rst" / "many_clusters.rst").read_text(encoding="utf-8")
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "description"} and rule["for"] and rule["labels"]["severity"]
        assert f"``{rule['alert']}``" in guide, rule["alert"]
