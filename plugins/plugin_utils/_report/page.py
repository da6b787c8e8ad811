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
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.audit_page import audit_page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.check_page import check_page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import ROTATION, UPGRADE, Record
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.rotation_page import rotation_page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.snapshot import AUDIT, CHECK
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.story import (
    clock,
    duration,
    number,
    seconds,
    things,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.upgrade_page import upgrade_page
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

_PAGES: dict[str, Callable[[Record], dict[str, Any]]] = {
    UPGRADE: upgrade_page,
    ROTATION: rotation_page,
    CHECK: check_page,
    AUDIT: audit_page,
}


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
