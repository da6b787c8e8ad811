#!/usr/bin/env python3
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs ansible-test's sanity and unit tests over a real copy of the collection, with one ansible-core and Python.

Usage: ansible_test.py PYTHON CORE [ARGUMENT of ansible-test sanity, such as --test validate-modules ...]
       ansible_test.py PYTHON CORE --install       only makes the environment

CORE is a minor release such as 2.19, or newest, as tests/locks pins them. The environment is kept outside the checkout. It is a copy because ansible-test
doesn't follow symbolic links.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.tools import locks
from tests.tools.package import copy
from tests.tools.prepare import cache, kubernetes_core

# Tests and tools are not shipped, and the sanity tests treat some of what they do as an error: programs with a shebang, several
# YAML documents in a file, names such as _. Their gates are ruff and, for the larger ones, mypy. Nothing else is left out.
LOOKED_AT = {"unit"}


def environment(python: str, core: str) -> Path:
    """The folder of an environment with this ansible-core, created if it is missing."""
    version = subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], check=True, capture_output=True, text=True
    ).stdout.strip()
    folder = cache() / "ansible-test" / f"{core}-python-{version}"
    name = f"ansible-core-{core}"
    stamp, wanted = folder / "requirements", locks.path(name).read_text(encoding="utf-8")
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        locks.install(folder / "bin" / "python", name)
        stamp.write_text(wanted, encoding="utf-8")
    return folder


def newest_core() -> Path | None:
    """The programs of the newest ansible-core, where there is a Python for it; ``make newest-core`` installs it."""
    return next((cache() / "ansible-test").glob(f"{locks.NEWEST}-python-*/bin"), None)


def lay_out(folder: Path) -> Path:
    """The copy, where ansible-test wants a collection to be."""
    collections = folder / "ansible_collections"
    shutil.rmtree(collections, ignore_errors=True)
    collection = collections / "kube_storage" / "upgrade"
    copy(collection)
    shutil.copytree(kubernetes_core(), collections / "kubernetes" / "core")
    subprocess.run(["git", "init", "-q", "."], cwd=collection, check=True)
    subprocess.run(["git", "add", "-A"], cwd=collection, check=True)
    return collection


def spare_a_download(folder: Path) -> None:
    """ansible-test fetches this script to put pip into its own environments; Python includes pip anyway."""
    source = next(folder.glob("lib/python*/site-packages/ansible_test/_internal/python_requirements.py"))
    scripts = Path.home() / ".ansible" / "test" / "cache"
    scripts.mkdir(parents=True, exist_ok=True)
    for version in re.findall(r"'(2\d\.[\d.]+)'", source.read_text(encoding="utf-8")):
        script = scripts / f"get_pip_{version.replace('.', '_')}.py"
        script.write_text("import ensurepip; ensurepip.bootstrap()\n", encoding="utf-8")


def main() -> int:
    python, core, *more = sys.argv[1:]
    folder = environment(python, core)
    if more == ["--install"]:
        return 0
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        # A second run, from another checkout, would take this one's copy away.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return run(folder, core, more)


def run(folder: Path, core: str, more: list[str]) -> int:
    """Runs it with these arguments on a copy of the collection; returns its exit code."""
    collection = lay_out(folder)
    spare_a_download(folder)
    program = [str(folder / "bin" / "ansible-test")]
    version = folder.name.rpartition("-")[2]
    common = ["--python", version, "--color", "no"]
    tools = [path for path in (collection / "tests").iterdir() if path.is_dir() and path.name not in LOOKED_AT]
    tools.append(collection / "docs" / "site")
    excluded = [f"--exclude={path.relative_to(collection)}/" for path in sorted(tools)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    # pep8 of the older ones objects to a method without a body on one line (E704), which is how ruff lays out a Protocol.
    skipped = ["--skip-test", "pep8"] if core in ("2.17", "2.18") else []
    for command in (["sanity", *common, *excluded, *skipped, *more], ["units", *common]):
        if command[0] == "units" and more:
            continue
        done = subprocess.run([*program, *command], cwd=collection, env=clean, check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
