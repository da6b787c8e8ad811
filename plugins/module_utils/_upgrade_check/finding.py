# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One problem with an upgrade. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

_NAMED = 5

# The name of every check. Users see them, and playbooks ignore findings by them, so the module's RETURN lists the same.
Check = Literal[
    "undecodable",
    "rollback",
    "downgrade",
    "compatibility",
    "list_fails",
    "servers_differ",
    "encryption_file",
    "unfinished_migration",
    "outstanding_migration",
    "webhook",
    "write_refused",
    "missing_namespace",
    "dropped_fields",
    "managers_of_dropped_version",
    "managers_of_older_version",
    "crd_terminating",
    "crd_refused",
    "crd_drops_storage_version",
    "crd_drops_stored_version",
    "crd_drops_fields",
    "crd_drops_managed_version",
    "crd_stops_serving",
    "crd_conversion",
    "skipped_minors",
    "impossible_release",
    "etcd_space",
    "etcd_member_down",
    "etcd_no_leader",
    "etcd_learner",
    "etcd_versions_differ",
    "etcd_before_3_6",
    "etcd_hashes_differ",
    "feature_gate",
    "component_flag",
    "deprecated_api",
    "last_applied",
    "peer_proxy",
]


@dataclass(frozen=True)
class Finding:
    """``check`` and ``resource`` make its ID, by which a playbook can ignore it; ``keys`` are in etcd."""

    check: Check
    resource: str
    what: str
    why: str
    remediation: str
    blocks: bool = True
    keys: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.check}/{self.resource}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "check": self.check,
            "resource": self.resource,
            "what": self.what,
            "why": self.why,
            "remediation": self.remediation,
            "etcd_keys": list(self.keys),
        }


@dataclass
class Findings:
    """The results of all checks; ``unknown`` are sentences about what could not be checked, and why.

    ``to_trim``: the CRDs whose status.storedVersions name more than the storage version.
    """

    found: list[Finding] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    to_trim: list[str] = field(default_factory=list)

    def take(self, found: Iterable[Finding | None], unknown: Iterable[str] = ()) -> None:
        """Adds the result of one check; None means nothing."""
        self.found += [finding for finding in found if finding is not None]
        self.unknown += unknown

    def add(self, other: Findings) -> None:
        self.take(other.found, other.unknown)
        self.to_trim += other.to_trim

    @property
    def blockers(self) -> list[Finding]:
        return _in_order(finding for finding in self.found if finding.blocks)

    @property
    def warnings(self) -> list[Finding]:
        return _in_order(finding for finding in self.found if not finding.blocks)


def _in_order(found: Iterable[Finding]) -> list[Finding]:
    return sorted(dict.fromkeys(found), key=lambda finding: (finding.check, finding.resource, finding.what))


def count(number: int, noun: str) -> str:
    """``1 object``, ``3 objects``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], most: int = _NAMED) -> str:
    """``a, b and 3 more``."""
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
