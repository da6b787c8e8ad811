# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifests that can't be applied again after the upgrade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.applied import (
    evaluate_applied,
    last_applied_as,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import UpgradePath
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import Releases
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.upgrade_check.builders import (
    AUTOSCALERS,
    RELEASES,
    SERVED,
    WIDGETS,
    served,
)

THINGS = "things.new.k8s.io"
RESOURCES = {**SERVED, THINGS: served(THINGS, "Thing", "v1", "v1beta1", stored_as="v1")}
REMOVING = replace(
    RELEASES, removed={"new.k8s.io/Thing": {"v1beta1": "1.37"}, "autoscaling/HorizontalPodAutoscaler": {"v1": "1.30"}}
)


def found(current: str, target: str, applied: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str]]:
    findings = evaluate_applied(applied, RESOURCES, REMOVING, UpgradePath(current, target))
    return [(finding.id, finding.what) for finding in findings if not finding.blocks]


def test_only_the_version_is_read() -> None:
    manifest = '{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"hunter2"}}\n'
    assert last_applied_as({"annotations": {"kubectl.kubernetes.io/last-applied-configuration": manifest}}) == "apps/v1"
    for given in (None, {}, {"kubectl.kubernetes.io/last-applied-configuration": 'hunter2 {"apiVersion":"v1"'}):
        assert last_applied_as({"annotations": given}) is None


def test_a_version_that_the_target_removes() -> None:
    ((name, what),) = found("1.36", "1.37", {THINGS: {"new.k8s.io/v1beta1": 3, "new.k8s.io/v1": 9}})
    assert name == f"last_applied/{THINGS}"
    assert what == (
        "3 objects were last applied by kubectl from a manifest with apiVersion new.k8s.io/v1beta1, which 1.37 does not serve."
    )


@pytest.mark.parametrize(
    ("current", "target", "applied"),
    [
        ("1.35", "1.36", {THINGS: {"new.k8s.io/v1beta1": 3}}),
        ("1.37", "1.36", {THINGS: {"new.k8s.io/v1beta1": 3}}),
        ("1.37", "1.37", {THINGS: {"new.k8s.io/v1beta1": 3}}),
        # Not served now either, so nobody has applied it for long; nor has it anything to do with the resource.
        ("1.36", "1.37", {THINGS: {"new.k8s.io/v1alpha1": 1, "other/v1beta1": 1, "v1beta1": 1}}),
        # Served although the data say it was removed long ago: they may be wrong, but not about this upgrade.
        ("1.36", "1.37", {AUTOSCALERS: {"autoscaling/v1": 1}}),
        ("1.36", "1.37", {WIDGETS: {"example.com/v1": 1}}),
    ],
)
def test_nothing_to_say(current: str, target: str, applied: Mapping[str, Mapping[str, int]]) -> None:
    assert found(current, target, applied) == []


def test_the_data_know_what_releases_say_themselves() -> None:
    releases = Releases()
    assert releases.no_longer_served("networking.k8s.io/v1beta1", "ServiceCIDR", "1.36", "1.37") == "1.37"
    assert releases.no_longer_served("networking.k8s.io/v1beta1", "ServiceCIDR", "1.35", "1.36") is None
    assert releases.no_longer_served("autoscaling/v2beta2", "HorizontalPodAutoscaler", "1.35", "1.37") == "1.36"
    assert releases.no_longer_served("example.com/v1", "Widget", "1.30", "1.37") is None
