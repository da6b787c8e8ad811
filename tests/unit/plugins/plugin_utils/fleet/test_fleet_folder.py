# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The folder of a fleet: whose results are in it, and what else may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.folder import FleetFolder
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.store import FleetNews, keep
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report import store as reports
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.files import ReportFiles
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import FleetTask
from ansible_collections.kube_storage.upgrade.tests.tools.schemas import violations
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.report_data import at, look


def tell(folder: Path, host: str, second: float, **news: Any) -> None:
    """What the role reports about a cluster."""
    files = ReportFiles(str(folder / "clusters" / host / "state.html"))
    reports.keep(files, {"kind": "audit", "observed": [look(second, "777")], **news}, at(second))


def test_the_result_of_a_run_outlives_the_next_audit(tmp_path: Path) -> None:
    tell(tmp_path, "a", 10, fleet={"purpose": "migrate", "version": None})
    tell(tmp_path, "a", 20, fleet={"purpose": "audit", "version": "1.37+x/y"})
    folder = FleetFolder(str(tmp_path))
    found = folder.reports(FleetTask("migrate"))["a"]
    assert found.snapshot.updated == at(20) and found.result and found.result.updated == at(10)
    newest = folder.reports(FleetTask("audit", "1.37+x/y"))["a"]
    assert newest.result and newest.result.updated == at(20)
    assert folder.reports(FleetTask("check", "1.37"))["a"].result is None
    files = sorted(path.name for path in (tmp_path / "clusters" / "a").glob("*.json"))
    assert files == ["state-audit-1.37-x-y.json", "state-migrate.json", "state.json"]


def test_each_file_of_a_cluster_fits_its_schema(tmp_path: Path) -> None:
    pytest.importorskip("jsonschema")
    tell(tmp_path, "a", 10, fleet={"purpose": "migrate", "version": None})
    tell(tmp_path, "a", 20, fleet={"purpose": "audit", "version": "1.37+x/y"})
    files = list((tmp_path / "clusters" / "a").glob("*.json"))
    assert len(files) == 3
    assert [violations(json.loads(path.read_text(encoding="utf-8"))) for path in files] == [[], [], []]


def test_what_is_no_report_is_left_out(tmp_path: Path) -> None:
    tell(tmp_path, "a", 10)
    clusters = tmp_path / "clusters"
    (clusters / ".DS_Store").write_bytes(b"\x00\xff")
    for name in ("empty", "text", "folder/state.json", "page/state"):
        (clusters / name).mkdir(parents=True)
    (clusters / "text" / "state.json").write_bytes(b"\xff{")
    (clusters / "loop").symlink_to("loop")
    assert list(FleetFolder(str(tmp_path)).reports(FleetTask("audit"))) == ["a"]
    result = keep(FleetFolder(str(tmp_path)), FleetNews("run-1", clusters=["a", "text"]), at(20))
    assert result["states"] == {"a": "not_begun", "text": "not_begun"}


def test_a_page_of_reports_that_are_there_already(tmp_path: Path) -> None:
    """As the module's example makes one, and whoever collects the folders of slices."""
    tell(tmp_path, "a", 10)
    tell(tmp_path, "b", 20)
    news = FleetNews("run-1", clusters=["a", "b", "c"], finished_wave=0, end=True)
    result = keep(FleetFolder(str(tmp_path)), news, at(90))
    assert result["states"] == {"a": "fine", "b": "fine", "c": "failure"} and result["status"] == "finished"


def test_a_page_of_reports_of_any_task(tmp_path: Path) -> None:
    """Those of a migration and of an audit for a release are reports of their clusters, too; but nobody else's makes a cluster count as migrated."""
    tell(tmp_path, "a", 10, fleet={"purpose": "migrate", "version": None})
    tell(tmp_path, "b", 20, fleet={"purpose": "audit", "version": "1.37"})
    page = FleetNews("run-1", clusters=["a", "b"], finished_wave=0, end=True)
    assert keep(FleetFolder(str(tmp_path)), page, at(90))["states"] == {"a": "fine", "b": "fine"}
    tell(tmp_path, "a", 30)
    migrated = FleetNews("run-2", "migrate", clusters=["a", "b"], finished_wave=0, end=True)
    assert keep(FleetFolder(str(tmp_path)), migrated, at(95))["states"] == {"a": "fine", "b": "failure"}
