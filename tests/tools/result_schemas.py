# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON Schemas of the modules' results, made from what the modules document in RETURN.

A number may be null, as what is unknown is never zero here; any other value only where its description says so. What a module returns always or on
success is required where ``error`` is null, unless the result is a short one (option ``details``); what fails early may lack it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

MODULES = Path(__file__).resolve().parents[2] / "plugins" / "modules"
# A change that a program may not survive (a key that goes, or changes its type or meaning) needs another number.
FORMAT = 1
# The modules on whose results programs rely.
OF_PROGRAMS = ("etcd_snapshot", "storage_migrate", "storage_version_hashes", "stored_versions_info", "upgrade_check")
# Dictionaries by the name of a resource: what RETURN says they contain is in each of their values.
_BY_NAME = frozenset(
    {("storage_migrate", "resources"), ("storage_version_hashes", "resources"), ("stored_versions_info", "resources")}
)
_TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}
_ALWAYS, _ON_SUCCESS = "always", "success"
# What a module returns even if it fails before it has anything else to tell.
_OF_EACH = ("msg", "error")
# Ansible takes it out of the result where it prints the warnings itself.
_MAY_BE_TAKEN_OUT = "warnings"


def result_schemas() -> dict[str, dict[str, Any]]:
    """By the name of the file."""
    return {f"{module}-result-{FORMAT}.json": result_schema(module, documented(module)) for module in OF_PROGRAMS}


def documented(module: str) -> dict[str, dict[str, Any]]:
    """What RETURN of a module says."""
    tree = ast.parse((MODULES / f"{module}.py").read_text(encoding="utf-8"))
    texts = [
        statement.value.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and statement.targets[0].id == "RETURN"
        and isinstance(statement.value, ast.Constant)
    ]
    found: dict[str, dict[str, Any]] = yaml.safe_load(str(texts[0]))
    return found


def result_schema(module: str, values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"The result of kube_storage.upgrade.{module}",
        "description": "Ansible adds keys of its own, such as changed, failed and invocation.",
        "type": "object",
        "properties": {name: _value(value, (module, name)) for name, value in values.items()},
        "required": [name for name in _OF_EACH if name in values],
        "if": {"properties": {"error": {"type": "null"}, "left_out": False}},
        "then": {"required": [name for name, value in values.items() if _is_sure(name, value)]},
    }


def _is_sure(name: str, value: Mapping[str, Any]) -> bool:
    """Whether each result of a success has it."""
    return value["returned"] in (_ALWAYS, _ON_SUCCESS) and name != _MAY_BE_TAKEN_OUT


def _value(value: Mapping[str, Any], where: tuple[str, ...]) -> dict[str, Any]:
    text = value.get("description", "")
    text = " ".join(text) if isinstance(text, list) else str(text)
    kind = _TYPES[value["type"]]
    nullable = kind in ("integer", "number") or re.search(r"\bnull\b", text, re.IGNORECASE)
    schema: dict[str, Any] = {
        "description": _plain(text),
        "type": [kind, "null"] if nullable else kind,
    }
    inside = value.get("contains")
    parts = {name: _value(part, (*where, name)) for name, part in inside.items()} if inside else {}
    if value["type"] == "list":
        items: dict[str, Any] = {"type": _TYPES[value["elements"]]} if value.get("elements") else {}
        schema["items"] = {**items, "properties": parts} if parts else items
    elif parts and where in _BY_NAME:
        schema["additionalProperties"] = {"type": "object", "properties": parts}
    elif parts:
        schema["properties"] = parts
    return schema


def _plain(text: str) -> str:
    """Without the markup of Ansible's documentation: V(true), RV(stale), O(etcd.overrides)."""
    return re.sub(r"\b(?:RV|V|O|C|M|P|E|I|B)\(([^()]*)\)", r"\1", text)
