# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The few error classes of the collection.

Each carries one sentence for a person (what is wrong, what to do next) and, for a playbook, its name and the
keys that the module returns beside ``msg``. None of them ever holds a token, a key or an object's data.
"""

from __future__ import annotations

from typing import Any


class StorageUpgradeError(Exception):
    """Base class: ``message`` is for a person, ``result`` and ``name`` (the module's ``error``) for a playbook."""

    name = "other"

    def __init__(self, message: str, result: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.result: dict[str, Any] = result or {}


class BadInputError(StorageUpgradeError):
    """An option makes no sense; nothing was asked of any server, or nothing was written."""

    name = "bad_input"


class UnreachableError(StorageUpgradeError):
    """No usable answer came back: refused, reset, timed out, TLS or DNS failure."""

    name = "unreachable"

    def __init__(self, message: str, *, kind: str, result: dict[str, Any] | None = None) -> None:
        super().__init__(message, result)
        self.kind = kind


class ApiError(StorageUpgradeError):
    """A server answered with an HTTP error; the fields are those of its metav1.Status."""

    name = "api"

    def __init__(self, message: str, *, status: int, reason: str = "", result: dict[str, Any] | None = None) -> None:
        super().__init__(message, result)
        self.status = status
        self.reason = reason


class NotConvergedError(StorageUpgradeError):
    """The API servers don't agree (yet), so a write could be stored in the old version."""

    name = "not_converged"


class StateStoreError(StorageUpgradeError):
    """The baseline or the progress can't be read or written."""

    name = "state_store"


class AlreadyRunningError(StorageUpgradeError):
    """Another run holds the Lease."""

    name = "already_running"


class MigrationIncompleteError(StorageUpgradeError):
    """Some objects could not be rewritten, or the run was stopped; ``result`` holds the whole outcome."""

    name = "incomplete"


class UpdateError(StorageUpgradeError):
    """The platform's own update can't begin, or doesn't come to its end."""

    name = "update"


class EtcdError(StorageUpgradeError):
    """etcd can't be read."""

    name = "etcd"


def is_forbidden(error: Exception) -> bool:
    """Whether a server refused the user, not the request."""
    return isinstance(error, ApiError) and error.status in (401, 403)


def is_passing(error: Exception) -> bool:
    """Whether the same request may well succeed a moment later."""
    if isinstance(error, ApiError):
        return error.status >= 500 or error.status == 429
    return isinstance(error, UnreachableError)
