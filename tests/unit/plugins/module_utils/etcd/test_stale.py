# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is expected of a resource, and why an object is stale."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.encryption import (
    IDENTITY,
    Encryption,
    EncryptionRules,
    parse_configuration,
    parse_manifest,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.kms_keys import KeyIds
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, Tally, Variant
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.stale import (
    Knowledge,
    Staleness,
    evaluate_all,
    evaluate_variant,
    expected_of,
    kms_plugins,
    resource_result,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    storage_version_hash,
)


def served(name: str, kind: str, version: str) -> dict[str, ServedResource]:
    plural, _dot, group = name.partition(".")
    digest = storage_version_hash(group, version, kind)
    return {name: ServedResource(name, group, plural, kind, True, frozenset(), (version,), (digest,))}


def tally(objects: int, newest: int, kind: str | None = None) -> Tally:
    return Tally(kind=kind, objects=objects, bytes=objects * 10, newest=newest, samples=[f"/registry/x/{newest}"])


POLICIES = "mutatingadmissionpolicies.admissionregistration.k8s.io"
OLD = Variant("admissionregistration.k8s.io/v1beta1", "protobuf")
NEW = Variant("admissionregistration.k8s.io/v1", "protobuf")
JSON = Variant("admissionregistration.k8s.io/v1", "json")


def test_the_hash_of_the_servers_decides() -> None:
    found = {OLD: tally(3, 9, "MutatingAdmissionPolicy"), NEW: tally(2, 5, "MutatingAdmissionPolicy")}
    known = Knowledge(served=served(POLICIES, "MutatingAdmissionPolicy", "v1"))
    expected = expected_of(POLICIES, found, known)
    assert (expected.version, expected.version_source) == ("admissionregistration.k8s.io/v1", "servers")
    assert evaluate_variant(OLD, "MutatingAdmissionPolicy", expected) == Staleness(("version",), True)
    assert evaluate_variant(NEW, "MutatingAdmissionPolicy", expected) == Staleness((), True, "guessed")


def test_without_servers_the_newest_write_is_used() -> None:
    expected = expected_of(POLICIES, {OLD: tally(3, 9), NEW: tally(2, 10)}, Knowledge())
    assert (expected.version, expected.version_source) == ("admissionregistration.k8s.io/v1", "newest")


def test_while_servers_disagree_nothing_is_expected() -> None:
    known = Knowledge(served=served(POLICIES, "MutatingAdmissionPolicy", "v1"), disagreeing=frozenset({POLICIES}))
    expected = expected_of(POLICIES, {OLD: tally(3, 9)}, known)
    assert (expected.version, expected.version_source) == (None, "disagreement")
    assert evaluate_variant(OLD, None, expected) == Staleness((), False, "guessed")


def test_the_newest_built_in_write_shows_the_encoding_of_all() -> None:
    stored = Stored(
        resources={
            POLICIES: {JSON: tally(3, 9, "MutatingAdmissionPolicy")},
            "leases.coordination.k8s.io": {Variant("coordination.k8s.io/v1", "protobuf"): tally(1, 50)},
            "widgets.example.com": {Variant("example.com/v1", "json"): tally(1, 60)},
            "apiservices.apiregistration.k8s.io": {Variant("apiregistration.k8s.io/v1", "json"): tally(1, 70)},
        }
    )
    evaluation = evaluate_all(stored, Knowledge(evidence=stored))
    assert evaluation.expected[POLICIES].encoding == "protobuf"
    assert evaluation.expected["widgets.example.com"].encoding == "json"
    assert evaluation.expected["apiservices.apiregistration.k8s.io"].encoding_source == "rule"
    assert [evaluation.stale(name) for name in stored.resources] == [3, 0, 0, 0]


def test_what_somebody_writes_past_the_api_servers_shows_nothing_while_there_are_leases() -> None:
    """Seen on 1.31: five ConfigMaps put into etcd as JSON made everything else stale, until a Lease was renewed."""
    stored = Stored(
        resources={
            POLICIES: {JSON: tally(3, 60, "MutatingAdmissionPolicy")},
            "leases.coordination.k8s.io": {Variant("coordination.k8s.io/v1", "protobuf"): tally(1, 50)},
        }
    )
    evaluation = evaluate_all(stored, Knowledge(evidence=stored))
    assert evaluation.expected[POLICIES].encoding == "protobuf"
    assert [evaluation.stale(name) for name in stored.resources] == [3, 0]


def test_without_a_lease_that_can_be_read_the_newest_write_of_any_shows_the_encoding() -> None:
    encrypted = Variant(None, "unknown", "aescbc", "v1", "key1")
    for leases in ({}, {"leases.coordination.k8s.io": {encrypted: tally(1, 70)}}):
        stored = Stored(resources={POLICIES: {JSON: tally(3, 60, "MutatingAdmissionPolicy")}, **leases})
        expected = evaluate_all(stored, Knowledge(evidence=stored)).expected[POLICIES]
        assert (expected.encoding, expected.encoding_source) == ("json", "newest")


