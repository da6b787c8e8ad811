#!/usr/bin/env python3
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds the site into build/docs/html: the reference from the plugins and roles, and the guides. Any warning is an error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

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
        # antsibull-docs copies the guides' texts, but not their pictures.
        shutil.copytree(ROOT / "docs" / "docsite" / "images", source / "docsite" / "images", dirs_exist_ok=True)
    print(f"Open {BUILD / 'html' / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
