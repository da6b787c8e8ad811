# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The few error classes of the collection.

Each carries one sentence for a person (what is wrong, what to do next) and, for a playbook, its name and the
keys that the module returns beside ``msg``. None of them ever holds a token, a key or an object's data.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.oldest_python import require

require()  # Every module imports this file before any that an older Python can't.


class StorageUpgradeError(Exception):
    """Base class: ``message`` is for a person, ``result`` and ``name`` (the module's ``error``) for a playbook."""

    name = "other"

    def __init__(self, message: str, result: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.result: dict[str, Any] = result or {}


class BadInputError(StorageUpgradeError):
    """An option makes no sense; no server was asked, or nothing was written."""

    name = "bad_input"


class UnreachableKind(str, Enum):
    """Why no usable answer came back.

    ``REFUSED``: nothing listens there. ``RESET``: the connection was lost, or the response was not an answer. ``HELD``: nothing
    was sent, because nothing may be written now. ``EXHAUSTED``: nothing was sent, because this process may open no more files.
    ``PROXY``: a proxy on the way refuses, so nothing was sent. ``UNUSABLE``: nothing was sent, because this host can't do it: a
    library is missing, or the user may not use a socket.
    """

    REFUSED = "refused"
    RESET = "reset"
    TIMEOUT = "timeout"
    DNS = "dns"
    TLS = "tls"
    HELD = "held"
    EXHAUSTED = "exhausted"
    PROXY = "proxy"
    UNUSABLE = "unusable"


class UnreachableCause(str, Enum):
    """What is to be fixed, where the failure itself shows it.

    ``PROXY``: a proxy on the way, which the message names. ``GRPC``: what answers speaks gRPC, or HTTP/2, but not as etcd does.
    ``CERTIFICATE``: the server's certificate can't be verified. ``EXPIRED``: the server's certificate has expired.
    """

    PROXY = "proxy"
    GRPC = "grpc"
    CERTIFICATE = "certificate"
    EXPIRED = "expired"


class UnreachableError(StorageUpgradeError):
    """No usable answer came back; ``kind`` says why, and ``cause``, if known, what has to be fixed."""

    name = "unreachable"

    def __init__(
        self,
        message: str,
        *,
        kind: UnreachableKind | str,
        cause: UnreachableCause | None = None,
        result: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, result)
        self.kind = UnreachableKind(kind)
        self.cause = cause


class ApiError(StorageUpgradeError):
    """A server answered with an HTTP error; the fields are those of its metav1.Status."""

    name = "api"

    def __init__(self, message: str, *, status: int, reason: str = "", result: dict[str, Any] | None = None) -> None:
        super().__init__(message, result)
        self.status = status
        self.reason = reason


class EtcdFullError(ApiError):
    """etcd is at its quota: it refuses every write of every client until somebody frees space and disarms the alarm."""

    name = "etcd_full"

    def __init__(self) -> None:
        super().__init__(_ETCD_IS_FULL, status=500, reason="DatabaseSpaceExceeded")


# In this order: only defragmenting releases what compaction frees, and an alarm that is disarmed before there is
# room is raised again at once (etcd.io/docs, Operations, Maintenance).
_ETCD_IS_FULL = (
    "etcd is full: at its space quota it refuses every write of every client of this cluster, so nothing more was "
    "written. In this order: compact etcd's history (etcdctl compact REVISION), defragment every member (etcdctl "
    "defrag --cluster), disarm the alarm (etcdctl alarm disarm), and raise --quota-backend-bytes or free space if "
    "little was gained. Then run again."
)


class NotConvergedError(StorageUpgradeError):
    """The API servers don't agree (yet), so a write could be stored in the old version."""

    name = "not_converged"


class StateStoreError(StorageUpgradeError):
    """The baseline or the progress can't be read or written."""

    name = "state_store"


class StateConflictError(StateStoreError):
    """Somebody else wrote the state after it was read; the caller must read it again and merge."""


class AlreadyRunningError(StorageUpgradeError):
    """Another run holds the Lease."""

    name = "already_running"


class CutOffError(StorageUpgradeError):
    """A step on a master was interrupted, and nobody has confirmed yet that it is over."""

    name = "cut_off"


class MigrationIncompleteError(StorageUpgradeError):
    """Some objects could not be rewritten, or the run was stopped; ``result`` holds the whole outcome."""

    name = "incomplete"


class UpdateError(StorageUpgradeError):
    """The platform's own update can't begin or doesn't finish."""

    name = "update"


class EtcdError(StorageUpgradeError):
    """etcd can't be read."""

    name = "etcd"


class FileError(StorageUpgradeError):
    """A file could not be written; what was there before is unchanged."""

    name = "file"


def is_forbidden(error: Exception) -> bool:
    """Whether a server refused the user, not the request."""
    return isinstance(error, ApiError) and error.status in (401, 403)


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed a moment later."""
    if isinstance(error, EtcdFullError):
        return False
    if isinstance(error, ApiError):
        return error.status >= 500 or error.status == 429
    return isinstance(error, UnreachableError)


def says_that_etcd_is_full(message: str) -> bool:
    """Whether a server's message says that etcd is at its quota (go.etcd.io/etcd, api/v3rpc/rpctypes, ErrNoSpace)."""
    return "database space exceeded" in message or "etcdserver: no space" in message
