# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether every living API server was asked (issue 13, numbers 3 and 18)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import (
    Expectation,
    Observation,
    WaitSettings,
    once_nobody_dies,
    unchecked_words,
    wait_converged,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.cross_check import (
    CrossCheck,
    Unlisted,
    compare,
    compare_sampled,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServerReport
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.identity_leases import (
    Alive,
    IdentityLeases,
    read_leases,
)
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=timezone.utc)
LISTS = "the option servers names"


def report(number: int, *, up: bool = True, host: str = "") -> ServerReport:
    url = f"https://{host or f'10.0.0.{number}'}:6443"
    error = None if up else f"{url} refuses connections."
    return ServerReport(url, f"node-{number}", version="v1.37.2" if up else None, ready=up, error=error, down=not up)


def lease(number: int, age: float = 5.0, *, address: bool = True, name: str = "") -> dict[str, Any]:
    name = name or f"master-{number}"
    annotations = {"kubernetes.io/peer-advertise-address": f"10.0.0.{number}:6443"} if address else {}
    renewed = (NOW - timedelta(seconds=age)).isoformat()
    return {
        "metadata": {
            "name": f"apiserver-{name}",
            "labels": {"kubernetes.io/hostname": name},
            "annotations": annotations,
        },
        "spec": {"holderIdentity": f"apiserver-{name}_1", "renewTime": renewed},
    }


def leases(*items: dict[str, Any]) -> IdentityLeases:
    return read_leases({"items": list(items)}, NOW, "2026-01-01T12:00:00Z")


def unlisted(found: CrossCheck) -> list[str]:
    return [lease.server.name for lease in found.unlisted]


def observation(asked: Sequence[ServerReport], known: IdentityLeases, **expected: Any) -> Observation:
    expectation = Expectation(**expected)
    cross = compare(asked, known, expectation.ignored)
    return Observation(tuple(asked), tuple(cross.problems(len(asked), LISTS)), expectation, cross=cross)


FIRST, BALANCER, SECOND = report(1), report(0, host="api.example.com"), report(2, host="second.example.com")


def test_a_server_at_two_addresses_counts_once() -> None:
    """A load balancer among the servers must not stand for one that nobody asked."""
    starts = {FIRST.url: "1000.01", BALANCER.url: "1000.01", SECOND.url: "2000.02"}
    for address in (True, False):
        known = leases(lease(1), lease(2, address=address))
        twice = compare([FIRST, BALANCER], known, (), starts)
        assert unlisted(twice) == ["master-2"]
        assert unlisted(compare([BALANCER, FIRST], known, (), starts)) == ["master-2"]
        both = compare([FIRST, SECOND], known, (), starts)
        assert unlisted(both) == [] and both.done


def test_an_address_that_nobody_asked_is_not_made_up_for_by_numbers() -> None:
    """Nobody may see when the process behind the other name started, so it may be that of the first server."""
    found = compare([FIRST, BALANCER], leases(lease(1), lease(2)), (), {FIRST.url: "1000.01", BALANCER.url: None})
    assert not found.done and "whether https://api.example.com:6443 is master-2 at 10.0.0.2 is unknown" in (
        found.why_not or ""
    )
    without_addresses = compare([FIRST, BALANCER], leases(lease(1), lease(2, address=False)), ())
    assert without_addresses.done, "before 1.36 nothing contradicts the numbers"


def test_all_that_are_alive_were_asked() -> None:
    found = observation([report(1), report(2)], leases(lease(1), lease(2)))
    assert found.converged and found.counts and found.cross_checked and found.reservations == []
    assert found.proven_by == "each_server" and unchecked_words(found) == ""


@pytest.mark.parametrize("address", [True, False])
@pytest.mark.parametrize("host", ["", "api.example.com"])
def test_one_more_that_is_alive_is_never_converged(address: bool, host: str) -> None:
    asked = [report(1, host=host and f"1.{host}"), report(2, host=host and f"2.{host}")]
    found = observation(asked, leases(*(lease(i, address=address) for i in (1, 2, 3))), servers=2)
    assert not found.converged and "master-3" in found.summary() and "ignored_servers" in found.summary()
    assert (
        "3 API servers renew their Leases (master-1, master-2, master-3), but the option servers names 2"
        in found.summary()
    )


