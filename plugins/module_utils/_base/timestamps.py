# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Times as Kubernetes writes them: metav1.Time (seconds) and metav1.MicroTime, always in UTC. Pure."""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import parsedate_to_datetime


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def seconds_text(moment: datetime) -> str:
    """``2026-11-26T16:12:34Z``, a metav1.Time."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def millis_text(moment: datetime) -> str:
    """``2026-11-26T16:12:34.567Z``."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def micros_text(moment: datetime) -> str:
    """``2026-11-26T16:12:34.567890Z``, a metav1.MicroTime."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str | None) -> datetime | None:
    """The moment of a metav1.Time or MicroTime; None if it is malformed, which includes one without a time zone."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment


def epoch_seconds(text: str) -> float:
    """Seconds since 1970. Raises ValueError if the text is malformed."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def parse_date(text: str) -> datetime:
    """The moment of a header Date, which is always in GMT, even if a proxy says ``-0000``. Raises ValueError or TypeError."""
    moment = parsedate_to_datetime(text)
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment
