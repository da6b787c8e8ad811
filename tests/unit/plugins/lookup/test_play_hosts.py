# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible import constants
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible_collections.kube_storage.upgrade.plugins.lookup.play_hosts import LookupModule

INVENTORY = {"all": ["master-1", "master-2", "worker"], "masters": ["master-1", "master-2"], "ungrouped": ["worker"]}
NO_INVENTORY: dict[str, list[str]] = {"all": [], "ungrouped": []}


@pytest.fixture(autouse=True)
def ansible_s_own_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of whoever runs the tests: ansible-test makes a pattern without hosts an error."""
    monkeypatch.setattr(constants, "HOST_PATTERN_MISMATCH", "warning")


def looked_up(*terms: Any, groups: dict[str, list[str]]) -> Any:
    return LookupModule(loader=DataLoader()).run(list(terms), variables={"groups": groups})


@pytest.mark.parametrize(
    "pattern", ["masters", "all", "worker", "masters:!master-1", "nobody,worker", "master-*", "localhost", "~w.*r"]
)
def test_a_pattern_that_matches_is_returned_as_it_is(pattern: str) -> None:
    assert looked_up(pattern, groups=INVENTORY) == [pattern]


def test_one_of_several_patterns_has_to_match() -> None:
    assert looked_up(["nobody", "masters:!master-1"], groups=INVENTORY) == ["nobody", "masters:!master-1"]


@pytest.mark.parametrize(
    ("pattern", "shown"),
    [
        ("masers", "masers"),
        ("masters:!masters", "masters:!masters"),
        (["masers", "x"], "masers,x"),
        ([], ""),
        ("", ""),
        (None, ""),
        (["masers", None], "masers"),
        (5, "5"),
    ],
)
def test_a_pattern_that_matches_no_host_is_refused(pattern: Any, shown: str) -> None:
    with pytest.raises(AnsibleError, match="name the hosts or their group with -e rolling_upgrade_hosts=NAME") as error:
        looked_up(pattern, groups=INVENTORY)
    assert f"No host of the inventory matches '{shown}', so there is nothing to do;" in str(error.value)


@pytest.mark.parametrize(
    ("pattern", "shown"), [("masers", "masers"), ("nobody,worker", "nobody"), (["worker", "a:!b"], "a,!b")]
)
def test_where_each_pattern_has_to_match_those_that_do_not_are_named(
    pattern: Any, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HOST_PATTERN_MISMATCH", "error")
    with pytest.raises(AnsibleError, match=f"No host of the inventory matches '{shown}', so there is nothing to do;"):
        looked_up(pattern, groups=INVENTORY)
    assert looked_up(["worker", "masters:!master-1"], groups=INVENTORY) == ["worker", "masters:!master-1"]


def test_without_an_inventory_every_pattern_is_accepted() -> None:
    """As in a syntax check, and so in ansible-lint, of a playbook that imports one of the collection's."""
    assert looked_up("kube_control_plane", groups=NO_INVENTORY) == ["kube_control_plane"]
