# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 13, number 1: field managers that move to the storage version own exactly what they owned before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.managed_fields import (
    Fate,
    Rules,
    how_to_move,
    rules_for,
    union_of_fields,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    storage_version_hash,
)
from hypothesis import given
from hypothesis import strategies as st

GROUP = "shop.example.com"
OLD, NEW, OTHER = f"{GROUP}/v1alpha1", f"{GROUP}/v1", "autoscaling/v1"
MOVING = Rules("rewrite", GROUP, {NEW, OLD}, {NEW, OLD, OTHER}, custom=True, to=NEW)
Entry = dict[str, Any]


def paths(fields: Mapping[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The fields in a set, as structured-merge-diff reads it: no mapping below it, or a dot, makes it a member."""
    for name, below in fields.items():
        if name == ".":
            continue
        if not below or "." in below:
            yield (*at, name)
        yield from paths(below, (*at, name))


def owned(entries: Iterable[Entry], moved: bool = False) -> set[tuple[object, ...]]:
    """Who owns what at which version; with ``moved``, as it must be after entries moved."""

    def version(entry: Entry) -> str:
        return NEW if moved and entry["apiVersion"].startswith(f"{GROUP}/") else str(entry["apiVersion"])

    return {
        (entry["manager"], entry["operation"], entry.get("subresource"), version(entry), path)
        for entry in entries
        for path in paths(entry["fieldsV1"])
    }


NAMES = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"'])
BELOW = st.recursive(
    st.just({}),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3).flatmap(
        lambda found: st.sampled_from([found, {".": {}, **found}] if found else [found])
    ),
    max_leaves=8,
)
FIELDS = st.dictionaries(NAMES, BELOW, min_size=1, max_size=3)
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {
            "manager": st.sampled_from(["kubectl", "flux"]),
            "operation": st.sampled_from(["Apply", "Update"]),
            "apiVersion": st.sampled_from([OLD, NEW, f"{GROUP}/v1beta1", OTHER]),
            "fieldsType": st.just("FieldsV1"),
            "fieldsV1": FIELDS,
        },
        optional={
            "subresource": st.just("status"),
            "time": st.sampled_from(["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]),
        },
    ),
    max_size=6,
    unique_by=lambda entry: (entry["manager"], entry["operation"], entry["apiVersion"], entry.get("subresource")),
)


@given(ENTRIES)
def test_ownership_is_the_same_after_as_before(entries: list[Entry]) -> None:
    wanted = MOVING.wanted(entries)
    if wanted is None:
        assert all(entry["apiVersion"] in (NEW, OTHER) for entry in entries)
        return
    assert owned(wanted) == owned(entries, moved=True)
    assert {entry["apiVersion"] for entry in wanted} <= {NEW, OTHER}
    keys = [(entry["manager"], entry["operation"], entry["apiVersion"], entry.get("subresource")) for entry in wanted]
    assert len(keys) == len(set(keys)), "an API server takes only the last one of duplicates"
    assert MOVING.wanted(wanted) is None, "a second run has nothing to do"
    for entry in wanted:
        before = [
            old for old in entries if (old["manager"], old["operation"]) == (entry["manager"], entry["operation"])
        ]
        assert entry.get("time") in {old.get("time") for old in before}


@given(FIELDS, FIELDS)
def test_the_union_of_fields(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert set(paths(union_of_fields(one, other))) == set(paths(one)) | set(paths(other))
    assert union_of_fields(one, {}) == union_of_fields({}, one) == one


def test_a_field_and_fields_in_it() -> None:
    assert union_of_fields({"f:spec": {}}, {"f:spec": {"f:a": {}}}) == {"f:spec": {".": {}, "f:a": {}}}


def entry(version: str, manager: str = "a", **more: Any) -> Entry:
    return {"manager": manager, "operation": "Update", "apiVersion": version, "fieldsV1": {"f:spec": {}}, **more}


def test_duplicates_are_joined_with_the_later_time() -> None:
    old = entry(OLD, time="2026-02-01T00:00:00Z", fieldsV1={"f:spec": {"f:a": {}}})
    new = entry(NEW, time="2026-01-01T00:00:00Z", fieldsV1={"f:spec": {"f:b": {}}})
    joined = {**new, "time": old["time"], "fieldsV1": {"f:spec": {"f:a": {}, "f:b": {}}}}
    assert MOVING.wanted([old, new, entry(NEW, "b")]) == [joined, entry(NEW, "b")]
    assert MOVING.wanted([new]) is None and MOVING.wanted(None) is None


WIDGETS = ServedResource(
    f"widgets.{GROUP}",
    GROUP,
    "widgets",
    "Widget",
    True,
    frozenset(),
    ("v1", "v1alpha1"),
    (storage_version_hash(GROUP, "v1", "Widget"),),
)


def crd(storage: str = "v1", **conversion: Any) -> dict[str, Any]:
    versions = [{"name": name, "storage": name == storage} for name in ("v1alpha1", "v1")]
    return {"spec": {"versions": versions, **({"conversion": conversion} if conversion else {})}}


@pytest.mark.parametrize(
    ("document", "to"),
    [
        (crd(), NEW),
        (crd(strategy="None"), NEW),
        (crd(strategy="Webhook"), None),  # only the webhook knows which field is which
        (crd(storage="v1alpha1"), None),  # not what discovery reports: it is just changing
        (None, None),  # it may not be read
    ],
)
def test_where_custom_resources_move(document: dict[str, Any] | None, to: str | None) -> None:
    assert rules_for("rewrite", WIDGETS, {NEW, OLD}, {NEW, OLD}, document).to == to


def test_of_built_in_resources_only_versions_move_that_are_not_served() -> None:
    scalers = ServedResource(
        "horizontalpodautoscalers.autoscaling",
        "autoscaling",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        True,
        frozenset(),
        ("v2", "v1"),
        (storage_version_hash("autoscaling", "v2", "HorizontalPodAutoscaler"),),
    )
    served = {"autoscaling/v2", "autoscaling/v1"}
    rules = rules_for("rewrite", scalers, served, {*served, "apps/v1"}, None)
    dead = entry("autoscaling/v2beta2")
    assert rules.wanted([entry("autoscaling/v1"), dead]) == [entry("autoscaling/v1"), entry("autoscaling/v2")]
    assert rules.wanted([entry("autoscaling/v1"), entry("extensions/v1beta1")]) is None
    assert rules.are_at_risk([dead]) and rules.are_at_risk([entry("extensions/v1beta1")])
    assert not rules.are_at_risk([entry("autoscaling/v1"), entry("apps/v1")])


def answer(*entries: Entry) -> Response:
    return Response(200, {}, json.dumps({"metadata": {"managedFields": list(entries)}}).encode())


def test_what_became_of_managers() -> None:
    before = [entry(OLD), entry(NEW, "b")]
    wanted = MOVING.wanted(before)
    assert MOVING.fate(before, wanted, answer(entry(NEW), entry(NEW, "b"))) == Fate(True, False, False)
    assert MOVING.fate(before, wanted, answer(*before)) == Fate(False, False, True)
    assert MOVING.fate(before, wanted, answer()).ignored
    pruning = Rules("prune", GROUP, {NEW}, {NEW}, custom=True)
    assert pruning.fate(before, [entry(NEW, "b")], answer(entry(NEW, "b"))) == Fate(False, True, False)
    assert pruning.fate([entry(OLD)], [{}], answer()) == Fate(False, True, False)
    assert pruning.fate([entry(OLD)], [{}], answer(entry(OLD))) == Fate(False, False, True)
    keeping = Rules("keep", "batch", {"batch/v1"}, {"batch/v1"})
    assert keeping.fate([entry("batch/v2alpha1")], None, answer()) == Fate(False, True, False)
    assert keeping.fate([entry("batch/v1")], None, answer(entry("batch/v1"))) == Fate(False, False, False)


def test_what_to_do_names_the_command() -> None:
    simple = how_to_move(WIDGETS.name, "v1", ["v1alpha1"], False)
    assert f"run storage_migrate with resources: [{WIDGETS.name}] and managed_fields: rewrite" in simple
    webhook = how_to_move(WIDGETS.name, "v1", ["v1alpha1"], True)
    assert "owners apply them at v1" in webhook and "managed_fields: prune" in webhook
    assert "as a user who can get the CRD" in how_to_move(WIDGETS.name, None, ["v1alpha1"], None)
