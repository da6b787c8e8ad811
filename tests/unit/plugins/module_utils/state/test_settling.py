# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When no write in an older version of a CRD can still be in progress, and how that is known."""

from __future__ import annotations

import base64
import gzip
import hashlib
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.settling import Settling, sightings
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import KnownCrd, State, parse, render
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.crd_identity import (
    CrdFacts,
    CrdIdentity,
    CrdLook,
    quiet_since,
)

NAME = "things.example.com"
CRD = CrdIdentity("uid", 3)
NOW = datetime(2026, 11, 26, 12, 0, tzinfo=timezone.utc)


def look(at: float, crd: CrdIdentity = CRD, *, everywhere: bool = True, quiet: float | None = None) -> CrdLook:
    since = None if quiet is None else NOW - timedelta(seconds=quiet)
    clock = NOW if everywhere else None
    facts = {NAME: CrdFacts(crd, "7", quiet_since=since)}
    return CrdLook(facts, everywhere=everywhere, earliest=clock, latest=clock, at=at)


def settling(*looks: CrdLook, state: State | None = None) -> Settling:
    found = Settling(60.0)
    for crd_look in looks:
        found.take(crd_look, [NAME], state or State())
    return found


def on_record(seconds_ago: float, crd: CrdIdentity = CRD, hashed: str = "h") -> State:
    at = (NOW - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return State().sighted({NAME: KnownCrd(crd, hashed, at)})


def test_longer_than_a_request_since_this_run_saw_it() -> None:
    found = settling(look(100.0))
    assert found.needed == 65.0
    assert found.left(NAME, "h", 100.0) == 65.0
    assert found.left(NAME, "h", 160.0) == 5.0
    assert found.left(NAME, "h", 165.0) == 0.0


def test_another_edit_or_another_crd_starts_over() -> None:
    for other in (CrdIdentity("uid", 4), CrdIdentity("another", 3)):
        found = settling(look(100.0), look(160.0, other))
        assert found.left(NAME, "h", 166.0) == 59.0
    assert settling(look(100.0), look(160.0)).left(NAME, "h", 166.0) == 0.0


def test_a_server_that_was_not_asked_is_not_evidence() -> None:
    assert settling(look(100.0, everywhere=False)).left(NAME, "h", 1000.0) is None
    # It was seen everywhere once, and has not changed since.
    assert settling(look(100.0), look(150.0, everywhere=False)).left(NAME, "h", 165.0) == 0.0
    edited = look(150.0, CrdIdentity("uid", 4), everywhere=False)
    assert settling(look(100.0), edited).left(NAME, "h", 1000.0) is None
    # Nor does an older record help, or the CRD's own, without any server's clock to compare it with.
    assert settling(look(100.0, everywhere=False, quiet=9999.0), state=on_record(9999)).left(NAME, "h", 101.0) is None


def test_an_earlier_sight_counts_by_the_servers_clocks() -> None:
    assert settling(look(100.0), state=on_record(66)).left(NAME, "h", 100.0) == 0.0
    assert settling(look(100.0), state=on_record(31)).left(NAME, "h", 100.0) == 35.0
    assert settling(look(100.0), state=on_record(31)).left(NAME, "h", 110.0) == 25.0
    for other in (on_record(999, CrdIdentity("uid", 2)), on_record(999, CrdIdentity("another", 3))):
        assert settling(look(100.0), state=other).left(NAME, "h", 100.0) == 65.0
    assert settling(look(100.0), state=on_record(999, hashed="another")).left(NAME, "h", 100.0) == 65.0
    # A clock that was set back makes the record lie in the future.
    assert settling(look(100.0), state=on_record(-500)).left(NAME, "h", 100.0) == 65.0


def test_a_crd_that_nobody_edited_for_long_needs_no_wait() -> None:
    assert settling(look(100.0, quiet=600.0)).left(NAME, "h", 100.0) == 0.0
    assert settling(look(100.0, quiet=599.0)).left(NAME, "h", 100.0) == 65.0
    slow = Settling(300.0)
    slow.take(look(100.0, quiet=1499.0), [NAME], State())
    assert slow.left(NAME, "h", 100.0) == 305.0


def test_if_crds_may_not_be_read_the_wait_counts_from_the_first_check() -> None:
    found = settling(CrdLook(None, refused="no", at=100.0), CrdLook(None, refused="no", at=150.0))
    assert found.left(NAME, "h", 160.0) == 5.0


def entry(time: str | None, *fields: str, subresource: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"manager": "m", "fieldsV1": {"f:spec": {f"f:{field}": {} for field in fields}}}
    return {**found, **({"time": time} if time else {}), **({"subresource": subresource} if subresource else {})}


OLD, NEWER, NEWEST = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"


@pytest.mark.parametrize(
    ("managers", "created", "since"),
    [
        ([entry(OLD, "versions")], OLD, OLD),
        ([entry(OLD, "versions"), entry(NEWER, "conversion")], OLD, NEWER),
        ([entry(OLD, "versions"), entry(NEWEST, subresource="status")], OLD, OLD),
        ([entry(OLD, "versions")], NEWER, NEWER),
        ([entry(OLD)], OLD, OLD),
        ([entry(OLD, "names")], OLD, None),
        ([entry(OLD, "versions"), entry(None, "names")], OLD, None),
        ([], OLD, None),
    ],
)
def test_how_long_a_crd_has_been_quiet_by_its_own_record(
    managers: list[dict[str, Any]], created: str, since: str | None
) -> None:
    found = quiet_since({"managedFields": managers, "creationTimestamp": created})
    assert (None if found is None else found.strftime("%Y-%m-%dT%H:%M:%SZ")) == since


def test_the_first_sight_is_kept_until_the_crd_is_another() -> None:
    first, later = (sightings(look(1.0), {NAME: "h"})[NAME], KnownCrd(CRD, "h", "2026-12-01T00:00:00Z"))
    state = State().sighted({NAME: first})
    assert first.seen_at == "2026-11-26T12:00:00Z"
    assert state.sighted({NAME: later}) is state
    edited = KnownCrd(CrdIdentity("uid", 4), "h", "2026-12-01T00:00:00Z")
    assert state.sighted({NAME: edited}).of(NAME).crd == edited
    assert parse(render(state), "here").of(NAME).crd == first
    assert sightings(look(1.0, everywhere=False), {NAME: "h"}) == {}
    assert sightings(CrdLook(None), {NAME: "h"}) == {}


def test_only_what_was_proven_under_the_same_crd_counts_as_migrated() -> None:
    state = State().sighted({NAME: KnownCrd(CRD, "h", OLD)}).completed(NAME, "h", "now", CRD)
    assert state.is_migrated(NAME, CRD)
    assert parse(render(state), "here").is_migrated(NAME, CRD)
    assert not state.is_migrated(NAME, CrdIdentity("uid", 4))
    assert not state.is_migrated(NAME, CrdIdentity("another", 3))
    assert not state.completed(NAME, "h", "now", CrdIdentity("uid", 4)).is_migrated(NAME, CrdIdentity("uid", 4))


def test_two_thousand_crds_fit_well_into_a_configmap() -> None:
    state = State()
    for i in range(2000):
        hashed = base64.b64encode(hashlib.sha256(str(i).encode()).digest()[:8]).decode()
        name = f"things{i}.group{i % 97}.example.com"
        crd = CrdIdentity(str(uuid.uuid5(uuid.NAMESPACE_DNS, name)), i % 7)
        state = state.sighted({name: KnownCrd(crd, hashed, OLD)}).completed(name, hashed, OLD, crd)
    packed = base64.b64encode(gzip.compress(render(state).encode(), mtime=0))
    assert len(packed) < 200_000
