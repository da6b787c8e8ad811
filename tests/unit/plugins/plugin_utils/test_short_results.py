# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long results are shortened. Integration tests show that they are short in real runs, and whole where something reads them."""

from __future__ import annotations

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._short_results import HASHES, MIGRATION, shorten


def migration(resources: int) -> dict[str, Any]:
    row = {"rewritten": 1, "unchanged": 2, "failed": 0, "storage_version": "example.com/v1"}
    return {
        "changed": True,
        "msg": "Done.",
        "totals": {"rewritten": resources},
        "warnings": ["It is late."],
        "resources": {f"r{number:02d}.example.com": dict(row) for number in range(resources)},
        "failures": [],
        "untrimmed": [{"crd": "r00.example.com", "reason": "it was edited meanwhile"}],
    }


def test_the_size_of_etcd_is_one_line() -> None:
    space = {"before": [{"size": 26 << 20}], "after": [{"size": 47 << 20, "defragmentation_frees": 20 << 20}]}
    assert shorten({**migration(1), "etcd_space": space}, MIGRATION)["summary"][-1] == (
        "etcd's database: 26.0 MiB before, 47.0 MiB after; a defragmentation would free 20.0 MiB."
    )


def test_long_output_is_shortened_and_says_so() -> None:
    found = shorten(migration(40), MIGRATION)
    assert {"changed", "msg", "totals", "warnings"} < set(found) and not {"resources", "failures"} & set(found)
    assert len(found["summary"]) < 25 and "and 25 more" in found["summary"]
    assert found["summary"][3].split() == ["r00.example.com", "1", "2", "0", "v1"]
    assert found["summary"][-1] == "- r00.example.com: it was edited meanwhile"
    assert found["left_out"].startswith("resources, failures, untrimmed; run with -v")


def test_a_result_without_details_is_left_alone() -> None:
    refused = {"failed": True, "msg": "resources names nothing that is stored: secretz.", "error": "bad_input"}
    assert shorten(dict(refused), MIGRATION) == refused


def test_unknown_counts_are_reported_and_not_dropped() -> None:
    result = migration(1)
    result["resources"]["r00.example.com"]["rewritten"] = None
    row = shorten(result, MIGRATION)["summary"][3]
    assert row.split() == ["r00.example.com", "-", "2", "0", "v1"]


def test_only_a_failure_is_spread_over_lines_by_the_callback_for_playbooks() -> None:
    assert "_ansible_verbose_always" not in shorten({"servers": [], "baseline_found": True}, HASHES)
    assert shorten({"servers": [], "failed": True}, HASHES)["_ansible_verbose_always"] is True


def test_the_pace_is_one_line() -> None:
    server = {"in_flight": 3.4}
    latency = {"p50": 5.1, "p90": 8.0, "p99": 18.0}
    pace = {"impact": "normal", "latency_ms": latency, "servers": [server, {"in_flight": None}, {"in_flight": 2.0}]}
    assert shorten({**migration(1), "pace": pace}, MIGRATION)["summary"][-1] == (
        "Impact normal: half of the writes took at most 5.1 ms, 99 of 100 at most 18 ms, with 3.4, 2 in flight to each API server."
    )
    nothing = {**pace, "latency_ms": {"p50": None, "p90": None, "p99": None}}
    assert "Impact" not in shorten({**migration(1), "pace": nothing}, MIGRATION)["summary"][-1]
