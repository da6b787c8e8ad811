# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a driver can't do. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

# Drivers of this role that support neither the two steps nor rollback.
_ONE_WAY = ("openshift",)


def driver_refusals(
    driver: str, files: Collection[str], masters: Collection[str], sampling: Mapping[str, Any], *, two_steps: bool
) -> list[str]:
    """Why the driver can't upgrade these masters, one sentence each.

    ``files``: which of main.yml and all_masters.yml its folder has. ``two_steps``: whether a release is to be emulated, or left again.
    """
    if len(files) != 1:
        return [
            f"rolling_upgrade_driver is '{driver}', but must be tasks, kubeadm, openshift, or the absolute path of a folder with either a "
            "main.yml or an all_masters.yml."
        ]
    problems = []
    rolls_all = next(iter(files)).endswith("all_masters.yml")
    if sampling and len(masters) > 1 and not rolls_all:
        problems.append(
            f"The driver {driver} upgrades one master at a time, and behind one address (rolling_upgrade_sampling) it is unknown which of them "
            "are ready; use the role's entry points around the provider's upgrade, or a driver with an all_masters.yml."
        )
    if two_steps and driver in _ONE_WAY:
        problems.append(
            f"The driver {driver} supports neither rolling_upgrade_emulate nor rolling_upgrade_rollback; use the driver tasks or write your own."
        )
    return problems
