# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names that users write or see: whoever adds an engine, a check, a driver or a provider is told where it is still missing."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kube_storage.upgrade.plugins.filter.driver_refusals import driver_refusals
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.providers import LOCAL_PROVIDERS
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.permissions import Need
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines import choice
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.direct import DirectEngine
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Check
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._variables import CHOICES

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "rolling_upgrade"
DRIVERS = sorted(folder.name for folder in (ROLE / "tasks" / "drivers").iterdir())
# Their options are in their documentation, and again in the specification that AnsibleModule gets.
WITH_CHOICES = sorted(
    path.stem
    for path in (ROOT / "plugins" / "modules").glob("*.py")
    if '"choices":' in path.read_text(encoding="utf-8")
)
CONTROLLERS = {
    engine: dialect
    for engine in CHOICES["engine"]
    if engine != choice.AUTO and (dialect := choice.dialect_of(engine, None)) is not None
}
# The header of a table that has a column for each engine.
ENGINE_COLUMNS = re.compile(r"^     - ``direct``\n(?:     - ``\w+``\n)+", re.MULTILINE)


def documented(plugin: str, part: str = "DOCUMENTATION") -> dict[str, Any]:
    """A part of a plugin's documentation, parsed; the plugin as ``modules.storage_migrate``."""
    module = importlib.import_module(f"ansible_collections.kube_storage.upgrade.plugins.{plugin}")
    found: dict[str, Any] = yaml.safe_load(getattr(module, part))
    return found


def text_of(*path: str) -> str:
    return ROOT.joinpath(*path).read_text(encoding="utf-8")


def role_spec(entry_point: str) -> dict[str, Any]:
    specs: dict[str, Any] = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    spec: dict[str, Any] = specs["argument_specs"][entry_point]
    return spec


def role_options(entry_point: str) -> dict[str, Any]:
    options: dict[str, Any] = role_spec(entry_point)["options"]
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
    assert set(CHOICES["engine"]) == set(option["choices"])
    assert not [engine for engine in engines if f"`{engine}`" not in text_of("README.md")]
    headers = ENGINE_COLUMNS.findall(text_of("docs", "docsite", "rst", "engines.rst"))
    assert len(headers) == 2 and all(set(re.findall(r"``(\w+)``", header)) == engines for header in headers)


def choices_in(options: Mapping[str, Any]) -> dict[str, list[str]]:
    return {name: list(option["choices"]) for name, option in options.items() if "choices" in option}


class Specified(Exception):
    """Ends a module with the specification of its options."""


@pytest.mark.parametrize("name", WITH_CHOICES)
def test_a_module_takes_the_choices_that_it_documents(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(_module: AnsibleModule, argument_spec: Mapping[str, Any], **_settings: Any) -> None:
        raise Specified(argument_spec)

    monkeypatch.setattr(AnsibleModule, "__init__", end)
    with pytest.raises(Specified) as ended:
        importlib.import_module(f"ansible_collections.kube_storage.upgrade.plugins.modules.{name}").main()
    assert choices_in(ended.value.args[0]) == choices_in(documented(f"modules.{name}")["options"])


@pytest.mark.parametrize("engine", CONTROLLERS)
def test_each_controller_is_refused_where_the_cluster_lacks_it(engine: str) -> None:
    """``choose_engine`` finds out whether it has it, and ``_refuse_what_is_not_there`` refuses it otherwise."""
    lacks_all: dict[str, Any] = {field.name: None for field in fields(choice.Offers)}
    with pytest.raises(BadInputError, match=f"engine: {engine} can't be used"):
        choice.choose(engine, choice.Offers(**lacks_all), None)


def allowed_by(rules: Iterable[Mapping[str, Any]], need: Need) -> bool:
    resource = f"{need.resource}/{need.subresource}" if need.subresource else need.resource
    return any(
        need.verb in rule["verbs"] and need.group in rule.get("apiGroups", ()) and resource in rule["resources"]
        for rule in rules
        if "resources" in rule
    )


@pytest.mark.parametrize("engine", CONTROLLERS)
def test_the_permissions_of_each_controller_are_in_a_role_and_described(engine: str) -> None:
    roles = yaml.safe_load(text_of("playbooks", "files", "rbac", "kube-storage-upgrade.yml"))["items"]
    rules = [rule for role in roles for rule in role.get("rules", ())]
    needs = choice.Chosen(choice.Choice(engine, "asked for"), CONTROLLERS[engine]).needs([])
    assert needs and not [need for need in needs if not allowed_by(rules, need)]
    assert f"``engine: {engine}``" in text_of("docs", "docsite", "rst", "permissions.rst")


def test_each_check_is_in_the_documentation_of_upgrade_check() -> None:
    finding = documented("modules.upgrade_check", "RETURN")["blockers"]["contains"]
    assert values_in(finding["check"]["description"]) == set(get_args(Check))


def test_each_check_that_is_named_is_made_somewhere() -> None:
    """mypy refuses a finding of a check that isn't named."""
    folder = ROOT / "plugins" / "module_utils" / "_upgrade_check"
    made = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py") if path.name != "finding.py")
    assert not [check for check in get_args(Check) if f'"{check}"' not in made]


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
    for described in (stored["provider"], rotated["provider"], in_role, role_spec("rotate_encryption_key")):
        assert provider in values_in(described["description"]), described
