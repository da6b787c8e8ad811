# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether API servers are still the same processes (issue 11, number 5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import ResourceState, State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.trust import (
    reservations,
    still_trusted,
    unknown_since,
    unseen_since,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.version_hashes import describe
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource, ServerReport
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.identity_leases import (
    Alive,
    IdentityLeases,
    holders,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.processes import (
    Processes,
    Seen,
    from_dict,
    other_processes,
    processes_of,
    replaced,
    sampled_processes,
    why_doubt,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.sampling import Identity, Sample

ONE, TWO = "https://10.0.0.1:6443", "https://10.0.0.2:6443"


def report(url: str = ONE, version: str = "v1.37.2", **changes: Any) -> ServerReport:
    return ServerReport(url=url, name=url, version=version, ready=True, **changes)


def leases(**held: str) -> IdentityLeases:
    return IdentityLeases(
        tuple(Alive(name, None, holder) for name, holder in held.items()), held, "2026-01-01T00:00:00Z"
    )


def by_start(**started: str) -> Processes:
    urls = {ONE: started.get("one"), TWO: started.get("two")}
    urls = {url: value for url, value in urls.items() if value}
    return processes_of([report(url) for url in urls], urls, IdentityLeases())


def test_what_distinguishes_processes() -> None:
    both = [report(ONE), report(TWO)]
    assert processes_of(both, {ONE: "1.0", TWO: "2.0"}, IdentityLeases()).by_start
    assert not processes_of(both, {ONE: "1.0", TWO: None}, IdentityLeases()).known
    assert not processes_of([], {}, IdentityLeases()).known
    assert processes_of(both, {}, leases(a="x", b="y")).by_holder
    assert not processes_of(both, {}, leases(a="x")).known, "one of them has no Lease"
    assert not processes_of(both, {}, IdentityLeases((), None)).known
    old = [report(ONE), report(TWO, "v1.34.5")]
    assert not processes_of(old, {}, leases(a="x", b="y")).known, "before 1.35 the holder stays when a server restarts"
    emulating = [report(ONE, emulated_version="1.34")]
    assert processes_of(emulating, {}, leases(a="x")).by_holder, "it is the binary that counts"
    down = [report(ONE), ServerReport(url=TWO, name=TWO, error="refused", down=True)]
    assert processes_of(down, {ONE: "1.0", TWO: None}, IdentityLeases()).by_start


def test_holders_of_expired_leases_are_reported_too() -> None:
    items = [
        {
            "metadata": {"name": "apiserver-a", "labels": {"kubernetes.io/hostname": "a"}},
            "spec": {"holderIdentity": "a_1"},
        },
        {"metadata": {"name": "apiserver-b"}, "spec": {"holderIdentity": "b_1", "renewTime": "2020-01-01T00:00:00Z"}},
    ]
    assert holders({"items": items}) == {"a": "a_1", "apiserver-b": "b_1"}


def test_one_that_was_replaced_is_noticed() -> None:
    before = by_start(one="1", two="2")
    assert why_doubt(before, by_start(one="1", two="2")) is None
    assert replaced(before, by_start(one="1", two="3")) == (TWO,)
    assert f"API server {TWO} was restarted" in (why_doubt(before, by_start(one="1", two="3")) or "")
    assert replaced(by_start(one="1"), before) == (TWO,), "nobody knows what a server did before it was known"
    assert why_doubt(before, by_start(one="1")) is None, "one that is away writes nothing"
    held = processes_of([report()], {}, leases(a="x"))
    assert replaced(held, processes_of([report()], {}, leases(a="y"))) == ("a",)
    assert replaced(held, processes_of([report()], {}, leases(a="x", b="y"))) == ("b",)


def test_one_that_was_certainly_replaced() -> None:
    assert other_processes(by_start(one="1"), by_start(one="1", two="2")) == ()
    assert other_processes(by_start(one="1", two="2"), by_start(one="1", two="3")) == (TWO,)
    held = processes_of([report()], {}, leases(a="x"))
    assert other_processes(held, processes_of([report()], {}, leases(a="y", b="z"))) == ("a",)


def test_the_unknown_proves_nothing() -> None:
    known, unknown = by_start(one="1"), processes_of([report()], {ONE: None}, IdentityLeases())
    held = processes_of([report()], {}, leases(a="x"))
    for before, now in ((known, unknown), (unknown, known), (unknown, unknown), (Processes(), known), (held, known)):
        assert "is unknown" in (why_doubt(before, now) or "") or replaced(before, now)


def test_they_are_the_same_after_being_saved() -> None:
    before = processes_of([report()], {ONE: "1.5"}, leases(a="x"))
    assert from_dict(before.as_dict()) == before
    assert from_dict(None) == Processes() and not from_dict({}).known


def test_a_run_takes_no_process_that_it_has_seen_for_a_new_one() -> None:
    seen = Seen(by_start(one="1", two="2"))
    assert seen.look(by_start(one="1")) == ()
    assert seen.look(by_start(one="1", two="2")) == (), "it was away, or behind an address that leads to several"
    assert seen.look(by_start(one="1", two="3")) == (TWO,)
    assert seen.look(by_start(one="1", two="3")) == ()
    assert seen.last.started == {ONE: "1", TWO: "3"}


def test_samples_identify_processes_too() -> None:
    samples = [Sample(Identity("10.0.0.1", 5.0), report()), Sample(Identity("10.0.0.2", 6.0), None)]
    reports = [report(f"{ONE}#a"), report(f"{ONE}#b")]
    found = sampled_processes(ONE, samples, reports, IdentityLeases())
    assert found.by_start and found.started == {f"{ONE}#10.0.0.1": "5.0", f"{ONE}#10.0.0.2": "6.0"}
    hidden = [*samples, Sample(Identity("10.0.0.3", None), report())]
    assert not sampled_processes(ONE, hidden, reports, IdentityLeases()).known


def interrupted(processes: Processes | None) -> State:
    resources = {
        "whole": ResourceState(("h",), migrated_at="2026"),
        "before": ResourceState(("h",), migrated_at="2025"),
        "half": ResourceState(("old", "h"), progress={"hash": "h", "token": "t"}),
    }
    return State(
        resources=resources,
        last_run={"done": ["whole"], "finished": False, "rate": 5},
        processes=None if processes is None else processes.as_dict(),
    )


def test_what_an_interrupted_run_did_counts_only_with_the_same_processes() -> None:
    now = by_start(one="1")
    seen = Observation((report(),), processes=now)
    assert still_trusted(interrupted(now), seen) == (interrupted(now), None)
    for saved in (by_start(one="0"), None):
        state, why = still_trusted(interrupted(saved), seen)
        assert why is not None
        assert state.of("whole") == ResourceState((), migrated_at="2026", progress={"doubt": why})
        assert state.of("half") == ResourceState(("old", "h"), progress={"doubt": why})
        assert state.of("before").persisted == ("h",), "what a finished run completed stays"
        assert state.last_run == {"done": [], "finished": False, "rate": 5}
        assert not state.unfinished, "it is said once"
    ended = replace(interrupted(None), last_run={"done": ["whole"], "finished": True})
    ended = ended.with_resource("half", ResourceState(("h",)))
    assert still_trusted(ended, seen) == (ended, None)


def test_the_user_is_warned() -> None:
    hidden = Observation((report(),), processes=processes_of([report()], {}, IdentityLeases()))
    known = Observation((report(),), processes=by_start(one="1"))
    assert reservations(None, known) == []
    assert "get /metrics/slis" in reservations(None, hidden)[0]
    assert "visited again: because" in reservations("because", known)[0]
    before = State(processes=by_start(one="0").as_dict())
    assert "select: all" in unseen_since(before, known)[0]
    assert unseen_since(State(), known) == []
    upgraded = processes_of([report(version="v1.36.5")], {ONE: "0"}, IdentityLeases()).as_dict()
    assert unseen_since(State(processes=upgraded), known) == [], "an upgrade is no news"
    patched = processes_of([report(version="v1.37.1")], {ONE: "0"}, IdentityLeases()).as_dict()
    assert unseen_since(State(processes=patched), known), "a rollback may lie between two patch releases"
    assert unknown_since(State(processes=patched), known)[0].startswith("Whether an older release wrote")
    assert unknown_since(State(), known) == []


@pytest.mark.parametrize("version", ["", "v", "1", "v1.x"])
def test_an_odd_version_proves_nothing(version: str) -> None:
    assert not processes_of([report(version=version)], {}, leases(a="x")).known


def test_reading_hashes_trusts_no_more_than_a_run_would() -> None:
    whole = ServedResource("whole", "", "whole", "Whole", True, frozenset(), ("v1",), ("h",))
    now = by_start(one="1")
    seen = Observation((report(resources={"whole": whole}),), processes=now)
    assert describe(seen, interrupted(now))["changed_resources"] == []
    assert [change["resource"] for change in describe(seen, interrupted(None))["changed_resources"]] == ["whole"]
