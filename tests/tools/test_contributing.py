# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What CONTRIBUTING.md names exists: make targets, files and folders, functions and tables."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

import pytest

from tests.tools.package import own_files

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAP = TEXT[TEXT.index("## The map") : TEXT.index("## Glossary")].split("```")[1]
WORDS = sorted(set(re.findall(r"`([^`\n]+)`", TEXT.replace(MAP, ""))))
# Names that stand for others.
_EXAMPLES = ("_x/y.py", "test_y.py", "module_utils/x/", "<name>", "go-1.37.mod", "vX.Y.Z", ".venv/")
_TARGET = re.compile(r"^make ([\w-]+)", re.MULTILINE)
_PATH = re.compile(r"[\w./-]+(?:\.(?:py|yml|md|rst|json|toml|mod|sum|sh|cfg)|/)")
_NAME = re.compile(r"[A-Za-z_][\w.]*")


FILES = [PurePath(name) for name in own_files()]
PLACES = {f"/{place}" for path in FILES for place in (path, *path.parents)}
SOURCES = "\n".join(
    (ROOT / path).read_text(encoding="utf-8", errors="replace")
    for path in FILES
    if path.parts[0] in ("plugins", "roles", "playbooks", "tests")
    and path.suffix in (".py", ".yml", ".j2", ".md", ".mod")
)


def exists(path: str) -> bool:
    return any(place.endswith(f"/{path.rstrip('/')}") for place in PLACES)


def matching(pattern: re.Pattern[str]) -> list[str]:
    return [word for word in WORDS if pattern.fullmatch(word) and not any(part in word for part in _EXAMPLES)]


def test_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {*_TARGET.findall(TEXT), *(word.split()[1] for word in WORDS if word.startswith("make "))}
    assert len(targets) > 10 and not [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)]


@pytest.mark.parametrize("path", matching(_PATH))
def test_paths(path: str) -> None:
    assert exists(path)


@pytest.mark.parametrize("name", [name for name in matching(_NAME) if not _PATH.fullmatch(name)])
def test_names(name: str) -> None:
    for part in name.split("."):
        assert re.search(rf"\b{re.escape(part)}\b", SOURCES), f"{part} of {name}"


def test_the_map() -> None:
    named = re.findall(r"[\w/]+\.(?:py|md)|\b_\w+/", MAP)
    assert len(named) > 40 and not [path for path in named if not exists(path)]
