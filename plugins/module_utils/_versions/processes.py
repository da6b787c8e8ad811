# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The processes of the API servers, to notice if one was replaced between two checks. Pure.

A master that was rolled back, wrote, and was upgraded again looks the same as before: same address, version and hashes.
Only its process differs. Two things identify a process:

- ``process_start_time_seconds``, asked at each server's own address (k8s.io/component-base, metrics/processstarttime.go);
- the holder of its identity Lease in kube-system, which is recreated at each start. Before 1.35 a server that finds a Lease
  renews it under the *old* holder's name, so the same holder proves nothing (k8s.io/component-helpers,
  apimachinery/lease/controller.go: since v0.35 Start deletes the old one first).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServerReport
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.identity_leases import IdentityLeases
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.sampling import Sample

_HOLDER_TELLS_FROM = (1, 35)


@dataclass(frozen=True)
class Processes:
    """The API servers' processes at one moment.

    ``started``: when each process started (seconds since the epoch, as the server writes it), by the server's URL.
    ``holders``: the holder of each identity Lease, by host name.
    ``by_start``, ``by_holder``: whether that identifies the process of *every* server that answered.
    ``versions``: each server's release, by URL. ``at``: the time by the servers' clock (RFC 3339); None if unknown.
    """

    started: Mapping[str, str] = field(default_factory=dict)
    holders: Mapping[str, str] = field(default_factory=dict)
    by_start: bool = False
    by_holder: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    at: str | None = None

    @property
    def known(self) -> bool:
        """Whether each server's process is identified."""
        return self.by_start or self.by_holder

    def as_dict(self) -> dict[str, Any]:
        return {
            "started": dict(sorted(self.started.items())),
            "holders": dict(sorted(self.holders.items())),
            "byStart": self.by_start,
            "byHolder": self.by_holder,
            "versions": dict(sorted(self.versions.items())),
            "at": self.at,
        }


def from_dict(document: Mapping[str, Any] | None) -> Processes:
    """The opposite of as_dict; None if nothing is on record."""
    found = document or {}
    return Processes(
        started={str(url): str(start) for url, start in (found.get("started") or {}).items()},
        holders={str(name): str(holder) for name, holder in (found.get("holders") or {}).items()},
        by_start=bool(found.get("byStart")),
        by_holder=bool(found.get("byHolder")),
        versions={str(url): str(version) for url, version in (found.get("versions") or {}).items()},
        at=found.get("at"),
    )


def processes_of(
    reports: Iterable[ServerReport], started: Mapping[str, str | None], leases: IdentityLeases
) -> Processes:
    """From one observation; ``started`` has None for a server whose start is unknown."""
    answered = [report for report in reports if report.version is not None]
    told = {url: start for url, start in started.items() if start is not None}
    return _processes(answered, told, all(report.url in told for report in answered), leases)


def sampled_processes(
    entry: str, samples: Iterable[Sample], reports: Iterable[ServerReport], leases: IdentityLeases
) -> Processes:
    """From samples of the servers behind the address ``entry``."""
    answered = [report for report in reports if report.version is not None]
    identities = {sample.identity for sample in samples if sample.report is None or sample.report.error is None}
    told = {
        f"{entry}#{identity.address or f'started-{identity.started}'}": str(identity.started)
        for identity in identities
        if identity.started is not None
    }
    return _processes(answered, told, bool(told) and len(told) == len(identities), leases)


def _processes(
    answered: Sequence[ServerReport], started: Mapping[str, str], every: bool, leases: IdentityLeases
) -> Processes:
    return Processes(
        started=started,
        holders=dict(leases.holders or {}),
        by_start=bool(answered) and every,
        by_holder=bool(answered)
        and bool(leases.holders)
        and len(leases.alive) >= len(answered)
        and all(_minor(report.version) >= _HOLDER_TELLS_FROM for report in answered),
        versions={report.url: f"{report.version} {report.emulated_version or ''}".strip() for report in answered},
        at=leases.at,
    )


def replaced(before: Processes, now: Processes) -> tuple[str, ...]:
    """Servers whose process is new, or was not known before."""
    by_start = sorted(url for url, start in now.started.items() if before.started and before.started.get(url) != start)
    if by_start:
        return tuple(by_start)
    # A Lease outlives its server, so a missing holder means nothing.
    return tuple(
        sorted(name for name, holder in now.holders.items() if before.holders and before.holders.get(name) != holder)
    )


def other_processes(before: Processes, now: Processes) -> tuple[str, ...]:
    """Servers that certainly have another process now; one that was not identified before is left out."""
    started = sorted(url for url, start in now.started.items() if before.started.get(url, start) != start)
    held = (name for name, holder in now.holders.items() if before.holders.get(name, holder) != holder)
    return tuple(started or sorted(held))


def why_doubt(before: Processes, now: Processes) -> str | None:
    """Why a proof from ``before`` may no longer hold; None if no process was replaced since then."""
    gone = replaced(before, now)
    if gone:
        return f"{restarted(gone)} since the run that did this"
    if not (before.by_start and now.by_start) and not (before.by_holder and now.by_holder):
        return "whether API servers were restarted since the run that did this is unknown"
    return None


def restarted(names: Iterable[str]) -> str:
    """``API server https://10.0.0.11:6443 was restarted``."""
    found = list(names)
    return (
        f"API server{'s' if len(found) > 1 else ''} {', '.join(found)} {'were' if len(found) > 1 else 'was'} restarted"
    )


class Seen:
    """All processes seen since a run began; one that comes back after a network outage is not new."""

    def __init__(self, first: Processes) -> None:
        self._started = set(first.started.items())
        self._holders = set(first.holders.items())
        self.last = first

    def look(self, now: Processes) -> tuple[str, ...]:
        """Servers whose process was never seen before."""
        new = sorted(url for url, start in now.started.items() if self._is_new(url, start))
        if not new:
            new = sorted(
                name for name, holder in now.holders.items() if self._holders and (name, holder) not in self._holders
            )
        self._started |= set(now.started.items())
        self._holders |= set(now.holders.items())
        # A server that doesn't answer now may come back as the process that was seen last.
        self.last = Processes(
            started={**self.last.started, **now.started},
            holders={**self.last.holders, **now.holders},
            by_start=now.by_start,
            by_holder=now.by_holder,
            versions={**self.last.versions, **now.versions},
            at=now.at,
        )
        return tuple(new)

    def _is_new(self, url: str, start: str) -> bool:
        return bool(self._started) and (url, start) not in self._started


def _minor(version: str | None) -> tuple[int, int]:
    """(1, 37) of ``v1.37.2``; (0, 0) if it can't be parsed."""
    parts = (version or "").lstrip("v").split(".")
    try:
        return int(parts[0]), int(parts[1].rstrip("+"))
    except (IndexError, ValueError):
        return 0, 0
