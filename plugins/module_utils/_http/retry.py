# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a request that failed is sent again, and when to give up. ``RetryPolicy`` is pure: time and chance are arguments.

API servers ask clients to come back later with 429 (API Priority and Fairness, and a server that is shutting down) or 503 with
Retry-After (k8s.io/apiserver, pkg/server/filters), and client-go then sends any request again. 429 always means that the
request was not carried out. After 502, 503, 504 or a lost connection that is unknown, so only requests that may be carried out
twice are sent again: those that store nothing, and writes that are conditional on a resourceVersion or a new name.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableError, UnreachableKind

_LONGEST_WAIT = 30.0
_LONGEST_BACKOFF = 10.0
_TOO_MANY_REQUESTS = 429
# If the server says when to come back, ever longer pauses are not needed.
_OVERLOAD_STEPS = 4
# Not 500: a server returns it when it can't decode or decrypt an object, which doesn't change.
GATEWAY_ERRORS = (502, 503, 504)
# The answers that may be different a little later.
PASSING = (_TOO_MANY_REQUESTS, *GATEWAY_ERRORS)


class Failed(NamedTuple):
    """One failed try: the answer's status and how many seconds it asks to wait, or why there was no answer."""

    status: int = 0
    wait: float | None = None
    unreachable: UnreachableKind | None = None


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and for how long, one request is sent.

    ``tries``: in all, if a server does not ask to come back later. ``obeys_for``: for how many seconds to obey one that does.
    ``repeatable``: whether the request may be carried out twice. ``first``: the first pause, in seconds.
    ``unreachable``: after which kinds of missing answer a repeatable request is sent again.
    """

    tries: int = 4
    obeys_for: float = 60.0
    repeatable: bool = True
    first: float = 0.1
    unreachable: tuple[UnreachableKind, ...] = (UnreachableKind.RESET,)

    def delay(self, failed: Failed, tries: int, waited: float, jitter: float) -> float | None:
        """Seconds before the next try, ``waited`` seconds after the first; None: give up.

        ``tries``: how many failed in the same way, ``asks_to_wait`` or not.
        """
        if self.asks_to_wait(failed):
            pause = backoff(min(tries, _OVERLOAD_STEPS), failed.wait, jitter, self.first)
            return pause if waited + pause <= self.obeys_for else None
        if tries >= self.tries or not self._passes(failed):
            return None
        return backoff(tries, failed.wait, jitter, self.first)

    def asks_to_wait(self, failed: Failed) -> bool:
        """Whether the server is overloaded rather than broken, so that only time counts."""
        if failed.status == _TOO_MANY_REQUESTS:
            return True
        return self.repeatable and failed.status in GATEWAY_ERRORS and failed.wait is not None

    def _passes(self, failed: Failed) -> bool:
        return self.repeatable and (failed.status in GATEWAY_ERRORS or failed.unreachable in self.unreachable)


class Attempts:
    """The failed tries of one request, and when the next one follows."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._began: float | None = None
        self._failed = {True: 0, False: 0}  # By whether the server asked to wait.

    def pause(self, failed: Failed) -> float | None:
        """Seconds before the next try; None: give up."""
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        overloaded = self._policy.asks_to_wait(failed)
        self._failed[overloaded] += 1
        return self._policy.delay(failed, self._failed[overloaded], now - self._began, random.random())

    def pause_if_asked(self, failed: Failed) -> float | None:
        """The same for a server that asks to wait; None for all other failures, which the caller counts."""
        return self.pause(failed) if self._policy.asks_to_wait(failed) else None


# For requests that store nothing, and conditional writes whose caller can distinguish its own earlier try from others' writes.
REPEATABLE = RetryPolicy()
# For writes that could have another effect the second time.
NOT_REPEATABLE = RetryPolicy(repeatable=False)
ONCE = RetryPolicy(tries=1, obeys_for=0.0, repeatable=False)
# For checks, which wait a little rather than report a starting server as unreachable.
PATIENT = RetryPolicy(first=0.5, unreachable=(UnreachableKind.RESET, UnreachableKind.REFUSED))


def failure_of(error: UnreachableError) -> Failed:
    return Failed(unreachable=error.kind)


def retry_after(headers: Mapping[str, str], details: Mapping[str, object]) -> float | None:
    """Seconds that a server asks to wait, from the header or its Status; capped."""
    value = headers.get("Retry-After") or details.get("retryAfterSeconds")
    try:
        return min(max(float(str(value)), 0.0), _LONGEST_WAIT) if value is not None else None
    except ValueError:
        return None


def backoff(tries: int, wait: float | None, jitter: float, first: float = 0.1) -> float:
    """Seconds before the next try after ``tries`` failed ones; ``jitter`` is random in 0..1.

    Exponential with "equal jitter" (AWS Architecture Blog, Exponential Backoff And Jitter), capped
    at 10 s, and at least the server's Retry-After.
    """
    delay = min(_LONGEST_BACKOFF, first * float(2 ** min(tries - 1, 10)))
    delay = delay / 2 + delay / 2 * jitter
    return max(delay, (wait or 0.0) * (1 + jitter / 4))
