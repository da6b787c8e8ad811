# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the page of an upgrade or a migration shows. Pure."""

from __future__ import annotations

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report import words
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.pictures import (
    NARROW,
    WIDE,
    Picture,
    masters_picture,
    parts_text,
    rewritten_picture,
    stored_picture,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import Record
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.story import (
    open_failures,
    resource_rows,
    stored_rows,
    timeline,
    trimmed,
)

_CHARTS = 3


def upgrade_page(record: Record) -> dict[str, Any]:
    """What the template needs."""
    line = timeline(record)
    stored = stored_rows(record, line.changes)
    wrote = [one for one in record["migrations"] if one["totals"].get("rewritten")][-_CHARTS:]
    pictures: dict[str, list[list[Picture]]] = {
        "masters": [[masters_picture(line, width) for width in (WIDE, NARROW)]] if line.masters else [],
        "rewritten": [[rewritten_picture(one, width) for width in (WIDE, NARROW)] for one in wrote],
        "stored": [],
    }
    drawn = [stored_picture(stored, width) for width in (WIDE, NARROW)]
    if all(drawn):
        pictures["stored"].append([one for one in drawn if one is not None])
    return {
        "line": line,
        "heading": words.heading(record, line),
        "figures": words.figures(record, line, stored),
        "to_do": words.to_do(record, line),
        "standing": words.standing(record, line),
        "claims": words.claims(record, line),
        "failures": [{**one, "hint": words.hint(one)} for one in open_failures(record)],
        "resources": resource_rows(record),
        "stored": stored,
        "trimmed": trimmed(record),
        "pictures": pictures,
        "parts_text": parts_text,
    }
