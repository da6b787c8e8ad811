# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The default pace in front of simulated servers: busy, and nobody waits for it."""

from __future__ import annotations

import random

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.latency import LatencyLimit
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.migration.engines.simulation import (
    Machine,
    Simulation,
)

SERVICE = 0.01


def knee(cores: int, round_trip: float) -> float:
    """How many requests in flight keep all cores busy if none ever waits."""
    return cores * (1 + round_trip / SERVICE)


@pytest.mark.parametrize("seed", range(12))
def test_it_settles_near_the_knee_and_never_exceeds_its_caps(seed: int) -> None:
    """Any server: nine tenths of what it can do, with a few requests more in flight than it works on."""
    chance = random.Random(seed)
    cores, round_trip = chance.choice([1, 2, 3, 4, 8, 16]), chance.choice([0.0, 0.002, 0.02])
    sizes, others = chance.choice([0.0, 0.3, 0.8]), chance.choice([0.0, 0.1, 0.3])
    machine = Machine(cores, SERVICE, sizes)
    workers = chance.choice([64, 200])
    simulation = Simulation([machine], round_trip=round_trip, workers=workers, others=others * machine.most, seed=seed)
    simulation.run(5.0)
    rate = simulation.run(20.0)
    about = (cores, round_trip, sizes, others, simulation.in_flight())
    assert rate >= 0.9 * (1 - others) * machine.most, about
    at = knee(cores, round_trip)
    assert simulation.in_flight() <= 1.5 * at + 3.5, about
    assert simulation.most_in_flight <= workers


def test_others_wait_far_less_than_with_as_many_requests_as_can_be() -> None:
    waited = {}
    for impact in ("low", "normal", "high"):
        simulation = Simulation([Machine(2, SERVICE)], impact=impact, others=20.0)
        simulation.run(30.0)
        waited[impact] = sorted(simulation.waited)[len(simulation.waited) // 2]
    assert waited["low"] < 1.2 * SERVICE
    assert waited["normal"] < 3 * SERVICE < waited["high"] / 3


def test_a_step_in_latency_is_believed_after_a_while_and_forgotten_at_once() -> None:
    machine = Machine(4, SERVICE)
    simulation = Simulation([machine])
    simulation.run(15.0)
    machine.service = 5 * SERVICE
    simulation.run(40.0)
    assert simulation.run(20.0) > 0.9 * machine.most
    machine.service = SERVICE
    simulation.run(12.0)
    assert simulation.run(10.0) > 0.9 * machine.most and simulation.in_flight() < 12


def test_servers_on_one_machine_share_it() -> None:
    machine = Machine(2, SERVICE)
    simulation = Simulation([machine, machine, machine], others=20.0)
    simulation.run(5.0)
    assert simulation.run(20.0) > 0.9 * (machine.most - 20.0)
    assert simulation.in_flight() < 6


def test_each_server_has_its_own_limit() -> None:
    slow, fast = Machine(1, SERVICE), Machine(16, SERVICE)
    simulation = Simulation([slow, fast])
    simulation.run(5.0)
    assert simulation.run(20.0) > 0.9 * (slow.most + fast.most)
    kept = simulation.pool.pace_kept().servers
    assert kept[0]["most_in_flight"] < 8 < kept[1]["most_in_flight"]
    assert kept[1]["alone_ms"] == pytest.approx(1000 * SERVICE, rel=0.3)


def test_workers_stay_a_cap() -> None:
    simulation = Simulation([Machine(16, SERVICE)], workers=3)
    simulation.run(10.0)
    assert simulation.most_in_flight == 3


def settled(slots: float) -> LatencyLimit:
    """A limit that has measured 10 ms alone."""
    limit = LatencyLimit(64, slots)
    now = 100.0
    while limit.measures_alone(now):
        now += 0.01
        limit.completed(now, 1, 0.01, alone=True, servers=1)
    return limit


def test_an_overloaded_server_gets_less_at_once_counted_once_per_window() -> None:
    limit = settled(20.0)
    limit.overloaded(101.0)
    limit.overloaded(101.1)
    assert limit.slots == 14
    for second in range(102, 140):
        limit.overloaded(float(second))
    assert limit.slots == 1


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    """As with max_rate, or at the end of a list."""
    limit = settled(8.0)
    for number in range(1000):
        limit.completed(101.0 + number / 200, 2, 0.01, alone=False, servers=1)
    assert limit.slots == 8


def test_a_few_very_slow_answers_change_nothing() -> None:
    """A server that writes its snapshot, or new connections."""
    limit = settled(4.0)
    for number in range(2000):
        limit.completed(101.0 + number / 400, 4, 2.0 if number % 10 == 0 else 0.022, alone=False, servers=1)
    assert limit.slots in (3, 4)


def test_nothing_is_measured_alone_while_answers_take_too_long() -> None:
    limit = settled(4.0)
    assert not limit.measures_alone(105.0) and limit.measures_alone(120.0)
    limit.gave_up_alone(123.0)
    assert not limit.measures_alone(130.0) and limit.measures_alone(150.0)
    assert limit.alone == pytest.approx(0.01)
