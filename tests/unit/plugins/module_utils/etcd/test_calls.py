# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""etcd's messages as protobuf, in the form of its JSON gateway. tests/integration/test_kine.py has them from real servers."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.calls import CALLS, range_answer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Page
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.protobuf import field, fields, varint
from hypothesis import given
from hypothesis import strategies as st

RANGE = "/v3/kv/range"
HEADER = field(1, 12099955521346982538) + field(2, 7) + field(3, 42)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def pair(key: bytes, value: bytes, revision: int) -> bytes:
    return field(1, key) + field(2, 1) + field(3, revision) + field(4, 2) + field(5, value) + field(6, 9)


def test_a_request_has_the_numbers_of_its_fields() -> None:
    document = {"key": b64(b"/a"), "range_end": b64(b"/b"), "limit": "300", "revision": "5", "serializable": True}
    # As etcd's own Go code marshals it.
    assert CALLS[RANGE].message(document).hex() == "0a022f6112022f6218ac0220053801"
    assert CALLS[RANGE].message({"key": b64(b"/a"), "keys_only": True, "count_only": True}).hex() == "0a022f6140014801"
    assert CALLS[RANGE].message({"min_mod_revision": "7"}).hex() == "5007"
    with pytest.raises(ValueError, match="sort_order"):
        CALLS[RANGE].message({"sort_order": 1})
    login = CALLS["/v3/auth/authenticate"].message({"name": "me", "password": "pw"})
    assert login.hex() == "0a026d6512027077"


@given(
    st.lists(st.tuples(st.binary(min_size=1), st.binary(), st.integers(1, 2**63 - 1))),
    st.booleans(),
    st.integers(0, 2**40),
)
def test_a_page_is_read_as_from_the_gateway(found: list[tuple[bytes, bytes, int]], more: bool, count: int) -> None:
    message = field(1, HEADER) + b"".join(field(2, pair(*item)) for item in found)
    page = Page(range_answer(message + field(3, int(more)) + field(4, count)))
    assert [(item["key"], item.get("value", ""), item["mod_revision"]) for item in page.items()] == [
        (b64(key), b64(value), str(revision)) for key, value, revision in found
    ]
    assert (page.more, page.count, page.revision) == (more, count, 42)
    assert page.last_key == (found[-1][0] if found else None)


def test_what_was_written_before_is_left_out() -> None:
    message = field(1, HEADER) + b"".join(field(2, pair(b"/%d" % revision, b"x", revision)) for revision in (3, 4, 5))
    page = Page(range_answer(message + field(4, 3), min_mod_revision=4))
    assert [item["mod_revision"] for item in page.items()] == ["4", "5"]


def test_a_status_as_the_gateway_writes_it() -> None:
    no_quota = (1 << 64) - 1
    message = (
        field(1, HEADER) + field(2, b"3.6.8") + field(3, 4096) + field(4, 7) + field(8, b"memberID:7 alarm:NOSPACE ")
    )
    message += field(5, 99) + field(9, 2048) + field(10, 1) + field(12, no_quota) + field(13, b"")
    found: dict[str, Any] = json.loads(CALLS["/v3/maintenance/status"].answer(message))
    assert found == {
        "header": {"cluster_id": "12099955521346982538", "member_id": "7", "revision": "42"},
        "version": "3.6.8",
        "dbSize": "4096",
        "leader": "7",
        "errors": ["memberID:7 alarm:NOSPACE "],
        "dbSizeInUse": "2048",
        "isLearner": True,
        "dbSizeQuota": "-1",
    }


def test_members_as_the_gateway_lists_them() -> None:
    member = field(1, 7) + field(2, b"a") + field(3, b"http://p") + field(4, b"https://x:1") + field(4, b"https://y:1")
    found = json.loads(CALLS["/v3/cluster/member/list"].answer(field(2, member) + field(2, field(1, 8))))
    assert found["members"] == [
        {"ID": "7", "name": "a", "peerURLs": ["http://p"], "clientURLs": ["https://x:1", "https://y:1"]},
        {"ID": "8"},
    ]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x12\x05ab",
        b"\x12",
        b"\x12\x03\x0a\x05a",
        b"\x0f",
        b"\x12\x02\x0d\x00",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ],
)
def test_nonsense_is_refused(nonsense: bytes) -> None:
    with pytest.raises((IndexError, ValueError)):
        range_answer(nonsense)


@given(st.dictionaries(st.integers(1, 2000), st.one_of(st.binary(max_size=300), st.integers(0, 2**64 - 1))))
def test_fields_are_read_as_they_are_written(found: dict[int, int | bytes]) -> None:
    assert dict(fields(b"".join(field(number, value) for number, value in found.items()))) == found


def test_fields_of_a_fixed_length_are_left_out() -> None:
    fixed = b"\x0d\x01\x02\x03\x04" + b"\x11" + bytes(8)
    assert list(fields(fixed + field(3, 5))) == [(3, 5)]
    with pytest.raises(ValueError, match="too long"):
        varint(b"\xff" * 10 + b"\x01", 0)
