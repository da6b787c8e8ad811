# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks the Go modules of one Kubernetes release what it can decode and what it stores.

A small program (go/main.go) is built against the release's own modules, in the user's cache, and run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.control_plane.build import cache_root

TEMPLATE = Path(__file__).resolve().parent / "go" / "main.go"
# Where an API server of a release says how it stores each of its two own API groups.
EXTENSIONS_SOURCES = (
    "pkg/controlplane/apiserver/apiextensions.go",
    "cmd/kube-apiserver/app/apiextensions.go",
)
AGGREGATOR_SOURCES = (
    "pkg/controlplane/apiserver/aggregator.go",
    "cmd/kube-apiserver/app/aggregator.go",
)
KNOWN_TYPES = "pkg/controlplane/import_known_versions.go"


class ReleaseError(Exception):
    """A release can't be asked; one sentence and what Go said."""


@dataclass(frozen=True)
class Release:
    """What one release answers."""

    version: str
    go_version: str
    decodes: dict[str, dict[str, list[str]]]
    stores: dict[str, str]
    kinds: dict[str, str]


def newest_patch(minor: str) -> str:
    """The newest patch release of a minor, such as ``v1.36.3`` for ``1.36``."""
    listed = json.loads(_go(["list", "-m", "-versions", "-json", "k8s.io/kubernetes"], cwd=cache_root()))
    wanted = re.compile(rf"v{re.escape(minor)}\.(\d+)$")
    patches = [int(found[1]) for version in listed.get("Versions", []) if (found := wanted.match(version))]
    if not patches:
        raise ReleaseError(f"The Go module proxy has no release of Kubernetes {minor}.")
    return f"v{minor}.{max(patches)}"


def ask(version: str) -> Release:
    """Build the program for a release, unless that was done before, and return what it prints."""
    folder = cache_root() / "release-data" / version
    answer = folder / "answer.json"
    inputs = TEMPLATE.read_text(encoding="utf-8") + _go_version()
    stamp = folder / "made-from"
    if not answer.exists() or not stamp.exists() or stamp.read_text(encoding="utf-8") != inputs:
        _build(version, folder)
        printed = subprocess.run([str(folder / "program")], check=False, capture_output=True, text=True)
        if printed.returncode != 0:
            raise ReleaseError(f"The program for {version} failed:\n{printed.stderr[-2000:]}")
        answer.write_text(printed.stdout, encoding="utf-8")
        (folder / "program").unlink()
        stamp.write_text(inputs, encoding="utf-8")
    said: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    stores, kinds = dict(said["stores"]), dict(said["kinds"])
    source = _module("k8s.io/kubernetes", version)
    stores["customresourcedefinitions.apiextensions.k8s.io"] = (
        f"apiextensions.k8s.io/{_encoded_as(source, EXTENSIONS_SOURCES)}"
    )
    kinds["customresourcedefinitions.apiextensions.k8s.io"] = "CustomResourceDefinition"
    stores["apiservices.apiregistration.k8s.io"] = f"apiregistration.k8s.io/{_encoded_as(source, AGGREGATOR_SOURCES)}"
    kinds["apiservices.apiregistration.k8s.io"] = "APIService"
    return Release(version, _go_version(), said["decodes"], stores, kinds)


def _build(version: str, folder: Path) -> None:
    print(f"Building the program for Kubernetes {version}; a few minutes, once.", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    source = _module("k8s.io/kubernetes", version)
    shutil.copy(TEMPLATE, folder / "main.go")
    imports = re.findall(
        r'_ ("k8s\.io/kubernetes/pkg/apis/[^"]+/install")', (source / KNOWN_TYPES).read_text(encoding="utf-8")
    )
    lines = "".join(f"\t_ {path}\n" for path in imports)
    (folder / "known_types.go").write_text(f"package main\n\nimport (\n{lines})\n", encoding="utf-8")
    (folder / "go.mod").write_text(_go_mod(version, source), encoding="utf-8")
    _go(["mod", "tidy", "-e"], cwd=folder)
    major, minor = version.lstrip("v").split(".")[:2]
    package = "k8s.io/component-base/version"
    stamps = f"-X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    _go(["build", "-trimpath", "-ldflags", f"-s -w {stamps}", "-o", "program", "."], cwd=folder)


def _go_mod(version: str, source: Path) -> str:
    """Kubernetes names its staging modules as v0.0.0; each release publishes them as v0.MINOR.PATCH."""
    text = (source / "go.mod").read_text(encoding="utf-8")
    staging = sorted(set(re.findall(r"^\s*(?:require )?(k8s\.io/\S+) v0\.0\.0$", text, re.MULTILINE)))
    published = "v0" + version.removeprefix("v1")
    replaced = "".join(f"\t{path} => {path} {published}\n" for path in staging)
    language = re.search(r"^go (\d+\.\d+)", text, re.MULTILINE)
    return (
        f"module release-data\n\ngo {language[1] if language else '1.22'}\n\n"
        f"require k8s.io/kubernetes {version}\n\nreplace (\n{replaced})\n"
    )


def _encoded_as(source: Path, candidates: tuple[str, ...]) -> str:
    """The version that the API server sets for these two groups in its code, not in a configuration."""
    for version in candidates:
        path = source / version
        if path.exists():
            found = re.search(r"NewMultiGroupVersioner\((v\w+)\.SchemeGroupVersion", path.read_text(encoding="utf-8"))
            if found:
                return found[1]
    raise ReleaseError(f"{source.name} does not say where it is looked for how it stores {candidates[0]}.")


def _module(name: str, version: str) -> Path:
    said = json.loads(_go(["mod", "download", "-json", f"{name}@{version}"], cwd=cache_root()))
    return Path(said["Dir"])


def _go_version() -> str:
    return _go(["env", "GOVERSION"], cwd=cache_root()).strip()


def _go(arguments: list[str], cwd: Path) -> str:
    cwd.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    done = subprocess.run(["go", *arguments], cwd=cwd, env=environment, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ReleaseError(f"go {' '.join(arguments[:2])} failed:\n{done.stderr[-3000:]}")
    return done.stdout
