# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Does what etcd's JSON gateway does: which gRPC call a path is, and the messages of both sides. Pure.

So the rest of the package needs to know only one form, that of the gateway: numbers of 64 bits as texts, bytes in base64, zeros left
out. Of each message only the fields that somebody here reads or sends are known (go.etcd.io/etcd/api, etcdserverpb/rpc.proto,
mvccpb/kv.proto). Turning a page of values into JSON and back costs less than parsing it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Union

from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.protobuf import field, fields, varint


class Kind(Enum):
    """``SIGNED`` and ``UNSIGNED``: 64 bits."""

    SIGNED = "signed"
    UNSIGNED = "unsigned"
    BOOL = "bool"
    BYTES = "bytes"
    TEXT = "text"


class Field(NamedTuple):
    """``kind``: or the fields of the message that it is."""

    name: str
    kind: Union[Kind, Mapping[int, Field]]
    repeated: bool = False


_HEADER: Mapping[int, Field] = {
    1: Field("cluster_id", Kind.UNSIGNED),
    2: Field("member_id", Kind.UNSIGNED),
    3: Field("revision", Kind.SIGNED),
    4: Field("raft_term", Kind.UNSIGNED),
}
_MEMBER: Mapping[int, Field] = {
    1: Field("ID", Kind.UNSIGNED),
    2: Field("name", Kind.TEXT),
    3: Field("peerURLs", Kind.TEXT, repeated=True),
    4: Field("clientURLs", Kind.TEXT, repeated=True),
    5: Field("isLearner", Kind.BOOL),
}
_STATUS: Mapping[int, Field] = {
    1: Field("header", _HEADER),
    2: Field("version", Kind.TEXT),
    3: Field("dbSize", Kind.SIGNED),
    4: Field("leader", Kind.UNSIGNED),
    8: Field("errors", Kind.TEXT, repeated=True),
    9: Field("dbSizeInUse", Kind.SIGNED),
    10: Field("isLearner", Kind.BOOL),
    12: Field("dbSizeQuota", Kind.SIGNED),
}
_RANGE: Mapping[int, Field] = {
    1: Field("key", Kind.BYTES),
    2: Field("range_end", Kind.BYTES),
    3: Field("limit", Kind.SIGNED),
    4: Field("revision", Kind.SIGNED),
    7: Field("serializable", Kind.BOOL),
    8: Field("keys_only", Kind.BOOL),
    9: Field("count_only", Kind.BOOL),
    10: Field("min_mod_revision", Kind.SIGNED),
}
_RANGE_FOUND: Mapping[int, Field] = {
    1: Field("header", _HEADER),
    3: Field("more", Kind.BOOL),
    4: Field("count", Kind.SIGNED),
}


@dataclass(frozen=True)
class Call:
    """One procedure of etcd. ``answer`` makes the gateway's JSON from a message; raises IndexError or ValueError on nonsense."""

    method: str
    request: Mapping[int, Field]
    answer: Callable[[bytes], bytes]
    streams: bool = False

    def message(self, document: Mapping[str, Any]) -> bytes:
        """The request as protobuf. Raises ValueError for a key that it has no field for."""
        known = {field.name: (number, field.kind) for number, field in self.request.items()}
        unknown = document.keys() - known.keys()
        if unknown:
            raise ValueError(f"{self.method} has no field {', '.join(sorted(unknown))}")
        return b"".join(
            field(known[name][0], _to_wire(known[name][1], value)) for name, value in document.items() if value
        )


def _to_wire(kind: Kind | Mapping[int, Field], value: Any) -> int | bytes:
    if kind is Kind.BYTES:
        return base64.b64decode(value)
    return str(value).encode() if kind is Kind.TEXT else int(value)


def document_of(message: bytes, known: Mapping[int, Field]) -> dict[str, Any]:
    """A message as the gateway writes it. Raises IndexError or ValueError on nonsense."""
    found: dict[str, Any] = {}
    for number, value in fields(message):
        each = known.get(number)
        if each is None:
            continue
        shown = _shown(each.kind, value)
        if each.repeated:
            found.setdefault(each.name, []).append(shown)
        else:
            found[each.name] = shown
    return found


def _shown(kind: Kind | Mapping[int, Field], value: int | bytes) -> Any:
    if isinstance(value, int):
        if kind is Kind.BOOL:
            return bool(value)
        return str(value - (1 << 64) if kind is Kind.SIGNED and value >= 1 << 63 else value)
    if isinstance(kind, Mapping):
        return document_of(value, kind)
    return base64.b64encode(value).decode() if kind is Kind.BYTES else value.decode(errors="replace")


