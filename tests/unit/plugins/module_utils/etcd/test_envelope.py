# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Envelopes of values that real servers wrote (data/stored_values.json says how), and of broken ones."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.envelope import (
    EMPTY,
    UNKNOWN,
    Envelope,
    classify,
    classify_base64,
    key_names,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.providers import LOCAL_PROVIDERS
from hypothesis import given
from hypothesis import strategies as st

VALUES: dict[str, str] = json.loads((Path(__file__).parent / "data" / "stored_values.json").read_text())["values"]

EXPECTED = {
    "configmap protobuf": Envelope("protobuf", "v1", "ConfigMap"),
    "deployment protobuf": Envelope("protobuf", "apps/v1", "Deployment"),
    "crd json": Envelope("json", "apiextensions.k8s.io/v1beta1", "CustomResourceDefinition"),
    "apiservice json": Envelope("json", "apiregistration.k8s.io/v1", "APIService"),
    # These two hold a field that sorts before apiVersion, and an object in it with an apiVersion of its own.
    "widget json": Envelope("json", "example.com/v1", "Widget"),
    "widget cbor": Envelope("cbor", "example.com/v1", "Widget"),
    "configmap json": Envelope("json", "v1", "ConfigMap"),
    "secret aescbc": Envelope(None, None, None, "aescbc", "v1", "key-aescbc"),
    "secret aesgcm": Envelope(None, None, None, "aesgcm", "v1", "key-aesgcm"),
    "secret secretbox": Envelope(None, None, None, "secretbox", "v1", "key-secretbox"),
}


def encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


@pytest.mark.parametrize("name", sorted(VALUES))
def test_real_values(name: str) -> None:
    value = base64.b64decode(VALUES[name])
    assert classify(value) == EXPECTED[name]
    assert classify_base64(VALUES[name]) == (EXPECTED[name], len(value))


@pytest.mark.parametrize("name", sorted(VALUES))
def test_no_part_of_a_real_value_crashes(name: str) -> None:
    value = base64.b64decode(VALUES[name])
    for end in range(len(value)):
        found = classify(value[:end])
        assert found in (EXPECTED[name], EMPTY, UNKNOWN) or found._replace(kind=EXPECTED[name].kind) == EXPECTED[name]


def test_a_truncated_value_is_never_taken_for_another_version() -> None:
    value = base64.b64decode(VALUES["widget json"])
    for end in range(value.index(b'"apiVersion":"example.com/v1"') + 20):
        assert classify(value[:end]).version is None


@pytest.mark.parametrize(
    "value",
    [
        b"k8s\x00",
        b"k8s\x00\n",
        b"k8s\x00\n\x05",
        b"k8s\x00\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"k8s\x00\n\x04\n\x02\xff\xfe",
        b"k8s:enc:",
        b"k8s:enc:aescbc:v1:",
        b"{",
        b'{"apiVersion":',
        b'{"apiVersion": 3}',
        b'{"metadata":{"apiVersion":"v1"}}',
        b"[1]",
        b"\xd9\xd9\xf7",
        b"\xd9\xd9\xf7\xa1",
        b"\xd9\xd9\xf7\x01",
        b"\xd9\xd9\xf7" + b"\x81" * 5000,
        b"\xd9\xd9\xf7\xa1\x41a" + b"\x81" * 5000,
        b"\xd9\xd9\xf7\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"hello",
        b"\x00\xff" * 300,
        b"k8s",
    ],
)
def test_corrupt_values_are_unknown(value: bytes) -> None:
    assert classify(value) == UNKNOWN
    assert classify_base64(encoded(value)) == (UNKNOWN, len(value))


def test_empty() -> None:
    assert classify_base64("") == (EMPTY, 0)


def test_no_base64() -> None:
    assert classify_base64("!!!")[0] == UNKNOWN


def test_json_as_people_write_it() -> None:
    value = b' {\n  "metadata": {"name": "a"},\n  "kind": "Foo",\n  "apiVersion": "a/v1"}'
    assert classify(value) == Envelope("json", "a/v1", "Foo")


def test_a_field_longer_than_what_is_decoded_at_first() -> None:
    value = json.dumps({"aaa": "x" * 5000, "apiVersion": "a/v1", "kind": "Foo"}).encode()
    assert classify_base64(encoded(value)) == (Envelope("json", "a/v1", "Foo"), len(value))


def test_a_version_that_no_server_writes_is_not_repeated() -> None:
    assert classify(b'{"apiVersion":"v1\x1b[2J","kind":"A"}').version is None


