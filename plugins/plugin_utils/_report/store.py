# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The work of upgrade_report: reads the record so far, adds the news, writes both files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.files import ReportFiles
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.news import (
    add_news,
    belongs,
    closed,
    new_record,
    of_another_cluster,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.page import page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import (
    AUDIT,
    CHECK,
    ROTATION,
    UPGRADE,
    AnyRecord,
    Record,
    Snapshot,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.snapshot import snapshot

_NO_NEWS = (
    "path",
    "kind",
    "host",
    "run",
    "cluster_name",
    "cluster_uid",
    "version",
    "rotation",
    "masters",
    "during",
    "ignored",
    "check_mode",
    "fleet",
)


def in_check_mode(news: Mapping[str, Any]) -> dict[str, Any]:
    """The news of a run in check mode, which has nothing to tell but what the check found; that is a report of its own."""
    shown = news.get("kind") != ROTATION and news.get("during") in ("check", None) and not news.get("step")
    names = (*_NO_NEWS, *(("observed", "outcomes", "checked", "stored") if shown else ()))
    kind = AUDIT if news.get("kind") == AUDIT else CHECK
    return {**{name: news[name] for name in names if name in news}, "kind": kind, "check_mode": True}


def keep(files: ReportFiles, news: Mapping[str, Any], now: str) -> dict[str, Any]:
    """The module's result. Without any news it only returns what is on record, and fails if news could not be written."""
    told = any(value for name, value in news.items() if name not in _NO_NEWS)
    archived = None
    with files.locked():
        if news.get("begin") or not told:
            files.require_writable()
            files.require_room()
        record = files.read()
        if told:
            archived = _archive_other(files, record, news, now)
            record = _next_record(record, news, now)
            # First write what the next run builds on, whatever happens to the page.
            files.write_record(record)
            files.write_page(page(record, files.json.name))
    return {
        "changed": told,
        "html": str(files.html),
        "json": str(files.json),
        "archived": archived,
        "status": record.status if record else None,
        "run": record.runs[-1].started if isinstance(record, Record) and record.runs else None,
        "stored_before_found": isinstance(record, Record) and _goes_on(record, news) and bool(record.stored.before),
    }


def close(files: ReportFiles, started: str, now: str) -> bool:
    """After ansible-playbook has ended: closes the run that began at ``started`` if it is still open; whether it was."""
    with files.locked():
        record = files.read()
        ended = closed(record, started, now) if isinstance(record, Record) else None
        if ended is None:
            return False
        files.write_record(ended)
        files.write_page(page(ended, files.json.name))
    return True


def _kind(news: Mapping[str, Any]) -> str:
    return str(news.get("kind") or UPGRADE)


def _key(news: Mapping[str, Any]) -> str | None:
    return (news.get("rotation") or {}).get("key")


def _goes_on(record: AnyRecord | None, news: Mapping[str, Any]) -> bool:
    """Whether the news is added to this record; a check or an audit always makes a new one."""
    return (
        isinstance(record, Record)
        and belongs(record, _kind(news), news.get("version"), _key(news))
        and not of_another_cluster(record, news)
    )


def _next_record(record: AnyRecord | None, news: Mapping[str, Any], now: str) -> AnyRecord:
    if _kind(news) in (CHECK, AUDIT):
        return snapshot(_kind(news), news, now)
    if not isinstance(record, Record) or not _goes_on(record, news):
        record = new_record(news.get("version"), now, _kind(news), _key(news))
    return add_news(record, news, now)


def _archive_other(files: ReportFiles, record: AnyRecord | None, news: Mapping[str, Any], now: str) -> str | None:
    """Keeps a report of something else under another name; a check or an audit replaces the previous one."""
    same = record.kind == _kind(news) if isinstance(record, Snapshot) else _goes_on(record, news)
    if same:
        return None
    archived = files.archive(_label(record), now)
    return str(archived) if archived else None


def _label(record: AnyRecord | None) -> str:
    if record is None:
        return "unreadable"
    return str(record.version) if record.kind == UPGRADE else record.kind
