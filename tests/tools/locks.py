#!/usr/bin/env python3
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Python environments of tests and tools, each pinned with hashes in tests/locks, so that no release of a tool breaks CI.

Usage: locks.py update    pins the newest releases that LOCKS allows; part of ``make update``
       locks.py check     fails when a lock was not written from what LOCKS says now; part of ``make lint``
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "locks"
NEWEST = "newest"
# What ansible-test runs the unit tests with, beside an ansible-core.
_UNIT = ("h11", "hypothesis", "PyYAML", "pytest", "pytest-mock", "pytest-xdist")


@dataclass(frozen=True)
class Lock:
    """One environment. ``python``: the oldest Python that it must install on."""

    requirements: tuple[str, ...]
    python: str
    options: tuple[str, ...] = ()


def _read(name: str) -> tuple[str, ...]:
    """The requirements in a file, and in those that it includes."""
    found: list[str] = []
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            found += _read(line.removeprefix("-r ").strip())
        elif line and not line.startswith("#"):
            found.append(line)
    return tuple(found)


# What the collection itself needs.
_OURS = _read("requirements.txt")

LOCKS = {
    "dev": Lock(_read("requirements-dev.txt"), "3.11"),
    "ansible-core-2.17": Lock(("ansible-core==2.17.*", *_UNIT), "3.10"),
    "ansible-core-2.18": Lock(("ansible-core==2.18.*", *_UNIT), "3.11"),
    "ansible-core-2.19": Lock(("ansible-core==2.19.*", *_UNIT), "3.11"),
    "ansible-core-2.20": Lock(("ansible-core==2.20.*", *_UNIT), "3.12"),
    f"ansible-core-{NEWEST}": Lock(("ansible-core", *_UNIT), "3.13"),
    "galaxy-importer": Lock(("ansible-core==2.19.*", "galaxy-importer==0.4.*"), "3.11"),
    # An execution node of automation mesh, and the client of its control node; see tests/automation.
    "mesh": Lock(("ansible-core==2.19.*", "ansible-runner==2.*", "receptorctl==1.*", *_OURS), "3.11"),
    "rulebook": Lock(("ansible-core==2.19.*", "ansible-rulebook==1.*", "ansible-runner==2.*", *_OURS), "3.11"),
    # Only for kubernetes.core, which this package contains.
    "ansible": Lock(("ansible==12.*",), "3.11", ("--no-deps",)),
    # Only for axe-core, which this package contains: pip is there wherever the tests run, npm isn't.
    "axe": Lock(("axe-playwright-python",), "3.11", ("--no-deps",)),
    # Beside the ansible-core that dev pins; it has no dependencies.
    "mitogen": Lock(("mitogen==0.3.*",), "3.11", ("--no-deps",)),
}


def path(name: str) -> Path:
    """The lock of this environment."""
    return FOLDER / f"{name}.txt"


def install(python: Path, name: str) -> None:
    """Installs an environment's packages, each held to its hash."""
    subprocess.run([str(python), "-m", "pip", "install", "-q", "--require-hashes", "-r", str(path(name))], check=True)


def pinned(name: str, package: str) -> str:
    """The version that a lock holds a package to."""
    for line in path(name).read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{package}=="):
            return line.removeprefix(f"{package}==").split()[0]
    raise LookupError(f"tests/locks/{name}.txt pins no {package}; run: make update")


def _header(lock: Lock) -> str:
    return f"# Written by make update, for Python {lock.python} and newer, from: {', '.join(lock.requirements)}\n"


def update(names: Sequence[str]) -> None:
    for name in names:
        lock = LOCKS[name]
        command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "-q", "--upgrade", "--generate-hashes"]
        command += ["--universal", "--python-version", lock.python, "--no-annotate", "--no-header"]
        command += ["--python", sys.executable, "--no-python-downloads", "-", *lock.options]
        wanted = "\n".join(lock.requirements)
        done = subprocess.run(command, input=wanted, check=True, stdout=subprocess.PIPE, text=True, cwd=FOLDER)
        path(name).write_text(_header(lock) + done.stdout, encoding="utf-8")


def stale() -> list[str]:
    """Environments whose lock was written from other requirements than they have now."""
    return [
        name
        for name, lock in LOCKS.items()
        if not path(name).exists() or not path(name).read_text(encoding="utf-8").startswith(_header(lock))
    ]


def main() -> int:
    verb, *names = sys.argv[1:]
    if verb == "update":
        update(names or list(LOCKS))
        return 0
    found = stale()
    if found:
        print(f"tests/locks is older than its requirements ({', '.join(found)}); run: make update", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
