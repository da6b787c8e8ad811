# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signals end a run cleanly, at any point."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import MigrationIncompleteError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import Control

# SIGHUP arrives when the connection of the Ansible controller breaks.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible(control: Control) -> Iterator[None]:
    """A signal stops the control; if nothing has begun yet, it ends the block with that error."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    before: dict[signal.Signals, Any] = {}

    def interrupt(name: str) -> None:
        control.stop(MigrationIncompleteError(f"Interrupted by {name}; run again to resume."))
        if not control.begun and task is not None:
            task.cancel()

    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if handler is signal.SIG_IGN:  # nohup
            continue
        with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
            loop.add_signal_handler(number, interrupt, number.name)
            before[number] = handler
    try:
        yield
    except asyncio.CancelledError:
        if control.stopped is None:
            raise
        raise control.stopped from None
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
