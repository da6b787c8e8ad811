# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a LIST fails, and what to do."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check import lists
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.upgrade_check.builders import (
    SERVED,
    WIDGETS,
    served,
)


@pytest.mark.parametrize(
    ("message", "causes", "cause", "keys"),
    [
        (
            'no kind "HorizontalPodAutoscaler" is registered for version "autoscaling/v2beta2" in scheme "x"',
            [],
            "the API server knows no HorizontalPodAutoscaler of version autoscaling/v2beta2",
            (),
        ),
        (
            'unable to transform key "/registry/secrets/a/b": identity transformer tried to read encrypted data',
            [],
            "an object can't be decrypted with the keys that the API server has",
            ("/registry/secrets/a/b",),
        ),
        (
            # KMS v1, and v2 with 1.37's answer to a LIST.
            'unable to transform key "/registry/secrets/a/b": rpc error: code = Unavailable desc = hunter2',
            [],
            lists.KMS_FAILS,
            ("/registry/secrets/a/b",),
        ),
        ("failed to decrypt DEK, error: rpc error: code = Internal desc = hunter2", [], lists.KMS_FAILS, ()),
        ("rpc error: code = Unavailable desc = hunter2", [], "the API server answers with 500", ()),
        ('json: cannot unmarshal "hunter2" into Go struct', [], "an object is damaged or of an unknown form", ()),
        ("conversion webhook for x failed: hunter2", [], "its conversion webhook does not answer or fails", ()),
        (
            "request to convert CR from an invalid group/version: shop.example.com/v1alpha1",
            [],
            "an object is stored as shop.example.com/v1alpha1, which the CRD no longer has",
            (),
        ),
        ("hunter2", [], "the API server answers with 500", ()),
    ],
)
def test_why_a_list_fails(message: str, causes: list[Any], cause: str, keys: tuple[str, ...]) -> None:
    body = json.dumps({"kind": "Status", "message": message, "details": {"causes": causes}}).encode()
    failure = lists.failure_of(SERVED["secrets"], "v1", Response(500, {}, body))
    assert (failure.cause, failure.keys) == (cause, keys)
    (finding,) = lists.evaluate_lists([failure], {}, lists.Reach(etcd_read=False))
    assert "hunter2" not in str(finding.as_dict())


def advice(cause: str, reach: lists.Reach, *keys: str) -> str:
    failure = lists.ListFailure(SERVED[WIDGETS], "v1", 500, "", cause, keys)
    (finding,) = lists.evaluate_lists([failure], {}, reach)
    return finding.remediation


SEALED = "an object can't be decrypted with the keys that the API server has"


def test_the_unsafe_delete_is_advised_only_if_nobody_can_read_the_object() -> None:
    """Issue 13, number 4."""
    alone = advice(SEALED, lists.Reach(etcd_read=True), "/registry/a/b/c")
    assert "unsafe delete" in alone and "select: stale" in alone
    read = advice(SEALED, lists.Reach(True, {WIDGETS: ["master-2"]}), "/registry/a/b/c")
    assert "unsafe delete" not in read and "encryption configuration of master-2" in read and "Delete nothing" in read
    unasked = advice(SEALED, lists.Reach(True, {}, ["https://10.0.0.13:6443"]), "/registry/a/b/c")
    assert "unsafe delete" not in unasked and "https://10.0.0.13:6443 could not be" in unasked


def test_objects_are_not_deleted_because_a_kms_plugin_is_down() -> None:
    """Every API server asks the same KMS, so that none can read them while it is down, or while a key in it is disabled."""
    for reach in (lists.Reach(True), lists.Reach(True, {WIDGETS: ["master-2"]})):
        found = advice(lists.KMS_FAILS, reach, "/registry/a/b/c")
        assert found.startswith("Bring the KMS plugin back") and "Delete nothing" in found and "unsafe" not in found


def test_what_a_crd_lost_needs_no_key() -> None:
    """Issue 13, number 6: the encryption key was advised beside the right fix."""
    lost = f"an object is stored as example.com/v1alpha1, {lists.NOT_IN_CRD}"
    assert advice(lost, lists.Reach(True), "/registry/a/b/c") == (
        f"Add the version to the CRD again (it need not be served) and run storage_migrate with resources: [{WIDGETS}]."
    )


def test_each_version_is_listed_once_whichever_of_them_requests_use() -> None:
    asked: list[str] = []

    class Server:
        url = "https://10.0.0.11:6443"

        async def request(self, _method: str, path: str, **_more: Any) -> Response:
            asked.append(path.partition("?")[0])
            items = [{"metadata": {"name": "a", "namespace": "ns", "resourceVersion": "1"}}]
            return Response(200, {}, json.dumps({"kind": "List", "metadata": {}, "items": items}).encode())

    resource = served(WIDGETS, "Widget", "v1alpha1", "v1", "v1beta1", stored_as="v1")
    found = asyncio.run(lists.list_all(Server(), {WIDGETS: resource}))  # type: ignore[arg-type]
    assert found.counts == {WIDGETS: 1} and found.failures == []
    assert asked == [f"/apis/example.com/{version}/widgets" for version in ("v1", "v1alpha1", "v1beta1")]
