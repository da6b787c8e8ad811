# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One version everywhere: galaxy.yml, the changelog, what the guides tell users to install, and since when a module exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
VERSION = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
RELEASES: dict[str, Any] = yaml.safe_load((ROOT / "changelogs" / "changelog.yaml").read_text(encoding="utf-8"))[
    "releases"
]
MODULES = sorted((ROOT / "plugins" / "modules").glob("*.py"))
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs" / "docsite" / "rst").glob("*.rst"))]


def as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def test_the_version_is_released_or_has_its_summary() -> None:
    """galaxy.yml names what the next tarball is; the changelog has it, or a fragment of its name does until it is released."""
    assert VERSION in RELEASES or (ROOT / "changelogs" / "fragments" / f"{VERSION}.yml").exists()
    assert max(map(as_numbers, RELEASES)) <= as_numbers(VERSION)


def test_guides_install_that_version() -> None:
    named = {
        (text.name, version)
        for text in TEXTS
        for version in re.findall(r"kube_storage-upgrade-(\d+\.\d+\.\d+)\.tar\.gz", text.read_text(encoding="utf-8"))
    }
    assert named and {version for _text, version in named} == {VERSION}


def test_each_module_and_plugin_is_as_old_as_the_changelog_says() -> None:
    """antsibull-changelog lists as new what was added in the version that is released."""
    listed = {module["name"]: version for version, release in RELEASES.items() for module in release.get("modules", [])}
    for version, release in RELEASES.items():
        listed |= {plugin["name"]: version for found in release.get("plugins", {}).values() for plugin in found}
    paths = [
        *MODULES,
        *(path for kind in ("filter", "lookup", "test") for path in (ROOT / "plugins" / kind).glob("[a-z]*.*")),
    ]
    said = {
        path.stem: re.findall(r"^ *version_added: (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)[:1]
        for path in paths
    }
    documented = {name: found for name, found in said.items() if found}
    assert documented == {name: [listed.get(name, VERSION)] for name in documented} and len(documented) > 30


def test_nothing_is_newer_than_the_version() -> None:
    specs = ROOT / "roles" / "rolling_upgrade" / "meta" / "argument_specs.yml"
    for path in (*(ROOT / "plugins").rglob("*.py"), specs):
        for version in re.findall(r"^ *version_added: (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert as_numbers(version) <= as_numbers(VERSION), path
