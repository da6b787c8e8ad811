# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""New CustomResourceDefinitions against those in the cluster and what is stored of them. Pure, but for reading files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._checks.finding import Finding, count, listed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import BadInputError

_KIND = "CustomResourceDefinition"
_GROUP = "apiextensions.k8s.io/"
_SUFFIXES = (".yml", ".yaml", ".json")


@dataclass(frozen=True)
class Definition:
    """What matters of a CRD here. ``served`` and ``versions`` are names such as ``v1beta1``."""

    name: str
    group: str
    kind: str
    versions: tuple[str, ...]
    served: tuple[str, ...]
    storage: str | None
    stored: tuple[str, ...]
    conversion: Mapping[str, Any] | None = None

    @property
    def converts(self) -> bool:
        """Whether objects in another version than the stored one need the conversion webhook."""
        return self.conversion is not None and len(self.versions) > 1


def definition_of(document: Mapping[str, Any]) -> Definition:
    """Of a CRD in apiextensions.k8s.io/v1 or v1beta1; raises BadInputError where it is none."""
    name = str((document.get("metadata") or {}).get("name") or "without a name")
    try:
        spec = document["spec"]
        versions = spec.get("versions") or [{"name": spec["version"], "served": True, "storage": True}]
        conversion = spec.get("conversion") or {}
        webhook = conversion.get("webhook") or {}
        # v1beta1 has the client's configuration one level higher.
        config = webhook.get("clientConfig") or conversion.get("webhookClientConfig") or {}
        return Definition(
            name=name,
            group=str(spec["group"]),
            kind=str(spec["names"]["kind"]),
            versions=tuple(str(one["name"]) for one in versions),
            served=tuple(str(one["name"]) for one in versions if one.get("served")),
            storage=next((str(one["name"]) for one in versions if one.get("storage")), None),
            stored=tuple((document.get("status") or {}).get("storedVersions") or ()),
            conversion=config if conversion.get("strategy") == "Webhook" else None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInputError(
            f"crd_manifests: the CustomResourceDefinition {name} has no valid spec; check the manifest."
        ) from error


def read_manifests(given: Iterable[Any]) -> list[Definition]:
    """The CRDs in a list of documents, YAML or JSON texts, files and folders; other kinds are passed over."""
    found: dict[str, Definition] = {}
    for one in given:
        for document in _documents(one):
            if document.get("kind") == _KIND and str(document.get("apiVersion") or "").startswith(_GROUP):
                definition = definition_of(document)
                found[definition.name] = definition
    return list(found.values())


def _documents(given: Any) -> list[dict[str, Any]]:
    if isinstance(given, list):
        return [document for one in given for document in _documents(one)]
    if isinstance(given, Mapping):
        if given.get("kind") == "List" or str(given.get("kind")).endswith(f"{_KIND}List"):
            return [document for one in given.get("items") or () for document in _documents(one)]
        return [dict(given)]
    text = str(given)
    if "\n" in text or text.lstrip().startswith("{"):
        return _parse(text, "a text in the option")
    path = Path(text).expanduser()
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.suffix in _SUFFIXES)
        return [document for one in files for document in _parse(_read(one), str(one))]
    return _parse(_read(path), str(path))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "not a text file"
        raise BadInputError(
            f"crd_manifests: {path} can't be read ({why}); give a path on the host where the task runs."
        ) from error


def _parse(text: str, where: str) -> list[dict[str, Any]]:
    try:
        import yaml
    except ImportError:
        return _documents(_parse_json(text, where))
    try:
        parsed = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise BadInputError(f"crd_manifests: {where} is not valid YAML; check it.") from error
    if any(not isinstance(one, (dict, list)) for one in parsed if one is not None):
        raise BadInputError(f"crd_manifests: {where} holds no Kubernetes manifest; check it.")
    return [document for one in parsed if one is not None for document in _documents(one)]


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadInputError(
            f"crd_manifests: {where} is not JSON, and Python's yaml is missing; install PyYAML where the task runs."
        ) from error


def compare(new: Definition, live: Definition | None, held: Mapping[str | None, int] | None) -> list[Finding]:
    """What a new CRD would break. ``held``: objects by version such as ``v1beta1``, from etcd; None: not read."""
    found: list[Finding] = []
    if live is None:
        return found
    in_etcd = {version: number for version, number in (held or {}).items() if version is not None}
    stored = dict.fromkeys([*live.stored, *in_etcd])
    dropped = [version for version in stored if version not in new.versions]
    if dropped:
        numbers = [
            f"{version}: {count(in_etcd.get(version, 0), 'object')} in etcd" if held is not None else version
            for version in dropped
        ]
        empty = held is not None and not any(in_etcd.get(version) for version in dropped)
        found.append(
            Finding(
                "crd_drops_stored_version",
                new.name,
                f"The new CRD drops {listed(numbers)}, which {'is' if len(dropped) == 1 else 'are'} on record as stored.",
                "The API server refuses a CRD that lacks a version in status.storedVersions; objects in a version "
                "that is gone can't be read.",
                (
                    "Nothing is stored in it any more: trim status.storedVersions (storage_migrate with "
                    f"resources: [{new.name}] does so), then apply the CRD."
                    if empty
                    else f"Apply a CRD that still has it, run storage_migrate with resources: [{new.name}], which also "
                    "trims status.storedVersions, and only then apply this one."
                ),
            )
        )
    before = live.storage
    if before is not None and new.storage != before and before in new.versions and before not in new.served:
        found.append(
            Finding(
                "crd_stops_serving",
                new.name,
                f"The new CRD changes the storage version from {before} to {new.storage} and no longer serves {before}.",
                f"Clients and controllers that still use {before} break at once, before anything was migrated.",
                f"Serve {before} beside {new.storage} first, run storage_migrate with resources: [{new.name}], and stop "
                "serving it in a later step.",
            )
        )
    return found
