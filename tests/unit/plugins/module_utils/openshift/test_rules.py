# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError, UpdateError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._openshift.rules import (
    Grace,
    Look,
    Overrides,
    UpdateState,
    UpdateTarget,
    accepted_troubles,
    gates_closed,
    kubernetes_version,
    leaves_minor,
    masters,
    obstacle,
    offer_of,
    refused_for_good,
    still_accepted,
    still_to_come,
    superseded,
    target_of,
    troubles,
    update_patch,
    update_state,
)

DIGEST = "registry.example.com/release@sha256:" + "a" * 64
OLD, NEW, OTHER = "4.23.7", "4.24.1", "4.24.2"
TARGET = UpdateTarget(NEW)
TIMID = Overrides()


def said(kind: str, status: str = "True", reason: str = "Because", message: str = "It is so.") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def entry(version: str, state: str = "Completed") -> dict[str, str]:
    return {
        "version": version,
        "image": f"example.com/{version}",
        "state": state,
        "startedTime": "2026-01-01T00:00:00Z",
    }


def cluster_version(
    *history: dict[str, str],
    asked: dict[str, Any] | None = None,
    conditions: tuple[dict[str, str], ...] = (),
    **status: Any,
) -> dict[str, Any]:
    return {
        "spec": {"channel": "stable-4.24", **({"desiredUpdate": asked} if asked else {})},
        "status": {"history": list(history or (entry(OLD),)), "conditions": list(conditions), **status},
    }


OFFERED = {"availableUpdates": [{"version": NEW, "image": DIGEST}]}


def operator(name: str, *conditions: dict[str, str], versions: tuple[dict[str, str], ...] = ()) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"conditions": list(conditions), "versions": list(versions)}}


def nodes(*revisions: int, latest: int = 9, **of_the_last: Any) -> dict[str, Any]:
    found: list[dict[str, Any]] = [
        {"nodeName": f"master-{i}", "currentRevision": revision} for i, revision in enumerate(revisions)
    ]
    found[-1].update(of_the_last)
    return {"status": {"latestAvailableRevision": latest, "nodeStatuses": found}}


DONE = Look(
    cluster_version(entry(NEW), entry(OLD)),
    nodes(9, 9, 9, targetRevision=0),
    (operator("etcd", said("Degraded", "False")),),
)


@pytest.mark.parametrize(
    ("version", "image"), [(None, None), ("4.21", None), ("stable", None), (None, "example.com/release:4.21.3")]
)
def test_a_target_must_name_one_release(version: str | None, image: str | None) -> None:
    with pytest.raises(BadInputError):
        target_of(version, image)


def test_a_target_by_digest() -> None:
    target = target_of(None, DIGEST)
    assert target.fits({"version": NEW, "image": DIGEST}) and not target.fits(
        {"version": NEW, "image": "example.com/other"}
    )


def test_a_version_with_another_image_is_another_release() -> None:
    assert not UpdateTarget(NEW, DIGEST).fits({"version": NEW, "image": "example.com/other"})


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (cluster_version(), UpdateState.NOT_BEGUN),
        (cluster_version(asked={"version": OLD}), UpdateState.NOT_BEGUN),
        (cluster_version(entry(OTHER), entry(NEW, "Partial")), UpdateState.NOT_BEGUN),
        (cluster_version(asked={"version": NEW}), UpdateState.ASKED_FOR),
        (cluster_version(entry(NEW, "Partial"), entry(OLD)), UpdateState.UNDER_WAY),
        (cluster_version(entry(NEW), entry(OLD)), UpdateState.DONE),
    ],
)
def test_the_state_of_an_update(document: dict[str, Any], expected: UpdateState) -> None:
    assert update_state(document, TARGET) is expected


def test_another_update_under_way_is_not_disturbed() -> None:
    document = cluster_version(entry(OTHER, "Partial"), conditions=(said("Progressing", message="Working towards it"),))
    with pytest.raises(
        UpdateError,
        match=rf"An update to {OTHER} has been in progress since .*Because: Working towards it.*Nothing was started",
    ):
        update_state(document, TARGET)


def test_one_that_was_asked_for_and_refused_must_be_cleared_first() -> None:
    document = cluster_version(asked={"version": OTHER}, conditions=(said("ReleaseAccepted", "False"),))
    with pytest.raises(UpdateError, match="oc adm upgrade --clear"):
        update_state(document, TARGET)


