# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import gzip
import json
import random
import uuid
from dataclasses import replace

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import StateStoreError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import (
    KnownCrd,
    ResourceState,
    State,
    from_document,
    merged,
    parse,
    render,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.version_hashes import _recorded
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.crd_identity import CrdIdentity
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    ServerReport,
    storage_version_hash,
)

NAME = "things.example.com"


def report(hashed: str, url: str = "https://a") -> ServerReport:
    thing = ServedResource(NAME, "example.com", "things", "Thing", True, frozenset(), ("v1",), (hashed,))
    return ServerReport(url=url, name=url, version="v1.37.2", ready=True, resources={NAME: thing})


def baseline(hashed: str) -> State:
    return State().record([report(hashed)], {NAME: "example.com/v1"}, "2026-01-01T00:00:00Z")


def test_nothing_is_known_at_first() -> None:
    assert not State().known
    assert State().persisted is None


def test_the_first_baseline_assumes_that_objects_are_stored_as_reported() -> None:
    assert baseline("old").persisted == {NAME: ("old",)}


def test_a_first_baseline_after_a_migration_that_proved_nothing_assumes_nothing() -> None:
    """Issue 11: the upgrade is over, so what is reported now may not be how old objects are stored."""
    state = State(last_run={"done": [], "finished": False}).record([report("new")], {}, "2026-01-01T00:00:00Z")
    assert not any(known.persisted for known in state.resources.values())


@pytest.mark.parametrize(
    ("other", "problems"),
    [(ServerReport("https://b", "b", error="It refuses connections."), ()), (None, ("master-2 renews its Lease.",))],
)
def test_a_first_baseline_without_a_server_assumes_nothing(
    other: ServerReport | None, problems: tuple[str, ...]
) -> None:
    """In the middle of an upgrade, the older server may be the one that can't be asked."""
    reports = (report("new"), *([other] if other is not None else []))
    recorded = _recorded(State(), Observation(reports, problems))
    assert recorded.known and recorded.of(NAME).persisted == ()
    assert _recorded(State(), Observation((report("new"), report("old", "https://b")))).of(NAME).persisted == (
        "new",
        "old",
    )


def test_a_second_baseline_does_not_forget_objects_that_wait_for_their_migration() -> None:
    again = baseline("old").record([report("new")], {NAME: "example.com/v2"}, "2026-02-01T00:00:00Z")
    assert again.of(NAME).persisted == ("old", "new")
    assert again.of(NAME).before == "example.com/v2"


def test_a_resource_that_appears_after_the_first_baseline_has_no_record() -> None:
    first = State().record([], {}, "2026-01-01T00:00:00Z")
    assert first.record([report("new")], {}, "2026-02-01T00:00:00Z").of(NAME).persisted == ()


def test_a_complete_migration_leaves_one_hash() -> None:
    done = baseline("old").observe([report("new")]).completed(NAME, "new", "2026-01-02T00:00:00Z")
    assert done.of(NAME) == ResourceState(("new",), "example.com/v1", "2026-01-02T00:00:00Z", None)


def test_an_old_master_seen_after_the_migration_makes_it_count_again() -> None:
    done = baseline("old").completed(NAME, "new", "2026-01-02T00:00:00Z")
    assert done.observe([report("new"), report("old", "https://b")]).of(NAME).persisted == ("new", "old")


def test_what_an_unusable_server_reports_is_not_used() -> None:
    broken = ServerReport(url="https://b", name="b", error="down", resources=report("old").resources)
    assert baseline("new").observe([broken]).of(NAME).persisted == ("new",)


