# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports of a check, an audit and a key rotation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report import findings
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.files import ReportFiles
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import ReportedFinding
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.store import keep
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.report_data import (
    URLS,
    at,
    failure,
    look,
    migration,
    stored,
)


@pytest.fixture
def files(tmp_path: Path) -> ReportFiles:
    return ReportFiles(str(tmp_path / "report.html"))


def shown(files: ReportFiles) -> str:
    return files.html.read_text(encoding="utf-8")


def finding(number: int) -> dict[str, Any]:
    return {
        "id": f"webhook/{number}",
        "check": "webhook",
        "resource": "secrets",
        "what": f"<b>{number}</b> denies",
        "why": "It would fail.",
        "remediation": "Bring it up.",
        "etcd_keys": ["/registry/secrets/default/mine"],
    }


def checked(*blockers: dict[str, Any]) -> dict[str, Any]:
    return {
        "blockers": list(blockers),
        "concerns": [finding(9)],
        "unknown": ["Whether it rains."],
        "proven_from_etcd": True,
        "current_version": "1.36",
        "target_version": "1.37",
        "safe_up_to": "1.36",
        "plan": {
            "changes": [{"resource": "things.example.com", "from": "example.com/v1beta1", "to": "example.com/v1"}]
        },
        "stored": [{"resource": "secrets", "version": "v1", "objects": 3, "source": "etcd", "safe_up_to": "1.37"}],
        "data": {"releases": ["1.36", "1.37"]},
    }


def check(files: ReportFiles, **news: Any) -> dict[str, Any]:
    given = {"kind": "check", "version": "1.37", "observed": [look(0, "666")], **news}
    return keep(files, given, at(5))


def test_a_check_tells_what_blocks_and_how_to_fix_it(files: ReportFiles) -> None:
    check(files, checked=checked(finding(1), finding(2)), ignored=["webhook/2"])
    text = shown(files)
    assert "1 thing blocks the upgrade" in text and "secrets: &lt;b&gt;1&lt;/b&gt; denies Bring it up." in text
    assert "<h3>secrets: &lt;b&gt;1&lt;/b&gt; denies</h3>" in text and "ignored on request" in text
    assert "<code>kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations</code>" in text
    assert "Whether it rains." in text
    assert "/registry/" not in text + files.json.read_text(encoding="utf-8")


def test_a_later_check_replaces_it_and_leaves_a_report_of_something_else(files: ReportFiles) -> None:
    keep(files, {"version": "1.37", "begin": True, "observed": [look(0, "666")]}, at(1))
    first = check(files, checked=checked(finding(1)))
    assert json.loads(Path(first["archived"]).read_text(encoding="utf-8"))["kind"] == "upgrade"
    second = check(files, checked=checked())
    assert second["archived"] is None and "Nothing blocks the upgrade" in shown(files)
    keep(files, {"version": "1.37", "begin": True, "observed": [look(0, "666")]}, at(9))
    assert len(list(files.html.parent.glob("*.json"))) == 3


def test_a_check_is_never_ready_while_a_server_is_down(files: ReportFiles) -> None:
    for checks in ({}, {"checked": checked()}):
        check(files, observed=[look(0, "6x6")], **checks)
        assert "Not ready" in shown(files) and "https://10.0.0.12:6443 refuses connections." in shown(files)
        assert "The API servers are ready" not in shown(files) and "Nothing blocks" not in shown(files)


def test_blockers_that_are_ignored_are_in_the_headline(files: ReportFiles) -> None:
    check(files, checked=checked(finding(1)), ignored=["webhook"])
    assert "Ready, with 1 blocker ignored" in shown(files) and "Nothing blocks" not in shown(files)


def test_a_check_that_failed_says_why(files: ReportFiles) -> None:
    found = check(files, outcomes=[{"failed": True, "msg": "beta is down."}])
    assert found["status"] == "failed" and "beta is down." in shown(files)


@pytest.mark.parametrize("kind", ["check", "audit"])
def test_a_page_without_credentials_claims_nothing_about_the_api_servers(files: ReportFiles, kind: str) -> None:
    for news in ({"outcomes": [{"failed": True, "msg": "No kubeconfig was found."}]}, {}):
        keep(files, {"kind": kind, "version": "1.37", **news}, at(5))
        text = shown(files)
        assert "unknown" in text and "none was asked" in text
        assert not [claim for claim in ("Not true:", "Not ready", "do not agree", "0 of 0") if claim in text]


@pytest.mark.parametrize(
    ("check_name", "what", "headline", "command"),
    [
        (
            "outstanding_migration",
            "Not finished.",
            "a.b: Not finished.",
            'storage_migrate -a \'{"resources": ["a.b"]}\'',
        ),
        ("crd_terminating", "The CRD a.b goes.", "The CRD a.b goes.", "kubectl get crd a.b -o yaml"),
        ("write_refused", "Refused.", "a.b: Refused.", "kubectl get a.b --all-namespaces"),
        ("etcd_no_leader", "A.B has no leader.", "A.B has no leader.", None),
    ],
)
def test_a_finding_has_its_subject_and_a_command(
    check_name: str, what: str, headline: str, command: str | None
) -> None:
    found = ReportedFinding(f"{check_name}/a.b", check_name, "a.b", what, "Why.", "How.")
    assert findings.headline(found) == headline
    shown_command = findings.command(found)
    assert shown_command is None if command is None else (shown_command or "").endswith(command)


