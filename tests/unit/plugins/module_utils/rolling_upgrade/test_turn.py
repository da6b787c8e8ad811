# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A master's turn: who is asked when, and that the Lease is written only after good answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    AlreadyRunningError,
    BadInputError,
    NotConvergedError,
    StorageUpgradeError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._rolling_upgrade import turn

PARAMS = {
    "servers": None,
    "expected_servers": 3,
    "ignored_servers": ["m9"],
    "sampling": None,
    "await_server": None,
    "expected_version": "1.37",
    "wait_timeout": 60,
    "duration": 14400,
    "name": "roll",
    "namespace": "kube-system",
    "holder": "alice@h/1",
    "step": "m2",
}
SERVERS = [{"url": f"https://m{number}:6443"} for number in (1, 2, 3)]


class Asked:
    """Stands for the API servers and the Lease: what was asked in order, and what goes wrong."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **wrong: StorageUpgradeError) -> None:
        self.order: list[str] = []
        self.options: dict[str, Any] = {}
        self._wrong = wrong
        monkeypatch.setattr(turn, "version_hashes", self._hashes)
        monkeypatch.setattr(turn, "upgrade_lease", self._lease)

    async def _hashes(self, options: Any, check_mode: bool, report: Any) -> dict[str, Any]:
        return self._answer("all" if options.wait is None else "one", options, {"servers": SERVERS, "changed": False})

    async def _lease(self, options: Any, check_mode: bool, report: Any) -> dict[str, Any]:
        return self._answer("lease", options, {"held": True, "changed": True})

    def _answer(self, name: str, options: Any, result: dict[str, Any]) -> dict[str, Any]:
        self.order.append(name)
        self.options[name] = options
        if name in self._wrong:
            raise self._wrong[name]
        return result


def take(check_mode: bool = False, **more: Any) -> dict[str, Any]:
    options = turn.UpgradeTurnOptions.from_params({**PARAMS, **more})
    return asyncio.run(turn.upgrade_turn(options, check_mode, lambda event: None))


def test_a_turn_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    result = take()
    assert asked.order == ["all", "lease"]
    assert (result["waited"], result["lease"]["held"], result["changed"]) == (None, True, True)
    every, lease = asked.options["all"].cluster.expectation, asked.options["lease"]
    assert (every.servers, every.version, every.ignored) == (3, None, ("m9",))
    assert (lease.state, lease.acquire, lease.step) == ("held", False, "m2")
    # The kubeconfig may point to the master that goes down next.
    assert lease.cluster.urls == tuple(server["url"] for server in SERVERS)


def test_a_turn_ends_when_its_server_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    result = take(await_server="https://m2:6443", step=None, ended=["a" * 32])
    assert asked.order == ["one", "all", "lease"] and result["waited"]["servers"] == SERVERS
    awaited = asked.options["one"]
    assert (awaited.cluster.urls, awaited.cluster.expectation.ignored) == (("https://m2:6443",), ("*",))
    assert (awaited.cluster.expectation.servers, awaited.cluster.expectation.version) == (1, "1.37")
    assert (awaited.wait.timeout, awaited.wait.stable_for) == (60, 0.0)
    assert asked.options["lease"].ended == ("a" * 32,)


def test_in_check_mode_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    assert take(check_mode=True, await_server="https://m2:6443")["waited"] is None
    assert asked.order == ["all", "lease"]


def test_the_lease_is_not_written_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    late = NotConvergedError("m2 is not at 1.37.", {"servers": SERVERS[1:2], "history": []})
    asked = Asked(monkeypatch, one=late)
    with pytest.raises(NotConvergedError) as raised:
        take(await_server="https://m2:6443")
    assert asked.order == ["one", "all"]
    assert raised.value.result["servers"] == SERVERS and raised.value.result["waited"]["history"] == []

    asked = Asked(monkeypatch, one=NotConvergedError("late"), all=StorageUpgradeError("down"))
    with pytest.raises(NotConvergedError) as raised:
        take(await_server="https://m2:6443")
    assert asked.order == ["one", "all"] and raised.value.result == {"waited": {}}

    asked = Asked(monkeypatch, all=StorageUpgradeError("down"))
    with pytest.raises(StorageUpgradeError):
        take()
    assert asked.order == ["all"]


def test_without_the_lease_what_was_asked_is_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    Asked(monkeypatch, lease=AlreadyRunningError("taken", {"other": {"who": "bob"}}))
    with pytest.raises(AlreadyRunningError) as raised:
        take()
    assert raised.value.result["servers"] == SERVERS and raised.value.result["lease"] == {"other": {"who": "bob"}}


@pytest.mark.parametrize(
    "wrong", [{"wait_timeout": -1}, {"expected_version": "new"}, {"holder": None}, {"duration": 0}]
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInputError):
        turn.UpgradeTurnOptions.from_params({**PARAMS, **wrong})