def test_gates_apply_to_the_minor_version_being_left() -> None:
    gates = {"ack-4.23-kube-x": "Check it.", "ack-4.2-kube": "Old.", "ack-4.24-kube": "Later.", "note": "No gate."}
    assert gates_closed(gates, {}, OLD) == {"ack-4.23-kube-x": "Check it."}
    assert gates_closed(gates, {"ack-4.23-kube-x": "false"}, OLD) != {}
    assert gates_closed(gates, {"ack-4.23-kube-x": "true"}, OLD) == {}


def test_what_is_offered() -> None:
    assert obstacle(cluster_version(**OFFERED), [], TARGET, TIMID) is None
    missing = obstacle(cluster_version(availableUpdates=[{"version": OTHER}]), [], TARGET, TIMID)
    assert missing is not None and f"channel stable-4.24 offers {OTHER}" in missing
    unasked = obstacle(cluster_version(conditions=(said("RetrievedUpdates", "False"),)), [], TARGET, TIMID)
    assert unasked is not None and "could not be reached (Because: It is so)" in unasked


def test_an_image_that_nobody_offers_needs_a_decision() -> None:
    by_image = UpdateTarget(None, DIGEST)
    assert obstacle(cluster_version(), [], by_image, TIMID) is not None
    assert obstacle(cluster_version(), [], by_image, Overrides(not_recommended=True)) is None
    assert obstacle(cluster_version(), [], TARGET, Overrides(not_recommended=True)) is not None


def test_an_update_that_is_not_recommended_needs_a_decision() -> None:
    conditional = {
        "release": {"version": NEW, "image": DIGEST},
        "conditions": [said("Recommended", "False", "Risk", "Pods hang.")],
    }
    document = cluster_version(conditionalUpdates=[conditional])
    told = obstacle(document, [], TARGET, TIMID)
    assert told is not None and "not recommended (Risk: Pods hang)" in told
    assert obstacle(document, [], TARGET, Overrides(not_recommended=True)) is None
    conditional["conditions"] = [said("Recommended")]
    assert obstacle(document, [], TARGET, TIMID) is None


def test_upgradeable_counts_for_another_minor_version_only() -> None:
    document = cluster_version(
        conditions=(said("Upgradeable", "False"),), availableUpdates=[{"version": NEW}, {"version": "4.23.8"}]
    )
    told = obstacle(document, [], TARGET, TIMID)
    assert told is not None and "not upgradeable (Because: It is so)" in told
    assert obstacle(document, [], TARGET, TIMID, settled=False) is None
    assert obstacle(document, [], UpdateTarget("4.23.8"), TIMID) is None
    assert obstacle(document, [], TARGET, Overrides(force=True)) is None
    assert leaves_minor(document, UpdateTarget(None, DIGEST), None)


def test_what_is_broken_already_is_repaired_first() -> None:
    degraded = operator("dns", said("Degraded", reason="NoPods"))
    told = obstacle(cluster_version(**OFFERED), [operator("etcd"), degraded], TARGET, TIMID, settled=False)
    assert (
        told is not None
        and "Operator dns is degraded (NoPods: It is so)" in told
        and "describe clusteroperator dns" in told
    )
    told = obstacle(cluster_version(conditions=(said("Failing"),), **OFFERED), [], TARGET, TIMID)
    assert told is not None and "already failing (Because: It is so)" in told


def test_a_patch_leaves_nothing_of_an_earlier_update() -> None:
    nothing: dict[str, Any] = {"version": NEW, "image": None, "force": None, "architecture": None}
    assert update_patch(TARGET, None, force=False)["spec"]["desiredUpdate"] == nothing


def test_version_and_image_of_the_offer_are_both_requested() -> None:
    """Issue 17: by its version alone the cluster-version operator calls a conditional update invalid."""
    for offered in (OFFERED, {"conditionalUpdates": [{"release": OFFERED["availableUpdates"][0]}]}):
        offer = offer_of(cluster_version(**offered), TARGET)
        wanted = update_patch(TARGET, offer, force=True)["spec"]["desiredUpdate"]
        assert wanted == {"version": NEW, "image": DIGEST, "force": True, "architecture": None}
    by_image = UpdateTarget(None, DIGEST)
    wanted = update_patch(by_image, offer_of(cluster_version(**OFFERED), by_image), force=False)["spec"][
        "desiredUpdate"
    ]
    assert (wanted["version"], wanted["image"]) == (NEW, DIGEST)


