# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The releases on the way to a target, and what must be migrated at which of them."""

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.hops import Hop, hops
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.stored import StoredVersion
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import UpgradePath
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import Releases

RELEASES = Releases()
SCALERS, WORKLOADS = "horizontalpodautoscalers.autoscaling", "workloads.scheduling.k8s.io"


def held(resource: str, kind: str, version: str, objects: int | None = 1) -> StoredVersion:
    return StoredVersion(resource, kind, version, objects, None, "etcd", True, None, None)


def on_the_way(current: str, target: str, *stored: StoredVersion) -> list[Hop]:
    return hops(UpgradePath(current, target), RELEASES, stored)


def test_an_old_version_must_be_migrated_before_the_release_that_can_not_read_it() -> None:
    """autoscaling/v2beta2 is unreadable from 1.36 on."""
    found = on_the_way("1.34", "1.37", held(SCALERS, "HorizontalPodAutoscaler", "autoscaling/v2beta2"))
    assert [(hop.release, hop.must_migrate, hop.unreadable) for hop in found] == [
        ("1.35", (SCALERS,), ()),
        ("1.36", (), ()),
        ("1.37", (), ()),
    ]


def test_what_the_next_release_can_not_read_must_be_migrated_first() -> None:
    """1.35 writes autoscaling/v2."""
    found = on_the_way("1.35", "1.37", held(SCALERS, "HorizontalPodAutoscaler", "autoscaling/v2beta2"))
    assert [(hop.migrate_first, hop.unreadable, hop.must_migrate) for hop in found] == [
        ((SCALERS,), (), ()),
        ((), (), ()),
    ]


def test_what_no_migration_helps_is_unreadable_at_its_release() -> None:
    """1.36 can't read what 1.35 writes: the alpha version was replaced."""
    found = on_the_way("1.35", "1.36", held(WORKLOADS, "Workload", "scheduling.k8s.io/v1alpha1"))
    assert [hop.unreadable for hop in found] == [(WORKLOADS,)]
    assert on_the_way("1.35", "1.36", held(WORKLOADS, "Workload", "scheduling.k8s.io/v1alpha1", 0))[0].unreadable == ()


def test_changes_are_those_of_what_is_stored() -> None:
    name = "mutatingadmissionpolicies.admissionregistration.k8s.io"
    group = "admissionregistration.k8s.io"
    found = on_the_way("1.34", "1.37", held(name, "MutatingAdmissionPolicy", f"{group}/v1alpha1", None))
    assert [hop.changes for hop in found] == [
        {name: (f"{group}/v1alpha1", f"{group}/v1beta1")},
        {},
        {name: (f"{group}/v1beta1", f"{group}/v1")},
    ]


def test_there_is_no_way_to_an_older_release_or_another_major_one() -> None:
    assert on_the_way("1.37", "1.36") == on_the_way("1.37", "2.1") == on_the_way("1.37", "1.37") == []
    assert [hop.release for hop in on_the_way("1.36", "1.39")] == ["1.37", "1.38", "1.39"], "beyond the data, too"
