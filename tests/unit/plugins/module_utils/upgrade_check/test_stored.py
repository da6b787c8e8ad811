# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is stored, compared with what releases can read."""

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Tally, Variant
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import ResourceState, State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check import stored
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import UpgradePath
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import storage_version_hash
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.upgrade_check.builders import (
    AUTOSCALERS,
    RELEASES,
    SERVED,
    held,
    served,
)


def test_what_etcd_holds_decides() -> None:
    old = Tally(kind="HorizontalPodAutoscaler", objects=3, bytes=99, samples=["/registry/h/a"])
    scanned = held(**{AUTOSCALERS: {Variant("autoscaling/v2beta2", "protobuf"): old}})
    upgrade_path = UpgradePath("1.35", "1.37")
    found, unknown = stored.stored_in_etcd(scanned, SERVED, RELEASES, upgrade_path)
    assert unknown == []
    (blocker,) = stored.evaluate_stored(found, upgrade_path, {})
    assert (blocker.id, blocker.blocks, blocker.keys) == (f"undecodable/{AUTOSCALERS}", True, ("/registry/h/a",))
    assert "Kubernetes 1.36 can't decode" in blocker.why
    assert stored.safe_up_to(found, RELEASES) == ("1.35", [AUTOSCALERS])
    near = UpgradePath("1.34", "1.35")
    found, _unknown = stored.stored_in_etcd(scanned, SERVED, RELEASES, near)
    assert stored.evaluate_stored(found, near, {}) == []


def test_hidden_versions_are_in_doubt_only_if_one_could_not_be_read() -> None:
    sealed = {Variant(None, None, "aescbc", "v1", "key1"): Tally(objects=5)}
    upgrade_path = UpgradePath("1.35", "1.37")
    _found, unknown = stored.stored_in_etcd(held(secrets=sealed), SERVED, RELEASES, upgrade_path)
    assert unknown == []
    found, unknown = stored.stored_in_etcd(held(**{AUTOSCALERS: sealed}), SERVED, RELEASES, upgrade_path)
    assert len(unknown) == 1 and "5 objects" in unknown[0] and "autoscaling/v2beta2" in unknown[0]
    assert stored.evaluate_stored(found, upgrade_path, {}) == []


def test_without_etcd_the_record_and_the_hashes_count() -> None:
    upgrade_path = UpgradePath("1.35", "1.37")
    _found, unknown = stored.stored_on_record(SERVED, State(), RELEASES, upgrade_path, (), {})
    assert len(unknown) == 1 and AUTOSCALERS in unknown[0] and "secrets" not in unknown[0]
    assert stored.stored_on_record(SERVED, State(), RELEASES, upgrade_path, (), {AUTOSCALERS: 0})[1] == []
    old = storage_version_hash("autoscaling", "v2beta2", "HorizontalPodAutoscaler")
    state = State("2026-01-01", resources={AUTOSCALERS: ResourceState(persisted=(old,))})
    found, unknown = stored.stored_on_record(SERVED, state, RELEASES, upgrade_path, (), {})
    assert unknown == []
    assert [finding.id for finding in stored.evaluate_stored(found, upgrade_path, {})] == [f"undecodable/{AUTOSCALERS}"]
    assert stored.evaluate_stored(found, upgrade_path, {AUTOSCALERS: 0}) == [], "nothing is stored of it"


def test_the_way_back() -> None:
    upgrade_path = UpgradePath("1.37", "1.35")
    thing = {"things.new.k8s.io": served("things.new.k8s.io", "Thing", "v1", stored_as="v1")}
    found, _unknown = stored.stored_on_record(thing, State(), RELEASES, upgrade_path, (), {})
    (blocker,) = stored.evaluate_stored(found, upgrade_path, {"things.new.k8s.io": 1})
    assert blocker.check == "rollback" and "1.35 is older" in blocker.why
