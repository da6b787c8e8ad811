# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The form of a value in etcd: its encoding, its version, and how it is encrypted. Never its content. Pure.

Formats: k8s.io/apimachinery, pkg/runtime/serializer (protobuf: ``k8s\\0`` and a runtime.Unknown;
cbor: tag 55799, ``d9d9f7``); k8s.io/apiserver, pkg/server/options/encryptionconfig/config.go
(``k8s:enc:<provider>:<version>:<key name>:``).

The name of a local key or of a KMS v1 plugin may itself contain colons (RKE2 and k3s make ``aescbckey-2026-01-10T22:54:38Z``),
and nothing marks where it ends: an API server tries the names in its configuration. So ``key`` is set only if no other name
is possible, given the known names, the length and form of each provider's output, and that names are valid UTF-8 (they come
from YAML). Otherwise it is None.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.protobuf import fields
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.providers import LOCAL_PROVIDERS

_PROTOBUF = b"k8s\x00"
_CBOR = b"\xd9\xd9\xf7"
ENCRYPTED = b"k8s:enc:"
# Enough for a TypeMeta or an encryption prefix; a multiple of four, as base64 wants.
_HEAD = 400
_JSON_HEAD = re.compile(
    rb'\s*\{\s*(?:"kind"\s*:\s*"([^"\\]*)"\s*,\s*)?"apiVersion"\s*:\s*"([^"\\]*)"\s*(?:,\s*"kind"\s*:\s*"([^"\\]*)")?'
)
_PRINTABLE = re.compile(r"[\x21-\x7e]{1,253}")
_MAX_DEPTH = 64
_LONGEST_NAME = 253
# If two names fit, one begins with the other. The probability that the shorter one's ciphertext, which begins with random
# bytes, looks by chance like the rest of the longer one is 256 to the power of minus this.
_NO_CHANCE = 8

# By provider, the names of keys that may encrypt values, longest first.
KeyNames = Mapping[str, tuple[bytes, ...]]
NO_NAMES: KeyNames = MappingProxyType({})


def key_names(keys: Iterable[tuple[str, str]]) -> KeyNames:
    """From pairs of provider and name."""
    found: dict[str, set[bytes]] = {}
    for provider, name in keys:
        found.setdefault(provider, set()).add(name.encode())
    return {provider: tuple(sorted(names, key=lambda name: (-len(name), name))) for provider, names in found.items()}


class Envelope(NamedTuple):
    """How one object is stored.

    ``encoding`` is ``protobuf``, ``json``, ``cbor``, ``empty``, ``unknown`` (corrupt, or in no known
    form) or None if encryption hides it; ``version`` such as ``apps/v1`` is None if it is
    unknown. ``provider`` is ``identity`` for plain values; ``key`` is the key's (for KMS the plugin's)
    name in the EncryptionConfiguration, None if more than one is possible. ``key_id_hash`` is
    KMS v2's remote key, hashed as API servers do it in their metrics (``sha256:…``).
    ``key_begins_with``, only if ``key`` is None: the shortest of the possible names; the others
    continue with a colon.
    """

    encoding: str | None
    version: str | None
    kind: str | None = None
    provider: str = "identity"
    provider_version: str | None = None
    key: str | None = None
    key_id_hash: str | None = None
    key_begins_with: str | None = None


EMPTY = Envelope("empty", None)
UNKNOWN = Envelope("unknown", None)

_known_heads: dict[bytes, Envelope] = {}
_KNOWN_HEADS_AT_MOST = 10_000


def classify_base64(text: str, names: KeyNames = NO_NAMES) -> tuple[Envelope, int]:
    """(envelope, size in bytes) of a value in base64; decodes no more than needed."""
    if not text:
        return EMPTY, 0
    size = len(text) // 4 * 3 - text[-2:].count("=")
    try:
        head = binascii.a2b_base64(text[:_HEAD])
    except (binascii.Error, ValueError):
        return UNKNOWN, size
    found = _from_head(head, size, names) if head else UNKNOWN
    if found is None:
        try:
            found = classify(base64.b64decode(text, validate=True), names)
        except (binascii.Error, ValueError):
            found = UNKNOWN
    return found, size


def classify(value: bytes, names: KeyNames = NO_NAMES) -> Envelope:
    """The envelope of a value."""
    return _from_head(value, len(value), names) or UNKNOWN


def _from_head(head: bytes, size: int, names: KeyNames) -> Envelope | None:
    """The envelope of a value of that size, or None if its head is not enough."""
    whole = size <= len(head)
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
    if head.startswith(ENCRYPTED):
        return _encrypted(head, size, names)
    if head.startswith(_CBOR):
        return _cbor(head) if whole else None
    if head[:1] in (b"{", b" ", b"\n", b"\t", b"\r"):
        match = _JSON_HEAD.match(head)
        if match:
            return _json_envelope(match[2], match[1] or match[3] or b"")
        return _json(head) if whole else None
    return UNKNOWN


