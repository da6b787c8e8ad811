# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a driver can't do is said before anything is touched."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.filter.driver_refusals import driver_refusals

MAIN, ALL = ["/d/main.yml"], ["/d/all_masters.yml"]
THREE = ["m1", "m2", "m3"]


@pytest.mark.parametrize(
    ("driver", "files", "more"),
    [
        ("tasks", MAIN, {}),
        ("tasks", MAIN, {"emulate": "1.36"}),
        ("/mine", MAIN, {"rollback": True}),
        ("openshift", ALL, {"sampling": {"connections": 4}}),
        ("kubeadm", MAIN, {"emulate": "1.36"}),
        ("kubeadm", MAIN, {"rollback": True}),
        ("openshift", ALL, {"emulate": "", "rollback": False}),
    ],
)
def test_what_it_can_do(driver: str, files: list[str], more: dict[str, Any]) -> None:
    assert driver_refusals(driver, files, THREE, **more) == []
    assert driver_refusals(driver, files, THREE[:1], sampling={"connections": 4}) == []


@pytest.mark.parametrize(
    ("driver", "files", "more", "says"),
    [
        (
            "magic",
            [],
            {},
            "rolling_upgrade_driver is 'magic', but must be tasks, kubeadm, ",
        ),
        ("/mine", [*MAIN, *ALL], {}, "with either a main.yml or an all_masters.yml."),
        ("tasks", MAIN, {"sampling": {"connections": 4}}, "behind one address (rolling_upgrade_sampling)"),
        ("openshift", ALL, {"emulate": "1.36"}, "The driver openshift supports neither rolling_upgrade_emulate"),
        ("openshift", ALL, {"rollback": True}, "The driver openshift supports neither"),
    ],
)
def test_what_it_cannot_do(driver: str, files: list[str], more: dict[str, Any], says: str) -> None:
    (problem,) = driver_refusals(driver, files, THREE, **more)
    assert says in problem
