# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What discovery documents say, and what they leave out."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import ApiError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.discovery import (
    ToldVersion,
    merge_resource_lists,
    report_of,
    told_version,
    without_hash,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.cross_check import CrossCheck


def listed(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"resources": list(resources)}


def resource(name: str, hashed: str | None = None, verbs: tuple[str, ...] = ("list", "patch")) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "kind": name.capitalize(), "namespaced": True, "verbs": list(verbs)}
    return found if hashed is None else {**found, "storageVersionHash": hashed}


def test_a_crd_whose_storage_version_is_not_served_is_found() -> None:
    answers = [
        ("v1", listed(resource("componentstatuses", verbs=("get", "list")), resource("pods", "x"))),
        ("authorization.k8s.io/v1", listed(resource("reviews", verbs=("create",)))),
        ("shop.example.com/v1", listed(resource("hiddens"), resource("hiddens/status"), resource("goods", "y"))),
        ("shop.example.com/v2", listed(resource("hiddens"))),
        ("gone.example.com/v1", None),
    ]
    assert without_hash(answers) == ["hiddens.shop.example.com"]
    merged = merge_resource_lists(answers, {"hiddens.shop.example.com": "h"})
    assert set(merged) == {"pods", "hiddens.shop.example.com", "goods.shop.example.com"}
    assert merged["hiddens.shop.example.com"].hash == "h"
    assert merged["hiddens.shop.example.com"].versions == ("v1", "v2")
    assert "hiddens.shop.example.com" not in merge_resource_lists(answers)


class FakeServer:
    """Serves one custom resource without a hash; ``crd`` is how it answers a GET of the CRD."""

    url, name = "https://a", "a"

    def __init__(self, crd: dict[str, Any] | ApiError) -> None:
        self._crd = crd
        self._documents: dict[str, dict[str, Any]] = {
            "/version": {"gitVersion": "v1.37.2"},
            "/apis": {
                "kind": "APIGroupList",
                "groups": [{"name": "shop.example.com", "versions": [{"groupVersion": "shop.example.com/v1"}]}],
            },
            "/apis/apiregistration.k8s.io/v1/apiservices": {"kind": "APIServiceList", "items": []},
            "/api/v1": {"kind": "APIResourceList", **listed(resource("pods", "x"))},
            "/apis/shop.example.com/v1": {"kind": "APIResourceList", **listed(resource("hiddens"))},
        }

    async def request(self, *_arguments: Any, **_more: Any) -> Response:
        return Response(200, {}, b"ok")

    async def get(self, path: str, **_more: Any) -> dict[str, Any]:
        if path in self._documents:
            return self._documents[path]
        if isinstance(self._crd, ApiError):
            raise self._crd
        return self._crd


CRD = {
    "spec": {"group": "shop.example.com", "names": {"kind": "Hidden"}, "versions": [{"name": "v0", "storage": True}]}
}


@pytest.mark.parametrize(
    ("crd", "hidden", "served"),
    [
        (CRD, (), {"pods", "hiddens.shop.example.com"}),
        (ApiError("no such CRD", status=404, reason="NotFound"), (), {"pods"}),
        (ApiError("forbidden", status=403, reason="Forbidden"), ("hiddens.shop.example.com",), {"pods"}),
    ],
)
def test_a_custom_resource_that_the_user_may_not_see_leaves_a_doubt(
    crd: dict[str, Any] | ApiError, hidden: tuple[str, ...], served: set[str]
) -> None:
    report = asyncio.run(report_of(cast(ApiServer, FakeServer(crd))))
    assert report.error is None and set(report.resources) == served and report.hidden == hidden
    seen = Observation((report,), cross=CrossCheck(None))
    assert seen.converged and bool(seen.reservations) is bool(hidden)
    assert all("hiddens.shop.example.com is left out" in sentence for sentence in seen.reservations)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"gitVersion": "v1.31.14"}, ("v1.31.14", None, None)),
        (
            {
                "gitVersion": "v1.37.2",
                "emulationMajor": "1",
                "emulationMinor": "37",
                "minCompatibilityMajor": "1",
                "minCompatibilityMinor": "36",
            },
            ("v1.37.2", None, "1.36"),
        ),
        (
            {
                "gitVersion": "v1.37.2+k3s1",
                "emulationMajor": "1",
                "emulationMinor": "36+",
                "minCompatibilityMajor": "1",
                "minCompatibilityMinor": "35",
            },
            ("v1.37.2+k3s1", "1.36", "1.35"),
        ),
    ],
)
def test_a_version_tells_what_is_emulated_and_for_whom_is_written(
    answer: dict[str, str], told: tuple[str, str | None, str | None]
) -> None:
    assert told_version(answer) == ToldVersion(*told)
