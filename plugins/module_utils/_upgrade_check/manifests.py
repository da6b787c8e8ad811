# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the option crd_manifests: the CRDs in documents, texts, files and folders."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.crds import Definition, definition_of

_KIND = "CustomResourceDefinition"
_GROUP = "apiextensions.k8s.io/"
_SUFFIXES = (".yml", ".yaml", ".json")
_TEMPLATE = "{{"


def read_manifests(given: Iterable[Any]) -> list[Definition]:
    """The CRDs in a list of documents, YAML or JSON texts, files and folders; other kinds are ignored.

    Raises BadInputError for unreadable input, and for a text, a file or a folder without a CRD, which would pass as safe.
    """
    elements = list(given)
    found: dict[str, Definition] = {}
    for crd in (crd for element in elements for crd in _crds_in(element)):
        if found.setdefault(crd.name, crd).document.get("spec") != crd.document.get("spec"):
            raise BadInputError(
                f"crd_manifests: {crd.name} is there twice, with different content; leave out the one that won't be applied."
            )
    if elements and not found:
        raise BadInputError("crd_manifests holds no CustomResourceDefinition; check what it names.")
    return list(found.values())


def _crds_in(element: Any) -> list[Definition]:
    crds = [definition_of(document) for document in _documents(element) if _is_crd(document)]
    if not crds and not isinstance(element, (Mapping, list)):
        raise BadInputError(
            f"crd_manifests: {_name(element)} holds no CustomResourceDefinition; check it or leave it out."
        )
    return crds


def _is_crd(document: Mapping[str, Any]) -> bool:
    return document.get("kind") == _KIND and str(document.get("apiVersion") or "").startswith(_GROUP)


def _is_text(element: Any) -> bool:
    text = str(element)
    return not text.strip() or "\n" in text or text.lstrip().startswith("{")


def _name(element: Any) -> str:
    return "a text in the option" if _is_text(element) else str(Path(str(element)).expanduser())


def _documents(given: Any) -> list[dict[str, Any]]:
    if isinstance(given, list):
        return [document for item in given for document in _documents(item)]
    if isinstance(given, Mapping):
        if given.get("kind") == "List" or str(given.get("kind")).endswith(f"{_KIND}List"):
            return [document for item in given.get("items") or () for document in _documents(item)]
        return [dict(given)]
    if _is_text(given):
        return _parse(str(given), _name(given))
    path = Path(_name(given))
    if path.is_dir():
        return [document for file in _files(path) for document in _parse(_read(file), str(file))]
    return _parse(_read(path), str(path))


def _files(folder: Path) -> list[Path]:
    """All manifests in a folder and its subfolders."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    if not files:
        raise BadInputError(
            f"crd_manifests: the folder {folder} holds no file that ends in .yml, .yaml or .json; check the path."
        )
    return files


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
        parsed = [document for document in yaml.load_all(text, _loader(yaml)) if document is not None]
    except yaml.YAMLError as error:
        raise BadInputError(f"crd_manifests: {_why_not_yaml(text, where)}") from error
    if any(not isinstance(document, (dict, list)) for document in parsed):
        raise BadInputError(f"crd_manifests: {where} holds no Kubernetes manifest; check it.")
    found = [manifest for document in parsed for manifest in _documents(document)]
    if any(
        _is_crd(manifest) and _TEMPLATE in json.dumps([manifest.get("metadata"), _names(manifest)], default=str)
        for manifest in found
    ):
        raise BadInputError(f"crd_manifests: {_not_rendered(where)}")
    return found


def _loader(yaml: Any) -> Any:
    """PyYAML's safe one, which has no constructor for a plain ``=``, as in the CRDs of prometheus-operator (yaml/pyyaml#89)."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML is imported where it is used
        pass

    Loader.add_constructor("tag:yaml.org,2002:value", yaml.SafeLoader.construct_yaml_str)
    return Loader


def _names(manifest: Mapping[str, Any]) -> list[Any]:
    """Where a template's placeholder would make another CRD of it, or name a service that doesn't exist."""
    spec = manifest.get("spec")
    return [spec.get(key) for key in ("group", "names", "scope", "conversion")] if isinstance(spec, Mapping) else [spec]


def _why_not_yaml(text: str, where: str) -> str:
    return _not_rendered(where) if _TEMPLATE in text else f"{where} is not valid YAML; check it."


def _not_rendered(where: str) -> str:
    return f"{where} is a template of a chart that isn't rendered; render it first (helm template) and give the result."


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadInputError(
            f"crd_manifests: {where} is not JSON, and Python's yaml is missing; install PyYAML where the task runs."
        ) from error
