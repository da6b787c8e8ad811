# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.kube_storage.upgrade.plugins.filter.table import table
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._table import fold


def test_columns_are_aligned_and_numbers_to_the_right() -> None:
    rows = [
        {"resource": "secrets", "objects": 7, "stale": ["version", "encoding"], "ready": True},
        {"resource": "deployments.apps", "objects": None, "stale": [], "ready": False},
    ]
    assert table(rows, ["resource", "objects", "stale", "ready"]) == [
        "Resource          Objects  Stale              Ready",
        "----------------  -------  -----------------  -----",
        "secrets                 7  version, encoding  yes",
        "deployments.apps        -  -                  no",
    ]


def test_your_own_titles() -> None:
    assert table([{"from": "v1"}], {"Now": "from"})[0] == "Now"


@pytest.mark.parametrize("width", [40, 60, 200])
def test_long_texts_are_wrapped_in_their_column(width: int) -> None:
    row = {"name": "a-name-of-its-own", "what": "some words " * 20, "remediation": "other words " * 10}
    lines = table([row], ["name", "what", "remediation"], width)
    assert max(len(line) for line in lines) <= width
    start = lines[0].index("What")
    assert all(line[start - 2 : start].strip() == "" for line in lines)
    assert " ".join(lines).count("some") == 20


def test_rows_that_do_not_fit_become_blocks() -> None:
    """Issue 15, number 10: no word is broken at 80 columns."""
    name = "mutatingadmissionpolicybindings.admissionregistration.k8s.io"
    rows = [
        {"resource": name, "from": "v1beta1", "to": "v1", "bytes": None, "who": "word " * 20},
        {"resource": "secrets"},
    ]
    lines = table(rows, {"Resource": "resource", "From": "from", "To": "to", "Bytes": "bytes", "Who": "who"}, 70)
    assert lines[:2] == [name, "  From: v1beta1, To: v1"] and lines[-1] == "secrets"
    assert max(len(line) for line in lines) <= 70 and " ".join(lines).count("word") == 20


def test_lines_are_folded_between_words() -> None:
    lines = fold(["  Why: " + "word " * 20, "", "    ansible localhost -m a-command-to-copy " + "x " * 40], 40)
    assert (
        all(len(line) <= 40 for line in lines[:-1])
        and lines[1].startswith("  word")
        and lines[-1].startswith("    ansible")
    )


def test_nothing_and_nonsense() -> None:
    assert table([], ["name"]) == []
    for rows, columns in (("text", ["a"]), ([1], ["a"]), ([{}], "a"), ([{}], [])):
        with pytest.raises(AnsibleFilterError, match="table: "):
            table(rows, columns)  # type: ignore[arg-type]
