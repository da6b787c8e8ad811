# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with a client certificate, and what etcd's answers mean. Real etcd: tests/integration/test_etcd_access.py."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    BadInputError,
    UnreachableCause,
    UnreachableError,
    UnreachableKind,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.access import Access, CompactedError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.opening import open_clusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.tls import certificate_problem
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 11, 26, tzinfo=timezone.utc)
EXTENSION = b"\x30\x13\x06\x03\x55\x1d\x25\x04\x0c\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03"


def validity(until: bytes) -> bytes:
    return b"\x30\x20\x17\x0d260101000000Z" + until


@pytest.mark.parametrize(
    ("until", "problem"),
    [
        (b"\x17\x0d261125235959Z", "c expired on 2026-11-25 23:59 UTC; renew it."),
        (b"\x17\x0d261126000001Z", None),
        (b"\x17\x0d491231235959Z", None),
        (b"\x18\x0f20991231235959Z", None),
        (b"\x17\x0d999999999999Z", None),
    ],
)
def test_expiry(until: bytes, problem: str | None) -> None:
    assert certificate_problem(validity(until), "c", NOW) == problem


def test_usage() -> None:
    good = validity(b"\x17\x0d361125235959Z")
    assert certificate_problem(good + EXTENSION + b"\x02", "c", NOW) is None
    assert "not a client certificate" in str(certificate_problem(good + EXTENSION + b"\x01", "c", NOW))


@given(st.binary(max_size=300), st.integers(100, 599))
def test_arbitrary_bytes_give_one_sentence(data: bytes, status: int) -> None:
    certificate_problem(data, "c", NOW)
    certificate_problem(validity(b"\x17\x0d361125235959Z") + EXTENSION[:9] + data, "c", NOW)
    assert "\n" not in Access().gateway_problem("https://a:2379", status, data).message


@pytest.mark.parametrize("user", [{"username": "a"}, {"password": "b"}])
def test_user_and_password_go_together(user: dict[str, str]) -> None:
    with pytest.raises(BadInputError, match="give both"):
        open_clusters({"endpoints": ["http://10.0.0.1:2379"], **user})


@pytest.mark.parametrize("kind", UnreachableKind)
@pytest.mark.parametrize("cause", [UnreachableCause.PROXY, UnreachableCause.GRPC])
def test_a_cause_that_is_not_etcd_is_passed_on(kind: UnreachableKind, cause: UnreachableCause) -> None:
    """A proxy's host name that can't be resolved was reported as etcd's, which sent people to the wrong option."""
    error = UnreachableError("Its own sentence.", kind=kind, cause=cause)
    assert Access().unreachable("https://a:2379", error) == "Its own sentence."


@pytest.mark.parametrize(
    ("kind", "cause", "says"),
    [
        (UnreachableKind.TLS, UnreachableCause.EXPIRED, "https://a:2379 has expired; renew it"),
        (UnreachableKind.TLS, UnreachableCause.CERTIFICATE, "https://a:2379 can't be verified; check etcd.ca_cert"),
        (UnreachableKind.TLS, None, "refused the TLS connection; check that etcd.client_cert"),
        (UnreachableKind.TIMEOUT, None, "did not answer in time; check etcd.endpoints"),
        (UnreachableKind.DNS, None, "The host name of the etcd endpoint https://a:2379 can't be resolved"),
        (UnreachableKind.REFUSED, None, "https://a:2379 refuses connections; check etcd.endpoints"),
        (UnreachableKind.RESET, None, "check that the address is etcd's client port"),
        (UnreachableKind.EXHAUSTED, None, "Its own sentence."),
        (UnreachableKind.PROXY, None, "Its own sentence."),
        (UnreachableKind.UNUSABLE, None, "Its own sentence."),
    ],
)
def test_what_is_to_be_done_about_a_silent_member(
    kind: UnreachableKind, cause: UnreachableCause | None, says: str
) -> None:
    error = UnreachableError("Its own sentence.", kind=kind, cause=cause)
    assert says in Access().unreachable("https://a:2379", error)
    assert Access().unreachable("unix:///run/kine.sock", error) == "Its own sentence."


@pytest.mark.parametrize("password", ["etcd", "server", "required"])
def test_a_password_that_is_a_word_of_etcd_hides_no_compaction(password: str) -> None:
    data = b'{"error": "etcdserver: mvcc: required revision has been compacted", "code": 11}'
    found = Access(username="root", password=password).gateway_problem("https://a:2379", 400, data)
    assert isinstance(found, CompactedError)