def test_invalid_is_an_obstacle_and_an_end() -> None:
    """Issue 17."""
    broken = said("Invalid", message="spec.upstream is no URL.")
    told = obstacle(cluster_version(conditions=(broken,), **OFFERED), [], TARGET, Overrides(force=True))
    assert told is not None and "is invalid" in told and "spec.upstream is no URL" in told
    conditional = {"conditionalUpdates": [{"release": OFFERED["availableUpdates"][0]}]}
    half = cluster_version(asked={"version": NEW}, conditions=(broken,), **conditional)
    assert update_state(half, TARGET) is UpdateState.NOT_BEGUN, "requested again, with its image"
    assert obstacle(half, [], TARGET, Overrides(not_recommended=True)) is None
    assert "is invalid" in troubles(Look(half, {}, ()), TARGET)["invalid"]
    assert refused_for_good(half, TARGET) is None
    half["metadata"], half["status"]["observedGeneration"] = {"generation": 3}, 2
    assert refused_for_good(half, TARGET) is None
    half["status"]["observedGeneration"] = 3
    assert "no URL" in str(refused_for_good(half, TARGET))


def test_accepted_risks_alone_request_no_update() -> None:
    """Issue 17: it was told as an update to None."""
    assert update_state(cluster_version(asked={"acceptRisks": [{"name": "SomeBug"}]}), TARGET) is UpdateState.NOT_BEGUN


def test_warnings_can_be_accepted_as_with_oc() -> None:
    """Issue 17: past Failing=True that is the way, not force."""
    warned = cluster_version(conditions=(said("Failing"),), **OFFERED)
    degraded = [operator("dns", said("Degraded"))]
    assert "allow_upgrade_with_warnings" in str(obstacle(warned, [], TARGET, TIMID))
    assert "allow_upgrade_with_warnings" in str(obstacle(cluster_version(**OFFERED), degraded, TARGET, TIMID))
    assert obstacle(warned, degraded, TARGET, Overrides(warnings=True)) is None
    pinned = cluster_version(conditions=(said("Upgradeable", "False"),), **OFFERED)
    assert "not upgradeable" in str(obstacle(pinned, [], TARGET, Overrides(warnings=True)))


def test_what_was_accepted_before_the_update_is_not_waited_for() -> None:
    """With the override, an operator that was degraded before ended the update after the grace period, in each run."""
    dns, etcd = operator("dns", said("Degraded")), operator("etcd", said("Degraded"))
    before = Look(cluster_version(conditions=(said("Available", "False"),)), nodes(7), (dns,))
    assert (
        accepted_troubles(before, TIMID) == frozenset()
        and "dns" in still_to_come(replace(DONE, operators=(dns,)), TARGET)[0]
    )
    for overrides in (Overrides(warnings=True), Overrides(force=True)):
        accepted = accepted_troubles(before, overrides)
        assert still_to_come(replace(DONE, operators=(dns,)), TARGET, accepted) == []
        later = replace(before, operators=(dns, etcd))
        assert set(troubles(later, TARGET, accepted)) == {"available", "operator etcd"}, "only what the option names"


def test_a_degraded_operator_that_was_accepted_may_also_be_called_a_failure() -> None:
    dns, etcd = operator("dns", said("Degraded")), operator("etcd", said("Degraded"))
    failing = cluster_version(entry(NEW), conditions=(said("Failing", reason="ClusterOperatorDegraded"),))
    accepted = accepted_troubles(replace(DONE, operators=(dns,)), Overrides(warnings=True))
    look = replace(DONE, cluster_version=failing, operators=(dns,))
    assert troubles(look, TARGET, accepted) == {} and set(troubles(look, TARGET)) == {
        "failing ClusterOperatorDegraded",
        "operator dns",
    }
    assert set(troubles(replace(look, operators=(dns, etcd)), TARGET, accepted)) == {
        "failing ClusterOperatorDegraded",
        "operator etcd",
    }
    other = cluster_version(entry(NEW), conditions=(said("Failing", reason="UpdatePayloadFailed"),))
    assert set(troubles(replace(look, cluster_version=other), TARGET, accepted)) == {"failing UpdatePayloadFailed"}
    assert accepted_troubles(replace(look, cluster_version=other), Overrides(warnings=True)) == {
        "failing UpdatePayloadFailed",
        "operator dns",
    }
    assert still_accepted(look, TARGET, accepted) == [
        "Operator dns is degraded (Because: It is so); see: oc describe clusteroperator dns"
    ]


