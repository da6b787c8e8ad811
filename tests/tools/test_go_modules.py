# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which releases ``make update`` moves the Go modules to."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.control_plane.releases import Etcd, Release
from tests.tools import go_modules
from tests.tools.go_modules import FIXED, FOLLOWED, ROWS, TABLE, TOOLS, Followed, _row, newest_patch, repin


@pytest.mark.parametrize(
    ("version", "published", "newest"),
    [
        ("1.37.2", "k8s.io/kubernetes v1.36.9 v1.37.2 v1.37.10 v1.38.0", "1.37.10"),
        ("1.37.2", "k8s.io/kubernetes v1.37.0 v1.37.3-rc.0", "1.37.2"),
        ("1.3.1", "k8s.io/kubernetes v1.37.5", "1.3.1"),
    ],
)
def test_the_minor_stays(version: str, published: str, newest: str) -> None:
    assert newest_patch(version, published) == newest


def test_staging_modules_move_too() -> None:
    old = Release("1.37.2", etcd="3.7.0", go_mod="go.mod", minutes=1)
    new = Release("1.37.10", etcd="3.7.1", go_mod="go.mod", minutes=1)
    text = "\tgo.etcd.io/etcd/server/v3 v3.7.0\n\tk8s.io/kubernetes v1.37.2\n\tk8s.io/api => k8s.io/api v0.37.2\n\tk8s.io/klog/v2 v2.37.2\n"
    assert repin(text, old, new) == (
        "\tgo.etcd.io/etcd/server/v3 v3.7.1\n\tk8s.io/kubernetes v1.37.10\n\tk8s.io/api => k8s.io/api v0.37.10\n"
        "\tk8s.io/klog/v2 v2.37.2\n"
    )


def test_each_row_is_found_in_the_table() -> None:
    table = TABLE.read_text(encoding="utf-8")
    moved = [row for rows in ROWS.values() for row in rows if not row.older_modules]
    assert [row for row in moved if _row(row) not in table] == []


def test_no_go_mod_is_forgotten() -> None:
    found = {path.parent for path in (go_modules.ROOT / "tests").rglob("go.mod")}
    known = [*ROWS, *(go_mod.folder for go_mod in FOLLOWED), *TOOLS, *FIXED]
    assert sorted(found) == sorted(known)


def test_each_row_that_follows_a_module_is_in_the_table() -> None:
    table = TABLE.read_text(encoding="utf-8")
    for go_mod in FOLLOWED:
        version = go_modules.required(go_mod.folder, go_mod.module).removeprefix("v")
        assert go_mod.row is None or f'Etcd("{version}", folder="{go_mod.row.folder}"' in table


MODULE = "example.com/program"


def publish(proxy: Path, version: str, files: dict[str, str]) -> None:
    """Puts a module into a module proxy that is a folder."""
    folder = proxy / MODULE / "@v"
    folder.mkdir(parents=True, exist_ok=True)
    go_mod = f"module {MODULE}\n\ngo 1.26.0\n"
    (folder / f"{version}.info").write_text(json.dumps({"Version": version, "Time": "2026-01-01T00:00:00Z"}))
    (folder / f"{version}.mod").write_text(go_mod)
    with zipfile.ZipFile(folder / f"{version}.zip", "w") as archive:
        for name, text in {"go.mod": go_mod, **files}.items():
            archive.writestr(f"{MODULE}@{version}/{name}", text)
    with (folder / "list").open("a") as file:
        file.write(version + "\n")


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")
@pytest.mark.parametrize(
    ("query", "imports", "moved"),
    [("latest", True, "v1.3.0"), ("patch", True, "v1.2.4"), ("latest", False, "v1.3.0"), ("main", True, "v1.2.3")],
)
def test_a_go_mod_follows_its_module(
    query: str,
    imports: bool,
    moved: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A real go, and a module proxy that doesn't know the branch main."""
    proxy, folder, table = tmp_path / "proxy", tmp_path / "program", tmp_path / "releases.py"
    for version in ("v1.2.3", "v1.2.4", "v1.3.0"):
        publish(proxy, version, {"program.go": "package program\n", "crd.yaml": "{}\n"})
    monkeypatch.setenv("GOPROXY", proxy.as_uri())
    monkeypatch.setenv("GOSUMDB", "off")
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(go_modules, "TABLE", table)
    table.write_text('OTHER = Etcd("1.2.3", folder="other")\nROW = Etcd("1.2.3", folder="program", minutes=1)\n')
    folder.mkdir()
    (folder / "go.mod").write_text(f"module x\n\ngo 1.26.0\n\nrequire {MODULE} v1.2.3\n")
    (folder / "go.sum").write_text("")
    if imports:
        (folder / "main.go").write_text(f'package main\n\nimport _ "{MODULE}"\n\nfunc main() {{}}\n')
    go_modules.follow(Followed(folder, MODULE, query, Etcd("1.2.3", folder="program", minutes=1)))
    assert go_modules.required(folder, MODULE) == moved
    told = capsys.readouterr()
    if query == "main":
        assert "program: stays at v1.2.3, because its newest version is unknown: go list" in told.err
    else:
        assert told.out == f"program: v1.2.3 -> {moved}\n"
        assert f"{MODULE} {moved} h1:" in (folder / "go.sum").read_text()
    assert table.read_text().splitlines() == [
        'OTHER = Etcd("1.2.3", folder="other")',
        f'ROW = Etcd("{moved.removeprefix("v")}", folder="program", minutes=1)',
    ]
    # Go makes what it downloads read-only.
    go_modules._go(folder, "clean", "-modcache")
