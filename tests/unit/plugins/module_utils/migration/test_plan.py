# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which resources are taken, and why others are not."""

from __future__ import annotations

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import (
    ObjectKey,
    Selection,
    make_plan,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import KnownCrd, ResourceState, State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.crd_identity import (
    CrdFacts,
    CrdIdentity,
    CrdLook,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    resource_name,
    storage_version_hash,
)


def served(plural: str, group: str = "", *, stored_in: str | None = None, **changes: Any) -> ServedResource:
    """One kind in version v1, stored in a group of the same name unless ``stored_in`` names another."""
    home = group if stored_in is None else stored_in
    values: dict[str, Any] = {
        "name": resource_name(plural, group),
        "group": group,
        "plural": plural,
        "kind": plural.capitalize(),
        "namespaced": True,
        "verbs": frozenset({"list", "patch", "get"}),
        "versions": ("v1",),
        "hashes": (storage_version_hash(home, "v1", plural.capitalize()),),
        **changes,
    }
    return ServedResource(**values)


def plan_of(*resources: ServedResource, state: State | None = None, **selection: Any) -> Any:
    by_name = {resource.name: resource for resource in resources}
    return make_plan(by_name, state or State(), Selection(**selection), ())


def taken(plan: Any) -> list[str]:
    return [target.name for target in plan.targets]


def reasons(plan: Any) -> dict[str, str]:
    return {skipped.resource: skipped.reason for skipped in plan.skipped}


SECRETS = served("secrets")
OLD_TWIN, NEW_TWIN = served("things"), served("things", "new.example.com", stored_in="")


def test_two_groups_over_one_storage_are_migrated_once() -> None:
    plan = plan_of(NEW_TWIN, SECRETS, OLD_TWIN)
    assert taken(plan) == ["secrets", "things"]
    assert reasons(plan) == {"things.new.example.com": "it is stored together with things"}


def test_a_twin_does_not_step_in_for_one_that_needs_no_migration() -> None:
    state = State().completed("things", OLD_TWIN.hash or "", "now").completed("secrets", "another", "now")
    plan = plan_of(NEW_TWIN, SECRETS, OLD_TWIN, state=state, select="changed")
    assert taken(plan) == ["secrets"]
    assert "stored together" in reasons(plan)["things.new.example.com"]
    assert "has not changed" in reasons(plan)["things"]


def test_a_twin_steps_in_for_one_that_is_excluded() -> None:
    assert taken(plan_of(NEW_TWIN, OLD_TWIN, exclude=("things",))) == ["things.new.example.com"]
    assert taken(plan_of(NEW_TWIN, OLD_TWIN, resources=("things.new.example.com",))) == ["things.new.example.com"]


def test_resources_without_list_or_patch_are_named() -> None:
    plan = plan_of(
        SECRETS,
        served("a", verbs=frozenset({"list"})),
        served("b", verbs=frozenset({"patch"})),
        served("c", verbs=frozenset({"create"})),
    )
    assert taken(plan) == ["secrets"]
    assert reasons(plan) == {
        "a": "the API server does not support patch for it",
        "b": "the API server does not support list for it",
        "c": "the API server does not support list or patch for it",
    }


def test_a_resource_whose_hash_is_not_settled_waits() -> None:
    plan = plan_of(served("crds", hashes=("one", "two")))
    assert taken(plan) == [] and "changing right now" in reasons(plan)["crds"]


def progress(**changes: Any) -> State:
    values = {"hash": SECRETS.hash, "persisted": [], "token": None, "listed": True, "failed": [["ns", "a"]], **changes}
    return State(resources={"secrets": ResourceState(progress=values)})


def test_only_what_failed_is_visited_again() -> None:
    target = plan_of(SECRETS, state=progress(), select="changed").targets[0]
    assert target.objects == (ObjectKey("ns", "a"),) and target.resumed is True
    assert plan_of(SECRETS, state=progress(), select="all").targets[0].objects is None


def test_the_edit_of_a_crd_that_was_seen_is_saved_with_the_progress() -> None:
    saved = progress(failed=[], uid="u", generation=3, settled=True)
    target = plan_of(SECRETS, state=saved, select="changed").targets[0]
    assert target.objects == () and target.crd == CrdIdentity("u", 3) and target.settled
    # A record from before uids were kept doesn't say which CRD it was, or when the list began.
    target = plan_of(SECRETS, state=progress(failed=[], generation=3), select="changed").targets[0]
    assert target.crd is None and not target.settled


def test_progress_of_another_storage_version_does_not_count() -> None:
    for state in (progress(hash="another"), progress(persisted=["another"])):
        target = plan_of(SECRETS, state=state, select="changed").targets[0]
        assert target.objects is None and target.resumed is False


def test_a_run_that_left_managers_alone_is_not_resumed_by_one_that_moves_them() -> None:
    """Issue 13, number 1: what the first one visited still has its managers at other versions."""
    for saved, wanted, resumes in (
        ({}, "rewrite", False),
        ({"managed_fields": "prune"}, "rewrite", False),
        ({"managed_fields": "rewrite"}, "rewrite", True),
        ({"managed_fields": "rewrite"}, "keep", True),
    ):
        state = progress(**saved, listed=False, token="t")
        target = plan_of(SECRETS, state=state, select="changed", managed_fields=wanted).targets[0]
        assert (target.token, target.resumed) == (("t", True) if resumes else (None, False))
    before = Selection("all").as_dict()
    assert "managed_fields" not in before and Selection("all", managed_fields="rewrite").as_dict() != before


THINGS = served("things", "example.com")


def test_storedversions_that_name_more_make_a_custom_resource_changed() -> None:
    state = State().completed(THINGS.name, THINGS.hash or "", "now")
    assert taken(plan_of(THINGS, state=state, select="changed")) == []
    plan = make_plan({THINGS.name: THINGS}, state, Selection("changed"), (), older={THINGS.name: ("v1alpha1", "v1")})
    assert taken(plan) == [THINGS.name]
    assert plan.targets[0].reason == "status.storedVersions of its CRD names v1alpha1, v1"


def test_what_an_interrupted_run_finished_counts_for_the_same_crd_only() -> None:
    crd = CrdIdentity("u", 2)
    known = KnownCrd(crd, THINGS.hash or "", "2026-01-01T00:00:00Z")
    last = {"selection": Selection("all").as_dict(), "done": [THINGS.name], "finished": False}
    state = State(last_run=last).sighted({THINGS.name: known})
    state = state.completed(THINGS.name, THINGS.hash or "", "now", crd)

    def plan(look: CrdLook) -> Any:
        return make_plan({THINGS.name: THINGS}, state, Selection("all"), (), crds=look)

    assert taken(plan(CrdLook({THINGS.name: CrdFacts(crd, "1")}))) == []
    for other in (CrdIdentity("u", 3), CrdIdentity("another", 2)):
        assert taken(plan(CrdLook({THINGS.name: CrdFacts(other, "1")}))) == [THINGS.name]
    assert taken(plan(CrdLook(None, refused="no"))) == [THINGS.name]


def test_a_record_of_a_crd_that_was_recreated_counts_for_nothing() -> None:
    """Issue 11: the uid counts; what the new CRD stored before is unknown."""
    crd = CrdIdentity("u", 2)
    state = State().sighted({THINGS.name: KnownCrd(crd, THINGS.hash or "", "2026-01-01T00:00:00Z")})
    state = state.completed(THINGS.name, THINGS.hash or "", "now", crd)

    def changed(present: CrdIdentity) -> list[str]:
        look = CrdLook({THINGS.name: CrdFacts(present, "1")})
        return taken(make_plan({THINGS.name: THINGS}, state, Selection("changed"), (), crds=look))

    assert changed(crd) == changed(CrdIdentity("u", 3)) == []
    assert changed(CrdIdentity("another", 2)) == [THINGS.name]


def test_a_crd_that_no_server_serves_is_named() -> None:
    """Issue 11: an API server that has just started does not serve CRDs yet; their objects are still there."""
    look = CrdLook(
        {
            "things.example.com": CrdFacts(CrdIdentity("u", 1), "1"),
            "leaving.example.com": CrdFacts(CrdIdentity("v", 1), "2", deleting=True),
        }
    )
    for selection, expected in (
        (Selection(), {"things.example.com": "its CRD exists, but no API server serves it"}),
        (Selection("all", ("secrets",)), {}),
        (Selection("all", (), ("secrets",)), {"things.example.com": "its CRD exists, but no API server serves it"}),
    ):
        told = reasons(make_plan({"secrets": SECRETS}, State(), selection, (), crds=look))
        assert {name: why for name, why in told.items() if name != "secrets"} == expected


def test_what_an_interrupted_run_finished_in_another_version_is_not_done() -> None:
    last = {"selection": Selection("all").as_dict(), "done": ["secrets"], "finished": False}
    for stored, expected in ((SECRETS.hash or "", []), ("another", ["secrets"])):
        state = State(last_run=last).completed("secrets", stored, "now")
        assert taken(plan_of(SECRETS, state=state, select="all")) == expected
