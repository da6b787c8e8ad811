# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A record as one self-contained HTML page: no network, no script. Pure, except for reading its template."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import epoch_seconds
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import short_version
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.audit_page import audit_page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.check_page import check_page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.components import unless_contradicted
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.findings import command, headline
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import (
    AUDIT,
    CHECK,
    ROTATION,
    UPGRADE,
    AnyRecord,
    Record,
    Snapshot,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.rotation_page import rotation_page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.sentences import hint
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.upgrade_page import upgrade_page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.wording import (
    clock,
    number,
    things,
    time_taken,
)
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

_OF_RECORD: dict[str, Callable[[Record], dict[str, Any]]] = {UPGRADE: upgrade_page, ROTATION: rotation_page}
_OF_SNAPSHOT: dict[str, Callable[[Snapshot], dict[str, Any]]] = {CHECK: check_page, AUDIT: audit_page}


def breakable(name: str) -> Markup:
    """A name that may wrap after its dots and slashes."""
    return Markup(re.sub(r"([./])", r"\1<wbr>", str(escape(name))))


def render(template: str, **shown: Any) -> str:
    """A page from its template and the template's variables."""
    # The page treats everything that was read or reported as text, whatever characters it has.
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader(Path(__file__).parent),
    )
    environment.filters.update(
        clock=clock,
        duration=time_taken,
        number=number,
        things=things,
        breakable=breakable,
        hint=hint,
        headline=headline,
        command=command,
    )
    environment.globals.update(epoch_seconds=epoch_seconds, short_version=short_version)
    return environment.get_template(template).render(**shown)


def page(record: AnyRecord, json_name: str) -> str:
    """The page for the record's kind."""
    made = _OF_RECORD[record.kind](record) if isinstance(record, Record) else _OF_SNAPSHOT[record.kind](record)
    shown = {"standing": [], **made}
    shown["heading"] = unless_contradicted(shown["heading"], shown["claims"])
    return render(f"{record.kind}.html.j2", record=record, json_name=json_name, **shown)
