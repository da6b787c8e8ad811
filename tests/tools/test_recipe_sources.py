# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 17: which commit of a platform each recipe was read against is in one table, and said elsewhere as it is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "docsite" / "rst"
ROW = re.compile(
    r"(?m)^   \* - `([^<]+?) <https://github\.com/\S+>`__.*\n     - ``([0-9a-f]{7,12})``\n     - (\d{4}-\d\d-\d\d)$"
)
# What a section's heading, or a bold name in the section on others, is called in the table. Providers of managed clusters publish nothing to read.
CALLED = {"RKE2": {"lablabs.rke2", "rancherfederal.rke2"}, "k3s": {"k3s-ansible"}}
NO_SOURCE = {"Managed clusters: one address only", "Others, without a recipe", "Sources"}


def commits() -> dict[str, str]:
    text = (DOCS / "platforms.rst").read_text(encoding="utf-8")
    rows = ROW.findall(text[text.index("\nSources\n") :])
    assert len(rows) == text.count("github.com/", text.index(":header-rows: 1"), text.index("- Kubespray: `its"))
    return {name: commit for name, commit, _date in rows}


def test_each_recipe_has_its_commit() -> None:
    text = (DOCS / "platforms.rst").read_text(encoding="utf-8")
    recipes = set(re.findall(r"(?m)^(.+)\n-{3,}$", text)) - NO_SOURCE
    others = text[text.index("\nOthers, without a recipe\n") : text.index("Managed clusters: one address only")]
    named = recipes | set(re.findall(r"(?m)^- \*\*(.+?)\*\*", others))
    assert {name for section in named for name in CALLED.get(section, {section})} == set(commits())


def test_the_readme_says_each() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    (said,) = re.findall(r"They were read against these commits: (.+?)\. ?(?:<!--|$)", text)
    found = re.findall(r"([\w.-]+(?: API)?) `([0-9a-f]{7,12})`", said)
    assert dict(found) == commits()


def test_no_other_page_says_another() -> None:
    known, openshift = set(commits().values()), ROOT / "tests/control_plane/go/openshift-api/go.mod"
    known.add(openshift.read_text(encoding="utf-8").strip().rpartition("-")[2])
    pages = [*DOCS.glob("*.rst"), ROOT / "README.md", *(ROOT / "roles").rglob("*.md")]
    said = {
        commit
        for page in pages
        for sentence in re.findall(r"\bcommits? [^;\n]+", page.read_text(encoding="utf-8"))
        for commit in re.findall(r"\b(?=[0-9a-f]*\d)[0-9a-f]{7,40}\b", sentence)
    }
    assert len(said) > 3 and said <= known
