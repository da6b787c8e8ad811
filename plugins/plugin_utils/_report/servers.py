# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API servers of a check or an audit, as they stood. Pure."""

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.parts import Claim, Table
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import Record
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.words import samples_text


def servers_table(record: Record) -> Table:
    return Table(
        "Each API server that samples of one address found."
        if record["sampling"]
        else "Each API server, asked at its own address.",
        (("API server", ""), ("Node", "name"), ("Release", ""), ("State", "text")),
        [(one["url"], one["name"] or "", _release(one), _state(one)) for one in record["servers"]],
    )


def agreement(record: Record) -> str:
    """A few words for a figure."""
    if record["converged"] is None:
        return ""
    if not record["converged"]:
        return "they do not agree"
    return "they agree, by sampling" if record["sampling"] else "they agree"


def ready_claim(record: Record) -> Claim:
    ready = bool(record["servers"]) and all(one["ready"] for one in record["servers"])
    if ready and record["sampling"]:
        return Claim(None, f"Each API server that samples found is ready: {samples_text(record['sampling'])}.")
    return Claim(ready, "All API servers are ready.")


def agreement_claim(record: Record) -> Claim:
    same = "ll API servers report the same storage version for every resource"
    if record["converged"] and record["sampling"]:
        return Claim(None, f"That a{same} is known by sampling only: {samples_text(record['sampling'])}.")
    return Claim(bool(record["converged"]), f"A{same}.")


def _release(server: Record) -> str:
    version = server["version"] or "unknown"
    return f"{version}, as {server['emulated_version']}" if server["emulated_version"] else version


def _state(server: Record) -> str:
    return "ready" if server["ready"] else server["error"] or "not ready"
