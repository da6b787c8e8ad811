# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server's answer means for one object, and how outcomes are counted. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any, NamedTuple

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    UnreachableError,
    UnreachableKind,
    says_that_etcd_is_full,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.redaction import redact
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.retry import retry_after
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import forbidden_sentence, status_of

# The reason of a failure that a controller reports for a whole resource.
MIGRATION_FAILED = "MigrationFailed"
FIELDS_DROPPED = "FieldsWouldBeDropped"
# The reason of a failure whose object is left over in a namespace that is gone.
NAMESPACE_MISSING = "NamespaceMissing"


class Verdict(Enum):
    """REWRITTEN, UNCHANGED and DELETED are done; CONFLICT is, if all servers had converged before the list.

    So is UNCERTAIN: an answer was lost, and the object was written, by us or by somebody else.
    """

    REWRITTEN = "rewritten"
    UNCHANGED = "unchanged"
    CONFLICT = "conflicts"
    DELETED = "deleted"
    UNCERTAIN = "uncertain"
    FAILED = "failed"
    RETRY = "retry"


@dataclass(frozen=True)
class Outcome:
    """``wait`` is how long the server asks to wait before the next try, in seconds; None if it doesn't.

    ``few_tries``: a webhook failed; trying again may help, but each try can take as long as its timeout.
    ``unproven``: a 404 that does not say that this object is gone; only a GET of it can tell.
    ``not_served``: the server was asked, and doesn't serve such a resource, or no longer does.
    ``full``: etcd is at its quota and refuses all writes.
    ``perhaps_done``: the answer does not say whether the request was carried out.
    ``moved``: the write moved field managers to the storage version; ``pruned``: it dropped some.
    """

    verdict: Verdict
    status: int = 200
    reason: str = ""
    message: str = ""
    wait: float | None = None
    overloaded: bool = False
    few_tries: bool = False
    unproven: bool = False
    not_served: bool = False
    full: bool = False
    perhaps_done: bool = False
    moved: bool = False
    pruned: bool = False


class About(NamedTuple):
    """Which object a request was about, in the words of a Status' details: the plural name of its resource."""

    group: str
    plural: str
    namespace: str | None
    name: str


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


def outcome_of(
    answer: Response, resource_version: str, about: About | None = None, say: Callable[[str], str] = redact
) -> Outcome:
    """The outcome of the no-op patch of an object that was listed at ``resource_version``.

    The API server writes to etcd only if the stored bytes or their encryption are stale
    (k8s.io/apiserver, pkg/storage/etcd3/store.go, GuaranteedUpdate), so an unchanged
    resourceVersion means that the object was current for the server that answered.
    """
    if answer.status in (200, 201):
        now = _version_in(answer.body)
        if now is None:
            return Outcome(
                Verdict.RETRY, answer.status, "UnexpectedAnswer", "the answer is not an object", perhaps_done=True
            )
        return _UNCHANGED if now == resource_version else _REWRITTEN
    return error_outcome(answer, about, say)


def _version_in(body: bytes) -> str | None:
    """The resourceVersion of an object; None if the answer isn't an object.

    API servers write it near the beginning. Parsing everything after it, mostly managedFields, would be a
    large part of this process's work for an object.
    """
    found = _VERSION.match(body)
    if found is not None:
        return str(found[1], "ascii", "replace")
    try:
        return str(json.loads(body)["metadata"]["resourceVersion"])
    except (ValueError, KeyError, TypeError):
        return None


