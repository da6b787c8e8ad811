# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The releases that the role upgrades to in turn."""

from __future__ import annotations

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.filter.upgrade_way import upgrade_way
from ansible_collections.kube_storage.upgrade.plugins.filter.upgrade_way_refusals import upgrade_way_refusals


def checked(*releases: str, current: str = "1.34", target: str = "1.37", **more: Any) -> dict[str, Any]:
    path = [{"release": release, "migrate_first": [], "unreadable": []} for release in releases]
    return {"error": None, "current_version": current, "target_version": target, "path": path, **more}


WHOLE = checked("1.35", "1.36", "1.37")
UNDONE = {"concerns": [{"check": "outstanding_migration"}]}


def releases(*arguments: Any) -> list[str]:
    return [hop["release"] for hop in upgrade_way(*arguments)]


def test_each_release_in_turn() -> None:
    assert releases(WHOLE, "1.37") == ["1.35", "1.36", "1.37"]
    assert releases(WHOLE, "v1.37.2", ["v1.35.4"]) == ["v1.35.4", "1.36", "v1.37.2"]
    assert {hop["stops_before"] for stop in ("", "trim") for hop in upgrade_way(WHOLE, "1.37", [], stop)} == {""}
    assert upgrade_way_refusals(WHOLE, ["v1.35.4"]) == []


def test_what_was_left_undone_comes_first() -> None:
    undone = checked("1.35", "1.36", **UNDONE)
    assert releases(undone, "1.36", ["v1.34.4"]) == ["v1.34.4", "1.35", "1.36"]
    first = checked("1.35", "1.36")
    first["path"][0]["migrate_first"] = ["things.example.com"]
    assert releases(first, "1.36") == ["1.34", "1.35", "1.36"]
    assert releases(checked(current="1.37"), "v1.37.2") == ["v1.37.2"], "all are there, and may have to be migrated"
    assert upgrade_way_refusals(checked(current="1.37"), []) == []


def test_mixed_masters_resume_at_the_newer_release() -> None:
    """What the newer ones would write differently is nothing to finish at the older release."""
    mixed = checked("1.35", "1.36", running_versions=["1.34", "1.35"], **UNDONE)
    assert releases(mixed, "1.36") == ["1.35", "1.36"]
    assert releases({**mixed, "running_versions": ["1.34"]}, "1.36") == ["1.34", "1.35", "1.36"]


def hop(release: str, stops_before: str = "", emulate: str = "") -> dict[str, str]:
    return {"release": release, "emulate": emulate, "stops_before": stops_before}


def test_each_run_gets_one_release_further() -> None:
    """What the run before left undone comes first, and doesn't stop again."""
    assert upgrade_way(WHOLE, "1.37", [], "migrate") == [hop("1.35", "migrate")]
    then = upgrade_way(checked("1.36", "1.37", current="1.35", **UNDONE), "1.37", [], "migrate")
    assert then == [hop("1.35"), hop("1.36", "migrate")]
    last = upgrade_way(checked(current="1.37", **UNDONE), "v1.37.2", [], "migrate")
    assert last == [hop("v1.37.2")]


def test_each_release_in_two_steps() -> None:
    """A run makes the second step to one release, and the first step to the next."""
    first = upgrade_way(WHOLE, "1.37", ["v1.35.4"], "finalize")
    assert first == [hop("v1.35.4", "finalize", "1.34")]
    emulating = checked("1.35", "1.36", "1.37", running_versions=["1.34"], binary_versions=["1.35"])
    assert upgrade_way(emulating, "1.37", ["v1.35.4"], "finalize") == [hop("v1.35.4"), hop("1.36", "finalize", "1.35")]
    # Whoever doesn't stop anymore goes on to the end.
    assert upgrade_way(emulating, "1.37", []) == [hop("1.35"), hop("1.36"), hop("1.37")]
    last = checked("1.37", current="1.36", running_versions=["1.36"], binary_versions=["1.37"])
    assert upgrade_way(last, "v1.37.2", [], "finalize") == [hop("v1.37.2")]
    there = checked(current="1.37", running_versions=["1.37"], binary_versions=["1.37"])
    assert upgrade_way(there, "1.37", [], "finalize") == [hop("1.37")]


def test_a_step_that_was_interrupted_is_finished_as_it_was_begun() -> None:
    first = checked("1.35", "1.36", running_versions=["1.34"], binary_versions=["1.34", "1.35"])
    assert upgrade_way(first, "1.36", [], "finalize") == [hop("1.35", "finalize", "1.34")]
    second = checked("1.35", "1.36", running_versions=["1.34", "1.35"], binary_versions=["1.35"])
    assert upgrade_way(second, "1.36", [], "finalize") == [hop("1.35"), hop("1.36", "finalize", "1.35")]


def test_what_must_be_migrated_first_is_while_the_older_release_is_emulated() -> None:
    emulating = checked("1.35", "1.36", running_versions=["1.34"], binary_versions=["1.35"], **UNDONE)
    assert upgrade_way(emulating, "1.36", ["v1.34.4"]) == [hop("1.35", "", "1.34"), hop("1.35"), hop("1.36")]


def test_what_does_not_lead_there_is_refused() -> None:
    (back,) = upgrade_way_refusals(checked(current="1.37", target="v1.36.5"), [])
    assert "v1.36.5 is not newer than 1.37" in back
    (beside,) = upgrade_way_refusals(WHOLE, ["v1.33.1", "1.36"])
    assert "names v1.33.1, which" in beside
    blocked = checked("1.35", "1.36", target="1.36")
    blocked["path"][1]["unreadable"] = ["workloads.scheduling.k8s.io"]
    (unreadable,) = upgrade_way_refusals(blocked, [])
    assert unreadable.startswith("Kubernetes 1.36 can't read workloads.scheduling.k8s.io")
    assert upgrade_way_refusals({"error": "unreachable", "msg": "No answer."}, []) == ["No answer."]
