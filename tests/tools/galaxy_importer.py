#!/usr/bin/env python3
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shows the tarball to Galaxy's own importer, and fails on any warning.

The importer lives in an environment of its own, kept outside the checkout. kubernetes.core is put beside it, because our
modules share its documentation of the auth options. Its container runs nothing but ansible-test sanity, which ``make sanity``
does without one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.tools import locks
from tests.tools.package import build
from tests.tools.prepare import cache, kubernetes_core


def importer() -> Path:
    """The environment's folder of programs, created if it is missing."""
    folder = cache() / "galaxy-importer"
    stamp = folder / "requirements"
    wanted = locks.path("galaxy-importer").read_text(encoding="utf-8")
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        venv.create(folder, with_pip=True, clear=True)
        locks.install(folder / "bin" / "python", "galaxy-importer")
        packages = next((folder / "lib").glob("python*/site-packages"))
        (packages / "ansible_collections" / "kubernetes").mkdir(parents=True)
        (packages / "ansible_collections" / "kubernetes" / "core").symlink_to(kubernetes_core())
        stamp.write_text(wanted, encoding="utf-8")
    return folder / "bin"


def main() -> int:
    programs = importer()
    with tempfile.TemporaryDirectory() as temporary:
        tarball = build(Path(temporary))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        environment["PATH"] = f"{programs}:{environment['PATH']}"
        done = subprocess.run(
            [str(programs / "python"), "-m", "galaxy_importer.main", str(tarball)],
            cwd=temporary,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    findings = [line for line in done.stdout.splitlines() if line.startswith(("WARNING", "ERROR"))]
    if done.returncode or findings or "completed successfully" not in done.stdout:
        print(done.stdout)
        print("galaxy-importer is not content: " + ("; ".join(findings) or "it did not finish"), file=sys.stderr)
        return 1
    print("galaxy-importer: no warnings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
