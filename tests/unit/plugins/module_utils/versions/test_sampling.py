# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Expectation, Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.cross_check import CrossCheck
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    ServerReport,
    storage_version_hash,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.identity_leases import Alive, alive
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.sampling import (
    Evidence,
    Identity,
    Sample,
    SamplingSettings,
    chance_missed,
    evaluate_samples,
    read_identity,
)

ENTRY = "https://one.example.com:6443"
SETTINGS = SamplingSettings(connections=6, at_once=2, require_identity=True)
LEASES = tuple(Alive(f"master-{i}", f"10.0.0.1{i}", f"process-{i}") for i in (1, 2, 3))
WHO = {i: Identity(f"10.0.0.1{i}", 100.0) for i in (1, 2, 3)}


def said(stored: str = "v1", **changes: object) -> ServerReport:
    hashed = storage_version_hash("example.com", stored, "Thing")
    thing = ServedResource(
        "things.example.com", "example.com", "things", "Thing", True, frozenset(), ("v1",), (hashed,)
    )
    fields: dict[str, object] = {"version": "v1.37.2", "ready": True, **changes}
    return ServerReport(url=ENTRY, name="", resources={thing.name: thing}, **fields)  # type: ignore[arg-type]


def seen(
    samples: Sequence[Sample],
    *,
    before: Sequence[Alive] = LEASES,
    after: Sequence[Alive] = LEASES,
    settings: SamplingSettings = SETTINGS,
    expected: int | None = None,
) -> Observation:
    reports, problems, evidence = evaluate_samples(ENTRY, samples, before, after, settings, expected)
    return Observation(reports, problems, Expectation(servers=expected), evidence, cross=CrossCheck(None))


ALL = [Sample(WHO[1], said()), Sample(WHO[1], None), *(Sample(WHO[i], said()) for i in (2, 3))]


def test_as_many_as_renew_their_leases_agree_but_it_is_called_weaker() -> None:
    found = seen(ALL)
    assert found.converged and found.proven_by == "sampling"
    assert [server.url for server in found.reports] == [f"{ENTRY}#master-{i}" for i in (1, 2, 3)]
    assert found.evidence == Evidence(connections=4, told_apart=3, servers=3)
    (reservation,) = found.reservations
    assert "proves less than asking each" in reservation and "3 API servers answered 4 fresh" in reservation
    assert found.who == "3 API servers, distinguished in 4 samples,"


def test_each_server_asked_at_its_own_address_has_no_reservations() -> None:
    found = Observation((said(),), cross=CrossCheck(None))
    assert found.proven_by == "each_server" and found.reservations == []


def test_one_different_answer_is_a_definite_no() -> None:
    found = seen([*ALL, Sample(WHO[2], said("v1beta1"))])
    assert not found.converged and found.reservations == []
    (reason,) = found.reasons()
    assert reason == (
        f"things.example.com: v1 on {ENTRY}#master-1, {ENTRY}#master-2, {ENTRY}#master-3, v1beta1 on {ENTRY}#master-2-2"
    )


def test_a_server_that_never_answered_is_named() -> None:
    (reason,) = seen(ALL[:3]).reasons()
    assert reason.startswith("Only 2 of 3 API servers answered 3 fresh connections (master-3 did not);")


def test_a_server_without_a_known_address_is_counted_though_not_named() -> None:
    leases = [replace(lease, address=None) for lease in LEASES]
    (reason,) = seen(ALL[:3], before=leases, after=leases).reasons()
    assert reason.startswith("Only 2 of 3 API servers answered 3 fresh connections; raise")