def test_the_name_of_the_cluster_is_on_top_and_stays(files: ReportFiles) -> None:
    keep(files, {"version": "1.37", "cluster_name": "<shop>", "begin": True, "observed": [look(0, "666")]}, at(1))
    keep(files, {"version": "1.37", "observed": [look(2, "666")]}, at(3))
    assert '<p class="cluster">Cluster &lt;shop&gt;</p>' in shown(files) and "<title>&lt;shop&gt;, " in shown(files)
    check(files, cluster_name="warehouse", checked=checked())
    assert "Cluster warehouse" in shown(files)
    check(files, checked=checked())
    assert 'class="cluster"' not in shown(files)


def test_an_audit_names_reasons_and_keys(files: ReportFiles) -> None:
    held = stored("example.com/v1beta1", stale=40)
    held["totals"]["resources"] = 2
    held["resources"]["things.example.com"]["stale_reasons"] = {"version": 40, "encryption": 0}
    held["unknown"] = [{"prefix": "old.example.com/gone", "objects": 3, "samples": ["old.example.com/gone/mine"]}]
    keep(files, {"kind": "audit", "observed": [look(0, "777")], "stored": held}, at(5))
    text = shown(files)
    assert "40 stale objects" in text and "not the storage version (40)" in text and "another encryption" not in text
    assert "none (plain)" in text and "old.<wbr>example.<wbr>com/<wbr>gone" in text and "mine" not in text


def test_an_audit_without_etcd_claims_nothing(files: ReportFiles) -> None:
    keep(files, {"kind": "audit", "observed": [look(0, "777")], "stored": {"skipped": True}}, at(5))
    assert "Etcd was not read" in shown(files) and "Not proven:" in shown(files)


def test_agreement_by_sampling_is_not_reported_as_proven(files: ReportFiles) -> None:
    sampling = {"connections": 40, "told_apart": 3}
    keep(files, {"kind": "audit", "observed": [look(0, "777", sampling=sampling)]}, at(5))
    assert "known by sampling only: 40 fresh connections" in shown(files) and "Proven:</strong> A" not in shown(files)


def test_agreement_that_was_not_cross_checked_is_not_told_as_proven(files: ReportFiles) -> None:
    keep(
        files,
        {"kind": "audit", "observed": [look(0, "777", cross_checked=False, unchecked_reason="nobody may")]},
        at(5),
    )
    assert "was not cross-checked, because nobody may" in shown(files) and "Proven:</strong> A" not in shown(files)


def under(key: str) -> dict[str, Any]:
    held = stored("example.com/v1")
    for resource in held["resources"].values():
        for row in resource["stored"]:
            row.update(provider="aescbc", key=key)
    return held


def rotate(files: ReportFiles, second: float, **news: Any) -> dict[str, Any]:
    return keep(files, {"kind": "key_rotation", "rotation": {"key": "new"}, **news}, at(second))


def step(files: ReportFiles, second: float, master: str, stage: int, state: str = "done") -> None:
    told = {"master": master, "server": URLS[master], "stage": stage}
    rotate(files, second, step={**told, "state": "running"})
    outcomes = [{"failed": True, "msg": f"{master} has no power."}] if state == "failed" else []
    rotate(files, second + 2, step={**told, "state": state}, outcomes=outcomes)


def begin(files: ReportFiles, second: float, old: list[list[str]]) -> None:
    rotation = {"key": "new", "provider": "aescbc", "resources": ["secrets"], "old": old, "drop_old": True}
    masters = dict.fromkeys(("alpha", "beta"), "")
    rotate(files, second, rotation=rotation, begin=True, masters=masters, stored_before=under("old" if old else "new"))


def test_a_rotation_over_two_runs(files: ReportFiles) -> None:
    begin(files, 0, [["aescbc", "old"]])
    step(files, 1, "alpha", 1)
    step(files, 4, "beta", 1, "failed")
    assert "Stopped" in shown(files) and "beta has no power." in shown(files) and ">failed<" in shown(files)
    begin(files, 60, [])
    for number, (stage, master) in enumerate((stage, master) for stage in (1, 2) for master in ("alpha", "beta")):
        step(files, 61 + 3 * number, master, stage)
    rotate(files, 80, migration=migration(75), stored_after=under("new"))
    assert "Done and proven" not in shown(files)
    for number, master in enumerate(("alpha", "beta")):
        step(files, 81 + 3 * number, master, 3)
    found = rotate(files, 90, verified=True, stored_after=under("new"))
    text = shown(files)
    assert found["status"] == "succeeded" and "Done and proven" in text and "in 2 runs" in text
    assert "Keep the old keys (aescbc old)" in text and "340 → 0" in text
    assert "aescbc new" in text


def test_a_rotation_is_not_done_while_a_master_lacks_a_stage(files: ReportFiles) -> None:
    """With --start-at-task, the role reaches its end without having done anything on the masters."""
    begin(files, 0, [["aescbc", "old"]])
    for stage in (1, 2, 3):
        step(files, 3 * stage, "alpha", stage)
    found = rotate(files, 20, verified=True, stored_after=under("new"))
    assert found["status"] == "unfinished"
    assert "Done and proven" not in shown(files) and "Not finished" in shown(files)


def test_what_could_not_be_rewritten_keeps_a_rotation_from_being_proven(files: ReportFiles) -> None:
    begin(files, 0, [["aescbc", "old"]])
    rotate(files, 5, migration=migration(2, [failure()]), stored_after=under("old"))
    text = shown(files)
    assert "Stopped" in text and "Fix the objects under Failures" in text
    assert "Nothing that etcd held" not in text
