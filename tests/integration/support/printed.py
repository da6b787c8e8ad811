# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the documentation prints to be copied: its blocks of code, as a reader would copy them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .modules import ROOT


@dataclass(frozen=True)
class Block:
    text: Path
    number: int
    language: str
    content: str

    def __str__(self) -> str:
        return f"{self.text.relative_to(ROOT)}-{self.number}"


def blocks(text: Path) -> Iterator[Block]:
    source = text.read_text(encoding="utf-8")
    if text.suffix == ".md":
        found = re.findall(r"^```(\w+)\n(.*?)^```", source, re.DOTALL | re.MULTILINE)
    else:
        directive = r"^(?P<in> *)\.\. code-block:: (?P<language>\w+)\n\n(?P<content>(?:(?P=in)    .*\n|\n)+)"
        found = [(match["language"], match["content"]) for match in re.finditer(directive, source, re.MULTILINE)]
    for number, (language, content) in enumerate(found, 1):
        yield Block(text, number, language, textwrap.dedent(content))