def test_kms_v1_has_the_name_of_its_plugin() -> None:
    # k8s.io/apiserver, envelope.go: the prefix, the length of the encrypted key, the key, the data.
    value = b"k8s:enc:kms:v1:plugin-a:\x00\x10" + bytes(16) + b"ciphertext" * 100
    assert classify_base64(encoded(value))[0] == Envelope(None, None, None, "kms", "v1", "plugin-a")


@pytest.mark.parametrize("size", [10, 5000])
def test_kms_v2_has_the_hash_of_its_key_id(size: int) -> None:
    # kmsv2's EncryptedObject: 1 encryptedData, 2 keyID, 3 encryptedDEKSource, 5 its type.
    data = b"\x0a" + bytes([size & 0x7F | 0x80, size >> 7]) + b"\x01" * size + b"\x12\x05key-7\x1a\x02\x01\x01\x28\x01"
    found, _size = classify_base64(encoded(b"k8s:enc:kms:v2:plugin-b:" + data))
    digest = hashlib.sha256(b"key-7").hexdigest()
    assert found == Envelope(None, None, None, "kms", "v2", "plugin-b", f"sha256:{digest}")


# Names of keys

# The least bytes of a ciphertext, and its block.
FORMS = {"aescbc": (32, 16), "aesgcm": (28, 1), "secretbox": (40, 1)}
NAMES = st.one_of(
    st.sampled_from(["key1", "aescbckey", "aescbckey-2026-01-10T22:54:38Z", "aescbckey-2026-01-10T22:58:02Z", "a:b", "a", "a:", ":", "ü:ñ"]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400),
    st.text("ab:", min_size=1, max_size=8),
)  # fmt: skip


def test_each_provider_has_a_form_here_and_a_real_value_above() -> None:
    assert {name: (local.shortest, local.block) for name, local in LOCAL_PROVIDERS.items()} == FORMS
    assert {found.provider for found in EXPECTED.values()} == {"identity", *LOCAL_PROVIDERS}


