# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Report that writes events to a file on the target, from which the action plugin reads them while the module runs."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clean_text import cleaned
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event, Report, nobody_listens

# Set by the action plugin (plugin_utils/_event_watch.py) to an unguessable path.
PATH_VARIABLE = "KUBE_STORAGE_UPGRADE_PROGRESS_FILE"
_PROGRESS_EVERY = 1.0
_LARGEST = 4 << 20


@contextlib.contextmanager
def open_report() -> Iterator[Report]:
    """Writes to the file that the environment names, if it names one."""
    path = os.environ.get(PATH_VARIABLE)
    if not path:
        yield nobody_listens
        return
    file = _ProgressFile(path)
    try:
        yield file.write
    finally:
        file.close()


class _ProgressFile:
    """One JSON object per line. Errors are ignored: showing progress must never fail a run."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._written = 0
        self._failed = False
        self._progress_at: float | None = None
        self._told = ""

    def write(self, event: Event) -> None:
        now = time.monotonic()
        if event.kind == "progress":
            if self._progress_at is not None and now - self._progress_at < _PROGRESS_EVERY / 2:
                return
            self._progress_at = now
        elif event.message == self._told:
            return
        else:
            self._told = event.message
        told = cleaned({"kind": event.kind, "message": event.message, "fields": event.fields})
        line = json.dumps(told) + "\n"
        if self._failed or self._written + len(line) > _LARGEST:
            return
        try:
            if self._descriptor is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
                self._descriptor = os.open(self._path, flags, 0o600)
            self._written += os.write(self._descriptor, line.encode())
        except OSError:
            self._failed = True

    def close(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
                os.unlink(self._path)
