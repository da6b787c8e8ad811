# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the migration after the upgrade has to do."""

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check import crds, plan
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import UpgradePath
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.upgrade_check.builders import (
    AUTOSCALERS,
    RELEASES,
    SERVED,
    WIDGETS,
    crd,
    served,
)


def test_the_plan() -> None:
    thing = served("things.new.k8s.io", "Thing", "v1", stored_as="v1beta1")
    everything = {**SERVED, thing.name: thing}
    counts: dict[str, int | None] = {thing.name: 20, "secrets": 5, AUTOSCALERS: 0, WIDGETS: 10}
    new = crds.definition_of(crd("v2", "v1", "v2"))
    sizes = {thing.name: 2000}
    made = plan.plan_requests(everything, (), UpgradePath("1.36", "1.37"), RELEASES, [new], counts, sizes, 10.0)
    assert made["changes"] == [
        {
            "resource": "things.new.k8s.io",
            "from": "new.k8s.io/v1beta1",
            "to": "new.k8s.io/v1",
            "objects": 20,
            "bytes": 2000,
            "seconds": 2.0,
        },
        {
            "resource": WIDGETS,
            "from": "example.com/v1",
            "to": "example.com/v2",
            "objects": 10,
            "bytes": 0,
            "seconds": 1.0,
        },
    ]
    assert made["all"] == {"objects": 35, "bytes": 2000, "seconds": 3.5}
    blind = plan.plan_requests(
        everything, (), UpgradePath("1.36", "1.37"), RELEASES, [], {**counts, "secrets": None}, None, None
    )
    assert blind["all"] == {"objects": None, "bytes": None, "seconds": None}
