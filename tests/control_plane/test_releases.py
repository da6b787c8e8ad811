# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of releases matches what is built, and a version resolves to the right one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.control_plane import releases
from tests.control_plane.build import NEEDED_GO
from tests.control_plane.releases import NEWEST, Etcd, Release, Server, Tool, VersionError

TESTS = Path(__file__).resolve().parents[1]
FOLDERS = {"control_plane": releases.CONTROL_PLANE, "kubeadm": releases.KUBEADM_HOST}


@pytest.mark.parametrize(("folder", "row"), [(name, row) for name, table in FOLDERS.items() for row in table])
def test_each_row_is_what_its_go_mod_builds(folder: str, row: Release) -> None:
    source = TESTS / folder / "go"
    text = (source / row.go_mod).read_text(encoding="utf-8")
    staging = row.kubernetes.replace("1.", "0.", 1)
    assert re.findall(r"^\s*k8s\.io/kubernetes v(\S+)$", text, re.MULTILINE) == [row.kubernetes]
    assert re.findall(r"^\s*go\.etcd\.io/etcd/server/v3 v(\S+)$", text, re.MULTILINE) == [row.etcd]
    replaced = re.findall(r"^\s*(k8s\.io/\S+) => (\S+) v(\S+)$", text, re.MULTILINE)
    assert len(replaced) > 20, "k8s.io/kubernetes names its staging modules as v0.0.0"
    older = row.older_modules
    assert [old for old, new, version in replaced if old != new or version != older.get(old, staging)] == []
    sums = (source / row.go_mod).with_suffix(".sum").read_text(encoding="utf-8")
    assert f"k8s.io/kubernetes v{row.kubernetes} h1:" in sums


@pytest.mark.parametrize("row", releases.ETCD)
def test_each_etcd_is_what_its_go_mod_builds(row: Etcd) -> None:
    text = (TESTS / "control_plane" / "go" / row.folder / row.go_mod).read_text(encoding="utf-8")
    (version,) = re.findall(r"^require go\.etcd\.io/etcd(?:/server/v3)? v(\S+)$", text, re.MULTILINE)
    # The commit of 3.4.13, of which there is no release by name.
    assert version in (row.etcd, "0.5.0-alpha.5.0.20200910180754-dd1b699fc489")
    assert releases.with_etcd(row.etcd) == row


def test_of_two_releases_with_the_same_etcd_the_preferred_one_is_taken() -> None:
    """So that no second release is built for its etcd."""
    first, second = (row for row in releases.CONTROL_PLANE if row.etcd == "3.5.21")
    assert releases.with_etcd("3.5.21", lambda row: row == second) == second
    assert releases.with_etcd("3.5.21", lambda row: row.etcd == "3.6.8") == first


def test_etcdutl_is_what_its_go_mod_builds_and_fits_an_etcd_here() -> None:
    text = (TESTS / "control_plane" / "go" / releases.ETCDUTL.folder / "go.mod").read_text(encoding="utf-8")
    assert f"\tgo.etcd.io/etcd/etcdutl/v3 v{releases.ETCDUTL.etcd}\n" in text
    assert releases.with_etcd(releases.ETCDUTL.etcd)


def test_kine_is_what_its_go_mod_builds() -> None:
    text = (TESTS / "control_plane" / "go" / releases.KINE.folder / "go.mod").read_text(encoding="utf-8")
    assert f"require github.com/k3s-io/kine v{releases.KINE.etcd}\n" in text


def test_the_migrator_is_what_its_go_mod_builds() -> None:
    text = (TESTS / "control_plane" / "go" / releases.MIGRATOR.folder / "go.mod").read_text(encoding="utf-8")
    assert f"\tsigs.k8s.io/kube-storage-version-migrator v{releases.MIGRATOR.etcd}\n" in text


def test_openshift_s_api_is_locked() -> None:
    """Nothing is built from it: tests take its CRDs."""
    folder = TESTS / "control_plane" / "go" / "openshift-api"
    (version,) = re.findall(
        r"^require github\.com/openshift/api (\S+)$", (folder / "go.mod").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert f"github.com/openshift/api {version} h1:" in (folder / "go.sum").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_go_mod_has_its_row(folder: str) -> None:
    found = {path.name for path in (TESTS / folder / "go").glob("*.mod")}
    assert found == {row.go_mod for row in FOLDERS[folder]}


def test_the_newest_comes_first() -> None:
    versions = [tuple(map(int, row.kubernetes.split("."))) for row in releases.CONTROL_PLANE]
    assert versions == sorted(set(versions), reverse=True)


def test_a_patch_release_is_itself_and_a_minor_is_emulated() -> None:
    for row in releases.CONTROL_PLANE:
        minor = row.kubernetes.rpartition(".")[0]
        assert releases.server(row.kubernetes) == Server(row)
        if NEWEST.minor - row.minor <= releases.EMULATED_MINORS:
            assert releases.server(minor) == Server(NEWEST, emulated=minor)
        else:
            with pytest.raises(VersionError, match=f"can't emulate {minor}"):
                releases.server(minor)
        assert releases.pinned(minor) == row.kubernetes
        assert releases.with_etcd(row.etcd).etcd == row.etcd


@pytest.mark.parametrize("version", ["1.36.99", "1.99", "2.37.2", "newest", "1.36.5-rc.0", ""])
def test_what_is_not_there_is_named_with_what_is(version: str) -> None:
    with pytest.raises(VersionError, match=re.escape(NEWEST.kubernetes)) as error:
        releases.server(version)
    assert version in str(error.value)
    with pytest.raises(VersionError, match=re.escape(NEWEST.etcd)):
        releases.with_etcd("3.0.0")
    with pytest.raises(VersionError):
        releases.pinned("1.20")


@pytest.mark.parametrize("tool", [releases.PROMTOOL])
def test_each_tool_is_what_its_go_mod_builds(tool: Tool) -> None:
    text = (TESTS / "control_plane" / "go" / tool.folder / tool.go_mod).read_text(encoding="utf-8")
    assert f"tool {tool.package}\n" in text and f"{tool.module} v{tool.version}" in text


def test_the_go_that_is_asked_for_builds_everything() -> None:
    """GOTOOLCHAIN=local takes no other than the one that is installed."""
    directives = {
        path: re.findall(r"^go (\d+\.\d+(?:\.\d+)?)$", path.read_text(encoding="utf-8"), re.MULTILINE)[0]
        for path in TESTS.rglob("*.mod")
    }
    newest = max(directives.values(), key=lambda version: [int(part) for part in version.split(".")])
    assert newest == NEEDED_GO
    root = TESTS.parent
    assert f"Go {NEEDED_GO} or newer" in (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for workflow in (root / ".github" / "workflows").glob("*.yml"):
        for path in re.findall(
            r"go-version-file: (tests/control_plane\S+go\.mod)", workflow.read_text(encoding="utf-8")
        ):
            assert directives[root / path] == NEEDED_GO, workflow
