#!/usr/bin/env python3
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes the tarball that Galaxy would get, from what git tracks, so that nothing from this machine gets in.

Usage: package.py FOLDER
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def own_files(root: Path = ROOT) -> list[str]:
    """Those of a checkout that git doesn't ignore, relative to it; also deleted ones, until that is committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    return list(filter(None, listed.stdout.split("\0")))


def copy(target: Path) -> None:
    """Copies the checkout's files, without what git ignores."""
    for name in own_files():
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def build(folder: Path) -> Path:
    """The tarball, in this folder."""
    with tempfile.TemporaryDirectory() as temporary:
        copy(Path(temporary))
        program = Path(sys.executable).with_name("ansible-galaxy")
        command = [str(program), "collection", "build", "--force", "--output-path", str(folder.resolve())]
        done = subprocess.run(
            command,
            cwd=temporary,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return Path(done.stdout.split()[-1])


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
