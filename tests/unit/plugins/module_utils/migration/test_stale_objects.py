# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``select: stale`` makes of a scan of etcd, and of what is written after it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd, EtcdClusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import (
    Stored,
    StoredObject,
    Tally,
    Variant,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.stale import Knowledge, evaluate_all
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.stored_versions import Servers
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration import stale_objects as module
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.stale_objects import StaleObjects
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    ServerReport,
    storage_version_hash,
)

NAME = "things.example.com"
HASH = storage_version_hash("example.com", "v1", "Thing")
THINGS = ServedResource(NAME, "example.com", "things", "Thing", True, frozenset({"list", "patch"}), ("v1",), (HASH,))
NEW, OLD = (Variant(f"example.com/{version}", "json") for version in ("v1", "v1beta1"))
HIDDEN = Variant(None, "encrypted", "aescbc", "v1", "key1")


def tally(*names: str, newest: int = 5) -> Tally:
    return Tally("Thing", len(names), newest=newest, kept=[StoredObject("default", name, 5) for name in names])


def scanned(**found: dict[Variant, Tally]) -> StaleObjects:
    """After a first scan that found these things."""
    stored = Stored(revision=9, resources={NAME: found["things"]} if found else {})
    objects = StaleObjects(cast(EtcdClusters, None))
    objects._evaluation = evaluate_all(stored, Knowledge({NAME: THINGS}, ("example.com",)))
    objects._resources, objects._names = {NAME: THINGS}, [NAME]
    return objects


def test_what_is_written_to_a_resource_without_objects_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 11: it was empty at the first scan; then an old API server wrote."""

    async def changes(*_args: Any, **_more: Any) -> Stored:
        return Stored(revision=12, resources={NAME: {OLD: tally("late"), NEW: tally("later")}})

    monkeypatch.setattr(module, "changes_in_clusters", changes)
    left = asyncio.run(scanned().left())
    assert left.count == {NAME: 1} and left.reasons == {NAME: ["version"]}
    assert [key.name for key in left.objects[NAME] or ()] == ["late"]


def test_a_storage_version_that_changes_during_the_run_makes_everything_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was stale, so nothing was visited; then the CRD got another storage version."""
    scans: list[list[str]] = []

    async def changes(*_args: Any, **_more: Any) -> Stored:
        return Stored(revision=12)

    async def scan(*_args: Any, resources: list[str], **_more: Any) -> Stored:
        scans.append(resources)
        return Stored(revision=12, resources={NAME: {NEW: tally("a", "b")}})

    monkeypatch.setattr(module, "changes_in_clusters", changes)
    monkeypatch.setattr(module, "scan_clusters", scan)
    objects = scanned(things={NEW: tally("a", "b")})
    objects.follow(observed(THINGS), [])
    assert not asyncio.run(objects.left()).count and not scans
    objects.follow(observed(replace(THINGS, hashes=(storage_version_hash("example.com", "v2", "Thing"),))), [])
    left = asyncio.run(objects.left())
    assert left.count == {NAME: 2} and left.reasons == {NAME: ["version"]} and scans == [[NAME]]


def observed(things: ServedResource) -> Observation:
    return Observation((ServerReport("https://a", "a", version="v1.37.2", ready=True, resources={NAME: things}),))


@pytest.mark.parametrize(
    ("things", "whole"),
    [({NEW: tally("a"), HIDDEN: tally("b", newest=6)}, False), ({OLD: tally("a"), HIDDEN: tally("b", newest=6)}, True)],
)
def test_an_old_version_in_sight_makes_the_record_worthless(things: dict[Variant, Tally], whole: bool) -> None:
    """Issue 11: the record says that all is migrated, etcd shows that not all is, and hides the version of the rest."""
    objects = scanned(things=things)
    assert objects.is_contradicted(NAME) is whole
    found = objects.select(())[NAME]
    assert found is None if whole else [key.name for key in found or ()] == ["a"]


def test_a_probe_shows_the_encoding_of_resources_that_were_empty() -> None:
    """An old API server wrote JSON last, so that looked like what is written now; the probe of one resource shows that it is not."""
    written = {"serviceaccounts": {Variant("v1", "json"): tally("old", newest=8)}}
    served = {
        name: ServedResource(name, "", name, kind, True, frozenset({"list", "patch"}), ("v1",), ("hash",))
        for name, kind in (("serviceaccounts", "ServiceAccount"), ("configmaps", "ConfigMap"))
    }
    objects = StaleObjects(cast(EtcdClusters, None))
    stored = Stored(revision=9, resources=written)
    objects._evaluation = evaluate_all(stored, Knowledge({**served, NAME: THINGS}, (), evidence=stored))
    expected = objects._evaluation.expected
    assert (expected["configmaps"].encoding, expected["configmaps"].encoding_source) == ("json", "newest")
    custom = expected[NAME]
    objects._expect("serviceaccounts", Variant("v1", "protobuf"), same_name=False)
    assert (expected["configmaps"].encoding, expected["configmaps"].encoding_source) == ("protobuf", "probe")
    assert expected[NAME] == custom
    objects._probed = {"serviceaccounts"}
    objects._expect(
        "serviceaccounts", Variant("v1", "json"), same_name=False
    )  # After a restart with another media type.
    assert (expected["configmaps"].encoding, expected[NAME]) == ("json", custom)


@pytest.mark.parametrize("unseen", [False, True])
def test_hidden_versions_are_visited_if_servers_were_restarted_since_the_record(unseen: bool) -> None:
    """Issue 11's rollback that nobody saw: ``select: changed`` says that ``select: stale`` finds what it wrote."""
    objects = scanned(things={HIDDEN: tally("a", "b")})
    assert objects.select((), unseen=unseen) == ({NAME: None} if unseen else {})


def test_a_key_that_has_not_the_form_of_an_object_leaves_the_proof_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CRD was deleted by force and created again with another scope: API servers list what remains, and no scan counts it."""

    async def changes(*_args: Any, **_more: Any) -> Stored:
        return Stored(revision=12)

    async def equal(*_args: Any, **_more: Any) -> dict[str, Any]:
        return {}

    async def own(*_args: Any, **_more: Any) -> None:
        pass

    for name, replaced in (("changes_in_clusters", changes), ("compare_counts", equal), ("require_own_etcd", own)):
        monkeypatch.setattr(module, name, replaced)
    objects = scanned(things={NEW: tally("a")})
    etcd = cast(Etcd, object())
    objects._etcd, objects._servers = EtcdClusters(etcd), Servers(cast(Any, None), [cast(Any, None)])
    objects._objects = {NAME: 1}
    assert not asyncio.run(objects.left()).uncounted
    stored = objects._evaluation.stored
    stored.unknown, stored.parts = (
        {"example.com/things": Tally(objects=1, samples=["/registry/example.com/things/b"])},
        [],
    )
    stored.parts.append((etcd, stored))
    left = asyncio.run(objects.left())
    assert left.uncounted == {NAME} and left.unprovable == {NAME: 2}
    assert left.problems == [
        f"Whether etcd holds all objects of {NAME} is unknown, as 1 key among them has another form (see unknown of stored_versions_info)."
    ]
