# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a rehearsal interprets answers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check import rewrites
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.refusals import field_shown
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.upgrade_check.builders import (
    WIDGETS,
    served,
)


@pytest.mark.parametrize(
    ("status", "details", "where"),
    [
        (404, {"kind": "namespaces", "name": "lost"}, "orphaned"),
        (404, {"kind": "widgets", "group": "example.com", "name": "a"}, None),
        (404, {}, "unclear"),
        (409, {"kind": "widgets", "group": "example.com", "name": "a"}, None),
    ],
)
def test_how_a_rehearsal_interprets_an_answer(status: int, details: dict[str, str], where: str | None) -> None:
    """Issue 11, number 1: a 404 was taken for no answer."""

    class Server:
        async def request_once(self, *_given: Any, **_more: Any) -> Response:
            body = {"kind": "Status", "reason": "NotFound", "message": "not found", "details": details}
            return Response(status, {}, json.dumps(body).encode())

    resource = replace(served(WIDGETS, "Widget", "v1", stored_as="v1"), verbs=frozenset({"list", "patch"}))
    done = asyncio.run(
        rewrites.rehearse(Server(), {WIDGETS: resource}, {WIDGETS: ObjectKey("lost", "a", "1")}, [])  # type: ignore[arg-type]
    )
    assert done.passed == set() and done.refused == {}
    assert {name for name in ("orphaned", "unclear") if getattr(done, name)} == ({where} if where else set())


@pytest.mark.parametrize(
    ("message", "refused"),
    [
        ('admission webhook "x.example.com" does not support dry run', False),
        ('admission webhook "x.example.com" denied the request: it does not support dry run', True),
    ],
)
def test_a_webhook_without_dry_runs_refuses_nothing(message: str, refused: bool) -> None:
    """An old one, with sideEffects: Unknown; the migration itself makes no dry run."""

    class Server:
        async def request_once(self, *_given: Any, **_more: Any) -> Response:
            return Response(400, {}, json.dumps({"kind": "Status", "message": message}).encode())

    resource = replace(served(WIDGETS, "Widget", "v1", stored_as="v1"), verbs=frozenset({"list", "patch"}))
    done = asyncio.run(
        rewrites.rehearse(Server(), {WIDGETS: resource}, {WIDGETS: ObjectKey("a", "a", "1")}, [])  # type: ignore[arg-type]
    )
    assert (list(done.refused), done.unrehearsed) == (([WIDGETS], []) if refused else ([], [WIDGETS]))


SECRET = "hunter2"
DENIALS = [
    (
        f'admission webhook "x.example.com" denied the request: {SECRET}',
        {},
        "The admission webhook x.example.com refuses",
    ),
    (
        f"ValidatingAdmissionPolicy 'p' with binding 'b' denied request: {SECRET}",
        {},
        "The admission policy p (binding b) refuses",
    ),
    (f'policy "p" denied request: {SECRET}', {}, "The admission policy p refuses"),
    (
        f'Secret "a" is invalid: data[{SECRET}]: Invalid value: "{SECRET}": no',
        {
            "causes": [
                {"reason": "FieldValueInvalid", "message": f'Invalid value: "{SECRET}": no', "field": f"data[{SECRET}]"}
            ]
        },
        "data has an invalid value",
    ),
]


@pytest.mark.parametrize(("message", "details", "says"), DENIALS)
def test_no_data_of_the_object_is_shown_unless_asked_for(message: str, details: dict[str, Any], says: str) -> None:
    """Issue 13, number 8."""
    done = rewrites.Rehearsal(refused={"secrets": rewrites.Refusal(403, message, details)})
    (finding,) = rewrites.evaluate_rewrites(done, frozenset())
    assert SECRET not in str(finding.as_dict()) and SECRET not in str(done)
    assert says in finding.what and "show_server_messages: true shows it" in finding.what
    (shown,) = rewrites.evaluate_rewrites(done, frozenset(), show_messages=True)
    assert SECRET in shown.what


@pytest.mark.parametrize(
    ("resource", "path", "shown"),
    [
        ("pods", "spec.containers[0].env[1].name", "spec.containers[0].env[1].name"),
        ("secrets", "data[hunter2]", "data"),
        ("secrets", "metadata.annotations[a.b/c].d", "metadata.annotations"),
        (WIDGETS, "spec.sizes.hunter2.x", "spec"),
        ("secrets", "", "a field"),
        ("secrets", "[hunter2]", "a field"),
    ],
)
def test_keys_of_maps_are_left_out_of_paths(resource: str, path: str, shown: str) -> None:
    assert field_shown(resource, path) == shown
