# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decisions of upgrade_check."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._checks import (
    crds,
    lists,
    plan,
    record,
    stored,
    webhooks,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._checks.stored import Way
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, Tally, Variant
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._releases import Releases, minor_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state import ResourceState, State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import (
    ServedResource,
    storage_version_hash,
)

RELEASES = Releases(
    releases=("1.34", "1.35", "1.36", "1.37"),
    decodes={
        "autoscaling/HorizontalPodAutoscaler": {"v1": "1.34-1.37", "v2": "1.34-1.37", "v2beta2": "1.34-1.35"},
        "new.k8s.io/Thing": {"v1": "1.36-1.37", "v1beta1": "1.34-1.34 1.36-1.37"},
        "/Secret": {"v1": "1.34-1.37"},
    },
    stores={
        "horizontalpodautoscalers.autoscaling": {"1.34": "autoscaling/v2"},
        "things.new.k8s.io": {"1.34": "new.k8s.io/v1beta1", "1.35": "", "1.36": "new.k8s.io/v1"},
        "secrets": {"1.34": "v1"},
    },
    emulated={"1.36": {"things.new.k8s.io": "new.k8s.io/v1beta1"}},
)
AUTOSCALERS = "horizontalpodautoscalers.autoscaling"
WIDGETS = "widgets.example.com"


def served(name: str, kind: str, *versions: str, stored_as: str) -> ServedResource:
    plural, _dot, group = name.partition(".")
    hashed = storage_version_hash(group, stored_as, kind)
    return ServedResource(name, group, plural, kind, True, frozenset({"list", "patch"}), versions, (hashed,))


SERVED = {
    AUTOSCALERS: served(AUTOSCALERS, "HorizontalPodAutoscaler", "v2", "v1", stored_as="v2"),
    "secrets": served("secrets", "Secret", "v1", stored_as="v1"),
    WIDGETS: served(WIDGETS, "Widget", "v1", stored_as="v1"),
}


def held(**tallies: dict[Variant, Tally]) -> Stored:
    return Stored(resources={name.replace("_", "."): found for name, found in tallies.items()})


def test_releases() -> None:
    assert [minor_of(text) for text in ("v1.37.2", "1.37", "1.38.0-rc.1")] == ["1.37", "1.37", "1.38"]
    assert RELEASES.safe_up_to("autoscaling/v2beta2", "HorizontalPodAutoscaler") == "1.35"
    assert RELEASES.safe_up_to("autoscaling/v9", "HorizontalPodAutoscaler") is None
    assert RELEASES.first_that_cannot("autoscaling/v2beta2", "HorizontalPodAutoscaler", "1.34", "1.37") == "1.36"
    assert RELEASES.first_that_cannot("autoscaling/v2beta2", "HorizontalPodAutoscaler", "1.34", "1.35") is None
    # 1.35 is on the way, though the target itself can read it.
    assert RELEASES.first_that_cannot("new.k8s.io/v1beta1", "Thing", "1.34", "1.37") == "1.35"
    assert RELEASES.between("1.37", "1.37") == ("1.37",)
    assert RELEASES.between("1.37", "1.39") == ("1.37",)
    assert RELEASES.between("1.37", "1.35") == ("1.35",)
    assert [RELEASES.storage_version("things.new.k8s.io", minor) for minor in ("1.33", "1.34", "1.35", "1.37")] == [
        None,
        "new.k8s.io/v1beta1",
        None,
        "new.k8s.io/v1",
    ]
    assert RELEASES.storage_version("things.new.k8s.io", "1.36", emulated=True) == "new.k8s.io/v1beta1"


def test_what_etcd_holds_decides() -> None:
    old = Tally(kind="HorizontalPodAutoscaler", objects=3, bytes=99, samples=["/registry/h/a"])
    scanned = held(**{AUTOSCALERS: {Variant("autoscaling/v2beta2", "protobuf"): old}})
    way = Way("1.35", "1.37")
    found, unknown = stored.held_in_etcd(scanned, SERVED, RELEASES, way)
    assert unknown == []
    (blocker,) = stored.judge(found, way, {})
    assert (blocker.id, blocker.blocks, blocker.keys) == (f"undecodable/{AUTOSCALERS}", True, ("/registry/h/a",))
    assert "Kubernetes 1.36 can't decode" in blocker.why
    assert stored.safe_up_to(found, RELEASES) == ("1.35", [AUTOSCALERS])
    near = Way("1.34", "1.35")
    found, _unknown = stored.held_in_etcd(scanned, SERVED, RELEASES, near)
    assert stored.judge(found, near, {}) == []


def test_hidden_versions_are_only_in_doubt_where_one_could_not_be_read() -> None:
    sealed = {Variant(None, None, "aescbc", "v1", "key1"): Tally(objects=5)}
    way = Way("1.35", "1.37")
    _found, unknown = stored.held_in_etcd(held(secrets=sealed), SERVED, RELEASES, way)
    assert unknown == []
    found, unknown = stored.held_in_etcd(held(**{AUTOSCALERS: sealed}), SERVED, RELEASES, way)
    assert len(unknown) == 1 and "5 objects" in unknown[0] and "autoscaling/v2beta2" in unknown[0]
    assert stored.judge(found, way, {}) == []


def test_without_etcd_the_record_and_the_hashes_speak() -> None:
    way = Way("1.35", "1.37")
    _found, unknown = stored.held_on_record(SERVED, State(), RELEASES, way, (), {})
    assert len(unknown) == 1 and AUTOSCALERS in unknown[0] and "secrets" not in unknown[0]
    assert stored.held_on_record(SERVED, State(), RELEASES, way, (), {AUTOSCALERS: 0})[1] == []
    old = storage_version_hash("autoscaling", "v2beta2", "HorizontalPodAutoscaler")
    state = State("2026-01-01", resources={AUTOSCALERS: ResourceState(persisted=(old,))})
    found, unknown = stored.held_on_record(SERVED, state, RELEASES, way, (), {})
    assert unknown == []
    assert [one.id for one in stored.judge(found, way, {})] == [f"undecodable/{AUTOSCALERS}"]
    assert stored.judge(found, way, {AUTOSCALERS: 0}) == [], "nothing is stored of it"


def test_the_way_back() -> None:
    way = Way("1.37", "1.35")
    thing = {"things.new.k8s.io": served("things.new.k8s.io", "Thing", "v1", stored_as="v1")}
    found, _unknown = stored.held_on_record(thing, State(), RELEASES, way, (), {})
    (blocker,) = stored.judge(found, way, {"things.new.k8s.io": 1})
    assert blocker.check == "rollback" and "1.35 is older" in blocker.why
    assert [one.blocks for one in stored.judge_rollback(way)] == [False]
    assert stored.judge_rollback(Way("1.35", "1.37")) == []


def test_steps() -> None:
    assert [one.check for one in stored.judge_steps(Way("1.34", "1.37"), RELEASES)[0]] == ["skipped_minors"]
    assert stored.judge_steps(Way("1.36", "1.37"), RELEASES) == ([], [])
    assert "1.38 can read is not in the data" in stored.judge_steps(Way("1.37", "1.38"), RELEASES)[1][0]


def crd(storage: str, *versions: str, served: tuple[str, ...] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": WIDGETS},
        "spec": {
            "group": "example.com",
            "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [
                {"name": one, "served": served is None or one in served, "storage": one == storage} for one in versions
            ],
            **more,
        },
        "status": {"storedVersions": ["v1alpha1", "v1"]},
    }


def test_crds() -> None:
    live = crds.definition_of(crd("v1", "v1alpha1", "v1"))

    def compare(document: dict[str, Any], in_etcd: dict[str | None, int] | None = None) -> list[str]:
        return [one.check for one in crds.compare(crds.definition_of(document), live, in_etcd)]

    assert compare(crd("v1", "v1alpha1", "v1")) == []
    assert compare(crd("v1", "v1")) == ["crd_drops_stored_version"]
    assert compare(crd("v2", "v1alpha1", "v1", "v2")) == []
    assert compare(crd("v2", "v1alpha1", "v1", "v2", served=("v2",))) == ["crd_stops_serving"]
    (empty,) = crds.compare(crds.definition_of(crd("v1", "v1")), live, {"v1": 4})
    assert "Nothing is stored in it any more" in empty.mend
    # Stored by someone who trimmed the status too early.
    trimmed = replace(live, stored=("v1",))
    (found,) = crds.compare(crds.definition_of(crd("v1", "v1")), trimmed, {"v1alpha1": 2})
    assert "v1alpha1: 2 objects in etcd" in found.what
    assert crds.compare(crds.definition_of(crd("v1", "v1")), None, None) == []
    webhook = {"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://a"}}}
    assert crds.definition_of(crd("v1", "v1", "v2", conversion=webhook)).converts
    assert not crds.definition_of(crd("v1", "v1", conversion=webhook)).converts


def test_which_webhooks_match() -> None:
    def matches(resource: ServedResource = SERVED["secrets"], **rule: Any) -> bool:
        usual = {"operations": ["UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"]}
        document = {"metadata": {"name": "a"}, "webhooks": [{"name": "a", "rules": [{**usual, **rule}]}]}
        return webhooks.webhooks_of([document], "ValidatingWebhookConfiguration")[0].matches(resource)

    assert matches()
    assert matches(operations=["*"], apiGroups=["*"], apiVersions=["*"], resources=["*/*"])
    assert not matches(operations=["CREATE", "DELETE"])
    assert not matches(apiGroups=["apps"])
    assert not matches(resources=["secrets/status"])
    assert not matches(scope="Cluster")
    group = "admissionregistration.k8s.io"
    own = ServedResource("x", group, "validatingwebhookconfigurations", "X", False, frozenset(), ("v1",), ("h",))
    assert not matches(own, apiGroups=["*"], resources=["*"])


