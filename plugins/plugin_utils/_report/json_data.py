# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Dataclasses as JSON and back, by their types. Pure.

A field with a default may be missing in JSON, so that files of earlier releases can be read; unknown names are ignored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

# Metadata of a field: its name in JSON, or that it is left out there as long as it is None.
NAMED = "json_name"
LEFT_OUT = {"left_out_if_none": True}


class UnreadableDataError(ValueError):
    """JSON that does not fit the types."""


def as_json(value: Any) -> Any:
    """Dataclasses, lists, tuples, dictionaries and plain values, as json.dumps accepts them."""
    if dataclasses.is_dataclass(value):
        fields = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
        return {
            field.metadata.get(NAMED, field.name): as_json(item)
            for field, item in fields
            if item is not None or not field.metadata.get("left_out_if_none")
        }
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return value


def from_json(kind: type[T], found: Any) -> T:
    """An instance of a dataclass. Raises UnreadableDataError if a field is missing or has another type."""
    if not isinstance(found, Mapping):
        raise UnreadableDataError(f"{kind.__name__}: expected an object")
    values = {}
    for field, hint in _fields(kind):  # type: ignore[arg-type]  # mypy doesn't know that a type is hashable
        name = field.metadata.get(NAMED, field.name)
        if name in found:
            values[field.name] = _read(hint, found[name], f"{kind.__name__}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UnreadableDataError(f"{kind.__name__}.{name}: missing")
    return kind(**values)


@cache  # A fleet has a thousand reports, and each of them many parts.
def _fields(kind: type[Any]) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = get_type_hints(kind)
    return [(field, hints[field.name]) for field in dataclasses.fields(kind)]


def _read(hint: Any, found: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if found is None:
            return None
        return _read(next(part for part in arguments if part is not NoneType), found, where)
    if origin is list and isinstance(found, list):
        return [_read(arguments[0], item, where) for item in found]
    if origin is tuple and isinstance(found, list) and len(found) == len(arguments):
        return tuple(_read(part, item, where) for part, item in zip(arguments, found))
    if origin is dict and isinstance(found, Mapping):
        return {str(name): _read(arguments[1], item, where) for name, item in found.items()}
    if origin is None and dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_json(hint, found)
    if hint is float and isinstance(found, (int, float)) and not isinstance(found, bool):
        return float(found)
    if isinstance(hint, type) and isinstance(found, hint) and not (hint is int and isinstance(found, bool)):
        return found
    raise UnreadableDataError(f"{where}: expected {hint}")
