# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    NotConvergedError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import nobody_listens
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions import convergence as _convergence
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import (
    Expectation,
    Observation,
    WaitSettings,
    Watch,
    wait_converged,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    ServerReport,
    storage_version_hash,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.identity_leases import IdentityLeases
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.processes import processes_of


def report(url: str, stored: str = "v1", **changes: object) -> ServerReport:
    hashed = storage_version_hash("example.com", stored, "Thing")
    thing = ServedResource(
        "things.example.com", "example.com", "things", "Thing", True, frozenset(), ("v1",), (hashed,)
    )
    fields: dict[str, object] = {"version": "v1.37.2", "ready": True, **changes}
    return ServerReport(url=url, name=url, resources={thing.name: thing}, **fields)  # type: ignore[arg-type]


def test_agreement_of_all() -> None:
    assert Observation((report("https://a"), report("https://b"))).converged


def test_what_is_asked_for_each_of_thousands_of_resources_is_found_once() -> None:
    seen = Observation((report("https://a"), report("https://b")))
    assert seen.resources is seen.resources and seen.disagreements is seen.disagreements
    assert replace(seen, reports=()).resources == {}


EXPECTS_1_37 = Expectation(version="1.37")


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (Observation(()), "No API server was found"),
        (Observation((report("https://a"),), expectation=Expectation(servers=3)), "3 API servers are expected, 1 is known"),
        (Observation((report("https://a"), report("https://b")), expectation=Expectation(1)), "1 API server is expected, 2 are known"),
        (Observation((report("https://a"), report("https://b"), report("https://c")), expectation=Expectation(2)), "2 API servers are expected, 3 are known"),
        (Observation((report("https://a"),), problems=("One more is alive.",)), "One more is alive"),
        (Observation((report("https://a"), report("https://b", ready=False))), "https://b is not ready"),
        (Observation((report("https://a"), report("https://b", error="https://b refuses connections."))), "https://b refuses"),
        (Observation((report("https://a", emulated_version="1.36"),), expectation=EXPECTS_1_37), r"https://a is at v1.37.2 \(emulating 1.36\), not at 1.37"),
        (Observation((report("https://a"), report("https://b", "v1beta1"))), "v1 on https://a, v1beta1 on https://b"),
    ],
)  # fmt: skip
def test_reasons(seen: Observation, says: str) -> None:
    import re

    assert not seen.converged
    assert any(re.search(says, reason) for reason in seen.reasons()), seen.reasons()


def test_resources_of_no_interest_do_not_count() -> None:
    limited = Expectation(resources=("other.example.com",))
    assert Observation((report("https://a"), report("https://b", "v1beta1")), expectation=limited).converged


def looks(*seen: Observation | Exception) -> tuple[Callable[[], Awaitable[Observation]], list[int]]:
    """An observer that shows these in turn, the last one forever; and how often it was asked."""
    asked: list[int] = []

    async def observe() -> Observation:
        asked.append(1)
        shown = seen[min(len(asked), len(seen)) - 1]
        if isinstance(shown, Exception):
            raise shown
        return shown

    return observe, asked


GOOD = Observation((report("https://a"), report("https://b")))
MIXED = Observation((report("https://a"), report("https://b", "v1beta1")))
OTHER = Observation((report("https://a", "v2"), report("https://b", "v2")))


def wait(observe: Callable[[], Awaitable[Observation]], timeout: float, stable_for: float = 0.0) -> Observation:
    return asyncio.run(wait_converged(observe, WaitSettings(timeout, 0.001, stable_for), nobody_listens))


def test_waits_through_disagreement_and_a_server_that_is_down() -> None:
    observe, asked = looks(MIXED, UnreachableError("gone", kind="refused"), GOOD)
    assert wait(observe, 5) is GOOD
    assert len(asked) == 3


def test_agreement_must_hold() -> None:
    observe, asked = looks(GOOD, MIXED, GOOD)
    assert wait(observe, 5, stable_for=0.01) is GOOD
    assert len(asked) > 3


def test_another_agreement_restarts_the_stable_time() -> None:
    observe, asked = looks(GOOD, OTHER)
    assert wait(observe, 5, stable_for=0.01) is OTHER
    assert len(asked) > 2


def test_a_restart_restarts_the_stable_time() -> None:
    """Issue 11, number 5: nobody saw what ran there in between."""
    processes = [processes_of(GOOD.reports, {"https://a": start}, IdentityLeases()) for start in ("1", "1", "2")]
    observe, asked = looks(*(replace(GOOD, processes=seen) for seen in processes))
    assert wait(observe, 5, stable_for=0.02).processes.started == {"https://a": "2"}
    assert len(asked) > 4


def test_a_late_poll_restarts_the_stable_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 11, number 5: the process was suspended, and nobody knows what happened meanwhile."""
    clock = itertools.count(0.0, 30.0)
    monkeypatch.setattr(_convergence, "boottime", lambda: next(clock))
    observe, _asked = looks(GOOD)
    assert wait(observe, 5, stable_for=0.005) is GOOD
    clock = itertools.count(0.0, 60.0)
    with pytest.raises(NotConvergedError, match="did not do so for"):
        wait(observe, 0.05, stable_for=0.005)


def test_timeout_names_servers_and_versions() -> None:
    observe, _asked = looks(MIXED)
    with pytest.raises(NotConvergedError, match="v1 on https://a, v1beta1 on https://b"):
        wait(observe, 0.02)


def test_timeout_zero_checks_once() -> None:
    observe, asked = looks(MIXED)
    with pytest.raises(NotConvergedError):
        wait(observe, 0)
    assert len(asked) == 1


def test_a_watch_keeps_changes_only() -> None:
    down = Observation((report("https://a"), report("https://b", ready=False)))
    observe, _asked = looks(GOOD, GOOD, down, down, MIXED, GOOD)
    times = iter(range(100))
    watch = Watch(observe, lambda: str(next(times)))

    async def look() -> None:
        for _turn in range(6):
            await watch.observe()

    asyncio.run(look())
    assert watch.changes == [("0", GOOD), ("1", down), ("2", MIXED), ("3", GOOD)]


def test_the_first_and_the_last_of_many_changes_are_kept() -> None:
    observe, _asked = looks(*[GOOD, MIXED] * 200, OTHER)
    times = iter(range(1000))
    watch = Watch(observe, lambda: str(next(times)))

    async def look() -> None:
        for _turn in range(401):
            await watch.observe()

    asyncio.run(look())
    assert len(watch.changes) == 100
    assert watch.changes[0] == ("0", GOOD) and watch.changes[-1] == ("400", OTHER)
