# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The schemas that are shipped are those of the code, and reports fit them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.json_data import as_json
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.fleet.fleet_data import (
    blocked,
    dead,
    report,
    run_over,
    stale,
)
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.report_data import (
    failure,
    first_run_fails,
    second_run_finishes,
)

from tests.tools.result_schemas import result_schema
from tests.tools.schemas import FOLDER, result_violations, schemas, text_of, violations

RECORDS = Path(__file__).resolve().parents[1] / "unit" / "plugins" / "plugin_utils" / "records"


def test_those_that_are_shipped_are_those_of_the_code() -> None:
    """A property that changes its meaning needs a new format."""
    shipped = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    current = {name: text_of(schema) for name, schema in schemas().items()}
    assert shipped == current, "write them with: .venv/bin/python -m tests.tools.schemas"


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda path: path.stem)
def test_reports_of_earlier_versions_fit(path: Path) -> None:
    assert violations(json.loads(path.read_text(encoding="utf-8"))) == []


def made() -> dict[str, Any]:
    return {
        "failed upgrade": first_run_fails().record,
        "upgrade": second_run_finishes(first_run_fails()).record,
        "failed migration": second_run_finishes(first_run_fails(), [failure()]).record,
        "audit": stale().snapshot,
        "check": blocked().snapshot,
        "not reached": dead().snapshot,
        "fleet": run_over("abcde", {"a": stale(), "b": dead(), "c": blocked(), "d": report()}, [1]),
    }


@pytest.mark.parametrize("name", made())
def test_reports_fit(name: str) -> None:
    assert violations(json.loads(json.dumps(as_json(made()[name])))) == []


def test_what_does_not_fit_is_found() -> None:
    document = as_json(made()["fleet"])
    for change in ({"status": "well"}, {"format": 2}, {"clusters": [{"host": "a"}]}, {"updated": 5}):
        assert violations({**copy.deepcopy(document), **change})


SNAPSHOT: dict[str, Any] = {
    "msg": "Taken.", "path": None, "revision": 5, "sha256": None, "bytes": 7, "member": "https://10.0.0.1:2379", "version": "3.7.0",
    "cluster": "cdf8", "snapshots": [], "removed": [], "error": None, "changed": True,
}  # fmt: skip


def test_the_result_of_a_module_fits_what_it_documents() -> None:
    assert result_violations("etcd_snapshot", SNAPSHOT) == []
    for change in ({"member": None}, {"bytes": "7"}, {"removed": [5]}, {"error": 5}):
        assert result_violations("etcd_snapshot", {**SNAPSHOT, **change}), change
    lacking = {name: value for name, value in SNAPSHOT.items() if name != "sha256"}
    assert result_violations("etcd_snapshot", lacking), "a success has all that is documented"
    assert result_violations("etcd_snapshot", {"msg": "There is no room.", "error": "file"}) == []
    assert result_violations("upgrade_lease", {}) == [], "no schema, no complaint"


def test_a_dictionary_of_results_by_name() -> None:
    inside = {"kind": {"type": "str", "description": "Its kind, or null."}}
    resources = {"type": "dict", "returned": "always", "description": "By resource.", "contains": inside}
    schema = result_schema("storage_version_hashes", {"resources": resources})
    assert schema["properties"]["resources"]["additionalProperties"]["properties"]["kind"]["type"] == ["string", "null"]
    assert schema["then"]["required"] == ["resources"] and schema["required"] == []
