# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an answer says about Priority and Fairness, and what a user may learn of it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import ApiError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.http11 import AnswerHeaders
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.priority import (
    Classified,
    Priority,
    classified,
    find_priority,
)

LEVELS = [
    {"metadata": {"name": "exempt", "uid": "e"}, "spec": {"type": "Exempt"}},
    {"metadata": {"name": "global-default", "uid": "d"}, "spec": {"type": "Limited"}},
]
SCHEMAS = [{"metadata": {"name": "exempt", "uid": "s"}}]


class Server:
    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    async def get(self, path: str) -> Any:
        found = self.answers[path.rpartition("/")[2]]
        if isinstance(found, Exception):
            raise found
        return found


def find(schemas: Any, levels: Any, level: str) -> Priority:
    server = Server({"flowschemas": schemas, "prioritylevelconfigurations": levels})
    return asyncio.run(find_priority(cast(Any, server), Classified("s", level)))


def test_an_answer_names_both_by_uid() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Kubernetes-Pf-Flowschema-Uid: s\r\nX-Kubernetes-Pf-Prioritylevel-Uid: e"
    assert classified(AnswerHeaders(head)) == Classified("s", "e")
    assert classified(AnswerHeaders(b"HTTP/1.1 200 OK")) is None


@pytest.mark.parametrize(("level", "name", "exempt"), [("e", "exempt", True), ("d", "global-default", False)])
def test_the_level_says_whether_it_is_exempt(level: str, name: str, exempt: bool) -> None:
    assert find({"items": SCHEMAS}, {"items": LEVELS}, level) == Priority("exempt", name, exempt)


@pytest.mark.parametrize("answer", [ApiError("no", status=403, reason="Forbidden"), {}, {"items": [{}]}, {"items": []}])
def test_what_the_user_may_not_read_is_unknown_and_not_false(answer: Any) -> None:
    assert find(answer, answer, "e") == Priority()
