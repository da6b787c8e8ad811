# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m tests.tools.schemas`` writes the JSON Schemas to playbooks/files/schemas, by their format's number.

They are those of reports, of modules' results and of the role's variables.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "playbooks" / "files" / "schemas"
sys.path.insert(0, str(ROOT / ".ansible" / "collections"))

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet import record as fleet  # noqa: E402
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report import record as report  # noqa: E402
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.schema import schema_of  # noqa: E402

from tests.tools.result_schemas import FORMAT as RESULT_FORMAT  # noqa: E402
from tests.tools.result_schemas import result_schemas  # noqa: E402
from tests.tools.variable_schema import FORMAT as VARIABLES_FORMAT  # noqa: E402
from tests.tools.variable_schema import variable_schema  # noqa: E402

_RUNS = ["running", "succeeded", "failed", "unfinished", "cut off"]


def schemas() -> dict[str, dict[str, Any]]:
    """By the name of the file."""
    return {
        f"upgrade-report-{report.FORMAT}.json": schema_of(
            report.Record,
            "The report of an upgrade, a migration or a rotation of the encryption key, by kube_storage.upgrade",
            {"format": [report.FORMAT], "kind": [report.UPGRADE, report.ROTATION], "status": _RUNS},
        ),
        f"state-report-{report.FORMAT}.json": schema_of(
            report.Snapshot,
            "The report of a check or an audit, by kube_storage.upgrade",
            {"format": [report.FORMAT], "kind": [report.CHECK, report.AUDIT], "status": ["succeeded", "failed"]},
        ),
        f"fleet-{fleet.FORMAT}.json": schema_of(
            fleet.FleetRecord,
            "The record of a fleet, by kube_storage.upgrade",
            {
                "format": [fleet.FORMAT],
                "kind": [fleet.FLEET],
                "purpose": [fleet.AUDIT, fleet.CHECK, fleet.MIGRATE],
                "status": [fleet.RUNNING, fleet.STOPPED, fleet.FINISHED],
            },
        ),
        **result_schemas(),
        f"rolling_upgrade-variables-{VARIABLES_FORMAT}.json": variable_schema(),
    }


def text_of(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


@cache
def _validators() -> dict[str, Any]:
    from jsonschema import Draft202012Validator

    shipped = {
        path.stem.rpartition("-")[0]: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.json")
    }
    return {name: Draft202012Validator(schema) for name, schema in shipped.items()}


def violations(document: Mapping[str, Any]) -> list[str]:
    """What in a report doesn't fit the schema that is shipped for its kind."""
    kind = str(document.get("kind"))
    name = "fleet" if kind == "fleet" else "state-report" if kind in ("check", "audit") else "upgrade-report"
    return _violations(name, document)


def result_violations(module: str, result: Mapping[str, Any]) -> list[str]:
    """What in a module's result doesn't fit the schema that is shipped for it; nothing if it has none."""
    name = f"{module}-result"
    return _violations(name, result) if (FOLDER / f"{name}-{RESULT_FORMAT}.json").exists() else []


def _violations(name: str, document: Mapping[str, Any]) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in _validators()[name].iter_errors(document)]


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        (FOLDER / name).write_text(text_of(schema), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
