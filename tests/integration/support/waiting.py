# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waits for conditions, so that no test sleeps and hopes."""

from __future__ import annotations

from collections.abc import Callable

from tests.control_plane.processes import wait_for


def wait_until(condition: Callable[[], bool], timeout: float = 120.0) -> None:

    assert wait_for(condition, timeout, 0.2), "the condition was not met in time"
