# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A record as one HTML page that needs nothing else: no network, no script. Pure, but for reading its template."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import short_version
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report import words
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.audit_page import audit_page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.check_page import check_page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.pictures import (
    NARROW,
    WIDE,
    Picture,
    masters_picture,
    parts_text,
    rewritten_picture,
    stored_picture,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import ROTATION, UPGRADE, Record
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.rotation_page import rotation_page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.snapshot import AUDIT, CHECK
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.story import (
    clock,
    duration,
    number,
    open_failures,
    resource_rows,
    seconds,
    stored_rows,
    things,
    timeline,
    trimmed,
)
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

_CHARTS = 3


def breakable(name: str) -> Markup:
    """A name that may be broken behind its dots and slashes."""
    return Markup(re.sub(r"([./])", r"\1<wbr>", str(escape(name))))


def page(record: Record, json_name: str) -> str:
    """The page of whatever kind the record is."""
    kind = record.get("kind", UPGRADE)
    # Everything that was read or reported is text to the page, whatever characters it has.
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader(Path(__file__).parent),
    )
    environment.filters.update(clock=clock, duration=duration, number=number, things=things, breakable=breakable)
    environment.globals.update(seconds=seconds, short_version=short_version)
    shown = {"standing": [], **_PAGES[kind](record)}
    return environment.get_template(f"{kind}.html.j2").render(record=record, json_name=json_name, **shown)


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


_PAGES: dict[str, Callable[[Record], dict[str, Any]]] = {
    UPGRADE: upgrade_page,
    ROTATION: rotation_page,
    CHECK: check_page,
    AUDIT: audit_page,
}
