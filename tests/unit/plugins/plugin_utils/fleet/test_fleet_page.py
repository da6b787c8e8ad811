# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page and the files of a fleet."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.folder import FleetFolder
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.page import fleet_page, matrix, shown_rows
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.record import read_fleet
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.store import FleetNews, keep
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.files import ReportFiles
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.fleet.fleet_data import (
    blocked,
    dead,
    report,
    run_over,
    stale,
)
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.report_data import at


def test_the_worst_comes_first_and_unknown_cells_are_empty() -> None:
    record = run_over("abcd", {"a": report(), "b": stale(), "c": dead(), "d": blocked()})
    rows = shown_rows(record)
    assert [row.host for row in rows] == ["c", "d", "b", "a"]
    silent = [cell.text for cell in rows[0].cells]
    assert set(silent[1:-1]) == {""} and rows[0].link == "" and rows[1].link == "clusters/x/state.html"


def test_the_matrix_shows_what_is_stale_where() -> None:
    record = run_over("ab", {"a": report(), "b": stale()})
    for number in range(30):
        record.clusters[1].stale_resources[f"r{number:02d}.example.com"] = 1
    found = matrix(record.clusters)
    assert len(found.resources) == 20 and found.left_out
    assert found.rows == [("b", "b", [40, *[1] * 19, 11])]


def test_the_page_is_safe_and_allows_just_its_own_script() -> None:
    record = run_over(
        "a", {"a": report(cluster_name="<script>alert(1)</script>", outcomes=[{"failed": True, "msg": "<b>"}])}
    )
    page = fleet_page(record)
    assert "alert(1)</script>" not in page and "&lt;b&gt;" in page
    assert len(re.findall("<script>", page)) == 1 and re.search("script-src 'sha256-[A-Za-z0-9+/=]{44}'", page)
    assert not re.search(r"(src|href)=\W*http", page)


def write(folder: FleetFolder, host: str, found: Any) -> None:
    files = ReportFiles(str(folder.path / "clusters" / host / "state.html"))
    files.json.parent.mkdir(parents=True)
    files.write_record(found.snapshot)
    files.write_page("a page")


def test_the_files_of_a_run(tmp_path: Path) -> None:
    folder = FleetFolder(str(tmp_path / "fleet"), str(tmp_path / "collector" / "fleet.prom"))
    begun = keep(folder, FleetNews("run-1", clusters=["a", "b"], waves=["1"]), at(0))
    assert [wave["clusters"] for wave in begun["waves"]] == [["a"], ["b"]] and begun["done"] == []
    assert "In progress" in folder.files.html.read_text(encoding="utf-8")
    write(folder, "a", stale(5))
    ended = keep(folder, FleetNews("run-1", finished_wave=0), at(10))
    assert not ended["stopped"] and ended["states"] == {"a": "stale", "b": "not_begun"}
    write(folder, "b", dead(15))
    keep(folder, FleetNews("run-1", finished_wave=1), at(20))
    done = keep(folder, FleetNews("run-1", end=True), at(21))
    assert done["status"] == "finished" and list(done["problems"]) == ["b"] and done["only_unreachable"]
    record = read_fleet(json.loads(folder.files.json.read_text(encoding="utf-8")))
    assert record.clusters[0].pages == {"state": "clusters/a/state.html"}
    assert "kube_storage_stale_objects" in folder.metrics.read_text(encoding="utf-8")
    assert (
        oct(folder.metrics.stat().st_mode & 0o777) == "0o644"
        and oct(folder.files.html.stat().st_mode & 0o777) == "0o600"
    )


def test_slices_that_share_a_folder_keep_their_runs_apart(tmp_path: Path) -> None:
    folder = FleetFolder(str(tmp_path / "fleet"))
    first = keep(folder, FleetNews("run-1", clusters=["a"]), at(0))
    second = keep(folder, FleetNews("run-2", clusters=["b", "c"], waves=[1]), at(1))
    write(folder, "a", dead(5))
    ended = keep(folder, FleetNews("run-1", begun=first["run"], finished_wave=0, end=True), at(10))
    assert ended["states"] == {"a": "not_reached"} and ended["status"] == "finished"
    write(folder, "b", stale(12))
    ended = keep(folder, FleetNews("run-2", begun=second["run"], finished_wave=0), at(20))
    assert ended["states"] == {"b": "stale", "c": "not_begun"}
    record = read_fleet(json.loads(folder.files.json.read_text(encoding="utf-8")))
    assert [row.host for row in record.clusters] == ["b", "c", "a"], "the page has all of them"


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    keep(FleetFolder(str(tmp_path / "fleet")), FleetNews("run-1", clusters=["a"]), at(0), write=False)
    assert list((tmp_path / "fleet").iterdir()) == []


@pytest.mark.parametrize(
    ("news", "said"),
    [
        (FleetNews("r", clusters=[]), "no clusters"),
        (FleetNews("r", clusters=["a/b"]), "can't be the name of a folder"),
        (FleetNews("r", end=True), "No run of a fleet has begun"),
    ],
)
def test_bad_input(tmp_path: Path, news: FleetNews, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        keep(FleetFolder(str(tmp_path / "fleet")), news, at(0))


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "fleet").write_text("")
    with pytest.raises(BadInputError, match="which is a file"):
        FleetFolder(str(tmp_path / "fleet"))
