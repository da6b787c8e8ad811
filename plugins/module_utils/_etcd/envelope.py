# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a value in etcd is: its encoding, its version, who encrypted it. Never what it says. Pure.

Formats: k8s.io/apimachinery, pkg/runtime/serializer (protobuf: ``k8s\\0`` and a runtime.Unknown;
cbor: tag 55799, ``d9d9f7``); k8s.io/apiserver, pkg/server/options/encryptionconfig/config.go
(``k8s:enc:<provider>:<version>:<key name>:``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from typing import NamedTuple

_PROTOBUF = b"k8s\x00"
_CBOR = b"\xd9\xd9\xf7"
_ENCRYPTED = b"k8s:enc:"
# Enough for a TypeMeta or an encryption prefix; a multiple of four, as base64 wants.
_HEAD = 400
_JSON_HEAD = re.compile(
    rb'\s*\{\s*(?:"kind"\s*:\s*"([^"\\]*)"\s*,\s*)?"apiVersion"\s*:\s*"([^"\\]*)"\s*(?:,\s*"kind"\s*:\s*"([^"\\]*)")?'
)
_PRINTABLE = re.compile(r"[\x21-\x7e]{1,253}")
_MAX_DEPTH = 64


class Envelope(NamedTuple):
    """How one object is stored.

    ``encoding`` is ``protobuf``, ``json``, ``cbor``, ``empty``, ``unknown`` (corrupt, or of no known
    form) or None if encryption hides it; ``version`` such as ``apps/v1`` is None where it can't be
    told. ``provider`` is ``identity`` for plain values; ``key`` is the key's (for KMS the plugin's)
    name in the EncryptionConfiguration. ``key_id_hash`` is KMS v2's remote key, hashed as API
    servers do it in their metrics (``sha256:…``).
    """

    encoding: str | None
    version: str | None
    kind: str | None = None
    provider: str = "identity"
    provider_version: str | None = None
    key: str | None = None
    key_id_hash: str | None = None


EMPTY = Envelope("empty", None)
UNKNOWN = Envelope("unknown", None)

_known_heads: dict[bytes, Envelope] = {}
_KNOWN_HEADS_AT_MOST = 10_000


def classify_base64(text: str) -> tuple[Envelope, int]:
    """(envelope, size in bytes) of a value in base64; decodes no more of it than needed."""
    if not text:
        return EMPTY, 0
    size = len(text) // 4 * 3 - text[-2:].count("=")
    try:
        head = binascii.a2b_base64(text[:_HEAD])
    except (binascii.Error, ValueError):
        return UNKNOWN, size
    found = _from_head(head, whole=size <= len(head)) if head else UNKNOWN
    if found is None:
        try:
            found = classify(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            found = UNKNOWN
    return found, size


def classify(value: bytes) -> Envelope:
    """The envelope of a value."""
    return _from_head(value, whole=True) or UNKNOWN


def _from_head(head: bytes, *, whole: bool) -> Envelope | None:
    """The envelope, or None if more of the value must be seen (never if ``whole``)."""
    if head.startswith(_PROTOBUF):
        # TypeMeta is field 1 and comes first; its bytes repeat for every object of a kind.
        if len(head) > 6 and head[4] == 0x0A and head[5] < 0x80 and len(head) >= 6 + head[5]:
            end = 6 + head[5]
            type_meta = head[6:end]
            known = _known_heads.get(type_meta)
            if known is None:
                known = _protobuf(type_meta)
                if len(_known_heads) < _KNOWN_HEADS_AT_MOST:
                    _known_heads[type_meta] = known
            return known
        return _protobuf_unknown(head) if whole else None
    if not head:
        return EMPTY
    if head.startswith(_ENCRYPTED):
        return _encrypted(head, whole=whole)
    if head.startswith(_CBOR):
        return _cbor(head) if whole else None
    if head[:1] in (b"{", b" ", b"\n", b"\t", b"\r"):
        match = _JSON_HEAD.match(head)
        if match:
            kind = match[1] or match[3]
            return Envelope("json", _text(match[2]), _text(kind) if kind else None)
        return _json(head) if whole else None
    return UNKNOWN


def _text(raw: bytes) -> str | None:
    """A version or name for output; None if it isn't plain printable ASCII and so none that a server wrote."""
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError:
        return None
    return text if _PRINTABLE.fullmatch(text) else None


def _json(value: bytes) -> Envelope:
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return UNKNOWN
    if not isinstance(document, dict):
        return UNKNOWN
    version, kind = document.get("apiVersion"), document.get("kind")
    if not isinstance(version, str):
        return UNKNOWN
    return Envelope("json", _text(version.encode()), _text(kind.encode()) if isinstance(kind, str) else None)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(number, next position); raises IndexError or ValueError on nonsense."""
    result = shift = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")


def _fields(data: bytes) -> dict[int, bytes]:
    """The length-delimited fields of a protobuf message, the last of each number."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("field too long")
            found[tag >> 3] = data[at : at + length]
            at += length
        elif wire == 0:
            _number, at = _varint(data, at)
        elif wire == 1:
            at += 8
        elif wire == 5:
            at += 4
        else:
            raise ValueError("no such wire type")
    return found


def _protobuf(type_meta: bytes) -> Envelope:
    """From runtime.TypeMeta: field 1 apiVersion, field 2 kind."""
    try:
        fields = _fields(type_meta)
    except (IndexError, ValueError):
        return UNKNOWN
    version = _text(fields.get(1, b""))
    if version is None:
        return UNKNOWN
    return Envelope("protobuf", version, _text(fields.get(2, b"")))


def _protobuf_unknown(value: bytes) -> Envelope:
    """From a whole runtime.Unknown that doesn't begin as servers write it."""
    try:
        return _protobuf(_fields(value[4:])[1])
    except (IndexError, KeyError, ValueError):
        return UNKNOWN


def _encrypted(head: bytes, *, whole: bool) -> Envelope | None:
    parts = head.split(b":", 5)
    # A provider's own name may be longer than the head, but a key's name ends within it.
    if len(parts) < 6:
        return UNKNOWN if whole else None
    provider, version, key = (_text(part) for part in parts[2:5])
    if provider is None or version is None:
        return UNKNOWN
    key_id_hash = None
    if provider == "kms" and version == "v2":
        if not whole:
            return None
        key_id_hash = _kms_v2_key_id_hash(parts[5])
    return Envelope(None, None, None, provider, version, key, key_id_hash)


def _kms_v2_key_id_hash(encrypted_object: bytes) -> str | None:
    """Hash of field 2 (keyID) of kmsv2's EncryptedObject, in the form of the server's metric labels."""
    try:
        key_id = _fields(encrypted_object).get(2)
    except (IndexError, ValueError):
        return None
    return "sha256:" + hashlib.sha256(key_id).hexdigest() if key_id else None


def _cbor(value: bytes) -> Envelope:
    """From a self-described CBOR map; servers write its keys in any order, as text or byte strings."""
    try:
        major, count, at = _cbor_head(value, len(_CBOR))
        if major != 5:
            return UNKNOWN
        found: dict[bytes, bytes] = {}
        seen = 0
        while count is None or seen < count:
            if count is None and value[at] == 0xFF:
                break
            name, at = _cbor_string(value, at)
            if name in (b"apiVersion", b"kind"):
                found[name], at = _cbor_string(value, at)
                if len(found) == 2:
                    break
            else:
                at = _cbor_skip(value, at, 0)
            seen += 1
    except (IndexError, ValueError):
        return UNKNOWN
    version = _text(found.get(b"apiVersion", b""))
    return Envelope("cbor", version, _text(found.get(b"kind", b""))) if version else UNKNOWN


def _cbor_head(data: bytes, at: int) -> tuple[int, int | None, int]:
    """(major type, argument or None for indefinite length, next position)."""
    first = data[at]
    major, info = first >> 5, first & 31
    at += 1
    if info < 24:
        return major, info, at
    if info < 28:
        width = 1 << (info - 24)
        if at + width > len(data):
            raise IndexError
        return major, int.from_bytes(data[at : at + width], "big"), at + width
    if info == 31:
        return major, None, at
    raise ValueError("reserved")


def _cbor_string(data: bytes, at: int) -> tuple[bytes, int]:
    major, length, at = _cbor_head(data, at)
    if major not in (2, 3) or length is None:
        raise ValueError("not a plain string")
    if at + length > len(data):
        raise IndexError
    return data[at : at + length], at + length


def _cbor_skip(data: bytes, at: int, depth: int) -> int:
    """The position behind one item."""
    if depth > _MAX_DEPTH:
        raise ValueError("too deep")
    major, argument, at = _cbor_head(data, at)
    if major in (0, 1, 7):
        return at
    if major == 6:
        return _cbor_skip(data, at, depth + 1)
    if major in (2, 3):
        if argument is not None:
            return at + argument
        while data[at] != 0xFF:
            at = _cbor_skip(data, at, depth + 1)
        return at + 1
    each = 2 if major == 5 else 1
    if argument is None:
        while data[at] != 0xFF:
            for _part in range(each):
                at = _cbor_skip(data, at, depth + 1)
        return at + 1
    for _part in range(argument * each):
        at = _cbor_skip(data, at, depth + 1)
    return at
