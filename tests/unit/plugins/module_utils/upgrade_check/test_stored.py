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
    whole = stored.stored_in_etcd(scanned, SERVED, RELEASES, upgrade_path)
    assert whole.unknown == []
    (blocker,) = stored.evaluate_stored(whole.versions, upgrade_path, {})
    assert (blocker.id, blocker.blocks, blocker.keys) == (f"undecodable/{AUTOSCALERS}", True, ("/registry/h/a",))
    assert "Kubernetes 1.36 can't decode" in blocker.why
    assert stored.safe_up_to(whole, RELEASES) == ("1.35", [AUTOSCALERS])
    near = UpgradePath("1.34", "1.35")
    whole = stored.stored_in_etcd(scanned, SERVED, RELEASES, near)
    assert stored.evaluate_stored(whole.versions, near, {}) == []


def test_hidden_versions_are_in_doubt_only_if_one_could_not_be_read() -> None:
    sealed = {Variant(None, None, "aescbc", "v1", "key1"): Tally(objects=5)}
    upgrade_path = UpgradePath("1.35", "1.37")
    whole = stored.stored_in_etcd(held(secrets=sealed), SERVED, RELEASES, upgrade_path)
    assert whole.unknown == [] and stored.beyond_is_unknown(whole, RELEASES) == []
    assert stored.safe_up_to(whole, RELEASES) == ("1.37", []), "each release reads each version of Secrets"
    whole = stored.stored_in_etcd(held(**{AUTOSCALERS: sealed}), SERVED, RELEASES, upgrade_path)
    assert len(whole.unknown) == 1 and "5 objects" in whole.unknown[0] and "autoscaling/v2beta2" in whole.unknown[0]
    assert stored.evaluate_stored(whole.versions, upgrade_path, {}) == []


def test_what_may_be_stored_limits_how_far_everything_is_known_to_be_readable() -> None:
    """The target reads every possible version, but a later release does not."""
    sealed = {Variant(None, None, "aescbc", "v1", "key1"): Tally(objects=5)}
    near = UpgradePath("1.34", "1.35")
    whole = stored.stored_in_etcd(held(**{AUTOSCALERS: sealed}), SERVED, RELEASES, near)
    assert whole.unknown == [] and stored.safe_up_to(whole, RELEASES) == ("1.35", [AUTOSCALERS])
    (sentence,) = stored.beyond_is_unknown(whole, RELEASES)
    assert "Whether releases after 1.35" in sentence and f"{AUTOSCALERS} (autoscaling/v2beta2)" in sentence
    whole = stored.stored_on_record(SERVED, State(), RELEASES, near, (), {})
    assert stored.safe_up_to(whole, RELEASES) == ("1.35", [AUTOSCALERS])
    (sentence,) = stored.beyond_is_unknown(whole, RELEASES)
    assert "no complete migration on record" in sentence
    gone_by_now = UpgradePath("1.36", "1.37")
    whole = stored.stored_on_record(SERVED, State(), RELEASES, gone_by_now, (), {})
    assert stored.safe_up_to(whole, RELEASES) == ("1.37", []), "the current release could not read it either"


def test_objects_that_could_not_be_counted_may_be_stored_in_any_version() -> None:
    """Another etcd may hold more of them, so that the ones seen here prove nothing for later releases."""
    near = UpgradePath("1.34", "1.35")
    current = {Variant("autoscaling/v2", "protobuf"): Tally("HorizontalPodAutoscaler", objects=5)}
    whole = stored.stored_in_etcd(held(**{AUTOSCALERS: current}), SERVED, RELEASES, near)
    assert stored.safe_up_to(whole, RELEASES) == ("1.37", [])
    whole.possible.update(stored.uncounted_versions([AUTOSCALERS, "not-served"], SERVED, RELEASES, near))
    assert stored.safe_up_to(whole, RELEASES) == ("1.35", [AUTOSCALERS])
    (sentence,) = stored.beyond_is_unknown(whole, RELEASES)
    assert "objects of these resources could not be counted and may be stored in older versions" in sentence
    assert stored.evaluate_stored(whole.versions, near, {}) == [], "which blocks nothing"


def test_a_baseline_says_nothing_about_what_was_stored_before_it() -> None:
    upgrade_path = UpgradePath("1.35", "1.37")
    now = SERVED[AUTOSCALERS].hashes
    for migrated_at, doubts in ((None, 1), ("2026-01-02", 0)):
        state = State("2026-01-01", resources={AUTOSCALERS: ResourceState(persisted=now, migrated_at=migrated_at)})
        whole = stored.stored_on_record(SERVED, state, RELEASES, upgrade_path, (), {})
        assert len(whole.unknown) == doubts and (AUTOSCALERS in whole.possible) is bool(doubts)


def test_without_etcd_the_record_and_the_hashes_count() -> None:
    upgrade_path = UpgradePath("1.35", "1.37")
    unknown = stored.stored_on_record(SERVED, State(), RELEASES, upgrade_path, (), {}).unknown
    assert len(unknown) == 1 and AUTOSCALERS in unknown[0] and "secrets" not in unknown[0]
    assert stored.stored_on_record(SERVED, State(), RELEASES, upgrade_path, (), {AUTOSCALERS: 0}).unknown == []
    old = storage_version_hash("autoscaling", "v2beta2", "HorizontalPodAutoscaler")
    known = ResourceState(persisted=(old,), migrated_at="2026-01-01")
    whole = stored.stored_on_record(
        SERVED, State("2026-01-01", resources={AUTOSCALERS: known}), RELEASES, upgrade_path, (), {}
    )
    assert whole.unknown == []
    findings = stored.evaluate_stored(whole.versions, upgrade_path, {})
    assert [finding.id for finding in findings] == [f"undecodable/{AUTOSCALERS}"]
    assert stored.evaluate_stored(whole.versions, upgrade_path, {AUTOSCALERS: 0}) == [], "nothing is stored of it"


def test_the_way_back() -> None:
    upgrade_path = UpgradePath("1.37", "1.35")
    thing = {"things.new.k8s.io": served("things.new.k8s.io", "Thing", "v1", stored_as="v1")}
    whole = stored.stored_on_record(thing, State(), RELEASES, upgrade_path, (), {})
    (blocker,) = stored.evaluate_stored(whole.versions, upgrade_path, {"things.new.k8s.io": 1})
    assert blocker.check == "rollback" and "1.35 is older" in blocker.why
