# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the checks may conclude from what etcd holds of a custom resource."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Tally, Variant
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.crds import StoredObjects
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.observed import ObservedCluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import UpgradePath
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.upgrade_check.builders import (
    SERVED,
    WIDGETS,
    held,
)

SCANNED = held(
    **{
        WIDGETS: {
            Variant("example.com/v1", "json"): Tally(objects=2),
            Variant("example.com/v1beta1", "json"): Tally(objects=1),
            Variant(None, None, "aescbc", "v1", "key1"): Tally(objects=7),
        }
    }
)
CLUSTER = ObservedCluster(
    server=cast(Any, None),
    servers=(),
    seen=Observation(()),
    path=UpgradePath("1.36", "1.37"),
    served=SERVED,
    state=State(),
    scanned=SCANNED,
)


def test_objects_by_version_and_those_that_encryption_hides() -> None:
    assert CLUSTER.held(WIDGETS) == StoredObjects({"v1": 2, "v1beta1": 1}, hidden=7)
    assert replace(CLUSTER, scanned=None).held(WIDGETS) is None


def test_they_may_not_be_all() -> None:
    for doubtful in (
        replace(CLUSTER, served={}),
        replace(CLUSTER, in_doubt={WIDGETS: SERVED[WIDGETS]}),
        replace(CLUSTER, uncounted=frozenset({WIDGETS})),
    ):
        found = doubtful.held(WIDGETS)
        assert found is not None and not found.complete and found.versions["v1beta1"] == 1
