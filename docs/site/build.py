#!/usr/bin/env python3
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds the site into build/docs/html: the reference from the plugins, roles and playbooks, and the guides. Any warning is an error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import arrange
import playbook_pages
import yaml

SITE = Path(__file__).resolve().parent
ROOT = SITE.parents[1]
BUILD = ROOT / "build" / "docs"


def main() -> int:
    shutil.rmtree(BUILD, ignore_errors=True)
    source = BUILD / "rst"
    source.mkdir(parents=True)
    programs = Path(sys.executable).parent
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    reference = ["antsibull-docs", "collection", "--use-current", "--squash-hierarchy", "--fail-on-error"]
    sphinx = ["sphinx-build", "-q", "-W", "--keep-going", "-b", "html", "-c", str(SITE)]
    commands = [
        [*reference, "--dest-dir", str(source), "kube_storage.upgrade"],
        [*sphinx, str(source), str(BUILD / "html")],
    ]
    for command in commands:
        done = subprocess.run([str(programs / command[0]), *command[1:]], env=environment, check=False)
        if done.returncode:
            return done.returncode
        if command[0] == "antsibull-docs":
            complete(source)
    for page in (BUILD / "html").rglob("*.html"):
        page.write_text(arrange.accessible(page.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"Open {BUILD / 'html' / 'index.html'}")
    return 0


def complete(source: Path) -> None:
    """Adds to what antsibull-docs wrote what it doesn't know, and puts it in our order."""
    # It copies the guides' texts, but not their pictures.
    shutil.copytree(ROOT / "docs" / "docsite" / "images", source / "docsite" / "images", dirs_exist_ok=True)
    role = ROOT / "roles" / "rolling_upgrade"
    drivers = sorted(folder.name for folder in (role / "tasks" / "drivers").iterdir())
    page = source / "rolling_upgrade_role.rst"
    page.write_text(arrange.role_page(page.read_text(encoding="utf-8"), drivers), encoding="utf-8")

    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    names = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
    names.sort(key=lambda name: name != "upgrade")
    for name in names:
        text = playbook_pages.page(ROOT / "playbooks" / f"{name}.yml", specs)
        (source / f"playbook_{name}.rst").write_text(text, encoding="utf-8")

    sections = yaml.safe_load((ROOT / "docs" / "docsite" / "extra-docs.yml").read_text(encoding="utf-8"))["sections"]
    index = (source / "index.rst").read_text(encoding="utf-8")
    titles = [part["title"] for part in sections]
    (source / "all_plugins.rst").write_text(arrange.plugin_page(index, titles), encoding="utf-8")
    playbooks = [f"Playbook {name} <playbook_{name}>" for name in names]
    reference = ["Role rolling_upgrade <rolling_upgrade_role>", *playbooks, "all_plugins"]
    first = (SITE / "index.rst").read_text(encoding="utf-8")
    (source / "index.rst").write_text(arrange.first_page(first, sections, reference), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