def _text(raw: bytes) -> str | None:
    """A version or name for output; None if it isn't plain printable ASCII, so no server wrote it."""
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
    return _json_envelope(
        version.encode(errors="surrogatepass"), kind.encode(errors="surrogatepass") if isinstance(kind, str) else b""
    )


def _json_envelope(version: bytes, kind: bytes) -> Envelope:
    """Without a version that a server may have written, nothing is claimed about the value."""
    text = _text(version)
    return UNKNOWN if text is None else Envelope("json", text, _text(kind))


def _fields(data: bytes) -> dict[int, bytes]:
    """The length-delimited fields of a protobuf message, the last of each number."""
    return {number: value for number, value in fields(data) if isinstance(value, bytes)}


def _protobuf(type_meta: bytes) -> Envelope:
    """From runtime.TypeMeta: field 1 apiVersion, field 2 kind."""
    try:
        found = _fields(type_meta)
    except (IndexError, ValueError):
        return UNKNOWN
    version = _text(found.get(1, b""))
    if version is None:
        return UNKNOWN
    return Envelope("protobuf", version, _text(found.get(2, b"")))


def _protobuf_unknown(value: bytes) -> Envelope:
    """From a whole runtime.Unknown that doesn't begin as servers write it."""
    try:
        return _protobuf(_fields(value[4:])[1])
    except (IndexError, KeyError, ValueError):
        return UNKNOWN


def _encrypted(head: bytes, size: int, names: KeyNames) -> Envelope | None:
    whole = size <= len(head)
    parts = head.split(b":", 4)
    if len(parts) < 5:
        return UNKNOWN if whole else None
    provider, version = (_text(part) for part in parts[2:4])
    if provider is None or version is None:
        return UNKNOWN
    if (provider, version) == ("kms", "v2"):
        # The only kind whose name has no colon (k8s.io/apiserver, apis/apiserver/validation, validateKMSConfigName).
        name, colon, rest = parts[4].partition(b":")
        if not whole:
            return None
        return (
            Envelope(None, None, None, provider, version, _text(name), _kms_v2_key_id_hash(rest)) if colon else UNKNOWN
        )
    possible = _possible_names(provider, parts[4], size - len(head) + len(parts[4]), names.get(provider, ()))
    if possible is None:
        return None
    if not possible:
        return UNKNOWN
    shortest = _name(possible[0])
    if len(possible) > 1:
        return Envelope(None, None, None, provider, version, None, None, shortest)
    return Envelope(None, None, None, provider, version, shortest)


def _possible_names(provider: str, seen: bytes, size: int, names: Iterable[bytes]) -> list[bytes] | None:
    """The names that may precede the ciphertext (only some if there are more than two), the shortest first.

    ``seen`` is the beginning of all that follows ``k8s:enc:<provider>:<version>:``, which has ``size`` bytes. ``names`` are those
    that are known, the longest first. None: more must be seen.
    """
    whole = size <= len(seen)
    if not whole and any(len(name) + 3 > len(seen) for name in names):
        return None
    known = [name for name in names if seen.startswith(name + b":") and _fits(provider, seen, len(name) + 1, size)]
    if known:
        return known[:1] if len(known) == 1 or len(known[0]) - len(known[1]) >= _NO_CHANCE else [known[-1], known[0]]
    end = _end_of_text(seen)
    if not whole and end + 3 > len(seen):
        return None
    colons = [at for at in range(1, end) if seen[at] == 0x3A]
    # If the rest has no form that the provider writes, the value is corrupt, and its form says nothing.
    fitting = [at for at in colons if _fits(provider, seen, at + 1, size)] or colons
    return [seen[:at] for at in fitting[:2]]


def _fits(provider: str, seen: bytes, at: int, size: int) -> bool:
    """Whether a provider's ciphertext may begin there (k8s.io/apiserver, pkg/storage/value/encrypt)."""
    length = size - at
    if provider in LOCAL_PROVIDERS:
        return LOCAL_PROVIDERS[provider].may_write(length)
    if provider == "kms":
        # The length of the sealed data key in two bytes, that key, and what is sealed with it by AES-GCM (or -CBC).
        sealed_key = int.from_bytes(seen[at : at + 2], "big")
        return sealed_key > 0 and length >= 2 + sealed_key + 12 + 16
    return True


def _end_of_text(data: bytes) -> int:
    """How many bytes from the beginning are valid UTF-8; an incomplete character at the end counts as valid."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return len(data) if error.reason == "unexpected end of data" else error.start
    return len(data)


def _name(raw: bytes) -> str | None:
    """A key's name for output; None if it can't be shown."""
    text = raw.decode(errors="replace")
    return text if text.isprintable() and len(text) <= _LONGEST_NAME and "\ufffd" not in text else None


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
    """The position after one item."""
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
    values_each = 2 if major == 5 else 1
    if argument is None:
        while data[at] != 0xFF:
            for _part in range(values_each):
                at = _cbor_skip(data, at, depth + 1)
        return at + 1
    for _part in range(argument * values_each):
        at = _cbor_skip(data, at, depth + 1)
    return at
