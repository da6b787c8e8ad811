# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guide's recipes, verbatim."""

from __future__ import annotations

import re
import textwrap

from .modules import ROOT

GUIDE = ROOT / "docs" / "docsite" / "rst" / "platforms.rst"


def recipe(title: str) -> list[str]:
    """The YAML blocks below a heading of the guide."""
    whole = GUIDE.read_text(encoding="utf-8")
    start = re.search(rf"^{title}.*\n-+\n", whole, re.MULTILINE)
    assert start, f"the guide has no heading {title}"
    section = re.split(r"^-{3,}$", whole[start.end() :], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"^\.\. code-block:: yaml\n\n((?:    .*\n|\n)+)", section, re.MULTILINE)
    return [textwrap.dedent(block) for block in found]
