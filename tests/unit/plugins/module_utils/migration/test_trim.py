# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was proven must still be so when a CRD is trimmed (issue 11): between the two this process may have been suspended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    ApiError,
    NotConvergedError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube import crds
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.crds import (
    StoredVersions,
    put_back_stored_versions,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import Control, ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Plan, Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.result import MigrationResult
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.trim import trim
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.crd_identity import CrdIdentity
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.cross_check import CrossCheck
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    ServerReport,
    storage_version_hash,
)

NAME = "things.example.com"
HASH = storage_version_hash("example.com", "v1", "Thing")
THINGS = ServedResource(NAME, "example.com", "things", "Thing", True, frozenset({"list", "patch"}), ("v1",), (HASH,))


class Server:
    """One that has the CRD, and answers the first writes with these errors."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.hidden = False
        self.written: list[Any] = []

    async def get(self, _path: str) -> dict[str, Any]:
        if self.hidden:
            raise ApiError("cannot get", status=403)
        return {
            "metadata": {"name": NAME, "uid": "u", "generation": 2, "resourceVersion": "7"},
            "spec": {
                "group": "example.com",
                "names": {"kind": "Thing"},
                "versions": [{"name": "v1", "storage": True}, {"name": "v1beta1"}],
            },
            "status": {"storedVersions": ["v1"] if self.written else ["v1beta1", "v1"]},
        }

    async def json(self, _method: str, _path: str, *, body: Any, content_type: str) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.written.append(body["status"]["storedVersions"])


class Case:
    """A custom resource that is proven, and a guard whose check of the API servers does something."""

    def __init__(self, *errors: Exception) -> None:
        self.server = Server(*errors)
        self.control = Control()
        self.done = [NAME]
        self.untried: list[str] = []
        self.fresh = True
        self.controller_trims = False
        self.checks: Callable[[], None] = lambda: None
        run = ResourceRun(Target(THINGS, "example.com/v1", "selected"), "direct", custom=True, trims=True)
        run.crd, run.listed, run.finished = CrdIdentity("u", 2), True, 1.0
        self.result = MigrationResult(Plan((run.target,), ()), runs={NAME: run})

    def trim(self) -> list[str]:
        """Why the CRD was not trimmed."""
        checkpoint = SimpleNamespace(done=self.done, trimmed=lambda name: None, not_trimmed=self.untried.append)
        context = SimpleNamespace(
            cluster=SimpleNamespace(entry=self.server),
            control=self.control,
            checkpoint=checkpoint,
            result=self.result,
            lease=SimpleNamespace(valid=True),
            chosen=SimpleNamespace(trims_by_itself=self.controller_trims),
            options=SimpleNamespace(trim_stored_versions=True),
            report=lambda event: None,
        )
        asyncio.run(trim(context, self))  # type: ignore[arg-type]
        return [crd.reason for crd in self.result.untrimmed]

    async def refresh(self) -> None:
        self.checks()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(_seconds: float) -> None:
        pass

    monkeypatch.setattr(crds.asyncio, "sleep", sleep)


def test_what_is_proven_is_trimmed() -> None:
    case = Case()
    assert case.trim() == [] and case.server.written == [["v1"]]


def test_a_server_that_was_replaced_since_the_proof() -> None:
    case = Case()
    case.checks = case.done.clear
    assert "may have written since" in case.trim()[0] and case.server.written == [] and case.untried == [NAME]


def test_one_that_was_replaced_while_the_write_was_held() -> None:
    """The Lease had expired, as the process was suspended; then it was renewed."""
    case = Case(UnreachableError("held", kind="held"))
    case.checks = lambda: None if case.server.errors else case.done.clear()
    assert "may have written since" in case.trim()[0] and case.server.written == []


def test_servers_that_can_not_be_checked() -> None:
    case = Case()
    case.fresh = False
    assert "could not be checked again" in case.trim()[0] and case.server.written == []


def test_a_run_that_was_stopped_leaves_it_to_the_next() -> None:
    case = Case()
    case.checks = lambda: case.control.stop(NotConvergedError("they disagree"))
    assert "was stopped" in case.trim()[0] and case.server.written == [] and case.untried == []


def test_a_controller_that_trims_nothing_is_not_believed() -> None:
    """Before 1.36 kube-controller-manager leaves storedVersions alone, and this user cannot patch them."""
    case = Case(ApiError("cannot patch", status=403))
    case.controller_trims = True
    assert case.trim() == ["cannot patch"] and case.untried == [NAME]


def test_a_crd_that_may_not_be_read_is_left_to_the_controller() -> None:
    case = Case()
    case.controller_trims = case.server.hidden = True
    assert case.trim() == [] and case.untried == []
    (told,) = case.result.doubts
    assert told.startswith(f"Whether the CRD {NAME} was trimmed is unknown")
    case.controller_trims = False
    assert case.trim() == ["cannot get"]


@pytest.mark.parametrize("agree", [True, False])
def test_what_is_not_proven_is_reported_about_built_in_resources_too(agree: bool) -> None:
    case = Case()
    run = case.result.runs[NAME]
    run.custom = run.trims = False
    case.done.clear()
    case.result.agreement = Observation(
        (ServerReport("https://a", "a", version="v1.37.2", ready=agree),), cross=CrossCheck(None)
    )
    case.trim()
    assert ("did not all agree" if not agree else "not served everywhere") in case.result.reservations[0]


def test_a_crd_that_the_controller_still_writes_is_restored() -> None:
    server = Server(ApiError("conflict", status=409))
    server.written = [["v1"]]
    assert asyncio.run(put_back_stored_versions(server, NAME, StoredVersions("u", ("v1beta1", "v1"))))  # type: ignore[arg-type]
    assert server.written[-1] == ["v1beta1", "v1"]
