# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server's answer means for one object."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import (
    Verdict,
    backoff,
    error_outcome,
    outcome_of,
    redact,
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


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (answer(409, reason="Conflict"), Verdict.CONFLICT),
        (answer(409, reason="AlreadyExists"), Verdict.FAILED),
        (answer(404, reason="NotFound", details={"name": "a", "kind": "secrets"}), Verdict.DELETED),
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
    assert error_outcome(given).verdict is verdict


def test_a_resource_that_is_not_served_is_no_deleted_object() -> None:
    gone = error_outcome(Response(404, {}, b"404 page not found\n"))
    assert gone.verdict is Verdict.RETRY and gone.not_served


def test_a_failing_webhook_gets_few_tries_and_does_not_count_as_overload() -> None:
    failed = error_outcome(answer(500, 'failed calling webhook "x": context deadline exceeded'))
    assert failed.few_tries and not failed.overloaded
    assert error_outcome(answer(503, "busy")).overloaded


def test_the_server_says_how_long_to_wait() -> None:
    assert error_outcome(answer(429, headers={"Retry-After": "3"})).wait == 3
    assert error_outcome(answer(429, details={"retryAfterSeconds": 4})).wait == 4
    assert error_outcome(answer(429, headers={"Retry-After": "soon"})).wait is None
    assert backoff(1, 3.0, 0.0) == 3.0
    assert backoff(1, None, 1.0) == pytest.approx(0.1)
    assert backoff(50, None, 1.0) == 10.0


def test_values_are_hidden() -> None:
    told = redact('Secret "a" is invalid: data[x]: Invalid value: "hunter2": must be\nsomething else')
    assert "hunter2" not in told and "\n" not in told and "must be something else" in told
