# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server's answer means for one object."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import (
    NAMESPACE_MISSING,
    About,
    OutcomeCounts,
    Verdict,
    error_outcome,
    outcome_of,
)


def answer(status: int, message: str = "", headers: dict[str, str] | None = None, **fields: Any) -> Response:
    body = {"kind": "Status", "apiVersion": "v1", "message": message, "code": status, **fields}
    return Response(status, headers or {}, json.dumps(body).encode())


def test_an_unchanged_resource_version_is_current() -> None:
    good = Response(200, {}, b'{"metadata":{"resourceVersion":"7"}}')
    assert outcome_of(good, "7").verdict is Verdict.UNCHANGED
    assert outcome_of(good, "6").verdict is Verdict.REWRITTEN
    assert outcome_of(Response(200, {}, b"<html>"), "6").verdict is Verdict.RETRY


def test_the_version_is_that_of_the_metadata_and_no_other() -> None:
    labels = {"resourceVersion": "6"}
    text = {"note": '"resourceVersion":"6"', "last-applied": '{"metadata":{"resourceVersion":"6"}}'}
    for metadata in (
        {"resourceVersion": "7", "labels": labels},
        {"labels": labels, "resourceVersion": "7"},
        {"annotations": text, "resourceVersion": "7"},
        {"resourceVersion": "7", "managedFields": [{"fieldsV1": {"f:metadata": {"f:resourceVersion": {}}}}]},
    ):
        for separators in ((",", ":"), (", ", ": ")):
            document = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
            given = Response(200, {}, json.dumps(document, separators=separators).encode())
            assert outcome_of(given, "7").verdict is Verdict.UNCHANGED
    without = (
        b'{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"labels":{"resourceVersion":"6"}}}'
    )
    assert outcome_of(Response(200, {}, without), "6").verdict is Verdict.RETRY


A = About("", "secrets", "default", "a")
WIDGET = About("shop.example.com", "widgets", "shop", "a")
THIS = {"name": "a", "kind": "secrets"}
NAMESPACE = {"name": "shop", "kind": "namespaces"}


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (answer(409, reason="Conflict", details=THIS), Verdict.CONFLICT),
        (answer(409, reason="Conflict", details={"name": "quota", "kind": "resourcequotas"}), Verdict.RETRY),
        (Response(409, {}, b"<html>"), Verdict.RETRY),
        (answer(409, 'admission webhook "x" denied the request', reason="Conflict", details=THIS), Verdict.FAILED),
        (answer(409, reason="AlreadyExists"), Verdict.FAILED),
        (answer(404, reason="NotFound", details=THIS), Verdict.DELETED),
        (answer(403, "denied"), Verdict.FAILED),
        (answer(405), Verdict.FAILED),
        (answer(422, "invalid"), Verdict.FAILED),
        (answer(500, "etcdserver: request is too large"), Verdict.FAILED),
        (answer(500, "etcdserver: leader changed"), Verdict.RETRY),
        (answer(429), Verdict.RETRY),
        (answer(503), Verdict.RETRY),
        (answer(504), Verdict.RETRY),
        (Response(502, {}, b"<html>bad gateway</html>"), Verdict.RETRY),
    ],
)
def test_verdicts(given: Response, verdict: Verdict) -> None:
    assert error_outcome(given, A).verdict is verdict


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"name": "b", "kind": "widgets", "group": "shop.example.com"},
        {"name": "a", "kind": "widgets"},
        {"name": "a", "kind": "gadgets", "group": "shop.example.com"},
        {"name": "shop", "kind": "namespaces"},
        {"name": "a", "kind": "namespaces"},
    ],
)
def test_a_404_about_something_else_is_not_a_deletion(details: dict[str, str]) -> None:
    """Issue 11, number 1."""
    outcome = error_outcome(answer(404, reason="NotFound", details=details), WIDGET)
    assert outcome.verdict is Verdict.RETRY and outcome.unproven


def test_a_404_without_a_status_is_not_a_deletion() -> None:
    for body in (b"404 page not found\n", b"<html>", b"{}", b"[]"):
        outcome = error_outcome(Response(404, {}, body), WIDGET)
        assert outcome.verdict is Verdict.RETRY and outcome.unproven and "proxy" in outcome.message


def test_a_webhook_may_deny_with_404() -> None:
    details = {"name": "a", "kind": "widgets", "group": "shop.example.com"}
    denied = answer(404, 'admission webhook "x" denied the request: no owner', reason="NotFound", details=details)
    assert error_outcome(denied, WIDGET).verdict is Verdict.FAILED


def test_the_namespace_is_named() -> None:
    outcome = error_outcome(answer(404, 'namespaces "shop" not found', reason="NotFound", details=NAMESPACE), WIDGET)
    assert outcome.reason == NAMESPACE_MISSING
    assert outcome.message == ("its namespace shop no longer exists: create it again or delete the object")


def test_a_namespace_itself_may_be_deleted() -> None:
    gone = error_outcome(answer(404, reason="NotFound", details=NAMESPACE), About("", "namespaces", None, "shop"))
    assert gone.verdict is Verdict.DELETED
    other = error_outcome(answer(404, reason="NotFound", details=NAMESPACE), About("", "namespaces", None, "a"))
    assert other.verdict is Verdict.RETRY and other.unproven and other.reason != NAMESPACE_MISSING


def test_events_have_two_groups() -> None:
    for group in ("", "events.k8s.io"):
        details = {"name": "a", "kind": "events", **({"group": group} if group else {})}
        for own in ("", "events.k8s.io"):
            given = answer(404, reason="NotFound", details=details)
            assert error_outcome(given, About(own, "events", "default", "a")).verdict is Verdict.DELETED


def test_a_full_etcd_is_distinguished_from_other_errors() -> None:
    """Issue 11, number 9."""
    assert error_outcome(answer(500, "etcdserver: mvcc: database space exceeded"), A).full
    assert error_outcome(answer(500, "etcdserver: no space"), A).full
    assert not error_outcome(answer(500, "etcdserver: leader changed"), A).full


def test_counts_can_be_subtracted() -> None:
    tally = OutcomeCounts(rewritten=3, unchanged=2)
    tally.count(Verdict.DELETED, 4)
    assert tally.without(OutcomeCounts(rewritten=1)) == OutcomeCounts(rewritten=2, unchanged=2, deleted=4)


def test_a_failing_webhook_gets_few_tries_and_does_not_count_as_overload() -> None:
    failed = error_outcome(answer(500, 'failed calling webhook "x": context deadline exceeded'))
    assert failed.few_tries and not failed.overloaded
    assert error_outcome(answer(503, "busy")).overloaded


def test_the_server_says_how_long_to_wait() -> None:
    assert error_outcome(answer(429, headers={"Retry-After": "3"})).wait == 3
    assert error_outcome(answer(429, details={"retryAfterSeconds": 4})).wait == 4
    assert error_outcome(answer(429, headers={"Retry-After": "soon"})).wait is None