def test_stored_text_comes_back_unchanged() -> None:
    state = baseline("old").with_resource(NAME, ResourceState(("old", "new"), None, None, {"token": "t"}))
    assert parse(render(state), "x") == state


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "damaged .it isn't valid JSON.: restore it, or delete it. Without it there is no baseline"),
        ("[]", "no state of this collection"),
        ('{"formatVersion": 99}', "format 99"),
        ('{"formatVersion": 1, "resources": {"a": 3}}', "damaged"),
        ('{"formatVersion": 1, "resources": []}', "damaged"),
        ('{"formatVersion": 1, "resources": [1]}', "damaged"),
        ('{"formatVersion": 1, "resources": {"a": {"persisted": "hash"}}}', "wrong type"),
        ('{"formatVersion": 1, "resources": {"a": {"persisted": 3}}}', "wrong type"),
        ('{"formatVersion": 1, "resources": {"a": {"progress": "x"}}}', "wrong type"),
        ('{"formatVersion": 1, "resources": {"a": {"progress": {"failed": [1]}}}}', "wrong type"),
        ('{"formatVersion": 1, "resources": {"a": {"progress": {"failed": [[{}, "b"]]}}}}', "wrong type"),
        ('{"formatVersion": 1, "resources": {"a": {"progress": {"uid": "u", "generation": "x"}}}}', "wrong type"),
        ('{"formatVersion": 1, "resources": {"a": {"crd": "x"}}}', "wrong type"),
        ('{"formatVersion": 1, "recordedAt": 3}', "wrong type"),
        ('{"formatVersion": 1, "versions": "x"}', "wrong type"),
        ('{"formatVersion": 1, "lastRun": "x"}', "wrong type"),
        ('{"formatVersion": 1, "lastRun": {"done": [{}]}}', "wrong type"),
        ('{"formatVersion": 1, "processes": ["x"]}', "wrong type"),
        ('{"formatVersion": 1, "processes": {"started": ["x"]}}', "wrong type"),
    ],
)
def test_other_data_is_refused_in_one_sentence(text: str, says: str) -> None:
    with pytest.raises(StateStoreError, match=says):
        parse(text, "file x")


def test_unknown_keys_of_the_same_format_are_ignored() -> None:
    document = json.loads(render(baseline("old")))
    document["later"] = True
    assert from_document(document, "x") == baseline("old")


def test_a_merge_forgets_nothing_that_anybody_saw() -> None:
    base = baseline("old")
    theirs = base.observe([report("other")])
    ours = base.observe([report("new")])
    assert merged(ours, theirs, base, (), (NAME,)).of(NAME).persisted == ("old", "new", "other")
    done = ours.completed(NAME, "new", "2026-01-02T00:00:00Z")
    assert merged(done, base, base, (NAME,), (NAME,)).of(NAME).persisted == ("new",)
    assert merged(done, base.observe([report("new")]), base, (NAME,), (NAME,)).of(NAME).persisted == ("new",)
    assert merged(done, theirs, base, (NAME,), (NAME,)).of(NAME).persisted == ("new", "other")
    # Not completed by this run, so what another completed does not count for it.
    assert merged(ours, base.completed(NAME, "new", "2026"), base, (), (NAME,)).of(NAME).persisted == ("old", "new")


def test_a_merge_keeps_what_is_unknown_unknown() -> None:
    base = baseline("old")
    assert merged(base, State(), base, (), ()).of(NAME).persisted == ()
    assert merged(State(), base, base, (), ()).of(NAME).persisted == ()
    assert merged(State(), base, State(), (), ()).of(NAME).persisted == ("old",)


def test_a_merge_takes_the_newer_baseline_and_our_run() -> None:
    base = baseline("old")
    theirs = base.record([report("new")], {NAME: "example.com/v2"}, "2026-02-01T00:00:00Z")
    theirs = theirs.with_resource("their.own", ResourceState(("x",), progress={"token": "t"}))
    ours = replace(
        base.with_resource(NAME, replace(base.of(NAME), progress={"token": "mine"})), last_run={"finished": True}
    )
    both = merged(ours, theirs, base, (), (NAME,))
    assert both.recorded_at == "2026-02-01T00:00:00Z" and both.of(NAME).before == "example.com/v2"
    assert both.of(NAME).progress == {"token": "mine"} and both.last_run == {"finished": True}
    assert both.of("their.own") == ResourceState(("x",), progress={"token": "t"})


def test_two_thousand_custom_resources_fit_into_a_configmap_with_room_to_spare() -> None:
    """At worst: each between two versions, its CRD on record, sixteen in progress. A ConfigMap ends at 1 MiB."""
    chance = random.Random(1)
    resources = {}
    for number in range(2000):
        group = f"group{number % 150}.example.com"
        now, before = (storage_version_hash(group, version, f"Kind{number}") for version in ("v1", "v1beta1"))
        crd = CrdIdentity(str(uuid.UUID(int=chance.getrandbits(128))), chance.randrange(1, 9))
        seen = f"2026-11-27T12:{number % 60:02d}:00Z"
        progress = {"hash": now, "token": "x" * 300} if number < 16 else None
        resources[f"kind{number}s.{group}"] = ResourceState(
            (now, before), f"{group}/v1beta1", seen, progress, KnownCrd(crd, now, seen, migrated=True)
        )
    state = State("2026-11-27T12:00:00Z", {}, resources, {"done": sorted(resources)})
    packed = base64.b64encode(gzip.compress(render(state).encode(), mtime=0))  # As ConfigMapStore does.
    assert len(packed) < 200_000
