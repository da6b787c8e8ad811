#!/usr/bin/env python3
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes the checkout importable as a collection, beside kubernetes.core.

kubernetes.core is taken out of the PyPI package ``ansible``, which contains it, and is kept outside the checkout; so are axe-core, which the
tests run in a browser, and Mitogen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.tools import locks

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / ".ansible" / "collections" / "ansible_collections"
NEEDED = "ansible_collections/kubernetes/core/"


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "kube-storage-upgrade"


def kubernetes_core() -> Path:
    """The unpacked collection, from the cache if it is there."""
    return _unpacked("collections", "ansible", "ansible", NEEDED) / NEEDED


def axe_core() -> str:
    """axe-core's source, from the cache if it is there: a script that finds what keeps people from reading a page."""
    member = "axe_playwright_python/axe.min.js"
    return (_unpacked("axe-core", "axe", "axe-playwright-python", member) / member).read_text(encoding="utf-8")


def mitogen() -> Path:
    """The folder with Mitogen's Python packages, from the cache if it is there."""
    return _unpacked("mitogen", "mitogen", "mitogen", "")


def _unpacked(name: str, lock: str, package: str, wanted: str) -> Path:
    """The folder ``name`` of the cache, with the files of a locked package whose path begins with ``wanted``."""
    folder = cache() / f"{name}-{locks.pinned(lock, package)}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes", "-d", temporary]
            subprocess.run([*command, "-r", str(locks.path(lock))], check=True)
            wheel = next(Path(temporary).glob("*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(Path(temporary) / "new", [n for n in archive.namelist() if n.startswith(wanted)])
            os.replace(Path(temporary) / "new", folder)
    return folder


def main() -> None:
    own, core = COLLECTIONS / "kube_storage" / "upgrade", COLLECTIONS / "kubernetes" / "core"
    for link, target in ((own, ROOT), (core, kubernetes_core())):
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink() or link.is_file():
            link.unlink()
        elif link.exists():
            shutil.rmtree(link)
        link.symlink_to(target)


if __name__ == "__main__":
    main()
