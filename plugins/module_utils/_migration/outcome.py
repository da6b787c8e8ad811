# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server's answer means for one object, and how outcomes are counted. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import forbidden_sentence, status_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http import Response

_MESSAGE_LIMIT = 300
_LONGEST_WAIT = 30.0
# The reason of a failure that a controller tells of a whole resource.
MIGRATION_FAILED = "MigrationFailed"


class Verdict(Enum):
    """REWRITTEN, UNCHANGED and DELETED are done; CONFLICT is, if all servers had converged before the list."""

    REWRITTEN = "rewritten"
    UNCHANGED = "unchanged"
    CONFLICT = "conflicts"
    DELETED = "deleted"
    FAILED = "failed"
    RETRY = "retry"


@dataclass(frozen=True)
class Outcome:
    """``wait`` is what the server asks to wait before the next try, in seconds; None if it asks nothing.

    ``few_tries``: a webhook failed; trying again may help, but each try can take as long as its timeout.
    ``not_served``: the server knows no such resource (any more).
    """

    verdict: Verdict
    status: int = 200
    reason: str = ""
    message: str = ""
    wait: float | None = None
    overloaded: bool = False
    few_tries: bool = False
    not_served: bool = False


@dataclass(frozen=True)
class Failure:
    """One object that could not be rewritten, and the server's reason for it; never its content."""

    resource: str
    namespace: str | None
    name: str | None
    status: int
    reason: str
    message: str

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def describe_failure(failure: Failure) -> str:
    """``secrets default/a: denied by webhook``."""
    where = "/".join(part for part in (failure.namespace, failure.name) if part)
    whole = "the migration of" if failure.reason == MIGRATION_FAILED else "the list of"
    what = f"{failure.resource} {where}" if where else f"{whole} {failure.resource}"
    return f"{what}: {failure.message.rstrip('.')}"


_VERSION = re.compile(
    rb'\{"kind":"PartialObjectMetadata","apiVersion":"meta\.k8s\.io/v1","metadata":\{'
    rb'(?:"(?:name|generateName|namespace|selfLink|uid)":"[^"\\]*",)*"resourceVersion":"([^"\\]*)"'
)
_REWRITTEN = Outcome(Verdict.REWRITTEN)
_UNCHANGED = Outcome(Verdict.UNCHANGED)


def outcome_of(answer: Response, resource_version: str) -> Outcome:
    """The outcome of the no-op patch of an object that was listed at ``resource_version``.

    The API server writes to etcd only if the stored bytes or their encryption are stale
    (k8s.io/apiserver, pkg/storage/etcd3/store.go, GuaranteedUpdate), so an unchanged
    resourceVersion means that the object was current for the server that answered.
    """
    if answer.status in (200, 201):
        now = _version_in(answer.body)
        if now is None:
            return Outcome(Verdict.RETRY, answer.status, "UnexpectedAnswer", "the answer is no object")
        return _UNCHANGED if now == resource_version else _REWRITTEN
    return error_outcome(answer)


def _version_in(body: bytes) -> str | None:
    """The resourceVersion of an object; None if the answer is none.

    API servers write it near the beginning; to parse all that follows, the managedFields above all, would be a
    large part of what this process does for an object.
    """
    found = _VERSION.match(body)
    if found is not None:
        return str(found[1], "ascii", "replace")
    try:
        return str(json.loads(body)["metadata"]["resourceVersion"])
    except (ValueError, KeyError, TypeError):
        return None


def error_outcome(answer: Response) -> Outcome:
    """The outcome of an HTTP error."""
    reason, message, details = status_of(answer)
    status = answer.status
    text = redact(forbidden_sentence(message) or message or f"HTTP status {status}")
    if status == 404 and not details.get("name"):
        return Outcome(Verdict.RETRY, status, reason, text, few_tries=True, not_served=True)
    if status == 404:
        return Outcome(Verdict.DELETED, status, reason, text)
    if status == 409 and reason in ("Conflict", ""):
        return Outcome(Verdict.CONFLICT, status, reason, text)
    if status == 429 or (status in (500, 502, 503, 504) and not _is_final(message)):
        wait = retry_after(answer.headers, details)
        webhook = "failed calling webhook" in message or "conversion webhook" in message
        overloaded = status in (429, 503, 504) and not webhook
        return Outcome(Verdict.RETRY, status, reason, text, wait, overloaded, few_tries=webhook)
    return Outcome(Verdict.FAILED, status, reason or f"HTTP{status}", text)


def transport_outcome(error: UnreachableError) -> Outcome:
    """The outcome of a request that no answer came to; the write may or may not have happened."""
    return Outcome(Verdict.RETRY, 0, error.kind, error.message, overloaded=error.kind == "timeout")


def _is_final(message: str) -> bool:
    """Server errors that no further try will mend."""
    return "request is too large" in message or "larger than the configured max size" in message


def retry_after(headers: Mapping[str, str], details: Mapping[str, object]) -> float | None:
    """Seconds that a server asks to wait, from the header or its Status; capped."""
    value = headers.get("Retry-After") or details.get("retryAfterSeconds")
    try:
        return min(max(float(str(value)), 0.0), _LONGEST_WAIT) if value is not None else None
    except ValueError:
        return None


def backoff(tries: int, wait: float | None, jitter: float) -> float:
    """Seconds before the next try after ``tries`` failed ones; ``jitter`` is random in 0..1.

    Exponential with "equal jitter" (AWS Architecture Blog, Exponential Backoff And Jitter), capped
    at 10 s; a server's Retry-After is the least.
    """
    delay = min(10.0, 0.1 * float(2 ** min(tries - 1, 10)))
    delay = delay / 2 + delay / 2 * jitter
    return max(delay, (wait or 0.0) * (1 + jitter / 4))


_VALUE = re.compile(r'(Invalid value|Unsupported value|Duplicate value): (?:"(?:[^"\\]|\\.)*"|[^:]*)')


def redact(message: str) -> str:
    """A server's message without values from the object, in one line, of bounded length."""
    text = " ".join(_VALUE.sub(r"\1: (hidden)", message).split())
    return text if len(text) <= _MESSAGE_LIMIT else text[: _MESSAGE_LIMIT - 1] + "…"


@dataclass
class Tally:
    """Counts of objects by what became of them.

    ``unknown``: in so many resources a controller did the work, and nobody could count; then the sums are unknown too.
    """

    rewritten: int = 0
    unchanged: int = 0
    conflicts: int = 0
    deleted: int = 0
    failed: int = 0
    pruned: int = 0
    unknown: int = 0

    def count(self, verdict: Verdict) -> None:
        setattr(self, verdict.value, getattr(self, verdict.value) + 1)

    @property
    def visited(self) -> int:
        return self.rewritten + self.unchanged + self.conflicts + self.deleted + self.failed

    def add(self, other: Tally) -> None:
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)
