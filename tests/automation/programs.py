# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs of automation mesh and of Event-Driven Ansible, in Python environments of their own."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.control_plane.build import cache_root
from tests.tools import locks


def installed(lock: str) -> Path:
    """The folder with the programs of an environment in tests/locks; makes it if that was not done before."""
    key = hashlib.sha256(locks.path(lock).read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache_root() / "python" / f"{lock}-{key}"
    programs, complete = folder / "bin", folder / "complete"
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        locks.install(programs / "python", lock)
        complete.touch()
    return programs
