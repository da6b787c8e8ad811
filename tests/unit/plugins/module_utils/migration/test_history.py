# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.history import Count, History


def test_only_what_moved_is_kept() -> None:
    history = History(1.0)
    history.add(0.5, {"a": Count(0, 0), "b": Count(3, 1)})
    history.add(1.0, {"a": Count(0, 0), "b": Count(3, 1)})
    history.add(1.5, {"a": Count(2, 0), "b": Count(3, 1)})
    assert history.as_dict()["samples"] == [
        {"seconds": 0.5, "resources": {"b": {"visited": 3, "rewritten": 1}}},
        {"seconds": 1.5, "resources": {"a": {"visited": 2, "rewritten": 0}}},
    ]


def test_size_is_bounded_and_the_last_counts_stay_correct() -> None:
    history = History(0.25)
    for number in range(1, 5001):
        counts = {"big": Count(number, number)}
        if number >= 777:
            counts["small"] = Count(7, 5)
        history.add(float(number), counts)
    samples = history.as_dict()["samples"]
    assert len(samples) <= 201
    assert history.every > 0.25
    assert samples[-1] == {"seconds": 5000.0, "resources": {"big": {"visited": 5000, "rewritten": 5000}}}
    small = [sample for sample in samples if "small" in sample["resources"]]
    assert len(small) == 1 and small[0]["seconds"] >= 777, "what moved once was lost or told twice"
    seconds = [sample["seconds"] for sample in samples]
    assert seconds == sorted(seconds)