@pytest.mark.parametrize(
    ("samples", "options", "says"),
    [
        (ALL, {"expected": 4}, "Only 3 of 4 API servers"),
        (ALL, {"expected": 2}, r"4 connections reached 3 API servers, but there must be 2 \(expected_servers\)"),
        (ALL, {"before": (), "after": ()}, "How many API servers are behind https://one.example.com:6443 is unknown"),
        (ALL, {"before": LEASES[:2]}, "master-3 appeared, disappeared or restarted"),
        (ALL, {"before": [*LEASES[:2], replace(LEASES[2], process="older")]}, "master-3 appeared, disappeared or restarted"),
        ([Sample(Identity(), said())], {}, "can't be distinguished: allow the user to get /flagz"),
        ([*ALL, Sample(Identity(), said())], {}, "can't be distinguished"),
        ([*ALL, Sample(WHO[1], said(ready=False))], {}, "master-1-2 is not ready"),
        ([*ALL, Sample(Identity(), ServerReport(ENTRY, "", error="the connection was lost."))], {}, "the connection was lost"),
    ],
)  # fmt: skip
def test_what_is_not_agreement(samples: list[Sample], options: dict[str, object], says: str) -> None:
    import re

    found = seen(samples, **options)  # type: ignore[arg-type]
    assert not found.converged
    assert any(re.search(says, reason) for reason in found.reasons()), found.reasons()


def test_if_servers_hide_the_number_of_connections_decides_on_request() -> None:
    hidden = [Sample(Identity(), said())] * 30
    found = seen(hidden, settings=replace(SETTINGS, require_identity=False))
    assert found.converged and found.evidence is not None and found.evidence.told_apart is None
    assert found.evidence.chance_missed == pytest.approx(1.56e-5, rel=0.01)
    assert "about 0.002 %" in found.reservations[0] and "can't be distinguished" in found.reservations[0]
    mixed = seen([*hidden, Sample(Identity(), said("v1beta1"))], settings=replace(SETTINGS, require_identity=False))
    assert not mixed.converged and "v1beta1 on" in mixed.reasons()[0]


def test_servers_that_advertise_one_address_are_distinguished_by_their_start() -> None:
    shared = [Sample(Identity("203.0.113.1", started), said()) for started in (100.0, 200.25)]
    found = seen(shared, before=LEASES[:2], after=LEASES[:2])
    assert found.converged
    assert [server.name for server in found.reports] == [
        "started-1970-01-01T00:01:40.000Z",
        "started-1970-01-01T00:03:20.250Z",
    ]


def test_the_chance_to_miss_one() -> None:
    assert chance_missed(1, 5) == 0.0
    assert chance_missed(2, 1) == 1.0
    assert chance_missed(3, 30) == pytest.approx(3 * (2 / 3) ** 30)


@pytest.mark.parametrize("delimiter", ["=", ": ", " ", "  ", ":"])
def test_identity_from_text(delimiter: str) -> None:
    flags = f"\napiserver flagz\nWarning: …\nadmission-control=[]\nadvertise-address{delimiter}10.0.0.11\nallow-x=y\n"
    assert read_identity(flags, "process_start_time_seconds 1.79556962839e+09\n") == Identity(
        "10.0.0.11", 1795569628.39
    )


def test_identity_from_json_or_nothing() -> None:
    assert read_identity('{"kind":"Flagz","flags":{"advertise-address":"fd00::1"}}', "").address == "fd00::1"
    assert not read_identity('{"flags":{"advertise-address":"<nil>"}}', "# no such metric").known
    assert not read_identity("", "").known


def test_whose_lease_is_fresh() -> None:
    def lease(name: str, second: int, **annotations: str) -> dict[str, object]:
        return {
            "metadata": {"name": f"apiserver-{name}", "labels": {"kubernetes.io/hostname": name}, "annotations": annotations},
            "spec": {"holderIdentity": f"{name}_1", "renewTime": f"2026-01-01T00:00:{second:02}.000000Z"},
        }  # fmt: skip

    peer = {"kubernetes.io/peer-advertise-address": "[fd00::12]:6443"}
    found = alive(
        {"items": [lease("b", 50, **peer), lease("a", 30), lease("dead", 5)]},
        datetime(2026, 1, 1, 0, 1, 0, tzinfo=timezone.utc),
    )
    assert found == (
        Alive("a", None, "a_1", None, "apiserver-a"),
        Alive("b", "fd00::12", "b_1", 6443, "apiserver-b"),
    )
