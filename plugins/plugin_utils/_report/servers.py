# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API servers of a check or an audit, as observed. Pure."""

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.components import (
    Figure,
    ProofClaim,
    Table,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import SeenServer, Snapshot
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.sentences import (
    not_cross_checked,
    samples_text,
)


def servers_table(record: Snapshot) -> Table:
    return Table(
        "Each API server that samples of one address found."
        if record.sampling
        else "Each API server, asked at its own address.",
        (("API server", ""), ("Node", "name"), ("Release", ""), ("State", "text")),
        [(server.url, server.name or "", _release(server), _state(server)) for server in record.servers],
    )


def agreement(record: Snapshot) -> str:
    """A few words for a figure."""
    if record.converged is None:
        return ""
    if not record.converged:
        return "they do not agree"
    if record.sampling:
        return "they agree, by sampling"
    return "they agree, not cross-checked" if record.unchecked else "they agree"


def ready_count(record: Snapshot) -> Figure:
    """How many are ready; unknown if none was asked."""
    ready = sum(server.ready for server in record.servers)
    return Figure(
        "API servers ready",
        f"{ready} of {len(record.servers)}" if record.servers else "unknown",
        agreement(record) if record.servers else "none was asked",
    )


def ready_claim(record: Snapshot) -> ProofClaim:
    if not record.servers:
        return ProofClaim(None, "That all API servers are ready: none was asked.")
    ready = all(server.ready for server in record.servers)
    if ready and record.sampling:
        return ProofClaim(None, f"Each API server that samples found is ready: {samples_text(record.sampling)}.")
    return ProofClaim(ready, "All API servers are ready.")


def agreement_claim(record: Snapshot) -> ProofClaim:
    same = "ll API servers report the same storage version for every resource"
    if record.converged and record.sampling:
        return ProofClaim(None, f"That a{same} is known by sampling only: {samples_text(record.sampling)}.")
    if record.converged and record.unchecked:
        return ProofClaim(None, f"A{same}. {not_cross_checked(record.unchecked)}")
    if record.converged is None:
        return ProofClaim(None, f"That a{same}: they were not asked.")
    return ProofClaim(record.converged, f"A{same}.")


def _release(server: SeenServer) -> str:
    version = server.version or "unknown"
    return f"{version}, as {server.emulated_version}" if server.emulated_version else version


def _state(server: SeenServer) -> str:
    return "ready" if server.ready else server.error or "not ready"
