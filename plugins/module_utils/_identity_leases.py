# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which API servers are alive, told by the Leases that each of them renews in kube-system. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

# An API server renews its identity Lease every 10 s (k8s.io/kubernetes, pkg/controlplane/apiserver/server.go).
_LEASE_IS_FRESH = timedelta(seconds=40)
_PEER_ADDRESS = "kubernetes.io/peer-advertise-address"


@dataclass(frozen=True)
class Alive:
    """An API server that renews its identity Lease: its host, its address if told, and the process that holds it."""

    name: str
    address: str | None
    process: str


def alive(leases: Mapping[str, Any], now: datetime) -> tuple[Alive, ...]:
    """The API servers that renewed their Lease of late."""
    found = []
    for lease in leases.get("items") or []:
        spec, metadata = lease.get("spec") or {}, lease.get("metadata") or {}
        renewed = parse_time(spec.get("renewTime"))
        if renewed is not None and now - renewed <= _LEASE_IS_FRESH:
            peer = str((metadata.get("annotations") or {}).get(_PEER_ADDRESS) or "")
            found.append(
                Alive(
                    name=(metadata.get("labels") or {}).get("kubernetes.io/hostname") or metadata.get("name") or "?",
                    address=peer.rpartition(":")[0].strip("[]") or None,
                    process=str(spec.get("holderIdentity") or ""),
                )
            )
    return tuple(sorted(found, key=lambda one: one.name))


def parse_time(text: str | None) -> datetime | None:
    """A metav1.Time or MicroTime."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
