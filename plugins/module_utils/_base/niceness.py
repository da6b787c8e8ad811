# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Gives way to other processes of this host, such as an API server that runs beside the module."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def give_way(niceness: int) -> None:
    """Raises this process's niceness to that value (nice(1): 0 is usual, 19 yields to everybody); never lowers it.

    Mitogen runs modules in a process that lives on, whose niceness could not be taken back, so it is left as it is. The kernel
    weighs niceness only against processes of the same control group and, with autogroups, the same session. A
    system that doesn't let us is left as it is.
    """
    if "mitogen" in sys.modules:
        return
    with suppress(OSError):
        if os.getpriority(os.PRIO_PROCESS, 0) < niceness:
            os.setpriority(os.PRIO_PROCESS, 0, niceness)
