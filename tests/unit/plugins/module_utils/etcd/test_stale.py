# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is expected of a resource, and why an object is stale."""

from __future__ import annotations

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.encryption import (
    IDENTITY,
    Encryption,
    EncryptionRules,
    parse_configuration,
    parse_manifest,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, Tally, Variant
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.stale import (
    Knowledge,
    Verdict,
    expected_of,
    judge,
    judge_all,
    resource_result,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import (
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
    assert judge(OLD, "MutatingAdmissionPolicy", expected) == Verdict(("version",), True)
    assert judge(NEW, "MutatingAdmissionPolicy", expected) == Verdict((), True)


def test_without_servers_the_newest_write_stands_in() -> None:
    expected = expected_of(POLICIES, {OLD: tally(3, 9), NEW: tally(2, 10)}, Knowledge())
    assert (expected.version, expected.version_source) == ("admissionregistration.k8s.io/v1", "newest")


def test_while_servers_disagree_nothing_is_expected() -> None:
    known = Knowledge(served=served(POLICIES, "MutatingAdmissionPolicy", "v1"), disagreeing=frozenset({POLICIES}))
    expected = expected_of(POLICIES, {OLD: tally(3, 9)}, known)
    assert (expected.version, expected.version_source) == (None, "disagreement")
    assert judge(OLD, None, expected) == Verdict((), False)


def test_the_newest_built_in_write_shows_the_encoding_of_all() -> None:
    stored = Stored(
        resources={
            POLICIES: {JSON: tally(3, 9, "MutatingAdmissionPolicy")},
            "leases.coordination.k8s.io": {Variant("coordination.k8s.io/v1", "protobuf"): tally(1, 50)},
            "widgets.example.com": {Variant("example.com/v1", "json"): tally(1, 60)},
            "apiservices.apiregistration.k8s.io": {Variant("apiregistration.k8s.io/v1", "json"): tally(1, 70)},
        }
    )
    judgement = judge_all(stored, Knowledge(evidence=stored))
    assert judgement.expected[POLICIES].encoding == "protobuf"
    assert judgement.expected["widgets.example.com"].encoding == "json"
    assert judgement.expected["apiservices.apiregistration.k8s.io"].encoding_source == "rule"
    assert [judgement.stale(name) for name in stored.resources] == [3, 0, 0, 0]


def test_encryption_by_configuration_and_what_it_hides() -> None:
    plain, old, new = (
        Variant("v1", "protobuf"),
        Variant(None, None, "aescbc", "v1", "key1"),
        Variant(None, None, "aescbc", "v1", "key2"),
    )
    found = {plain: tally(1, 1, "Secret"), old: tally(2, 20), new: tally(4, 10)}
    rules = EncryptionRules(((("secrets",), Encryption("aescbc", "v1", "key2")),))
    stored = Stored(resources={"secrets": found})
    known = Knowledge(served=served("secrets", "Secret", "v1"), encryption=rules, evidence=stored)
    judgement = judge_all(stored, known)
    assert [judge(one, None, judgement.expected["secrets"]).reasons for one in (plain, old, new)] == [
        ("encryption",),
        ("encryption",),
        (),
    ]
    assert (judgement.stale("secrets"), judgement.unprovable("secrets")) == (3, 4)
    result = resource_result("secrets", judgement, 1)
    assert result["stale_reasons"] == {"version": 0, "encoding": 0, "encryption": 3}
    assert result["expected"]["key"] == "key2"
    assert len(result["samples"]) == 1


def test_encryption_by_the_newest_write() -> None:
    old, new = Variant(None, None, "aescbc", "v1", "key1"), Variant(None, None, "aescbc", "v1", "key2")
    expected = expected_of("secrets", {old: tally(2, 20), new: tally(4, 30)}, Knowledge())
    assert (expected.key, expected.encryption_source) == ("key2", "newest")


def test_kms_v2_keys_of_the_same_plugin_are_told_apart() -> None:
    old = Variant(None, None, "kms", "v2", "plugin", "sha256:aa")
    new = Variant(None, None, "kms", "v2", "plugin", "sha256:bb")
    rules = EncryptionRules(((("*.*",), Encryption("kms", "v2", "plugin")),))
    expected = expected_of("secrets", {old: tally(2, 20), new: tally(4, 30)}, Knowledge(encryption=rules))
    assert judge(old, None, expected).reasons == ("encryption",)
    assert judge(new, None, expected).reasons == ()


@pytest.mark.parametrize("encoding", ["empty", "unknown"])
def test_corrupt_values_are_never_called_current_or_stale(encoding: str) -> None:
    corrupt = Variant(None, encoding)
    known = Knowledge(served=served("secrets", "Secret", "v1"), encryption=EncryptionRules())
    expected = expected_of("secrets", {corrupt: tally(1, 1)}, known)
    assert judge(corrupt, None, expected) == Verdict((), False)


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
