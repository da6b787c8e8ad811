# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which fields of a stored custom resource an API server drops when it rewrites the object. Pure.

An API server prunes fields that a structural schema does not know three times in one rewrite: after it decoded
the object, by the schema of the version it is stored in; after it converted it to the version of the request; and
after it converted it to the storage version (k8s.io/apiextensions-apiserver, pkg/apiserver/customresource_handler.go,
crdConversionRESTOptionsGetter; pkg/apiserver/schema/pruning/algorithm.go). Only names of fields are looked at, never
values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_META = frozenset({"apiVersion", "kind", "metadata"})
_PRINTABLE = re.compile(r"[\w./$@+-]{1,80}")
_DEEPEST = 60

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Schemas:
    """The structural schemas of a CRD's versions, and how objects get from one version to another.

    ``keeps_everything``: spec.preserveUnknownFields, which turns pruning off. ``by_webhook``: versions differ by more
    than their name, so only the webhook knows what becomes of a field.
    """

    by_version: Mapping[str, Schema]
    storage: str
    served: tuple[str, ...]
    keeps_everything: bool = False
    by_webhook: bool = False

    @property
    def requested(self) -> tuple[str, ...]:
        """The versions that a rewrite may go through: the storage version, or any served one if that isn't served."""
        return (self.storage,) if self.storage in self.served or not self.served else self.served


def schemas_of(crd: Mapping[str, Any]) -> Schemas | None:
    """From a CRD in apiextensions.k8s.io/v1; None if it has no storage version (no API server accepts that)."""
    spec = crd.get("spec") or {}
    versions = [
        version for version in spec.get("versions") or () if isinstance(version, Mapping) and version.get("name")
    ]
    storage = next((str(version["name"]) for version in versions if version.get("storage")), None)
    if storage is None:
        return None
    return Schemas(
        by_version={
            str(version["name"]): (version.get("schema") or {}).get("openAPIV3Schema") or {} for version in versions
        },
        storage=storage,
        served=tuple(str(version["name"]) for version in versions if version.get("served")),
        keeps_everything=bool(spec.get("preserveUnknownFields")),
        by_webhook=(spec.get("conversion") or {}).get("strategy") == "Webhook",
    )


def dropped_fields(document: Mapping[str, Any], version: str, schemas: Schemas) -> list[str] | None:
    """Paths such as ``spec.useEfi`` or ``spec.disks[].size`` that a rewrite drops, sorted; None if that is unknown.

    ``version`` is the one that the object is stored in, without its group. If a field is dropped with everything in
    it, only its own path is named. The result is unknown if a conversion webhook converts the object from another
    version, or if the CRD no longer has the object's version.
    """
    if schemas.keeps_everything:
        return []
    if version not in schemas.by_version:
        return None
    way = [version]
    if not schemas.by_webhook or {version, *schemas.requested} == {schemas.storage}:
        way += [*schemas.requested, schemas.storage]
    found = {path for version in dict.fromkeys(way) for path in _root(document, schemas.by_version[version])}
    if not found and len(way) == 1:
        return None
    return sorted(found)


def _root(document: Mapping[str, Any], schema: Schema) -> Iterator[str]:
    yield from _pruned(document, {**schema, "x-kubernetes-embedded-resource": True}, "", 0)


def _pruned(value: Any, schema: Schema | None, path: str, depth: int) -> Iterator[str]:
    """What ``prune`` of pruning/algorithm.go would delete."""
    if depth > _DEEPEST:
        return
    if schema is not None and schema.get("x-kubernetes-preserve-unknown-fields"):
        yield from _below(value, schema, path, depth, keeps_unknown=True)
    else:
        yield from _below(value, schema, path, depth, keeps_unknown=False)


def _below(value: Any, schema: Schema | None, path: str, depth: int, *, keeps_unknown: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _field(name, inner, schema, path, depth, keeps_unknown=keeps_unknown)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        items = _schema((schema or {}).get("items"))
        for inner in value:
            if keeps_unknown:
                # Here the algorithm continues without pruning even if the items' own schema would prune.
                if items is not None:
                    yield from _below(inner, items, f"{path}[]", depth + 1, keeps_unknown=True)
            else:
                yield from _pruned(inner, items, f"{path}[]", depth + 1)


def _field(
    name: str, value: Any, schema: Schema | None, path: str, depth: int, *, keeps_unknown: bool
) -> Iterator[str]:
    here = f"{path}.{_shown(name)}" if path else _shown(name)
    if schema is not None:
        if schema.get("x-kubernetes-embedded-resource") and name in _META:
            return
        properties = schema.get("properties") or {}
        if name in properties:
            yield from _pruned(value, _schema(properties[name]) or {}, here, depth + 1)
            return
        if schema.get("additionalProperties") is not None:
            # The name is the user's own there, so it is not shown. A schema of true or false has nothing below it.
            inner = _schema(schema["additionalProperties"])
            yield from _pruned(value, inner, f"{path}.*" if path else "*", depth + 1)
            return
    if not keeps_unknown:
        yield here


def _schema(found: Any) -> Schema | None:
    """A schema; None if there is none (``additionalProperties: true`` has none either)."""
    return found if isinstance(found, Mapping) else None


def _shown(name: Any) -> str:
    """A field's name, if it is one that a schema could have."""
    text = str(name)
    return text if _PRINTABLE.fullmatch(text) else "(a name that is not a field name)"
