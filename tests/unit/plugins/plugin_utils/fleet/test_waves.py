# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waves by number, share and group; each cluster has exactly one turn."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.waves import planned_waves
from hypothesis import given
from hypothesis import strategies as st

GROUPS = {"all": ["a", "b", "c", "d", "e"], "eu": ["d", "a"], "gone": []}


def waves(*wanted: Any, clusters: str = "abcde") -> list[tuple[str, str]]:
    return [(wave.name, "".join(wave.clusters)) for wave in planned_waves(list(clusters), wanted, GROUPS)]


def test_without_any_all_are_one_wave() -> None:
    assert waves() == [("all", "abcde")]


def test_a_canary_then_shares_of_all_then_the_rest() -> None:
    assert waves(1, "40%") == [("1", "a"), ("40%", "bc"), ("the rest", "de")]
    assert waves("c", "100%") == [("c", "c"), ("100%", "abde")]


def test_groups_keep_the_order_of_the_play() -> None:
    assert waves("eu", "eu", "gone") == [("eu", "ad"), ("eu", ""), ("gone", ""), ("the rest", "bce")]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("asia", "neither a group nor a host"),
        ("0%", "not a share"),
        ("101%", "not a share"),
        (0, "at least 1"),
        (True, "neither"),
    ],
)
def test_what_is_not_a_wave_is_refused(wanted: Any, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        waves(wanted)


@given(st.lists(st.sampled_from([1, 2, "10%", "55%", "eu", "gone", "c"]), max_size=6))
def test_each_cluster_has_one_turn(wanted: list[Any]) -> None:
    found = "".join(clusters for _name, clusters in waves(*wanted))
    assert sorted(found) == list("abcde")