def _json_of(known: Mapping[int, Field]) -> Callable[[bytes], bytes]:
    def answer(message: bytes) -> bytes:
        return json.dumps(document_of(message, known), separators=(",", ":")).encode()

    return answer


def range_answer(message: bytes, min_mod_revision: int = 0) -> bytes:
    """A page of keys, leaving out those that were written before ``min_mod_revision``.

    Written out by hand, because everything in etcd passes through here. Raises IndexError or ValueError on nonsense.
    """
    pairs: list[bytes] = []
    rest = bytearray()
    at, size = 0, len(message)
    while at < size:
        began = at
        tag, at = varint(message, at)
        if tag & 7 == 0:
            _value, at = varint(message, at)
        elif tag & 7 == 2:
            length, at = varint(message, at)
            at += length
            if at > size:
                raise ValueError("field too long")
            if tag == 0x12:
                pair = _pair(message, at - length, at, min_mod_revision)
                if pair is not None:
                    pairs.append(pair)
                continue
        else:
            raise ValueError("no such field")
        rest += message[began:at]
    found = document_of(bytes(rest), _RANGE_FOUND)
    head = json.dumps({"header": found.pop("header", {})}, separators=(",", ":")).encode()[:-1]
    tail = json.dumps(found, separators=(",", ":")).encode()[1:]
    listed = b',"kvs":[' + b",".join(pairs) + b"]" if pairs else b""
    return head + listed + (b"," if len(tail) > 1 else b"") + tail


def _pair(message: bytes, at: int, end: int, min_mod_revision: int) -> bytes | None:
    key = value = b""
    mod_revision = 0
    while at < end:
        tag = message[at]
        if tag & 0x80:
            raise ValueError("no such field")
        number, at = varint(message, at + 1)
        if tag == 0x0A:
            key = message[at : at + number]
            at += number
        elif tag == 0x2A:
            value = message[at : at + number]
            at += number
        elif tag == 0x18:
            mod_revision = number
        elif tag & 7:
            raise ValueError("no such field")
    if at != end:
        raise ValueError("field too long")
    if mod_revision < min_mod_revision:
        return None
    shown = b'{"key":"%b","mod_revision":"%d"' % (binascii.b2a_base64(key, newline=False), mod_revision)
    if value:
        shown += b',"value":"%b"' % binascii.b2a_base64(value, newline=False)
    return shown + b"}"


CALLS: Mapping[str, Call] = {
    "/v3/kv/range": Call("/etcdserverpb.KV/Range", _RANGE, range_answer),
    "/v3/maintenance/status": Call("/etcdserverpb.Maintenance/Status", {}, _json_of(_STATUS)),
    "/v3/maintenance/hashkv": Call(
        "/etcdserverpb.Maintenance/HashKV",
        {1: Field("revision", Kind.SIGNED)},
        _json_of(
            {
                1: Field("header", _HEADER),
                2: Field("hash", Kind.UNSIGNED),
                3: Field("compact_revision", Kind.SIGNED),
            }
        ),
    ),
    "/v3/maintenance/snapshot": Call(
        "/etcdserverpb.Maintenance/Snapshot",
        {},
        _json_of({2: Field("remaining_bytes", Kind.UNSIGNED), 3: Field("blob", Kind.BYTES)}),
        streams=True,
    ),
    "/v3/cluster/member/list": Call(
        "/etcdserverpb.Cluster/MemberList",
        {},
        _json_of({1: Field("header", _HEADER), 2: Field("members", _MEMBER, repeated=True)}),
    ),
    "/v3/auth/authenticate": Call(
        "/etcdserverpb.Auth/Authenticate",
        {1: Field("name", Kind.TEXT), 2: Field("password", Kind.TEXT)},
        _json_of({1: Field("header", _HEADER), 2: Field("token", Kind.TEXT)}),
    ),
}

# What the gateway answers for each gRPC status (grpc-gateway, runtime/errors.go: HTTPStatusFromCode); others are 500.
HTTP_STATUS: Mapping[int, int] = {
    0: 200,
    3: 400,
    4: 504,
    5: 404,
    6: 409,
    7: 403,
    8: 429,
    9: 400,
    10: 409,
    11: 400,
    12: 501,
    14: 503,
    16: 401,
}
