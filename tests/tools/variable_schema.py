# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The JSON Schema of the role's variables, for editors: completion, descriptions, and marks under what the role would refuse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _variables

FORMAT = 1
_SPECS = Path(__file__).resolve().parents[2] / "roles" / "rolling_upgrade" / "meta" / "argument_specs.yml"
_PREFIX = "rolling_upgrade_"
# A value that Ansible computes; what comes out of it is unknown here.
_TEMPLATE = {"type": "string", "pattern": r"\{\{|\{%"}
_TYPES = {"str": "string", "path": "string", "list": "array", "dict": "object", "bool": "boolean", "int": "integer"}
_MARKUP = re.compile(r"\b(?:O|V|C|I|B|M|P|RV|E|L|U)\(((?:[^()\\]|\\.)*)\)")


def variable_schema() -> dict[str, Any]:
    """For a file of variables, such as ``group_vars/kube_control_plane.yml``. Other variables than the role's are not restricted."""
    options = role_options()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Variables of the role kube_storage.upgrade.rolling_upgrade",
        "type": "object",
        "properties": {name: _property(name, option) for name, option in sorted(options.items())},
        "propertyNames": {"anyOf": [{"not": {"pattern": f"^{_PREFIX}"}}, {"enum": sorted(options)}]},
    }


@cache
def role_options() -> dict[str, Mapping[str, Any]]:
    """The options of all entry points, by name."""
    specs = yaml.safe_load(_SPECS.read_text(encoding="utf-8"))["argument_specs"]
    return {name: option for spec in specs.values() for name, option in (spec.get("options") or {}).items()}


def _property(name: str, option: Mapping[str, Any]) -> dict[str, Any]:
    short = name[len(_PREFIX) :]
    found: dict[str, Any] = {"description": plain(option.get("description") or "")}
    if "default" in option:
        found["default"] = option["default"]
    kinds = _kinds(short, str(option.get("type") or "raw"))
    if kinds:
        found["anyOf"] = [*kinds, _TEMPLATE]
    return found


def _kinds(name: str, declared: str) -> list[dict[str, Any]]:
    """What a value may be; empty for anything. As _variables.py judges values."""
    if name in _variables.CHOICES:
        return [{"enum": ["", *_variables.CHOICES[name]]}]
    if name in _variables.BOOLEANS:
        return [{"type": "boolean"}, {"enum": ["true", "false", "yes", "no"]}]
    if name in _variables.WHOLE_NUMBERS:
        return [{"type": "integer", "minimum": _variables.WHOLE_NUMBERS[name]}, {"type": "string", "pattern": r"^\d+$"}]
    if name in _variables.NUMBERS:
        return [
            {"type": "number", "minimum": _variables.NUMBERS[name]},
            {"type": "string", "pattern": r"^\d+(\.\d+)?$"},
        ]
    if name in _variables.LISTS:
        return [{"type": "array"}]
    if name in _variables.DICTIONARIES:
        return [_dictionary(name)]
    return [{"type": _TYPES[declared]}] if declared in _TYPES else []


def _dictionary(name: str) -> dict[str, Any]:
    if name not in _variables.KEYS:
        return {"type": "object"}
    keys = {key: _key(spec) for key, spec in _variables.KEYS[name].items()}
    return {"type": "object", "properties": keys, "additionalProperties": False}


def _key(spec: Mapping[str, Any]) -> dict[str, Any]:
    kind = _TYPES.get(str(spec.get("type")), "")
    return {"anyOf": [{"type": kind}, _TEMPLATE]} if kind and kind != "string" else {}


def plain(description: str | list[str]) -> str:
    """Without Ansible's markup."""
    text = description if isinstance(description, str) else "\n".join(description)
    return _MARKUP.sub(lambda found: found[1].replace("\\", ""), text).strip()
