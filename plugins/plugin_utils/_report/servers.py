# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API servers of a check or an audit, as they stood. Pure."""

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import Record
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.table import Table


def servers_table(record: Record) -> Table:
    return Table(
        "Each API server, asked at its own address.",
        (("API server", ""), ("Node", "name"), ("Release", ""), ("State", "text")),
        [(one["url"], one["name"] or "", _release(one), _state(one)) for one in record["servers"]],
    )


def agreement(record: Record) -> str:
    """A few words for a figure."""
    if record["converged"] is None:
        return ""
    return "they agree" if record["converged"] else "they do not agree"


def _release(server: Record) -> str:
    version = server["version"] or "unknown"
    return f"{version}, as {server['emulated_version']}" if server["emulated_version"] else version


def _state(server: Record) -> str:
    return "ready" if server["ready"] else server["error"] or "not ready"
