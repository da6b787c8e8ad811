# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which configuration follows which when a key is rotated, and what keeps an old key."""

from __future__ import annotations

import base64
from copy import deepcopy
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption_config_info import parse_metrics
from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption_rotation import (
    RotationProblem,
    Wish,
    plan_rotation,
    still_needed,
)

SERVED = ["secrets", "configmaps", "events", "events.events.k8s.io", "deployments.apps"]


def key(name: str, size: int = 32) -> dict[str, str]:
    return {"name": name, "secret": base64.b64encode(name.encode().ljust(size, b".")).decode()}


def config(*providers: dict[str, Any], resources: tuple[str, ...] = ("secrets",)) -> dict[str, Any]:
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": list(resources), "providers": list(providers)}],
    }


def names(document: dict[str, Any]) -> list[Any]:
    """Each provider with its keys' names."""
    return [
        (kind, *(one["name"] for one in settings.get("keys", ())))
        for provider in document["resources"][0]["providers"]
        for kind, settings in provider.items()
    ]


OLD = config({"aescbc": {"keys": [key("k1")]}}, {"identity": {}})
WISH = Wish("k2", ("secrets",))


def test_a_new_key_is_read_before_it_writes_and_is_alone_at_the_end() -> None:
    found = plan_rotation({"a": OLD}, WISH, SERVED)
    assert [names(one) for one in found.masters["a"].documents] == [
        [("aescbc", "k1", "k2"), ("identity",)],
        [("aescbc", "k2", "k1"), ("identity",)],
        [("aescbc", "k2"), ("identity",)],
    ]
    assert (found.provider, found.resources, found.all_known) == ("aescbc", ("secrets",), True)
    assert found.old == (("aescbc", "k1"),)
    assert found.masters["a"].done == 0
    assert names(OLD) == [("aescbc", "k1"), ("identity",)]


def test_a_random_secret_is_the_same_on_all_masters_and_never_twice_the_same() -> None:
    secrets = []
    for _time in range(2):
        found = plan_rotation({"a": OLD, "b": OLD}, WISH, SERVED)
        of = {
            one.documents[2]["resources"][0]["providers"][0]["aescbc"]["keys"][0]["secret"]
            for one in found.masters.values()
        }
        assert len(of) == 1
        secrets.append(of.pop())
    assert len(set(secrets)) == 2
    assert len(base64.b64decode(secrets[0])) == 32


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_an_interrupted_rotation_goes_on_with_the_same_secret(stage: int) -> None:
    first = plan_rotation({"a": OLD}, WISH, SERVED).masters["a"].documents
    again = plan_rotation({"behind": first[0], "a": first[stage]}, WISH, SERVED)
    assert again.masters["a"].done == stage + 1
    assert again.masters["behind"].documents == first
    assert again.masters["a"].documents == tuple(first[max(stage, number)] for number in range(3))


def test_to_another_provider() -> None:
    found = plan_rotation({"a": OLD}, Wish("k2", ("secrets",), provider="secretbox"), SERVED)
    assert [names(one) for one in found.masters["a"].documents] == [
        [("aescbc", "k1"), ("secretbox", "k2"), ("identity",)],
        [("secretbox", "k2"), ("aescbc", "k1"), ("identity",)],
        [("secretbox", "k2"), ("identity",)],
    ]


def test_from_plain_text_and_from_kms() -> None:
    plain = plan_rotation({"a": config({"identity": {}})}, WISH, SERVED)
    assert [names(one) for one in plain.masters["a"].documents] == [
        [("identity",), ("secretbox", "k2")],
        [("secretbox", "k2"), ("identity",)],
        [("secretbox", "k2"), ("identity",)],
    ]
    assert plain.old == ()
    kms = plan_rotation({"a": config({"kms": {"apiVersion": "v2", "name": "p"}})}, WISH, SERVED)
    assert kms.old == (("kms", "p"),)
    assert names(kms.masters["a"].documents[2]) == [("secretbox", "k2")]


def test_only_the_entry_of_the_resource_changes_and_the_first_that_names_it_counts() -> None:
    document = config({"aescbc": {"keys": [key("k1")]}})
    document["resources"].append({"resources": ["*.*"], "providers": [{"aesgcm": {"keys": [key("g")]}}]})
    document["resources"].append({"resources": ["secrets"], "providers": [{"identity": {}}]})
    before = deepcopy(document["resources"][1:])
    found = plan_rotation({"a": document}, WISH, SERVED)
    assert found.masters["a"].documents[2]["resources"][1:] == before
    assert found.resources == ("secrets",)
    wide = plan_rotation({"a": document}, Wish("k2", ("configmaps",)), SERVED)
    assert wide.resources == ("configmaps", "deployments.apps", "events")
    assert wide.all_known is False
    assert wide.provider == "aesgcm"