@st.composite
def sealed_values(draw: st.DrawFn) -> tuple[str, str, bytes]:
    """(provider, name of the key, value as an API server stores it); the ciphertext may look like text."""
    provider = draw(st.sampled_from([*FORMS, "kms"]))
    name = draw(NAMES)
    looks = st.one_of(st.binary(max_size=200), st.text("ab:5438Z", max_size=200).map(str.encode))
    filler = draw(looks)
    if provider == "kms":
        sealed_key = draw(st.binary(min_size=1, max_size=300))
        rest = len(sealed_key).to_bytes(2, "big") + sealed_key + filler.ljust(28, b":")
    else:
        least, block = FORMS[provider]
        size = max(least, -(-len(filler) // block) * block)
        rest = filler.ljust(size, b":")
    return provider, name, f"k8s:enc:{provider}:v1:{name}:".encode() + rest


def told(value: bytes, names: list[tuple[str, str]]) -> Envelope:
    envelope = classify(value, key_names(names))
    assert classify_base64(encoded(value), key_names(names)) == (envelope, len(value))
    return envelope


@given(sealed_values())
def test_without_names_no_wrong_key_is_ever_claimed(sealed: tuple[str, str, bytes]) -> None:
    provider, name, value = sealed
    envelope = told(value, [])
    assert (envelope.provider, envelope.version, envelope.encoding) == (provider, None, None)
    if envelope.key is not None:
        assert envelope.key == name and envelope.key_begins_with is None
    elif envelope.key_begins_with is not None:
        assert f"{name}:".startswith(f"{envelope.key_begins_with}:")


@given(sealed_values(), st.lists(NAMES, max_size=5))
def test_with_all_names_no_wrong_key_is_ever_claimed(sealed: tuple[str, str, bytes], others: list[str]) -> None:
    """Except for a ciphertext that by chance begins with the last eight bytes or more of a longer name."""
    provider, name, value = sealed
    envelope = told(value, [(provider, other) for other in (name, *others)])
    by_chance = [other for other in others if len(other.encode()) - len(name.encode()) >= 8]
    assert envelope.key in (None, name) or envelope.key in by_chance
    if not any(other.startswith(f"{name}:") or name.startswith(f"{other}:") for other in others if other != name):
        assert envelope.key == (name if name.isprintable() and len(name) <= 253 and "\ufffd" not in name else None)


def of(name: str, size: int = 64, provider: str = "aescbc") -> bytes:
    return f"k8s:enc:{provider}:v1:{name}:".encode() + b"\xff" * size


def test_names_of_rke2_and_k3s_are_known_without_a_configuration() -> None:
    """With aescbc, their default, by the length: what follows the name is a multiple of 16 bytes."""
    for name in ("aescbckey", "aescbckey-2026-01-10T22:54:38Z", "aescbckey-2026-01-10T22:58:02Z"):
        assert told(of(name), []).key == name


def test_a_name_that_may_continue_is_not_claimed() -> None:
    name = "secretboxkey-2026-01-10T22:54:38Z"
    envelope = told(of(name, provider="secretbox"), [])
    assert (envelope.key, envelope.key_begins_with) == (None, "secretboxkey-2026-01-10T22")
    assert told(of(name, provider="secretbox"), [("secretbox", name)]).key == name
    assert told(of(name, provider="secretbox"), [("aescbc", name), ("secretbox", "other")]).key is None


def test_the_longer_of_two_known_names_is_taken_if_that_is_not_chance() -> None:
    value = of("key:2026-01-10", provider="aesgcm")
    assert told(value, [("aesgcm", "key"), ("aesgcm", "key:2026-01-10")]).key == "key:2026-01-10"
    value = of("key:2", provider="aesgcm")
    assert told(value, [("aesgcm", "key"), ("aesgcm", "key:2")])[5:] == (None, None, "key")
    # A ciphertext of aescbc has another length.
    assert told(of("key:2"), [("aescbc", "key"), ("aescbc", "key:2")]).key == "key:2"


def test_a_plugin_of_kms_v1_may_have_colons_in_its_name() -> None:
    value = b"k8s:enc:kms:v1:my:plugin:" + (80).to_bytes(2, "big") + bytes(80) + bytes(60)
    assert told(value, []).key == "my:plugin"


@given(st.binary(max_size=700), st.sampled_from(["aescbc:v1", "secretbox:v1", "kms:v1", "kms:v2", "new:v9"]))
def test_nothing_behind_a_provider_crashes(rest: bytes, provider: str) -> None:
    told(f"k8s:enc:{provider}:".encode() + rest, [("aescbc", "a" * 500), ("secretbox", "a:b")])


BEGINNINGS = st.sampled_from(
    [
        b"",
        b"k8s\0",
        b"k8s:enc:",
        b"k8s:enc:aescbc:v1:",
        b"k8s:enc:kms:v2:p:",
        b"\xd9\xd9\xf7",
        b"\xd9\xd9\xf7\xa2",
        b"{",
        b'{"apiVersion":"',
    ]
    + [base64.b64decode(value)[:40] for value in VALUES.values()]
)


@given(BEGINNINGS, st.binary(max_size=900))
def test_arbitrary_bytes_never_crash_and_never_become_a_claim(beginning: bytes, rest: bytes) -> None:
    """What is claimed about a value is in it, byte for byte, where a server would have written it."""
    value = beginning + rest
    found = classify(value)
    assert classify_base64(encoded(value)) == (found, len(value))
    for told in (found.version, found.kind):
        assert told is None or told.encode() in value
    if found.encoding is None or found.provider != "identity":
        assert value.startswith(f"k8s:enc:{found.provider}:".encode()) and found.version is None
    else:
        forms = {
            "protobuf": b"k8s\0",
            "cbor": b"\xd9\xd9\xf7",
            "json": (b"{", b" ", b"\n", b"\t", b"\r"),
            "empty": b"",
            "unknown": b"",
        }
        assert value.startswith(forms[found.encoding])
        assert (found.version is None) == (found.encoding in ("empty", "unknown"))
    if found.key is not None:
        assert f":{found.key}:".encode() in value


@pytest.mark.parametrize(
    "value", [b'{"apiVersion":""', b'{"apiVersion":"\\ud800"}', b'{"kind":"A","apiVersion":"a b"}']
)
def test_json_without_a_version_that_a_server_wrote_is_corrupt(value: bytes) -> None:
    assert classify(value) == UNKNOWN


@given(st.text(max_size=600))
def test_text_that_is_not_base64_never_crashes(text: str) -> None:
    found, _size = classify_base64(text)
    assert found.provider != "identity" or (found.version is None) == (found.encoding in ("empty", "unknown"))


@given(
    st.sampled_from(sorted(VALUES)),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_a_damaged_value_is_reported_as_it_is_or_as_corrupt(name: str, damage: list[tuple[int, int]]) -> None:
    value = bytearray(base64.b64decode(VALUES[name]))
    for at, byte in damage:
        value[at % len(value)] = byte
    found = classify(bytes(value))
    assert found.version is None or found.version.encode() in value
    assert classify_base64(encoded(bytes(value)))[0] == found
