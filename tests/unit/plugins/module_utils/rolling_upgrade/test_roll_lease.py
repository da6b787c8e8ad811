# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the Lease of a roll says, and who may write what to it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import AlreadyRunningError, CutOffError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._rolling_upgrade import roll_lease
from ansible_collections.kube_storage.upgrade.plugins.module_utils._rolling_upgrade.roll_lease import Claim, Roll

NOW = datetime(2026, 11, 26, 16, 12, 34, tzinfo=timezone.utc)
ALICE = Claim("alice@bastion/1", "alice", "bastion", {"pid": 4}, "the upgrade to 1.37", "master-2", 100)
BOB = Claim("bob@bastion/2", "bob", "bastion")
WHERE = "kube-system/kube-storage-upgrade-roll"


def taken(lease: Any, claim: Claim, at: datetime = NOW, step: Any = None) -> dict[str, Any]:
    return roll_lease.held(lease, roll_lease.read(lease, at), claim, at, step)


def test_a_new_lease_says_who_holds_it_for_what_and_how_far() -> None:
    roll = roll_lease.read(taken(None, ALICE), NOW + timedelta(seconds=40))
    assert (roll.holder, roll.who, roll.host, roll.purpose, roll.doing) == (
        "alice@bastion/1",
        "alice",
        "bastion",
        "the upgrade to 1.37",
        "master-2",
    )
    assert roll.since == "2026-11-26 16:12:34 UTC" and roll.process == {"pid": 4}
    assert roll.active and round(roll.seconds_left) == 60


def test_another_run_is_refused_with_who_where_since_and_how_far() -> None:
    roll = roll_lease.read(taken(None, ALICE), NOW)
    with pytest.raises(AlreadyRunningError) as refused:
        roll_lease.require_free(roll, BOB, WHERE, None)
    assert refused.value.message == (
        "Another roll is active: alice on bastion since 2026-11-26 16:12:34 UTC, the upgrade to 1.37, now at master-2. This task "
        "touched nothing. Wait until it ends and run again; if you know that it has ended, set rolling_upgrade_take_over to "
        "'alice@bastion/1', else the Lease kube-system/kube-storage-upgrade-roll expires in 100 s."
    )
    assert refused.value.result["other"]["process"] == {"pid": 4}
    roll_lease.require_free(roll, ALICE, WHERE, None)
    roll_lease.require_free(roll, BOB, WHERE, "alice@bastion/1")
    with pytest.raises(AlreadyRunningError):
        roll_lease.require_free(roll, BOB, WHERE, "carol@bastion/3")


def test_an_expired_or_released_lease_is_free() -> None:
    lease = taken(None, ALICE)
    roll_lease.require_free(roll_lease.read(lease, NOW + timedelta(seconds=101)), BOB, WHERE, None)
    roll_lease.require_free(roll_lease.read(roll_lease.released(lease, None), NOW), BOB, WHERE, None)
    roll_lease.require_free(roll_lease.read(None, NOW), BOB, WHERE, None)


def test_renewing_keeps_since_and_what_is_not_given_again() -> None:
    lease = taken(None, ALICE)
    later = NOW + timedelta(seconds=50)
    again = roll_lease.read(taken(lease, Claim("alice@bastion/1", "alice", "bastion", doing="the proof"), later), later)
    assert (again.since, again.purpose, again.doing) == ("2026-11-26 16:12:34 UTC", "the upgrade to 1.37", "the proof")
    assert lease["spec"]["acquireTime"] == taken(lease, ALICE, later)["spec"]["acquireTime"]


def test_a_new_holder_starts_over_but_finds_the_interrupted_step() -> None:
    step = roll_lease.new_step("abc", "master-2", ALICE, NOW)
    lease = taken(None, ALICE, step=step)
    later = NOW + timedelta(seconds=200)
    left = roll_lease.read(lease, later).step
    assert left == step and left["master"] == "master-2" and left["process"] == {"pid": 4}
    taken_over = taken(lease, BOB, later, left)
    roll = roll_lease.read(taken_over, later)
    assert (roll.who, roll.purpose, roll.since, roll.step) == ("bob", "", "2026-11-26 16:15:54 UTC", step)
    assert taken_over["spec"]["leaseTransitions"] == 1
    assert roll_lease.read(roll_lease.released(taken_over, left), later).step == step
    error = roll_lease.cut_off(step, WHERE)
    assert isinstance(error, CutOffError) and error.result == {"open_step": step}
    assert "A step on master-2, begun at 2026-11-26 16:12:34 UTC, was interrupted" in error.message


def test_a_run_that_lost_the_lease_is_told_and_stops() -> None:
    roll_lease.require_held(roll_lease.read(taken(None, ALICE), NOW + timedelta(days=1)), ALICE, WHERE)
    with pytest.raises(AlreadyRunningError, match="no longer holds the Lease .*: now it is held by alice on bastion"):
        roll_lease.require_held(roll_lease.read(taken(None, ALICE), NOW), BOB, WHERE)
    with pytest.raises(AlreadyRunningError, match="somebody took or released it meanwhile"):
        roll_lease.require_held(Roll(), BOB, WHERE)


@pytest.mark.parametrize("notes", ["", "no JSON", "[1]", '{"step": 3, "process": "x"}'])
def test_notes_that_cannot_be_understood_hide_no_holder(notes: str) -> None:
    lease = taken(None, ALICE)
    lease["metadata"]["annotations"][roll_lease.ANNOTATION] = notes
    roll = roll_lease.read(lease, NOW)
    assert roll.active and roll.step is None and roll.process == {}
    with pytest.raises(AlreadyRunningError, match="Another roll is active: alice@bastion/1[.]"):
        roll_lease.require_free(roll, BOB, WHERE, None)


def test_what_others_wrote_to_the_lease_stays() -> None:
    lease = taken(None, ALICE)
    lease["metadata"].update(name="x", resourceVersion="7", labels={"a": "b"})
    lease["metadata"]["annotations"]["theirs"] = "kept"
    written = roll_lease.released(taken(lease, ALICE), None)
    assert written["metadata"]["resourceVersion"] == "7" and written["metadata"]["labels"] == {"a": "b"}
    assert written["metadata"]["annotations"]["theirs"] == "kept" and written["spec"]["holderIdentity"] == ""


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3, "0 s"), (45.4, "45 s"), (600, "10 min"), (13800, "3 h 50 min"), (14400, "4 h")]
)
def test_spans(seconds: float, words: str) -> None:
    assert roll_lease.span(seconds) == words
