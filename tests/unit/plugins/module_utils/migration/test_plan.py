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
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state import ResourceState, State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import (
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
    by_name = {one.name: one for one in resources}
    return make_plan(by_name, state or State(), Selection(**selection), ())


def taken(plan: Any) -> list[str]:
    return [target.name for target in plan.targets]


def reasons(plan: Any) -> dict[str, str]:
    return {skipped.resource: skipped.reason for skipped in plan.skipped}


SECRETS = served("secrets")
OLD_TWIN, NEW_TWIN = served("things"), served("things", "new.example.com", stored_in="")


def test_two_groups_over_one_storage_are_taken_once() -> None:
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
        "a": "the API server offers no patch for it",
        "b": "the API server offers no list for it",
        "c": "the API server offers no list or patch for it",
    }


def test_a_resource_whose_hash_is_not_settled_waits() -> None:
    plan = plan_of(served("crds", hashes=("one", "two")))
    assert taken(plan) == [] and "changing at this moment" in reasons(plan)["crds"]


def progress(**changes: Any) -> State:
    values = {"hash": SECRETS.hash, "persisted": [], "token": None, "listed": True, "failed": [["ns", "a"]], **changes}
    return State(resources={"secrets": ResourceState(progress=values)})


def test_only_what_failed_is_visited_again() -> None:
    target = plan_of(SECRETS, state=progress(), select="changed").targets[0]
    assert target.objects == (ObjectKey("ns", "a"),) and target.resumed is True
    assert plan_of(SECRETS, state=progress(), select="all").targets[0].objects is None


def test_the_edit_of_a_crd_that_was_seen_goes_with_the_progress() -> None:
    target = plan_of(SECRETS, state=progress(failed=[], generation=3), select="changed").targets[0]
    assert target.objects == () and target.generation == 3


def test_progress_of_another_storage_version_counts_for_nothing() -> None:
    for state in (progress(hash="another"), progress(persisted=["another"])):
        target = plan_of(SECRETS, state=state, select="changed").targets[0]
        assert target.objects is None and target.resumed is False
