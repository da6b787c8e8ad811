# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The metrics: names by Prometheus' conventions, nothing unknown as zero, and safe labels."""

from __future__ import annotations

import re

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.metrics import exposition, families
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.fleet.fleet_data import (
    blocked,
    dead,
    report,
    run_over,
    stale,
)

_LINE = re.compile(r'[a-z_]+(\{[a-z_]+="([^"\\\n]|\\.)*"(,[a-z_]+="([^"\\\n]|\\.)*")*\})? -?[0-9.e+-]+')


def test_each_line_is_a_sample_or_a_comment() -> None:
    text = exposition(run_over("abc", {"a": stale(), "b": dead(), "c": blocked()}))
    lines = text.splitlines()
    assert text.endswith("# EOF\n")
    assert not [line for line in lines if not line.startswith("# ") and not _LINE.fullmatch(line)]
    assert 'kube_storage_stale_objects{cluster="a"} 40' in lines
    assert 'kube_storage_stale_resource_objects{cluster="a",resource="things.example.com"} 40' in lines
    assert 'kube_storage_blockers{cluster="c",target="1.37"} 1' in lines
    assert 'kube_storage_cluster_state{cluster="c",state="blocker"} 1' in lines


def test_families_are_together_and_have_help_and_units() -> None:
    lines = exposition(run_over("ab", {"a": stale(), "b": stale()})).splitlines()
    order = [line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")]
    assert order == sorted(order, key=order.index), "each family once"
    for family in families(run_over("a", {})):
        assert family.help.endswith(".") and not re.search(r"_(total|count|sum|bucket)$", family.name)
        assert "timestamp" not in family.name or family.name.endswith("_timestamp_seconds")


def test_what_is_unknown_has_no_sample() -> None:
    text = exposition(run_over("ab", {"a": dead()}))
    assert (
        'kube_storage_cluster_reached{cluster="a"} 0' in text and 'kube_storage_cluster_reached{cluster="b"} 0' in text
    )
    assert "stale_objects" not in text and "api_servers_agree" not in text and "etcd_" not in text


def test_two_clusters_of_one_name_are_kept_apart() -> None:
    reports = {name: report(cluster_name="shop" if name < "c" else "farm") for name in "abc"}
    text = exposition(run_over("abc", reports))
    found = re.findall(r'cluster_reached\{cluster="(\w+)"', text)
    assert found == ["a", "b", "farm"]


def test_names_are_escaped() -> None:
    record = run_over("a", {"a": report()})
    record.clusters[0].host = 'x"\\\n'
    assert 'cluster="x\\"\\\\\\n"' in exposition(record)
