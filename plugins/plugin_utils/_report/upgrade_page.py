# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of an upgrade's or a migration's page. Pure."""

from __future__ import annotations

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report import sentences
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.charts import (
    NARROW,
    WIDE,
    Chart,
    masters_chart,
    parts_text,
    rewritten_chart,
    stored_chart,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import Record
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.timeline import (
    StoredRow,
    Timeline,
    open_failures,
    resource_rows,
    stored_rows,
    timeline,
    trimmed,
)

_CHARTS = 3
_WIDTHS = (WIDE, NARROW)


def upgrade_page(record: Record) -> dict[str, Any]:
    """The template's variables."""
    line = timeline(record)
    stored = stored_rows(record, line.changes)
    claims = sentences.claims(record, line)
    return {
        "line": line,
        "heading": sentences.heading(record, line, claims),
        "figures": sentences.figures(record, line, stored),
        "to_do": sentences.to_do(record, line),
        "standing": sentences.standing(record, line),
        "claims": claims,
        "failures": open_failures(record),
        "resources": resource_rows(record),
        "stored": stored,
        "trimmed": trimmed(record),
        "charts": _charts(record, line, stored),
        "parts_text": parts_text,
    }


def _charts(record: Record, line: Timeline, stored: list[StoredRow]) -> dict[str, list[list[Chart]]]:
    """By section, each as wide and as narrow chart."""
    wrote = [migration for migration in record.migrations if migration.totals.get("rewritten")][-_CHARTS:]
    drawn = [chart for chart in (stored_chart(stored, width) for width in _WIDTHS) if chart is not None]
    return {
        "masters": [[masters_chart(line, width) for width in _WIDTHS]] if line.masters else [],
        "rewritten": [[rewritten_chart(migration, width) for width in _WIDTHS] for migration in wrote],
        "stored": [drawn] if drawn else [],
    }
