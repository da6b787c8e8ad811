# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the first page of a list, and a different number in etcd, mean."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import ApiError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.access import CompactedError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd, EtcdClusters, Page
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.counting import compare_counts
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.counts import (
    COUNTS_DIFFER,
    NOT_COUNTED,
    Uncounted,
    count_problems,
    revision_of,
    total_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

LISTED = {"metadata": {"resourceVersion": "40", "continue": "x", "remainingItemCount": 6}, "items": [{}]}


def served(*names: str, verbs: str = "get list patch") -> dict[str, ServedResource]:
    found = {}
    for name in names:
        plural, _dot, group = name.partition(".")
        found[name] = ServedResource(name, group, plural, "Kind", True, frozenset(verbs.split()), ("v1",), ("hash",))
    return found


class Server:
    """Answers every list alike, or in turn."""

    def __init__(self, *answers: Mapping[str, Any] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def get(self, path: str, **_options: Any) -> Mapping[str, Any]:
        self.asked.append(path)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Numbers:
    """An etcd in which every range has as many keys, at revisions that advance."""

    prefix = "/registry"

    def __init__(self, count: int, *revisions: int, compacted: bool = False) -> None:
        self.number = count
        self.revisions = list(revisions)
        self.compacted = compacted

    async def range(self, start: bytes, end: bytes | None, *, revision: int = 0, **_options: Any) -> Page:
        if revision and self.compacted:
            raise CompactedError("gone")
        now = revision or (self.revisions.pop(0) if len(self.revisions) > 1 else self.revisions[0])
        return Page(json.dumps({"header": {"revision": str(now)}, "count": str(self.number)}).encode())


def compare(
    etcd: Numbers, *servers: Server, names: Sequence[str] = ("configmaps",), resources: Sequence[str] | None = None
) -> dict[str, Uncounted]:
    clusters = EtcdClusters(cast(Etcd, etcd))
    return asyncio.run(
        compare_counts(clusters, [cast(ApiServer, server) for server in servers], served(*names), resources)
    )


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_seconds: float) -> None:
        pass

    monkeypatch.setattr(asyncio, "sleep", at_once)


def test_totals_and_revisions() -> None:
    assert total_of(LISTED) == 7 and revision_of(LISTED) == 40
    assert total_of({"metadata": {}, "items": [{}]}) == 1
    assert total_of({"metadata": {}, "items": None}) == 0
    assert total_of({"metadata": {"continue": "x"}, "items": [{}]}) is None
    assert revision_of({"metadata": {"resourceVersion": "abc"}}) == revision_of({}) == 0


def test_equal_numbers_at_one_revision() -> None:
    assert compare(Numbers(7, 40), Server(LISTED)) == {}
    assert compare(Numbers(7, 38, 44), Server(LISTED)) == {}


def test_other_numbers() -> None:
    found = compare(Numbers(3, 40), Server(LISTED))["configmaps"]
    assert (found.kind, found.listed, found.held) == (COUNTS_DIFFER, 7, 3)
    assert found.unproven(0) == 7 and found.unproven(2) == 5
    assert compare(Numbers(9, 40), Server(LISTED))["configmaps"].unproven(1) == 8


def test_equal_numbers_at_another_etcds_revision() -> None:
    for revisions in ((41,), (30, 35)):
        found = compare(Numbers(7, *revisions), Server(LISTED))["configmaps"]
        assert found.kind == COUNTS_DIFFER and "40" in found.why
        assert found.unproven(0) == 7


def test_nothing_on_both_sides_needs_no_revision() -> None:
    assert compare(Numbers(0, 99), Server({"metadata": {"resourceVersion": "3"}, "items": []})) == {}


def test_what_does_not_last_is_tried_again() -> None:
    late = {"metadata": {"resourceVersion": "40", "continue": "x"}, "items": [{}]}
    assert compare(Numbers(7, 40), Server(late, LISTED)) == {}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (ApiError("no", status=403), "the permission to list is missing"),
        (ApiError("secret data", status=500), "its list fails with 500"),
        ({"metadata": {"resourceVersion": "40", "continue": "x"}, "items": [{}]}, "gave no total"),
    ],
)
def test_what_can_not_be_counted_is_not_proven(answer: Any, why: str) -> None:
    found = compare(Numbers(7, 40), Server(answer))["configmaps"]
    assert found.kind == NOT_COUNTED and why in found.why and "secret" not in found.why
    assert found.unproven(0) == 7


def test_a_compacted_revision_proves_nothing() -> None:
    assert compare(Numbers(7, *[38, 44] * 4, compacted=True), Server(LISTED))["configmaps"].kind == NOT_COUNTED


def test_each_server_is_asked_and_one_that_differs_wins() -> None:
    other = {"metadata": {"resourceVersion": "40"}, "items": []}
    found = compare(Numbers(7, 40), Server(LISTED), Server(other), Server(ApiError("no", status=403)))
    assert found["configmaps"].kind == COUNTS_DIFFER and found["configmaps"].listed == 0


def test_both_names_of_events_are_one() -> None:
    names = ("events", "events.events.k8s.io", "secrets")
    server = Server(LISTED)
    assert compare(Numbers(7, 40), server, names=names) == {}
    assert sorted(server.asked) == ["/api/v1/events?limit=1", "/api/v1/secrets?limit=1"]
    server = Server(LISTED)
    assert compare(Numbers(7, 40), server, names=names, resources=["events.events.k8s.io"]) == {}
    assert server.asked == ["/api/v1/events?limit=1"]


def test_sentences() -> None:
    assert count_problems({}) == []
    differ, hidden = count_problems(
        {
            "events": Uncounted("events", COUNTS_DIFFER, 3, 12),
            "secrets": Uncounted("secrets", NOT_COUNTED, 3, why="the permission to list is missing"),
            "pods": Uncounted("pods", NOT_COUNTED, 0, why="the permission to list is missing"),
        }
    )
    assert "events (12 listed, 3 here)" in differ and "etcd.overrides" in differ and "about events (" in differ
    assert "secrets, pods is unknown, as the permission to list is missing." in hidden