def error_outcome(answer: Response, about: About | None = None, say: Callable[[str], str] = redact) -> Outcome:
    """The outcome of an HTTP error; ``about`` is the object of the request, None for a list.

    ``say`` makes the server's message safe to show.

    A 404 or 409 counts for this object only if the Status names it. Others exist: NamespaceLifecycle and webhooks
    with a namespaceSelector answer 404 about the *namespace* (k8s.io/apiserver, pkg/admission/plugin), a resource
    may briefly not be served, a webhook may deny with any code, and a proxy has its own error pages.
    """
    reason, message, details = status_of(answer)
    status = answer.status
    text = say(forbidden_sentence(message) or message or f"HTTP status {status}")
    if says_that_etcd_is_full(message):
        return Outcome(Verdict.FAILED, status, reason, text, full=True)
    if status in (404, 409) and "denied the request" in message:
        return Outcome(Verdict.FAILED, status, reason, text)
    if status == 404:
        if about is not None and _names(details, about):
            return Outcome(Verdict.DELETED, status, reason, text)
        return _unproven(status, reason, message and say(message), details, about)
    if status == 409 and reason in ("Conflict", ""):
        if about is not None and _names(details, about):
            return Outcome(Verdict.CONFLICT, status, reason, text)
        return Outcome(Verdict.RETRY, status, reason, text)
    if status == 429 or (status in (500, 502, 503, 504) and not _is_final(message)):
        wait = retry_after(answer.headers, details)
        webhook = "failed calling webhook" in message or "conversion webhook" in message
        overloaded = status in (429, 503, 504) and not webhook
        perhaps_done = status != 429 and "failed calling webhook" not in message  # Admission comes before the write.
        return Outcome(
            Verdict.RETRY, status, reason, text, wait, overloaded, few_tries=webhook, perhaps_done=perhaps_done
        )
    return Outcome(Verdict.FAILED, status, reason or f"HTTP{status}", text)


def _unproven(status: int, reason: str, message: str, details: Mapping[str, Any], about: About | None) -> Outcome:
    """A 404 that says nothing about the object; the message is for people, in case the object still exists."""
    namespace = missing_namespace(details, about)
    if namespace is not None:
        reason = NAMESPACE_MISSING
        text = f"its namespace {namespace} no longer exists: create it again or delete the object"
    elif message:
        text = message
    else:
        text = (
            "the answer is 404 without a Status, which may be a proxy's own; check what is in front of the API servers"
        )
    return Outcome(Verdict.RETRY, status, reason or f"HTTP{status}", text, few_tries=True, unproven=True)


def missing_namespace(details: Mapping[str, Any], about: About | None) -> str | None:
    """The namespace that a 404's details name instead of an object in it."""
    if details.get("kind") != "namespaces" or details.get("group") or not details.get("name"):
        return None
    return None if about is not None and about.plural == "namespaces" and not about.group else str(details["name"])


def _names(details: Mapping[str, Any], about: About) -> bool:
    """Whether a Status' details refer to exactly this object.

    Both groups of events name them by the core one (k8s.io/kubernetes, pkg/registry/core/event/storage).
    """
    groups = {about.group}
    if about.plural == "events":
        groups |= {"", "events.k8s.io"}
    return (
        details.get("kind") == about.plural
        and (details.get("group") or "") in groups
        and details.get("name") == about.name
    )


def transport_outcome(error: UnreachableError) -> Outcome:
    """The outcome of a request without an answer; the write may or may not have happened."""
    lost = error.kind in (UnreachableKind.TIMEOUT, UnreachableKind.RESET)
    timeout = error.kind is UnreachableKind.TIMEOUT
    return Outcome(Verdict.RETRY, 0, error.kind.value, error.message, overloaded=timeout, perhaps_done=lost)


def _is_final(message: str) -> bool:
    """Server errors that another try won't fix."""
    return "request is too large" in message or "larger than the configured max size" in message


@dataclass
class OutcomeCounts:
    """Counts of objects by what became of them. ``moved``, ``pruned``: of those rewritten, whose field managers were.

    ``uncertain``: objects that were written since an answer about them was lost, by this run or by somebody else.
    ``unknown``: the number of resources in which a controller did the work and nothing was counted; then the sums are unknown too.
    """

    rewritten: int = 0
    unchanged: int = 0
    conflicts: int = 0
    deleted: int = 0
    uncertain: int = 0
    failed: int = 0
    moved: int = 0
    pruned: int = 0
    unknown: int = 0

    def count(self, verdict: Verdict, number: int = 1) -> None:
        setattr(self, verdict.value, getattr(self, verdict.value) + number)

    @property
    def visited(self) -> int:
        return self.rewritten + self.unchanged + self.conflicts + self.deleted + self.uncertain + self.failed

    def add(self, other: OutcomeCounts) -> None:
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def without(self, other: OutcomeCounts) -> OutcomeCounts:
        """The difference of each count."""
        return OutcomeCounts(*(getattr(self, name) - getattr(other, name) for name in _COUNTS))


# asdict copies deeply, and the counts of thousands of resources are added up several times per second.
_COUNTS = tuple(count.name for count in fields(OutcomeCounts))
