#!/usr/bin/env python3
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moves every Go module of the tests to newer versions of what it requires; part of ``make update``.

Usage: go_modules.py update

Kubernetes and etcd keep their minor releases: a row of tests/control_plane/releases.py, its .mod and its .sum change together. Each
other go.mod requires one module, whose newest version FOLLOWED names.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.control_plane import releases
from tests.control_plane.releases import Etcd, Release, Tool

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "tests" / "control_plane" / "releases.py"
ROWS = {
    ROOT / "tests" / "control_plane" / "go": releases.CONTROL_PLANE,
    ROOT / "tests" / "kubeadm" / "go": releases.KUBEADM_HOST,
}


@dataclass(frozen=True)
class Followed:
    """A go.mod in ``folder`` that requires ``module``.

    ``query`` is Go's for the newest version: ``latest``, ``patch`` (of the same minor release), or a branch. ``row``: of
    tests/control_plane/releases.py, if one has the version.
    """

    folder: Path
    module: str
    query: str
    row: Etcd | Tool | None


_GO = ROOT / "tests" / "control_plane" / "go"
FOLLOWED = (
    *(Followed(_GO / row.folder, "go.etcd.io/etcd/server/v3", "patch", row) for row in releases.ETCD[:1]),
    Followed(_GO / releases.ETCDUTL.folder, "go.etcd.io/etcd/etcdutl/v3", "patch", releases.ETCDUTL),
    Followed(_GO / releases.KINE.folder, "github.com/k3s-io/kine", "latest", releases.KINE),
    # Neither has releases by name since the version that tests use.
    Followed(_GO / releases.MIGRATOR.folder, "sigs.k8s.io/kube-storage-version-migrator", "master", releases.MIGRATOR),
    Followed(_GO / "openshift-api", "github.com/openshift/api", "master", None),
)
TOOLS = {_GO / tool.folder: tool for tool in (releases.PROMTOOL, releases.KNATIVE)}
# etcd 3.4, of which the proxy has only one commit; and the benchmark, which requires nothing.
FIXED = (_GO / "etcd-3.4", ROOT / "tests" / "benchmark" / "go")
KUBERNETES, ETCD = "k8s.io/kubernetes", "go.etcd.io/etcd/server/v3"


def newest_patch(version: str, published: str) -> str:
    """The newest release among the published ones (``v1.37.2 v1.37.3 ...``) of the minor that ``version`` belongs to."""
    minor = re.escape(version.rpartition(".")[0])
    patches = [int(patch) for patch in re.findall(rf"(?<!\S)v{minor}\.(\d+)(?!\S)", published)]
    return f"{version.rpartition('.')[0]}.{max([*patches, int(version.rpartition('.')[2])])}"


def newest(release: Release, folder: Path) -> Release:
    """The same minors, at the newest patches."""
    return replace(
        release,
        kubernetes=newest_patch(release.kubernetes, _go(folder, "list", "-m", "-versions", KUBERNETES)),
        etcd=newest_patch(release.etcd, _go(folder, "list", "-m", "-versions", ETCD)),
    )


def repin(text: str, old: Release, new: Release) -> str:
    """A go.mod with the new releases. Kubernetes v1.37.2 publishes its staging modules as v0.37.2."""
    minor, patch = old.kubernetes.split(".", 1)[1], new.kubernetes.split(".", 1)[1]
    text = re.sub(rf"(k8s\.io/\S+ v[01])\.{re.escape(minor)}$", rf"\1.{patch}", text, flags=re.MULTILINE)
    return re.sub(rf"(go\.etcd\.io/etcd/\S+ v){re.escape(old.etcd)}\b", rf"\g<1>{new.etcd}", text)


def update(folder: Path, old: Release, new: Release) -> None:
    """Writes .mod, .sum and the row in releases.py."""
    path = folder / old.go_mod
    path.write_text(repin(path.read_text(encoding="utf-8"), old, new), encoding="utf-8")
    _go(folder, "mod", "tidy", f"-modfile={old.go_mod}")
    table = TABLE.read_text(encoding="utf-8")
    table = table.replace(_row(old), _row(new))
    TABLE.write_text(table, encoding="utf-8")


def follow(go_mod: Followed) -> None:
    """Moves one to its newest version, and its row with it. What the module proxy doesn't have stays as it is."""
    folder, module = go_mod.folder, go_mod.module
    name, before = folder.name, required(folder, module)
    try:
        newest = _go(folder, "list", "-m", "-f", "{{.Version}}", f"{module}@{go_mod.query}").strip()
    except GoError as error:
        print(f"{name}: stays at {before}, because its newest version is unknown: {error}", file=sys.stderr)
        return
    if newest == before:
        return
    print(f"{name}: {before} -> {newest}")
    _go(folder, "mod", "edit", f"-require={module}@{newest}")
    if any(folder.glob("*.go")):
        _go(folder, "mod", "tidy")
    else:  # Nothing imports it, so tidy would remove it.
        (folder / "go.sum").unlink()
        _go(folder, "mod", "download", module)
    if go_mod.row is not None:
        _set_version(go_mod.row, newest)


def required(folder: Path, module: str) -> str:
    """The version that the go.mod requires."""
    text = (folder / "go.mod").read_text(encoding="utf-8")
    (version,) = re.findall(rf"^(?:require )?\s*{re.escape(module)} (v\S+)", text, re.MULTILINE)
    return str(version)


def update_tool(folder: Path, tool: Tool) -> None:
    """Moves a tool to its newest release, and its row with it."""
    before = required(folder, tool.module)
    _go(folder, "get", f"-tags={tool.tags}", "-tool", f"{tool.package}@latest")
    newest = required(folder, tool.module)
    if newest != before:
        print(f"{tool.folder}: {before} -> {newest}")
        _set_version(tool, newest)


def _set_version(row: Etcd | Tool, version: str) -> None:
    kind, old = ("Tool", row.version) if isinstance(row, Tool) else ("Etcd", row.etcd)
    table = TABLE.read_text(encoding="utf-8")
    here, there = (f'{kind}("{number}", folder="{row.folder}"' for number in (old, version.removeprefix("v")))
    TABLE.write_text(table.replace(here, there), encoding="utf-8")


def _row(release: Release) -> str:
    return (
        f'Release("{release.kubernetes}", etcd="{release.etcd}", go_mod="{release.go_mod}", minutes={release.minutes})'
    )


class GoError(Exception):
    """What go says, on one line."""


def _go(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    done = subprocess.run(["go", *arguments], cwd=folder, env=environment, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise GoError(f"go {' '.join(arguments)}: {' '.join(done.stderr.split())[-1000:]}")
    return done.stdout


def main() -> int:
    for folder, rows in ROWS.items():
        for old in rows:
            if old.older_modules:
                continue  # The last patch release of its minor, some of whose modules aren't served.
            new = newest(old, folder)
            if new != old:
                print(
                    f"{folder.parent.name}: Kubernetes {old.kubernetes} and etcd {old.etcd} -> {new.kubernetes}, {new.etcd}"
                )
                update(folder, old, new)
    for go_mod in FOLLOWED:
        follow(go_mod)
    for folder, tool in TOOLS.items():
        update_tool(folder, tool)
    return 0


if __name__ == "__main__":
    sys.exit(main())