def test_encryption_by_configuration_and_what_it_hides() -> None:
    plain, old, new = (
        Variant("v1", "protobuf"),
        Variant(None, None, "aescbc", "v1", "key1"),
        Variant(None, None, "aescbc", "v1", "key2"),
    )
    found = {plain: tally(1, 1, "Secret"), old: tally(2, 20), new: tally(4, 10)}
    rules = EncryptionRules({"secrets": Encryption("aescbc", "v1", "key2")})
    stored = Stored(resources={"secrets": found})
    known = Knowledge(served=served("secrets", "Secret", "v1"), encryption=rules, evidence=stored)
    evaluation = evaluate_all(stored, known)
    assert [
        evaluate_variant(variant, None, evaluation.expected["secrets"]).reasons for variant in (plain, old, new)
    ] == [
        ("encryption",),
        ("encryption",),
        (),
    ]
    assert (evaluation.stale("secrets"), evaluation.unprovable("secrets")) == (3, 4)
    result = resource_result("secrets", evaluation, 1)
    assert result["stale_reasons"] == {"version": 0, "encoding": 0, "encryption": 3}
    assert result["expected"]["key"] == "key2"
    assert len(result["samples"]) == 1


def encryption_of(variants: dict[Variant, Tally], known: Knowledge, name: str = "secrets") -> list[str | None]:
    """For each variant, ``stale`` and why its encryption is unknown; None if it is correct."""
    expected = expected_of(name, variants, known)
    found: list[str | None] = []
    for variant in variants:
        verdict = evaluate_variant(variant, None, expected)
        found.append("stale" if "encryption" in verdict.reasons else verdict.encryption_unknown)
    return found


def test_the_newest_write_is_a_guess_about_encryption() -> None:
    old, new = Variant(None, None, "aescbc", "v1", "key1"), Variant(None, None, "aescbc", "v1", "key2")
    found = {old: tally(2, 20), new: tally(4, 30)}
    expected = expected_of("secrets", found, Knowledge())
    assert (expected.key, expected.encryption_source) == ("key2", "newest")
    assert encryption_of(found, Knowledge()) == ["stale", "guessed"]
    assert encryption_of({Variant("v1", "protobuf"): tally(1, 1)}, Knowledge()) == ["guessed"]
    assert encryption_of({Variant("v1", "protobuf"): tally(1, 1)}, Knowledge(encryption=EncryptionRules())) == [None]
    # A corrupt value says nothing about the others.
    assert encryption_of({**found, Variant(None, "unknown"): tally(1, 40)}, Knowledge()) == ["stale", "guessed", None]


def test_keys_of_kms_v2_are_compared_with_what_the_servers_got() -> None:
    old = Variant(None, None, "kms", "v2", "plugin", "sha256:aa")
    new = Variant(None, None, "kms", "v2", "plugin", "sha256:bb")
    other = Variant(None, None, "kms", "v2", "other", "sha256:bb")
    found = {old: tally(2, 20), new: tally(4, 30), other: tally(1, 1)}
    rules = EncryptionRules({"*.*": Encryption("kms", "v2", "plugin")})
    told = KeyIds({"plugin": "sha256:bb"})
    assert encryption_of(found, Knowledge(encryption=rules, key_ids=told)) == ["stale", None, "stale"]
    # All under the previous key: nothing was written since it was rotated.
    assert encryption_of({old: tally(2, 20)}, Knowledge(encryption=rules, key_ids=told)) == ["stale"]
    unknown = KeyIds(unknown={"plugin": "no permission"})
    assert encryption_of(found, Knowledge(encryption=rules, key_ids=unknown)) == ["stale", "kms_key", "stale"]
    assert kms_plugins(Stored(resources={"secrets": found}), rules) == ["plugin"]
    assert kms_plugins(Stored(resources={"secrets": found}), None) == ["other", "plugin"]


def test_a_name_that_two_keys_share_proves_nothing() -> None:
    def keys(*secrets: str) -> dict[str, Any]:
        return {"aescbc": {"keys": [{"name": "key", "secret": secret} for secret in secrets]}}

    def parsed(*providers: dict[str, Any]) -> EncryptionRules:
        entries = [{"resources": ["secrets"], "providers": [provider]} for provider in providers]
        return parse_configuration({"kind": "EncryptionConfiguration", "resources": entries})

    found = {Variant(None, None, "aescbc", "v1", "key"): tally(1, 1), Variant("v1", "protobuf"): tally(1, 1)}
    assert encryption_of(found, Knowledge(encryption=parsed(keys("a", "b")))) == ["same_name", "stale"]
    # API servers try the keys of all entries that name the resource.
    assert encryption_of(found, Knowledge(encryption=parsed(keys("a"), keys("b")))) == ["same_name", "stale"]
    assert encryption_of(found, Knowledge(encryption=parsed(keys("a", "a"), keys("a")))) == [None, "stale"]
    assert encryption_of(found, Knowledge(encryption=parsed(keys("a", "b"))), "configmaps") == ["stale", None]