def test_an_update_has_finished_when_all_of_it_has() -> None:
    assert still_to_come(DONE, TARGET) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cluster_version": cluster_version()}, "has not started it"),
        (
            {
                "cluster_version": cluster_version(
                    entry(NEW, "Partial"), conditions=(said("Progressing", message="3 of 9 done"),)
                )
            },
            "its history says Partial (Because: 3 of 9 done)",
        ),
        ({"kube_api_server": nodes(9, 9, 7)}, "master-2 is at revision 7, not 9"),
        ({"kube_api_server": nodes(9, 9, 9, targetRevision=10)}, "master-2 is at revision 9"),
        ({"kube_api_server": {}}, "reports no master"),
        ({"operators": (operator("dns", said("Degraded")),)}, "dns is degraded"),
    ],
)
def test_each_part_is_waited_for(changes: dict[str, Any], expected: str) -> None:
    look = Look(
        **{**{name: getattr(DONE, name) for name in ("cluster_version", "kube_api_server", "operators")}, **changes}
    )
    assert expected in "; ".join(still_to_come(look, TARGET))


def test_trouble_is_reported_with_its_own_reason_and_message() -> None:
    document = cluster_version(
        conditions=(said("ReleaseAccepted", "False"), said("Failing"), said("Available", "False"))
    )
    failed = {
        "targetRevision": 9,
        "lastFailedRevision": 9,
        "lastFailedReason": "InstallerFailed",
        "lastFailedRevisionErrors": ["no\nroom"],
    }
    found = troubles(Look(document, nodes(9, 7, **failed), (operator("dns", said("Degraded")),)), TARGET)
    assert set(found) == {"accepted", "failing Because", "available", "operator dns", "master master-1"}
    assert "(InstallerFailed: no room)" in found["master master-1"]
    assert all("Because: It is so" in text for key, text in found.items() if key != "master master-1")


def test_a_failure_of_a_revision_that_was_passed_is_history() -> None:
    found, latest = masters(nodes(9, lastFailedRevision=8, lastFailedRevisionErrors=["gone"]))
    assert (found[0].failed, latest) == ("", 9)


def test_a_flap_does_not_count_and_trouble_that_lasts_does() -> None:
    grace = Grace(10)
    assert grace.lasting({"a": "a is bad"}, 0) == []
    assert grace.lasting({}, 8) == []
    assert grace.lasting({"a": "a is bad"}, 12) == []
    assert grace.lasting({"a": "a is bad", "b": "b is bad"}, 22) == ["a is bad"]


def test_an_update_that_another_replaced() -> None:
    old, new = entry(OLD), entry(NEW, "Partial")
    assert superseded(cluster_version(entry(OTHER, "Partial"), new, old), TARGET, old) == OTHER
    assert superseded(cluster_version(entry(OTHER, "Partial"), new, old), TARGET, new) == OTHER
    assert superseded(cluster_version(new, old), TARGET, old) is None
    assert superseded(cluster_version(), TARGET, old) is None


def test_a_release_is_visited_again_after_a_rollback() -> None:
    """Issue 17: its entry before the rollback was taken for an update that something had replaced."""
    back = {**entry(OLD), "startedTime": "2026-02-01T00:00:00Z"}
    history = (back, entry(NEW), entry(OLD))
    assert update_state(cluster_version(*history), TARGET) is UpdateState.NOT_BEGUN
    assert superseded(cluster_version(*history), TARGET, back) is None
    again = {**entry(NEW, "Partial"), "startedTime": "2026-03-01T00:00:00Z"}
    assert superseded(cluster_version(again, *history), TARGET, back) is None
    other = {**entry(OTHER, "Partial"), "startedTime": "2026-03-02T00:00:00Z"}
    assert superseded(cluster_version(other, again, *history), TARGET, back) == OTHER
    assert superseded(cluster_version(other, *history), TARGET, back) is None


def test_which_kubernetes_it_is() -> None:
    versions = ({"name": "operator", "version": NEW}, {"name": "kube-apiserver", "version": "1.37.2"})
    assert kubernetes_version([operator("etcd"), operator("kube-apiserver", versions=versions)]) == "1.37.2"
    assert kubernetes_version([operator("etcd")]) is None
