# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One thing that speaks against an upgrade. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_NAMED = 5


@dataclass(frozen=True)
class Finding:
    """``check`` and ``resource`` make its id, by which a playbook can ignore it; ``keys`` are in etcd."""

    check: str
    resource: str
    what: str
    why: str
    mend: str
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
            "mend": self.mend,
            "etcd_keys": list(self.keys),
        }


@dataclass
class Findings:
    """All that the checks say; ``unknown`` are sentences about what could not be checked, and why."""

    found: list[Finding] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def blockers(self) -> list[Finding]:
        return _in_order(one for one in self.found if one.blocks)

    @property
    def warnings(self) -> list[Finding]:
        return _in_order(one for one in self.found if not one.blocks)


def _in_order(found: Any) -> list[Finding]:
    return sorted(dict.fromkeys(found), key=lambda one: (one.check, one.resource, one.what))


def count(number: int, noun: str) -> str:
    """``1 object``, ``3 objects``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], most: int = _NAMED) -> str:
    """``a, b and 3 more``."""
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
