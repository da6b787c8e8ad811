# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The main road of upgrade_report: read the record so far, add the news, write both files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.files import ReportFiles
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.page import page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import (
    UPGRADE,
    Record,
    add_news,
    belongs,
    new_record,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.snapshot import AUDIT, CHECK, snapshot

_NO_NEWS = ("path", "kind", "host", "version", "rotation", "masters", "during", "ignored")


def keep(files: ReportFiles, news: Mapping[str, Any], now: str, write: bool = True) -> dict[str, Any]:
    """The module's result. Without any news it only says what is on record."""
    told = any(value for name, value in news.items() if name not in _NO_NEWS)
    moved = None
    with files.locked():
        record = files.read()
        if told and write:
            if _kind(news) in (CHECK, AUDIT):
                if record is None or record.get("kind") != _kind(news):
                    moved = _put_aside(files, record, now)
                record = snapshot(_kind(news), news, now)
            else:
                record, moved = _record_for(files, record, news, now)
                record = add_news(record, news, now)
            files.write(record, page(record, files.json.name))
    return {
        "changed": told and write,
        "html": str(files.html),
        "json": str(files.json),
        "put_aside": moved,
        "status": record["status"] if record else None,
        "stored_before_found": bool(record and _belongs(record, news) and record["stored"].get("before")),
    }


def _kind(news: Mapping[str, Any]) -> str:
    return str(news.get("kind") or UPGRADE)


def _key(news: Mapping[str, Any]) -> str | None:
    return (news.get("rotation") or {}).get("key")


def _belongs(record: Record, news: Mapping[str, Any]) -> bool:
    """Whether the news go on with this record; those of a check or an audit are a record of their own each time."""
    if _kind(news) in (CHECK, AUDIT):
        return False
    return belongs(record, _kind(news), news.get("version"), _key(news))


def _record_for(
    files: ReportFiles, record: Record | None, news: Mapping[str, Any], now: str
) -> tuple[Record, str | None]:
    """The record that the news belong to: the one on file, or a new one, beside which the old one is kept."""
    if record is not None and _belongs(record, news):
        return record, None
    moved = _put_aside(files, record, now)
    return new_record(news.get("version"), now, _kind(news), _key(news)), moved


def _put_aside(files: ReportFiles, record: Record | None, now: str) -> str | None:
    if record is None:
        label = "unreadable"
    else:
        label = str(record["version"]) if record.get("kind", UPGRADE) == UPGRADE else str(record["kind"])
    moved = files.put_aside(label, now)
    return str(moved) if moved else None
