# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which API servers can read what others can. Issue 13, number 4."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableError, UnreachableKind
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, Tally, Variant
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.each_server import (
    Readers,
    compare_servers,
    evaluate_readers,
    readers_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.lists import KMS_FAILS, NO_KIND, Lists
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.observed import ObservedCluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import UpgradePath
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServerReport
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.upgrade_check.builders import SERVED, held

A, B, C = (f"https://10.0.0.1{number}:6443" for number in (1, 2, 3))
NAMES = {A: "master-1", B: "master-2", C: "master-3"}
CAUSE = "an object can't be decrypted with the keys that the API server has"


def test_servers_that_differ_are_named() -> None:
    found = {"secrets": Readers(can={A, C}, cannot={B: CAUSE}, keys={"default/a"}), "pods": Readers(can={A, B, C})}
    told = evaluate_readers(found, NAMES)
    (finding,) = told.found
    assert finding.id == "servers_differ/secrets" and finding.blocks
    assert (
        finding.what
        == f"master-2 ({B}) can't read objects of secrets (default/a) that master-1, master-3 can: {CAUSE}."
    )
    assert (
        "encryption configuration that master-1 has" in finding.remediation and "Delete nothing" in finding.remediation
    )
    assert told.unknown == []
    assert readers_of(found, NAMES) == {"secrets": ["master-1", "master-3"]}


def test_an_older_release_does_not_block_the_rest_of_the_upgrade() -> None:
    """What the newer servers wrote is judged by the target; another encryption configuration would change nothing."""
    cause = f"{NO_KIND} Widget of version example.com/v2"
    (finding,) = evaluate_readers({"widgets": Readers(can={A}, cannot={B: cause})}, NAMES).found
    assert not finding.blocks
    assert (
        finding.remediation.startswith("Finish the upgrade or the rollback") and "encryption" not in finding.remediation
    )
    (finding,) = evaluate_readers({"widgets": Readers(can={A}, cannot={B: cause, C: CAUSE})}, NAMES).found
    assert finding.blocks


def test_what_nobody_can_read_says_nothing_about_the_servers() -> None:
    found = {"secrets": Readers(cannot={A: CAUSE, B: CAUSE, C: CAUSE})}
    assert evaluate_readers(found, NAMES).found == [] and readers_of(found, NAMES) == {}


def test_a_server_without_an_answer_is_named() -> None:
    told = evaluate_readers({"secrets": Readers(can={A}, silent={B})}, NAMES)
    assert told.found == [] and "Whether master-2 can read" in told.unknown[0]


NO_PREFIX = 'unable to transform key "/registry/secrets/default/a": no matching prefix found'


class FakeServer:
    """Reads every object except those that it has no key for; its LIST fails in the same way."""

    def __init__(self, url: str, sealed: tuple[str, ...] = (), *, away: bool = False, message: str = NO_PREFIX) -> None:
        self.url = url
        self.sealed = sealed
        self.away = away
        self.message = message
        self.asked: list[str] = []

    async def request(self, _method: str, path: str, **_more: Any) -> Response:
        self.asked.append(path)
        if self.away:
            raise UnreachableError("no answer", kind=UnreachableKind.TIMEOUT)
        whole = path.partition("?")[0]
        if any(whole.endswith(f"/{name}") or whole.endswith("/secrets") for name in self.sealed):
            return Response(500, {}, json.dumps({"kind": "Status", "message": self.message}).encode())
        return Response(200, {}, b'{"kind":"List","metadata":{},"items":[]}')


def compared(
    *servers: FakeServer,
    scanned: Stored | None = None,
    samples: Mapping[str, ObjectKey] | None = None,
    hashes: Mapping[str, str | None] | None = None,
    bad_keys: Mapping[str, list[str]] | None = None,
) -> dict[str, Readers]:
    resource = replace(SERVED["secrets"], verbs=frozenset({"get", "list", "patch"}))
    seen = Observation(tuple(ServerReport(server.url, "", ready=True) for server in servers))
    cluster = ObservedCluster(
        server=cast(Any, servers[0]),
        servers=cast(Any, servers),
        seen=seen,
        path=UpgradePath("1.36", "1.37"),
        served={"secrets": resource},
        state=State(),
        scanned=scanned,
    )
    lists = Lists(samples=dict(samples or {}), counts={"secrets": 4})
    return asyncio.run(compare_servers(cluster, lists, hashes or {}, bad_keys or {}))


def sealed_with(*keys: str) -> Stored:
    """An object for each key, named as the key is."""
    return held(
        secrets={
            Variant(None, None, "aescbc", "v1", key): Tally(objects=1, samples=[f"/registry/secrets/default/{key}"])
            for key in keys
        }
    )


def test_one_object_of_each_key_is_asked_for() -> None:
    servers = FakeServer(A), FakeServer(B, ("new",)), FakeServer(C)
    found = compared(*servers, scanned=sealed_with("old", "new"))
    assert found["secrets"].only_here == [B] and found["secrets"].keys == {"default/new"}
    assert sorted(servers[0].asked) == [f"/api/v1/namespaces/default/secrets/{name}" for name in ("new", "old")]


def test_a_configuration_without_identity_cannot_read_what_is_not_encrypted() -> None:
    """pkg/storage/value/transformer.go, prefixTransformers: no prefix matches."""
    plain = held(secrets={Variant("v1", "json"): Tally(objects=1, samples=["/registry/secrets/default/a"])})
    found = compared(FakeServer(A), FakeServer(B, ("a",)), scanned=plain)
    assert found["secrets"].only_here == [B] and found["secrets"].keys == {"default/a"}
    # What the scan did not see is asked for by what the list found.
    sample = {"secrets": ObjectKey("default", "a", "1")}
    assert compared(FakeServer(A), FakeServer(B, ("a",)), scanned=held(), samples=sample)["secrets"].only_here == [B]


def test_a_kms_plugin_that_is_down_on_one_master_needs_no_other_configuration() -> None:
    (finding,) = evaluate_readers({"secrets": Readers(can={A}, cannot={B: KMS_FAILS})}, NAMES).found
    assert finding.remediation.startswith(f"Bring the KMS plugin of master-2 ({B}) back")
    assert "Delete nothing" in finding.remediation


def test_a_webhook_that_one_server_does_not_reach_needs_no_encryption_configuration() -> None:
    plain = held(secrets={Variant("v1", "json"): Tally(objects=1, samples=["/registry/secrets/default/a"])})
    failing = FakeServer(B, ("a",), message="conversion webhook for x/v1, Kind=Y failed: dial tcp: i/o timeout")
    (finding,) = evaluate_readers(compared(FakeServer(A), failing, scanned=plain), NAMES).found
    assert finding.remediation.startswith(f"Let master-2 ({B}) reach the conversion webhook of secrets")


def test_an_error_that_says_nothing_about_the_object_is_not_a_difference() -> None:
    plain = held(secrets={Variant("v1", "json"): Tally(objects=1, samples=["/registry/secrets/default/a"])})
    told = evaluate_readers(
        compared(FakeServer(A), FakeServer(B, ("a",), message="etcdserver: leader changed"), scanned=plain), NAMES
    )
    assert told.found == [] and told.unknown == [
        "Whether master-2 can read all objects that other API servers can, as no clear answer came."
    ]


def test_without_etcd_samples_are_read_and_what_a_list_failed_at() -> None:
    sample = {"secrets": ObjectKey("default", "a", "1")}
    assert compared(FakeServer(A), FakeServer(B, ("a",)), samples=sample)["secrets"].only_here == [B]
    keys = {"secrets": ["/registry/secrets/default/b"]}
    assert compared(FakeServer(A, ("b",)), FakeServer(B), bad_keys=keys)["secrets"].only_here == [A]
    everywhere = compared(FakeServer(A, ("b",)), FakeServer(B, ("b",)), bad_keys=keys)
    assert everywhere["secrets"].only_here == [] and readers_of(everywhere, NAMES) == {}
    assert compared(FakeServer(A, ("b",)), bad_keys=keys) == {}, "a single server has nothing to be compared with"
    assert compared(FakeServer(A), FakeServer(B, away=True), bad_keys=keys)["secrets"].silent == {B}


def test_whole_lists_if_the_configurations_differ() -> None:
    same = {A: "x", B: "x"}
    assert compared(FakeServer(A), FakeServer(B, ("z",)), hashes=same) == {}
    found = compared(FakeServer(A), FakeServer(B, ("z",)), hashes={A: "x", B: None})
    assert found["secrets"].only_here == [B]
