# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.pruning import (
    Schemas,
    dropped_fields,
    schemas_of,
)

STRING = {"type": "string"}
FREE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def crd(**spec: Any) -> dict[str, Any]:
    return {"spec": spec}


def one_version(spec_schema: dict[str, Any], **extra: Any) -> Schemas:
    schema = {"type": "object", "properties": {"spec": spec_schema}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    found = schemas_of(crd(versions=[version], **extra))
    assert found is not None
    return found


def stored(spec: Any, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "a.example.com/v1", "kind": "A", "metadata": {"name": "x", "own": 1}, "spec": spec, **more}


@pytest.mark.parametrize(
    ("schema", "spec", "more", "dropped"),
    [
        ({"type": "object", "properties": {"a": STRING}}, {"a": "1"}, {}, []),
        ({"type": "object", "properties": {"a": STRING}}, {"a": "1", "useEfi": True}, {}, ["spec.useEfi"]),
        ({"type": "object"}, {"a": {"b": 1}}, {}, ["spec.a"]),
        ({"type": "object"}, {}, {"status": {"x": 1}}, ["status"]),
        (FREE, {"a": {"b": 1}}, {}, []),
        ({**FREE, "properties": {"a": {"type": "object"}}}, {"a": {"b": 1}, "c": 1}, {}, ["spec.a.b"]),
        ({"type": "array", "items": {"type": "object"}}, [{"a": 1}, {"b": 1}], {}, ["spec[].a", "spec[].b"]),
        ({"type": "object", "additionalProperties": STRING}, {"own name": "1"}, {}, []),
        ({"type": "object", "additionalProperties": {"type": "object"}}, {"own": {"z": 1}}, {}, ["spec.*.z"]),
        ({"type": "object", "additionalProperties": True}, {"own": {"z": 1}}, {}, ["spec.*.z"]),
        (
            {"type": "object", "x-kubernetes-embedded-resource": True},
            {"apiVersion": "v1", "kind": "P", "metadata": {"labels": {}}, "spec": {}},
            {},
            ["spec.spec"],
        ),
        ({"type": "object"}, {"pass word: hunter2": 1}, {}, ["spec.(a name that is not a field name)"]),
    ],
)
def test_what_the_schema_does_not_know_is_dropped(
    schema: dict[str, Any], spec: Any, more: dict[str, Any], dropped: list[str]
) -> None:
    assert dropped_fields(stored(spec, **more), "v1", one_version(schema)) == dropped


def test_a_crd_that_prunes_nothing() -> None:
    assert dropped_fields(stored({"a": 1}), "v1", one_version({"type": "object"}, preserveUnknownFields=True)) == []


def two_versions(
    strategy: str = "None", *, served: tuple[str, ...] = ("v1", "v1beta1"), storage: str = "v1"
) -> Schemas:
    def version(name: str, field: str) -> dict[str, Any]:
        spec = {"type": "object", "properties": {"both": STRING, field: STRING}}
        schema = {"type": "object", "properties": {"spec": spec}}
        return {
            "name": name,
            "served": name in served,
            "storage": name == storage,
            "schema": {"openAPIV3Schema": schema},
        }

    found = schemas_of(
        crd(versions=[version("v1", "new"), version("v1beta1", "old")], conversion={"strategy": strategy})
    )
    assert found is not None
    return found


def test_every_version_on_the_way_prunes() -> None:
    """Stored as v1beta1, asked for as v1, stored as v1: what v1 doesn't know is lost."""
    document = stored({"both": "1", "old": "1"})
    assert dropped_fields(document, "v1beta1", two_versions()) == ["spec.old"]
    assert dropped_fields(document, "v1beta1", two_versions(storage="v1beta1")) == []


def test_a_storage_version_that_is_not_served_is_reached_through_another_one() -> None:
    found = dropped_fields(stored({"old": "1"}), "v1beta1", two_versions(served=("v1",), storage="v1beta1"))
    assert found == ["spec.old"]


def test_any_served_version_may_be_the_one_that_requests_use() -> None:
    """The storage version isn't served, and the preferred version, which requests use, needn't be the first in the spec."""
    strings = {"type": "object", "properties": {"both": STRING}}
    knows = {"type": "object", "properties": {"both": STRING, "old": STRING}}

    def version(name: str, fields: dict[str, Any]) -> dict[str, Any]:
        schema = {"type": "object", "properties": {"spec": fields}}
        return {"name": name, "served": name != "v2", "storage": name == "v2", "schema": {"openAPIV3Schema": schema}}

    schemas = schemas_of(crd(versions=[version("v1alpha1", knows), version("v1", strings), version("v2", knows)]))
    assert schemas is not None
    assert dropped_fields(stored({"old": "1"}), "v2", schemas) == ["spec.old"]


def test_what_a_conversion_webhook_does_is_unknown() -> None:
    webhook = two_versions("Webhook")
    assert dropped_fields(stored({"old": "1"}), "v1beta1", webhook) is None
    assert dropped_fields(stored({"neither": "1"}), "v1beta1", webhook) == ["spec.neither"]
    assert dropped_fields(stored({"new": "1"}), "v1", webhook) == []


def test_a_version_that_is_gone_is_unknown() -> None:
    assert dropped_fields(stored({}), "v1alpha1", two_versions()) is None


def test_a_crd_without_a_storage_version() -> None:
    assert schemas_of(crd(versions=[{"name": "v1"}])) is None