@pytest.mark.parametrize(
    ("configurations", "wish", "says"),
    [
        ({}, WISH, "no masters"),
        ({"a": OLD}, Wish("", ("secrets",)), "no name"),
        ({"a": {"kind": "Pod"}}, WISH, "a has no valid EncryptionConfiguration"),
        ({"a": OLD}, Wish("k2", ("configmaps",)), "no entry for configmaps"),
        ({"a": OLD}, Wish("k2", ("secrets",), provider="rot13"), "one of aescbc, aesgcm, secretbox"),
        ({"a": OLD}, Wish("k2", ("secrets",), secret="??"), "not base64"),
        ({"a": OLD}, Wish("k2", ("secrets",), secret="AAAA"), "has 3 bytes; aescbc takes 16 or 24 or 32"),
        ({"a": OLD}, Wish("k1", ("secrets",), secret=key("other")["secret"]), "another secret than the given one"),
        (
            {"a": OLD, "b": config({"aescbc": {"keys": [{**key("k1"), "name": "k2"}]}}), "c": config({"aescbc": {"keys": [key("k2")]}})},
            WISH,
            "different secrets under the name k2",
        ),
        ({"a": OLD, "b": config({"identity": {}}, resources=("secrets", "x.y.z"))}, WISH, "of a and b name other resources"),
    ],
)  # fmt: skip
def test_no_way_is_one_sentence_without_a_key(configurations: dict[str, Any], wish: Wish, says: str) -> None:
    with pytest.raises(RotationProblem) as found:
        plan_rotation(configurations, wish, SERVED)
    assert says in str(found.value)
    for name in ("k1", "k2", "other"):
        assert key(name)["secret"] not in str(found.value)


PLAN = {"resources": ["secrets"], "provider": "aescbc", "key": "k2", "old": [["aescbc", "k1"]]}


def row(provider: str, name: str | None, objects: int = 1, encoding: str | None = None) -> dict[str, Any]:
    return {"provider": provider, "key": name, "objects": objects, "encoding": encoding}


@pytest.mark.parametrize(
    ("rows", "elsewhere", "problems", "left"),
    [
        ([row("aescbc", "k2", 5)], [row("identity", None)], [], []),
        ([], [], [], []),
        ([row("aescbc", "k2"), row("aescbc", "k1", 3)], [], [], ["3 of secrets (aescbc k1)"]),
        ([row("aesgcm", "k2")], [], [], ["1 of secrets (aesgcm k2)"]),
        ([row("identity", None, 2, "protobuf")], [], [], ["2 of secrets (not encrypted)"]),
        ([row("identity", None, 1, "unknown")], [], [], ["1 of secrets (corrupt)"]),
        ([], [row("aescbc", "k1", 4)], [], ["4 under ranges, which no API server serves"]),
        ([], [row("aescbc", "k0", 4)], [], []),
        ([], [], ["compacted"], ["compacted"]),
    ],
)
def test_an_old_key_goes_only_if_nothing_is_under_it(
    rows: list[Any], elsewhere: list[Any], problems: list[str], left: list[str]
) -> None:
    stored = {
        "resources": {"secrets": {"stored": rows}, "configmaps": {"stored": [row("aescbc", "k0")]}},
        "unknown": [],
        "internal": [{"prefix": "ranges", "encryption": elsewhere}],
        "problems": problems,
    }
    assert still_needed(stored, PLAN) == left


def test_metrics_of_a_server() -> None:
    digest = "ab" * 32
    text = (
        "# TYPE process_start_time_seconds gauge\n"
        "process_start_time_seconds 1.7e+09\n"
        f'apiserver_encryption_config_controller_last_config_info{{apiserver_id_hash="sha256:{"cd" * 32}",hash="sha256:{digest}"}} 1\n'
        'apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds{apiserver_id_hash="x",status="failure"} 1.9e+09\n'
        'apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds{apiserver_id_hash="x",status="success"} 1.8e+09\n'
    )
    assert parse_metrics(text) == {"config_hash": digest, "started": 1.7e9, "reloaded": 1.8e9}
    assert parse_metrics("") == {"config_hash": None, "started": None, "reloaded": None}
