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
    Record,
    add_news,
    belongs,
    new_record,
)

_NO_NEWS = ("path", "host", "version", "masters", "during")


def keep(files: ReportFiles, news: Mapping[str, Any], now: str, write: bool = True) -> dict[str, Any]:
    """The module's result. Without any news it only says what is on record."""
    told = any(value for name, value in news.items() if name not in _NO_NEWS)
    moved = None
    with files.locked():
        record = files.read()
        if told and write:
            record, moved = _record_for(files, record, news, now)
            record = add_news(record, news, now)
            files.write(record, page(record, files.json.name))
    return {
        "changed": told and write,
        "html": str(files.html),
        "json": str(files.json),
        "put_aside": moved,
        "status": record["status"] if record else None,
        "stored_before_found": bool(record and record["stored"]["before"] and belongs(record, news.get("version"))),
    }


def _record_for(
    files: ReportFiles, record: Record | None, news: Mapping[str, Any], now: str
) -> tuple[Record, str | None]:
    """The record that the news belong to: the one on file, or a new one, beside which the old one is kept."""
    version = news.get("version")
    if record is not None and belongs(record, version):
        return record, None
    label = "unreadable" if record is None else str(record["version"])
    moved = files.put_aside(label, now)
    return new_record(version, now), str(moved) if moved else None