def test_one_whose_lease_expired_does_not_make_room_for_another() -> None:
    found = observation([report(1), report(2)], leases(lease(1), lease(2, 60), lease(3)))
    assert unlisted(found.cross) == ["master-3"] and not found.converged
    assert "master-3 renews a Lease, but is not among the 2 API servers that were asked" in found.summary()


@pytest.mark.parametrize(
    "ignored",
    ["master-3", "apiserver-master-3", "apiserver-master-3_1", "10.0.0.3", "10.0.0.3:6443", "https://10.0.0.3:6443"],
)
def test_an_exception_is_named_in_any_form(ignored: str) -> None:
    asked = [report(1), report(2)]
    found = observation(asked, leases(*map(lease, (1, 2, 3))), ignored=(ignored,))
    assert found.counts and found.cross_checked
    assert unlisted(compare(asked, leases(*map(lease, (1, 2, 3, 4))), (ignored,))) == ["master-4"]


def test_asking_only_some_servers_on_purpose_is_no_cross_check() -> None:
    found = observation([report(1)], leases(*map(lease, (1, 2, 3))), ignored=("*",))
    assert found.converged and not found.cross_checked and not found.counts
    assert found.reservations == [] and found.proven_by == "listed_servers"


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (IdentityLeases(unread="the user cannot list leases in kube-system"), "cannot list leases"),
        (leases(), "no API server renews an identity Lease"),
        (leases(lease(1)), "only 1 of the 2 API servers that answered renew"),
        (leases(lease(1), lease(2, 90)), "only 1 of the 2 API servers that answered renew"),
    ],
)
def test_without_the_leases_the_claim_says_that_it_is_unchecked(known: IdentityLeases, why: str) -> None:
    asked = [report(1), report(2)]
    found = observation(asked, known)
    assert found.converged and not found.cross_checked and not found.counts and found.proven_by == "listed_servers"
    (reservation,) = found.reservations
    assert (
        why in reservation and "accept_unchecked" in reservation and "kube-storage-upgrade-cross-check" in reservation
    )
    assert "not cross-checked" in unchecked_words(found) and why in (found.why_uncounted or "")
    accepted = observation(asked, known, accepts_unchecked=True)
    assert accepted.counts and accepted.reservations == [] and not accepted.cross_checked
    assert "accept_unchecked accepts that" in unchecked_words(accepted)


def test_accepting_that_leases_are_unreadable_accepts_no_living_server_that_was_not_asked() -> None:
    found = observation([report(1)], leases(lease(1), lease(2)), accepts_unchecked=True)
    assert not found.converged and not found.counts


def test_the_expired_lease_of_a_listed_server_is_said() -> None:
    found = observation([report(1), report(2, up=False)], leases(lease(1), lease(2, 2440)))
    assert "https://10.0.0.2:6443 refuses connections. Its Lease expired 40 min ago" in found.summary()
    assert "remove it from the EndpointSlice default/kubernetes" in found.summary()


def test_a_server_that_is_missing_is_named_by_its_lease() -> None:
    found = observation([report(1), report(2)], leases(lease(1), lease(2), lease(3, 100)), servers=3)
    assert "3 API servers are expected, 2 are known" in found.summary()
    assert "master-3 seems to have died: its Lease expired 1 min ago" in found.summary()
    # The same host under another name has not died.
    renamed = observation([report(1), report(2)], leases(lease(1), lease(2), lease(2, 100, name="old")), servers=3)
    assert "seems to have died" not in renamed.summary()


