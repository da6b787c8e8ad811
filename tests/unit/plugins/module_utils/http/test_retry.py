# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a request is sent again."""

from __future__ import annotations

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableKind
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.retry import (
    NOT_REPEATABLE,
    ONCE,
    PATIENT,
    REPEATABLE,
    Failed,
    backoff,
    retry_after,
)

RESET = Failed(unreachable=UnreachableKind.RESET)
REFUSED = Failed(unreachable=UnreachableKind.REFUSED)


def test_pauses_grow_and_retry_after_is_the_least() -> None:
    assert backoff(1, 3.0, 0.0) == 3.0
    assert backoff(1, None, 1.0) == pytest.approx(0.1)
    assert backoff(3, None, 1.0) == pytest.approx(0.4)
    assert backoff(2, None, 1.0, 0.5) == pytest.approx(1.0)
    assert backoff(50, None, 1.0) == 10.0


def test_what_a_server_asks_to_wait_is_bounded_and_nonsense_is_ignored() -> None:
    assert retry_after({"Retry-After": "7"}, {}) == 7.0
    assert retry_after({}, {"retryAfterSeconds": 2}) == 2.0
    assert retry_after({"Retry-After": "86400"}, {}) == 30.0
    assert retry_after({"Retry-After": "-1"}, {}) == 0.0
    assert retry_after({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, {}) is None


@pytest.mark.parametrize("policy", [REPEATABLE, NOT_REPEATABLE])
def test_an_overloaded_server_is_obeyed_for_a_minute_whatever_the_number_of_tries(policy: object) -> None:
    assert isinstance(policy, type(REPEATABLE))
    assert policy.delay(Failed(429, wait=1.0), tries=40, waited=50.0, jitter=0.0) == 1.0
    assert policy.delay(Failed(429, wait=1.0), tries=1, waited=0.0, jitter=0.0) == 1.0
    assert policy.delay(Failed(429), tries=1, waited=0.0, jitter=1.0) == pytest.approx(0.1)
    assert policy.delay(Failed(429, wait=30.0), tries=2, waited=31.0, jitter=0.0) is None


@pytest.mark.parametrize("failed", [RESET, Failed(502), Failed(503), Failed(504)])
def test_what_may_have_been_carried_out_is_repeated_only_if_that_does_no_harm(failed: Failed) -> None:
    assert REPEATABLE.delay(failed, tries=1, waited=0.0, jitter=1.0) == pytest.approx(0.1)
    assert REPEATABLE.delay(failed, tries=4, waited=1.0, jitter=1.0) is None
    assert NOT_REPEATABLE.delay(failed, tries=1, waited=0.0, jitter=1.0) is None


def test_503_with_retry_after_is_an_overload_except_for_requests_that_may_not_be_repeated() -> None:
    busy = Failed(503, wait=1.0)
    assert REPEATABLE.delay(busy, tries=10, waited=10.0, jitter=0.0) is not None
    assert NOT_REPEATABLE.delay(busy, tries=1, waited=0.0, jitter=0.0) is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 500])
def test_other_answers_are_final(status: int) -> None:
    assert PATIENT.delay(Failed(status), tries=1, waited=0.0, jitter=0.0) is None


def test_silence() -> None:
    for kind in UnreachableKind:
        again = REPEATABLE.delay(Failed(unreachable=kind), tries=1, waited=0.0, jitter=0.0) is not None
        assert again is (kind is UnreachableKind.RESET)
    assert REPEATABLE.delay(REFUSED, tries=1, waited=0.0, jitter=0.0) is None
    assert PATIENT.delay(REFUSED, tries=1, waited=0.0, jitter=0.0) == 0.25


def test_once_is_once() -> None:
    assert ONCE.delay(Failed(429), tries=1, waited=0.0, jitter=0.0) is None
    assert ONCE.delay(RESET, tries=1, waited=0.0, jitter=0.0) is None
