# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names that users write or see: whoever adds an engine, a check, a driver or a provider is told where it is still missing."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from ansible_collections.kube_storage.upgrade.plugins.filter.driver_refusals import driver_refusals
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.providers import LOCAL_PROVIDERS
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines import choice
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.direct import DirectEngine
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Check
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._variables import CHOICES

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "rolling_upgrade"
DRIVERS = sorted(folder.name for folder in (ROLE / "tasks" / "drivers").iterdir())


def documented(plugin: str, part: str = "DOCUMENTATION") -> dict[str, Any]:
    """A part of a plugin's documentation, parsed; the plugin as ``modules.storage_migrate``."""
    module = importlib.import_module(f"ansible_collections.kube_storage.upgrade.plugins.{plugin}")
    found: dict[str, Any] = yaml.safe_load(getattr(module, part))
    return found


def text_of(*path: str) -> str:
    return ROOT.joinpath(*path).read_text(encoding="utf-8")


def role_options(entry_point: str) -> dict[str, Any]:
    specs: dict[str, Any] = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    options: dict[str, Any] = specs["argument_specs"][entry_point]["options"]
    return options


def values_in(description: Any) -> set[str]:
    """Everything in ``V(…)``."""
    return set(re.findall(r"V\(([^)]+)\)", str(description)))


def test_each_engine_that_is_offered_is_chosen_and_described() -> None:
    """Another engine without a controller belongs beside DirectEngine here, once ``make_engine`` makes it."""
    option = documented("modules.storage_migrate")["options"]["engine"]
    engines = set(option["choices"]) - {choice.AUTO}
    assert engines == {DirectEngine.name} | {
        dialect.name for name in engines if (dialect := choice.dialect_of(name, None)) is not None
    }
    assert engines <= values_in(option["description"])
    assert documented("modules.upgrade_check")["options"]["engine"]["choices"] == option["choices"]
    assert set(CHOICES["engine"]) == set(option["choices"])
    for path in (("README.md",), ("docs", "docsite", "rst", "engines.rst")):
        assert not [engine for engine in engines if f"`{engine}`" not in text_of(*path)], path


def test_each_check_is_in_the_documentation_of_upgrade_check() -> None:
    finding = documented("modules.upgrade_check", "RETURN")["blockers"]["contains"]
    assert values_in(finding["check"]["description"]) == set(get_args(Check))


@pytest.mark.parametrize("driver", DRIVERS)
def test_each_driver_is_named_where_users_look_for_it(driver: str) -> None:
    """tests/integration/test_documentation.py checks that each of its options is documented and has a default."""
    for entry_point in ("main", "upgrade_master"):
        assert driver in values_in(role_options(entry_point)["rolling_upgrade_driver"]["description"])
    (problem,) = driver_refusals("nobody's", [], [])
    assert driver in re.findall(r"\w+", problem.partition(" of a folder")[0])
    assert f"\n   * - ``{driver}``" in text_of("docs", "docsite", "rst", "drivers.rst")
    assert f"`{driver}`" in text_of("roles", "rolling_upgrade", "README.md")


@pytest.mark.parametrize("provider", LOCAL_PROVIDERS)
def test_each_encryption_provider_is_documented(provider: str) -> None:
    stored = documented("modules.stored_versions_info", "RETURN")["resources"]["contains"]["stored"]["contains"]
    rotated = documented("filter.encryption_key_rotation")["options"]
    in_role = role_options("rotate_encryption_key")["rolling_upgrade_encryption_provider"]
    for described in (stored["provider"], rotated["provider"], in_role):
        assert provider in values_in(described["description"]), described