def test_webhooks_that_are_down() -> None:
    document = {"metadata": {"name": "a"}, "webhooks": [{"name": "a.b.c", "rules": []}]}
    (hook,) = webhooks.webhooks_of([document], "ValidatingWebhookConfiguration")

    def blocks(hook: webhooks.Webhook, passed: frozenset[str] = frozenset()) -> bool:
        finding = webhooks.judge(hook, ["secrets"], "its service is gone", passed)
        assert finding is not None
        return finding.blocks

    assert blocks(hook) is True
    assert blocks(replace(hook, fails=False)) is False
    assert blocks(replace(hook, selective=True)) is True
    assert blocks(replace(hook, selective=True), frozenset({"secrets"})) is False
    assert webhooks.judge(hook, [], "gone", frozenset()) is None
    assert webhooks.judge(hook, ["secrets"], None, frozenset()) is None


def test_unfinished_migrations() -> None:
    now = SERVED["secrets"].hashes
    progress = ResourceState(persisted=now, progress={"failed": [["default", "a"]]})
    state = State("2026-01-01", resources={"secrets": progress, WIDGETS: ResourceState(persisted=("x",))})

    def judge(pending: bool, etcd_read: bool) -> dict[str, bool]:
        found = record.judge(SERVED, state, Way("1.36", "1.37", pending), etcd_read=etcd_read)
        return {one.id: one.blocks for one in found}

    left = f"outstanding_migration/{WIDGETS}"
    assert judge(True, False) == {"unfinished_migration/secrets": True, left: False}
    assert judge(True, True) == {"unfinished_migration/secrets": False, left: False}
    assert judge(False, False) == {"unfinished_migration/secrets": False, left: False}
    assert record.judge(SERVED, State(), Way("1.36", "1.37"), etcd_read=False) == []


def test_the_plan() -> None:
    thing = served("things.new.k8s.io", "Thing", "v1", stored_as="v1beta1")
    everything = {**SERVED, thing.name: thing}
    counts: dict[str, int | None] = {thing.name: 20, "secrets": 5, AUTOSCALERS: 0, WIDGETS: 10}
    new = crds.definition_of(crd("v2", "v1", "v2"))
    sizes = {thing.name: 2000}
    made = plan.make_plan(everything, (), Way("1.36", "1.37"), RELEASES, [new], counts, sizes, 10.0)
    assert made["changes"] == [
        {
            "resource": "things.new.k8s.io",
            "from": "new.k8s.io/v1beta1",
            "to": "new.k8s.io/v1",
            "objects": 20,
            "bytes": 2000,
            "seconds": 2.0,
        },
        {
            "resource": WIDGETS,
            "from": "example.com/v1",
            "to": "example.com/v2",
            "objects": 10,
            "bytes": 0,
            "seconds": 1.0,
        },
    ]
    assert made["all"] == {"objects": 35, "bytes": 2000, "seconds": 3.5}
    blind = plan.make_plan(everything, (), Way("1.36", "1.37"), RELEASES, [], {**counts, "secrets": None}, None, None)
    assert blind["all"] == {"objects": None, "bytes": None, "seconds": None}


@pytest.mark.parametrize(
    ("message", "causes", "cause", "keys"),
    [
        (
            'no kind "HorizontalPodAutoscaler" is registered for version "autoscaling/v2beta2" in scheme "x"',
            [],
            "the API server knows no HorizontalPodAutoscaler of version autoscaling/v2beta2",
            (),
        ),
        (
            'unable to transform key "/registry/secrets/a/b": identity transformer tried to read encrypted data',
            [],
            "an object can't be decrypted with the keys that the API server has",
            ("/registry/secrets/a/b",),
        ),
        ('json: cannot unmarshal "hunter2" into Go struct', [], "an object is damaged or of an unknown form", ()),
        ("conversion webhook for x failed: hunter2", [], "its conversion webhook does not answer or fails", ()),
        ("hunter2", [], "the API server answers with 500", ()),
    ],
)
def test_why_a_list_fails(message: str, causes: list[Any], cause: str, keys: tuple[str, ...]) -> None:
    import json

    body = json.dumps({"kind": "Status", "message": message, "details": {"causes": causes}}).encode()
    failure = lists.failure_of(SERVED["secrets"], "v1", Response(500, {}, body))
    assert (failure.cause, failure.keys) == (cause, keys)
    (finding,) = lists.judge([failure], {}, etcd_read=False)
    assert "hunter2" not in str(finding.as_dict())
