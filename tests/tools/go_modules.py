#!/usr/bin/env python3
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moves the Go modules of the test control planes to the newest patch releases of Kubernetes and etcd; part of ``make update``.

Usage: go_modules.py update

Each row of tests/control_plane/releases.py keeps its minor release; the row, its .mod and its .sum change together.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.control_plane import releases
from tests.control_plane.releases import Release, Tool

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "tests" / "control_plane" / "releases.py"
ROWS = {
    ROOT / "tests" / "control_plane" / "go": releases.CONTROL_PLANE,
    ROOT / "tests" / "kubeadm" / "go": releases.KUBEADM_HOST,
}
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


def update_tool(folder: Path, tool: Tool) -> None:
    """Moves a tool to its newest release, and its row with it. ``tool``'s module is the host, the owner and the name of its package."""
    module = "/".join(tool.package.split("/")[:3])
    _go(folder, "get", f"-tags={tool.tags}", "-tool", f"{tool.package}@latest")
    newest = _go(folder, "list", "-m", "-f", "{{.Version}}", module).strip().lstrip("v")
    if newest != tool.version:
        print(f"{tool.folder}: {tool.version} -> {newest}")
        table = TABLE.read_text(encoding="utf-8")
        TABLE.write_text(table.replace(f'Tool("{tool.version}"', f'Tool("{newest}"'), encoding="utf-8")


def _row(release: Release) -> str:
    return (
        f'Release("{release.kubernetes}", etcd="{release.etcd}", go_mod="{release.go_mod}", minutes={release.minutes})'
    )


def _go(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    return subprocess.run(
        ["go", *arguments], cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


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
    update_tool(ROOT / "tests" / "control_plane" / "go" / releases.PROMTOOL.folder, releases.PROMTOOL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
