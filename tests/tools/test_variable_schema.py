# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an editor marks, beside what the role itself refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _variables
from jsonschema import Draft202012Validator

from tests.tools.variable_schema import plain, role_options, variable_schema

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = Draft202012Validator(variable_schema())


def marks(**variables: Any) -> bool:
    return bool(list(SCHEMA.iter_errors({f"rolling_upgrade_{name}": value for name, value in variables.items()})))


def refuses(**variables: Any) -> bool:
    given = {
        "rolling_upgrade_version": "1.37",
        **{f"rolling_upgrade_{name}": value for name, value in variables.items()},
    }
    return bool(_variables.wrong_values(given, "main"))


def test_the_role_s_own_defaults_fit() -> None:
    defaults = yaml.safe_load(
        (ROOT / "roles" / "rolling_upgrade" / "defaults" / "main.yml").read_text(encoding="utf-8")
    )
    assert list(SCHEMA.iter_errors(defaults)) == []


@pytest.mark.parametrize(
    ("variables", "wrong"),
    [
        *(({name: value}, wrong) for name in _variables.BOOLEANS for value, wrong in ((True, False), ("maybe", True))),
        *(({name: "nonsense"}, True) for name in _variables.CHOICES if not name.startswith("fleet_")),
        *(({name: next(iter(_variables.CHOICES[name]))}, False) for name in ("engine", "impact", "managed_fields")),
        *(
            ({name: value}, wrong)
            for name in _variables.WHOLE_NUMBERS
            for value, wrong in ((7, False), ("7", False), ("many", True))
        ),
        *(
            ({name: value}, wrong)
            for name in _variables.NUMBERS
            for value, wrong in ((1.5, False), ("1.5", False), (-1, True))
        ),
        *(({name: value}, wrong) for name in _variables.LISTS for value, wrong in ((["a"], False), ("a", True))),
        ({"etcd": {"endpoints": ["https://127.0.0.1:2379"]}}, False),
        ({"etcd": {"endpoint": "https://127.0.0.1:2379"}}, True),
        ({"sampling": {"connections": 20}}, False),
        ({"sampling": ["connections"]}, True),
    ],
    ids=str,
)
def test_an_editor_marks_what_the_role_refuses(variables: dict[str, Any], wrong: bool) -> None:
    assert marks(**variables) is wrong
    if not any(name in ("ignore_blockers", "etcd_quota") for name in variables):
        assert refuses(**variables) is wrong


def test_a_release_must_be_quoted_and_a_name_must_exist() -> None:
    assert marks(version=1.4) and not marks(version="1.40")
    assert marks(versions="1.37"), "no such name"
    assert list(SCHEMA.iter_errors({"ansible_host": "10.0.0.11"})) == [], "other variables are not ours"


@pytest.mark.parametrize("name", sorted(role_options()))
def test_a_template_may_be_anything(name: str) -> None:
    assert list(SCHEMA.iter_errors({name: "{{ something }}"})) == []


def test_descriptions_are_plain_text() -> None:
    assert plain(["Set O(rolling_upgrade_version) to V(1.37\\)).", "See M(ansible.builtin.apt)."]) == (
        "Set rolling_upgrade_version to 1.37).\nSee ansible.builtin.apt."
    )
    assert all(not found["description"].count("V(") for found in variable_schema()["properties"].values())
