# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which of a module's events are shown when, and in which words. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clean_text import clean_line
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import duration

_LINE_EVERY = 10.0
_BAR = 20
_ERASE = "\r\x1b[2K"

Event = Mapping[str, Any]


def events_in(text: str) -> list[Event]:
    """The events in a progress file; shell noise and half-written lines are skipped."""
    found: list[Event] = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("kind"), str) and isinstance(event.get("message"), str):
            found.append(event)
    return found


def sentences(event: Event) -> list[str]:
    """The message, with each of several reasons on its own line."""
    fields = event.get("fields") or {}
    reasons = fields.get("reasons") or []
    if len(reasons) < 2:
        return [event["message"]]
    more = [f"  and {fields['more']} more"] if fields.get("more") else []
    return [event["message"].split(": ")[0] + ":", *(f"  {reason}" for reason in reasons), *more]


class Lines:
    """For logs: every notice once, and a line of progress now and then."""

    def __init__(self, host: str, every: float = _LINE_EVERY) -> None:
        self._host = host
        self._every = every
        self._progress_at: float | None = None

    def take(self, events: Iterable[Event], now: float, _width: int = 0) -> str:
        """The lines to print now; empty if nothing is due."""
        lines, progress = [], None
        for event in events:
            if event["kind"] == "progress":
                progress = event
            else:
                lines += sentences(event)
        if progress is not None and (self._progress_at is None or now - self._progress_at >= self._every):
            self._progress_at = now
            lines.append(progress["message"])
        return "".join(f"{self._host}: {clean_line(line)}\n" for line in lines)

    def end(self) -> str:
        return ""


class Status:
    """For a terminal: notices stay, and one line below them is redrawn: a bar, or how long the wait has lasted."""

    def __init__(self, host: str, started: float) -> None:
        self._host = host
        self._started = started
        self._last: Event | None = None
        self._drawn = False

    def take(self, events: Iterable[Event], now: float, width: int) -> str:
        """What to write to the terminal: whole lines, then the status line without a line end."""
        notices = []
        for event in events:
            self._last = event
            if event["kind"] != "progress":
                notices += [f"{self._host}: {clean_line(line)}\n" for line in sentences(event)]
        if self._last is None:
            return ""
        self._drawn = True
        return _ERASE + "".join(notices) + cut(self._line(self._last, now), width - 1)

    def end(self) -> str:
        """Erases the status line."""
        drawn, self._drawn = self._drawn, False
        return _ERASE if drawn else ""

    def _line(self, event: Event, now: float) -> str:
        if event["kind"] == "progress":
            return f"{self._host}: {progress_bar(event.get('fields') or {})}{clean_line(event['message'])}"
        verb = "waiting" if event["kind"] == "waiting" else "working"
        return f"{self._host}: {verb} for {duration(now - self._started)} ..."


def cut(text: str, width: int) -> str:
    """Fits a line into a terminal; a line that wraps could not be redrawn."""
    return text if len(text) <= width else text[: max(7, width - 3)] + "..."


def progress_bar(fields: Mapping[str, Any]) -> str:
    """``[######--------------] ``, or nothing where the total is not known."""
    done, total = fields.get("done"), fields.get("total")
    if not fields.get("total_is_known") or not isinstance(done, int) or not isinstance(total, int) or total <= 0:
        return ""
    full = min(_BAR, _BAR * done // total)
    return f"[{'#' * full}{'-' * (_BAR - full)}] "
