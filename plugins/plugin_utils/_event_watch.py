# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shows the progress of a module while it runs, without affecting the module.

The module writes events to a file on the target (module_utils/_base/event_file.py). A thread reads them through a copy
of the task's connection, with the same become, and prints them on standard error, so that the output of callbacks on
standard output stays intact. Unreadable events are not shown.
"""

from __future__ import annotations

import contextvars
import copy
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.utils.display import Display
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.event_file import PATH_VARIABLE
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._event_lines import Lines, Status, events_in

OFF_VARIABLE = "KUBE_STORAGE_UPGRADE_PROGRESS"
_QUIET_CALLBACKS = ("oneline", "null", "dense", "selective")
_AFTER = 3.0
_POLL_TERMINAL = 1.0
_POLL_LOG = 3.0
_MAY_FAIL = 3
_LET_READ_END = 5.0
_THERE = "progress-file"

display = Display()


def _terminal_of_ansible() -> str | None:
    if os.isatty(2) and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("CI"):
        with suppress(OSError):
            return os.ttyname(2)
    return None


# Asked on import, which a strategy does in Ansible's main process: the workers that run actions have no standard error
# of their own.
_TERMINAL = _terminal_of_ansible()


@contextmanager
def progress_of(action: Any, task_vars: dict[str, Any]) -> Iterator[None]:
    """Shows the progress of the module that ``action`` runs in this context."""
    task = action._task
    if not _wanted(task):
        yield
        return
    path = f"/tmp/.kube-storage-upgrade-{uuid.uuid4().hex}"
    given = task.environment
    own = given if isinstance(given, list) else [given] if given else []
    task.environment = [*own, {PATH_VARIABLE: path}]
    watch = _Watch(action, path, task_vars)
    watch.start()
    try:
        yield
    except BaseException:
        watch.end()
        raise
    finally:
        task.environment = given
    if not (task.async_val and task.poll):
        watch.end()  # else Ansible polls now, in this same process


def _wanted(task: Any) -> bool:
    """Whether to show anything: as the option or else the environment says, unless Ansible itself is quiet."""
    chosen = task.args.get("progress")
    if chosen is None:
        chosen = os.environ.get(OFF_VARIABLE, True)
    if not boolean(chosen, strict=False) or task.no_log:
        return False
    if context.CLIARGS.get("one_line") or not _ok_hosts_shown():
        return False
    return str(C.DEFAULT_STDOUT_CALLBACK).rsplit(".", 1)[-1] not in _QUIET_CALLBACKS


def _ok_hosts_shown() -> bool:
    """The setting display_ok_hosts, for callbacks that have it."""
    name = str(C.DEFAULT_STDOUT_CALLBACK)
    for known_as in (name, name.rsplit(".", 1)[-1]):
        with suppress(AnsibleError, KeyError):
            return bool(C.config.get_config_value("display_ok_hosts", plugin_type="callback", plugin_name=known_as))
    return True


class _Watch:
    """The thread that reads and shows events, from three seconds after the start until the module has ended."""

    def __init__(self, action: Any, path: str, task_vars: dict[str, Any]) -> None:
        self._action = action
        self._path = path
        self._lines = 0
        self._failures = 0
        self._seen = False
        self._ended = threading.Event()
        self._showing = threading.Lock()
        self._started = time.monotonic()
        host = str(task_vars.get("inventory_hostname") or action._play_context.remote_addr or "")
        # A single status line can't show several hosts, and polls of async tasks print lines of their own.
        alone = len(task_vars.get("ansible_play_batch") or [host]) == 1 and not action._task.async_val
        terminal = alone and display.verbosity < 3 and C.DEFAULT_STDOUT_CALLBACK != "awx_display"
        self._screen = Status(host, self._started) if terminal and _TERMINAL else Lines(host)
        self._poll = _POLL_TERMINAL if isinstance(self._screen, Status) else _POLL_LOG
        run = contextvars.copy_context().run
        # Not a daemon: killed in the middle of a message, it would leave the queue to the main process locked.
        self._thread = threading.Thread(target=run, args=(self._follow,), name="progress")

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Stops showing anything."""
        self._ended.set()
        self._thread.join(_LET_READ_END)
        with self._showing:
            self._print(self._screen.end())

    def _follow(self) -> None:
        # Handlers run in the main thread, which waits for the module and is woken only by a signal delivered to it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        if self._sleeps(_AFTER):
            reader = _copy_of(self._action)
            while self._look(reader) and self._sleeps(self._poll):
                pass

    def _sleeps(self, seconds: float) -> bool:
        """Sleeps; returns False as soon as there is nothing left to wait for."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and threading.main_thread().is_alive():
            if self._ended.wait(min(0.5, max(0.01, until - time.monotonic()))):
                return False
        return threading.main_thread().is_alive()

    def _look(self, reader: Any) -> bool:
        """Reads and shows new events; returns False if there is nothing more to read."""
        # The path is in the task's environment, where others may see it: only a plain file of the module's own user counts.
        own = f"[ -f {self._path} ] && [ ! -L {self._path} ] && [ -O {self._path} ]"
        command = f"if {own}; then echo {_THERE}; tail -n +{self._lines + 1} {self._path}; fi"
        try:
            answer = reader._low_level_execute_command(command, sudoable=bool(reader._connection.become))
        except (AnsibleError, OSError) as error:
            self._failures += 1
            display.vvv(f"Progress could not be read: {error}")
            return self._failures < _MAY_FAIL
        events = events_in(answer["stdout"])
        self._lines += len(events)
        if _THERE not in answer["stdout"]:
            return not self._seen  # the module has removed its file and ended, or has not written anything yet
        self._seen = True
        with self._showing:
            if not self._ended.is_set():
                self._print(self._screen.take(events, time.monotonic(), _width()))
        return True

    def _print(self, text: str) -> None:
        if text:
            display.display(text, stderr=True, newline=False, screen_only=isinstance(self._screen, Status))


def _copy_of(action: Any) -> Any:
    """A separate action for the thread, since a connection holds the state of the command it runs."""
    reader = copy.copy(action)
    reader._connection = copy.copy(action._connection)
    if reader._connection.become:
        reader._connection.become = copy.copy(reader._connection.become)
    return reader


def _width() -> int:
    """Columns of the terminal, which may be resized at any time."""
    with suppress(OSError):
        descriptor = os.open(_TERMINAL or "", os.O_RDONLY | os.O_NOCTTY)
        try:
            return os.get_terminal_size(descriptor).columns or 80
        finally:
            os.close(descriptor)
    return 80