def test_a_name_that_is_not_known_is_not_compared() -> None:
    known, other = Variant(None, None, "secretbox", "v1", "a:1"), Variant(None, None, "secretbox", "v1", "b")
    begins = [Variant(None, None, "secretbox", "v1", None, None, start) for start in ("a", "a:1", "b", "a:", None)]
    rules = EncryptionRules({"secrets": Encryption("secretbox", "v1", "a:1")})
    found = dict.fromkeys([known, other, *begins], tally(1, 1))
    assert encryption_of(found, Knowledge(encryption=rules)) == [
        None,
        "stale",
        "key_name",
        "key_name",
        "stale",
        "stale",
        "key_name",
    ]


@pytest.mark.parametrize("encoding", ["empty", "unknown"])
def test_corrupt_values_are_never_called_current_or_stale(encoding: str) -> None:
    corrupt = Variant(None, encoding)
    known = Knowledge(served=served("secrets", "Secret", "v1"), encryption=EncryptionRules())
    expected = expected_of("secrets", {corrupt: tally(1, 1)}, known)
    assert evaluate_variant(corrupt, None, expected) == Staleness((), False)


CONFIGURATION = {
    "kind": "EncryptionConfiguration",
    "resources": [
        {"resources": ["secrets", "widgets.example.com"], "providers": [{"aescbc": {"keys": [{"name": "k2"}]}}]},
        {"resources": ["*.apps"], "providers": [{"kms": {"apiVersion": "v2", "name": "p"}}, {"identity": {}}]},
        {"resources": ["*."], "providers": [{"identity": {}}]},
        {"resources": ["*.*"], "providers": [{"secretbox": {"keys": [{"name": "s"}]}}]},
    ],
}


@pytest.mark.parametrize(
    ("resource", "encryption"),
    [
        ("secrets", Encryption("aescbc", "v1", "k2")),
        ("widgets.example.com", Encryption("aescbc", "v1", "k2")),
        ("deployments.apps", Encryption("kms", "v2", "p")),
        ("configmaps", IDENTITY),
        ("leases.coordination.k8s.io", Encryption("secretbox", "v1", "s")),
        ("events.events.k8s.io", IDENTITY),
    ],
)
def test_encryption_configuration(resource: str, encryption: Encryption) -> None:
    assert parse_configuration(CONFIGURATION).of(resource) == encryption


def test_entries_that_name_a_resource_are_merged() -> None:
    """The first provider of the first of them writes, whatever comes between; all keys are tried."""
    entries = [
        {"resources": ["secrets"], "providers": [{"aescbc": {"keys": [{"name": "a", "secret": "1"}]}}]},
        {"resources": ["configmaps", "secrets."], "providers": [{"aescbc": {"keys": [{"name": "a", "secret": "2"}]}}]},
        {"resources": ["*."], "providers": [{"identity": {}}, {"aescbc": {"keys": [{"name": "a", "secret": "3"}]}}]},
    ]
    rules = parse_configuration({"kind": "EncryptionConfiguration", "resources": entries})
    assert rules.of("secrets") == rules.of("configmaps") == Encryption("aescbc", "v1", "a")
    assert rules.of("pods") == IDENTITY
    # Two keys of Secrets have the name; of ConfigMaps one, as the entry for the group doesn't concern them.
    assert rules.is_repeated("secrets", "aescbc", "a")
    assert not rules.is_repeated("configmaps", "aescbc", "a")
    assert not rules.is_repeated("pods", "aescbc", "a")


def test_what_no_entry_names_is_plain() -> None:
    assert EncryptionRules().of("secrets") == IDENTITY


@pytest.mark.parametrize(
    "document", [None, {}, {"kind": "Pod"}, "text", {"kind": "EncryptionConfiguration", "resources": [{}]}]
)
def test_no_encryption_configuration(document: object) -> None:
    with pytest.raises(ValueError, match=r"no|unknown"):
        parse_configuration(document)


def test_flags_of_a_static_pod() -> None:
    command = [
        "kube-apiserver",
        "--encryption-provider-config=/etc/enc.yaml",
        "--storage-media-type",
        "application/json",
    ]
    manifest = {"spec": {"containers": [{"command": command}]}}
    assert parse_manifest(manifest) == ("/etc/enc.yaml", "application/json")
    assert parse_manifest({"spec": {"containers": [{"command": ["kube-apiserver"]}]}}) == (None, None)
    assert parse_manifest({"spec": {"containers": [{"command": ["etcd"]}]}}) is None
    assert parse_manifest(None) is None
