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


def test_each_release_in_turn() -> None:
    assert upgrade_way(WHOLE, "1.37") == ["1.35", "1.36", "1.37"]
    assert upgrade_way(WHOLE, "v1.37.2", ["v1.35.4"]) == ["v1.35.4", "1.36", "v1.37.2"]
    assert upgrade_way_refusals(WHOLE, ["v1.35.4"]) == []


def test_what_was_left_undone_comes_first() -> None:
    undone = checked("1.35", "1.36", concerns=[{"check": "outstanding_migration"}])
    assert upgrade_way(undone, "1.36", ["v1.34.4"]) == ["v1.34.4", "1.35", "1.36"]
    first = checked("1.35", "1.36")
    first["path"][0]["migrate_first"] = ["things.example.com"]
    assert upgrade_way(first, "1.36") == ["1.34", "1.35", "1.36"]
    assert upgrade_way(checked(current="1.37"), "v1.37.2") == ["v1.37.2"], "all are there, and may have to be migrated"
    assert upgrade_way_refusals(checked(current="1.37"), []) == []


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