def test_samples_are_compared_with_the_number_of_leases() -> None:
    assert compare_sampled(3, leases(*map(lease, (1, 2, 3))), ()).done
    assert not compare_sampled(3, leases(*map(lease, (1, 2))), ()).done
    assert not compare_sampled(3, IdentityLeases(), ()).done and not compare_sampled(None, leases(), ()).done
    assert not compare_sampled(1, leases(lease(1)), ("*",)).done


NUMBERS = st.sets(st.integers(1, 6))


@given(asked=NUMBERS, alive=NUMBERS, expired=NUMBERS, down=NUMBERS, ignored=NUMBERS, address=st.booleans())
def test_no_server_alive_and_unasked_is_ever_overlooked(
    asked: set[int], alive: set[int], expired: set[int], down: set[int], ignored: set[int], address: bool
) -> None:
    reports = [report(number, up=number not in down) for number in sorted(asked)]
    items = [lease(number, address=address) for number in sorted(alive)]
    items += [lease(number, 100, address=address) for number in sorted(expired - alive)]
    names = tuple(f"master-{number}" for number in sorted(ignored))
    found = observation(reports, leases(*items), ignored=names)
    living = alive - ignored
    # A server that was asked may have another address than its Lease, but only one without a Lease at its own.
    free = asked - alive - expired if address else set()
    if len(living) > len(asked) or (address and len(living - asked) > len(free)):
        assert not found.converged
    if found.counts:
        assert found.cross_checked and len(living) <= len(asked) <= len(alive)
        assert not address or len(living - asked) <= len(free)


# A server that died


def dying() -> Observation:
    asked = [report(1), report(2)]
    server = Alive("master-3", "10.0.0.3", "apiserver-master-3_1", 6443, "apiserver-master-3")
    cross = CrossCheck(None, unlisted=(Unlisted(server, "https://10.0.0.3:6443", error="It refuses connections."),))
    problems = tuple(cross.problems(2, "the EndpointSlice default/kubernetes lists"))
    return Observation(tuple(asked), problems, cross=cross)


def test_a_server_that_died_is_said_to_have() -> None:
    assert dying().problems == (
        "master-3 seems to have died: the EndpointSlice default/kubernetes doesn't name it and https://10.0.0.3:6443 doesn't "
        "answer, but its Lease was renewed less than 40 s ago.",
    )
    answers = Unlisted(dying().cross.unlisted[0].server, "https://10.0.0.3:6443", version="v1.36.5")
    (problem,) = CrossCheck(None, living=(answers.server,), unlisted=(answers,)).problems(0, LISTS)
    assert "answers at https://10.0.0.3:6443, and is at v1.36.5" in problem and "died" not in problem


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(("dies_after", "converges"), [(30, True), (1000, False)])
def test_a_run_waits_until_its_lease_tells_and_says_so(
    monkeypatch: pytest.MonkeyPatch, dies_after: float, converges: bool
) -> None:
    clock, told = Clock(monkeypatch), []

    async def observe() -> Observation:
        return dying() if clock.now < dies_after else observation([report(1)], leases(lease(1)))

    def tell(event: Event) -> None:
        told.append((event.kind, event.message))

    _asked_at, found = asyncio.run(once_nobody_dies(observe, tell))
    assert found.converged is converges and 29 <= clock.now <= 62
    ((kind, message),) = told
    assert kind == "waiting" and "master-3 seems to have died" in message


@pytest.mark.parametrize(("renews_after", "waits"), [(8, 8), (1000, 15)])
def test_a_server_that_answers_has_time_to_renew_its_lease(
    monkeypatch: pytest.MonkeyPatch, renews_after: float, waits: float
) -> None:
    """One that was suspended answers before it renews."""
    clock = Clock(monkeypatch)
    asked = [report(1), report(2)]

    async def observe() -> Observation:
        return observation(asked, leases(lease(1), lease(2, 90 if clock.now < renews_after else 1)))

    found = asyncio.run(wait_converged(observe, WaitSettings(60.0, 1.0, 0.0), lambda _event: None))
    assert found.converged and found.counts is (renews_after == 8) and clock.now == waits
