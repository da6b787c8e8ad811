# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The JSON Schema of a record, made from its dataclass, so that the two never differ. Pure.

Later versions of the same format only add properties, so that other ones are allowed.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.json_data import NAMED

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


def schema_of(kind: type[Any], title: str, fixed: dict[str, list[Any]]) -> dict[str, Any]:
    """``fixed``: the values that properties of the record itself may have."""
    definitions: dict[str, Any] = {}
    whole = _of_dataclass(kind, definitions)
    for name, values in fixed.items():
        whole["properties"][name] = {"enum": values}
    return {"$schema": DIALECT, "title": title, **whole, "$defs": dict(sorted(definitions.items()))}


def _of_dataclass(kind: type[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    properties, required = {}, []
    for field in dataclasses.fields(kind):
        name = field.metadata.get(NAMED, field.name)
        properties[name] = _of_hint(hints[field.name], definitions)
        if not field.metadata.get("left_out_if_none"):
            required.append(name)
    found: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    described = inspect.getdoc(kind) or ""
    # Without a docstring a dataclass has its own signature there.
    if not described.startswith(f"{kind.__name__}("):
        found = {"description": re.sub(r"\s+", " ", described.replace("``", "'")), **found}
    return found


def _of_hint(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        other = _of_hint(next(part for part in arguments if part is not NoneType), definitions)
        return {"type": [other["type"], "null"]} if set(other) == {"type"} else {"anyOf": [other, {"type": "null"}]}
    if origin is list:
        return {"type": "array", "items": _of_hint(arguments[0], definitions)}
    if origin is tuple:
        parts = [_of_hint(part, definitions) for part in arguments]
        return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of_hint(arguments[1], definitions)}
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if hint.__name__ not in definitions:
        definitions[hint.__name__] = {}  # It may contain itself.
        definitions[hint.__name__] = _of_dataclass(hint, definitions)
    return {"$ref": f"#/$defs/{hint.__name__}"}
