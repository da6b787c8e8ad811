# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a fleet, as in fleet.json: a row for each cluster, from the newest report about it. Pure.

Times are in UTC, as in the reports. What is not known is None, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.json_data import (
    UnreadableDataError,
    from_json,
)

FORMAT = 1
FLEET = "fleet"
AUDIT, CHECK, MIGRATE = "audit", "check", "migrate"
RUNNING, STOPPED, FINISHED = "running", "stopped", "finished"


class Severity(Enum):
    """How bad a cluster's state is; the worst last. A cluster that nobody reached is worse than any that somebody looked at."""

    FINE = "fine"
    CONCERN = "concern"
    STALE = "stale"
    DISAGREEMENT = "disagreement"
    BLOCKER = "blocker"
    FAILURE = "failure"
    NOT_REACHED = "not_reached"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


@dataclass
class FleetServer:
    """An API server; ``release`` is what it runs as."""

    name: str
    release: str | None
    ready: bool


@dataclass
class KeyInUse:
    """An encryption key under which there are objects; ``seen`` is when the fleet's record first had it."""

    provider: str
    key: str | None
    objects: int
    seen: str


@dataclass
class EtcdUse:
    """How full an etcd is, in bytes; ``quota`` is None if etcd doesn't report it."""

    endpoint: str | None
    size: int
    in_use: int | None
    quota: int | None

    @property
    def share(self) -> float | None:
        """Of its quota, by the size of the file, which is what etcd compares."""
        return self.size / self.quota if self.quota else None


@dataclass
class ClusterRow:
    """One cluster, by its name in the inventory.

    ``state`` is the name of a Severity, or ``not_begun`` if no report of this run is about it yet. ``why``: sentences.
    ``observed``: when it was last looked at. ``pages``: its own reports by kind, relative to the fleet's page.
    ``stale_resources``: stale objects by resource. ``oldest``: the oldest version that is stored, with its resource.
    """

    host: str
    state: str
    name: str | None = None
    uid: str | None = None
    wave: str | None = None
    why: list[str] = field(default_factory=list)
    observed: str | None = None
    pages: dict[str, str] = field(default_factory=dict)
    servers: list[FleetServer] = field(default_factory=list)
    agree: bool | None = None
    objects: int | None = None
    stale: int | None = None
    unprovable: int | None = None
    stale_resources: dict[str, int] = field(default_factory=dict)
    oldest: str | None = None
    target: str | None = None
    blockers: int | None = None
    concerns: int | None = None
    safe_up_to: str | None = None
    untrimmed: list[str] | None = None
    keys: list[KeyInUse] = field(default_factory=list)
    plain_secrets: int | None = None
    etcd: list[EtcdUse] = field(default_factory=list)
    migrated: str | None = None
    snapshot: str | None = None

    @property
    def title(self) -> str:
        return self.name or self.host

    @property
    def releases(self) -> list[str]:
        """Each release once, the API servers' order kept."""
        return list(dict.fromkeys(server.release or "unknown" for server in self.servers))

    @property
    def etcd_share(self) -> float | None:
        """Of the fullest of its etcds."""
        return max((use.share for use in self.etcd if use.share is not None), default=None)


NOT_BEGUN = "not_begun"


@dataclass
class FleetWave:
    """``finished`` is None until all of its clusters had their turn."""

    name: str
    clusters: list[str] = field(default_factory=list)
    finished: str | None = None


@dataclass(kw_only=True)
class UnfinishedRun:
    """A run that another one can resume; ``clusters``: those that no later run has taken over."""

    run: str
    purpose: str
    version: str | None = None
    started: str
    updated: str
    clusters: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class FleetRecord:
    """One run over a fleet. ``run`` identifies it; ``status`` is running, stopped (``stopped`` says why) or finished.

    ``unfinished``: this run, if it has not finished, and others whose folder it is, too, such as those of other slices.
    """

    format: int = FORMAT
    kind: str = FLEET
    run: str
    purpose: str = AUDIT
    version: str | None = None
    status: str = RUNNING
    stopped: str | None = None
    started: str
    updated: str
    waves: list[FleetWave] = field(default_factory=list)
    clusters: list[ClusterRow] = field(default_factory=list)
    unfinished: list[UnfinishedRun] = field(default_factory=list)

    def row(self, host: str) -> ClusterRow | None:
        return next((row for row in self.clusters if row.host == host), None)

    def rows_in(self, state: str) -> list[ClusterRow]:
        return [row for row in self.clusters if row.state == state]

    @property
    def hosts(self) -> list[str]:
        """The clusters of this run, in their order."""
        return [host for wave in self.waves for host in wave.clusters]


def read_fleet(found: Any) -> FleetRecord:
    """The record in a JSON text. Raises UnreadableDataError if it doesn't have this format."""
    if not isinstance(found, dict) or found.get("format") != FORMAT or found.get("kind") != FLEET:
        raise UnreadableDataError("not a fleet's record of this format")
    return from_json(FleetRecord, found)
