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
)

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


def test_a_cut_value_is_never_taken_for_another_version() -> None:
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
