# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which API servers are alive, according to the Leases that each renews in kube-system. Pure.

A Lease is renewed by its server's own clock and compared with the clock of the server that was asked for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.addresses import same_address
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import parse_time

# An API server renews its identity Lease every 10 s (k8s.io/kubernetes, pkg/controlplane/apiserver/server.go).
_LEASE_IS_FRESH = timedelta(seconds=40)
_PEER_ADDRESS = "kubernetes.io/peer-advertise-address"


@dataclass(frozen=True)
class Alive:
    """An API server that renews its identity Lease: its host, its address if known, and the process that holds it.

    ``port``: the port of that address. ``lease``: the name of the Lease.
    """

    name: str
    address: str | None
    process: str
    port: int | None = None
    lease: str = ""


@dataclass(frozen=True)
class Expired:
    """An API server whose identity Lease is no longer fresh, since ``seconds``."""

    server: Alive
    seconds: float


@dataclass(frozen=True)
class IdentityLeases:
    """Who is alive and who holds which Lease at one moment ``at`` (RFC 3339, the servers' clock).

    ``holders`` is None if the Leases could not be listed; ``unread`` says why, in a clause. ``expired``: who no longer
    renews a Lease, the last one first.
    """

    alive: tuple[Alive, ...] = ()
    holders: Mapping[str, str] | None = None
    at: str | None = None
    expired: tuple[Expired, ...] = ()
    unread: str = "the identity Leases in kube-system were not read"


def read_leases(leases: Mapping[str, Any], now: datetime, at: str) -> IdentityLeases:
    """From a LeaseList and the server's time, as a moment and as text."""
    return IdentityLeases(alive(leases, now), holders(leases), at, expired(leases, now))


def alive(leases: Mapping[str, Any], now: datetime) -> tuple[Alive, ...]:
    """The API servers whose Lease is fresh."""
    found = [server for server, age in _by_age(leases, now) if age <= _LEASE_IS_FRESH]
    return tuple(sorted(found, key=lambda server: server.name))


def expired(leases: Mapping[str, Any], now: datetime) -> tuple[Expired, ...]:
    """The API servers whose Lease is not fresh; kube-apiserver deletes it after an hour."""
    found = [
        Expired(server, (age - _LEASE_IS_FRESH).total_seconds())
        for server, age in _by_age(leases, now)
        if age > _LEASE_IS_FRESH
    ]
    return tuple(sorted(found, key=lambda item: item.seconds))


def _by_age(leases: Mapping[str, Any], now: datetime) -> Iterator[tuple[Alive, timedelta]]:
    for lease in leases.get("items") or []:
        spec, metadata = lease.get("spec") or {}, lease.get("metadata") or {}
        renewed = parse_time(spec.get("renewTime"))
        if renewed is None:
            continue
        peer = str((metadata.get("annotations") or {}).get(_PEER_ADDRESS) or "")
        address, _colon, port = peer.rpartition(":")
        server = Alive(
            name=(metadata.get("labels") or {}).get("kubernetes.io/hostname") or metadata.get("name") or "?",
            address=same_address(address) or None,
            process=str(spec.get("holderIdentity") or ""),
            port=int(port) if port.isdigit() else None,
            lease=str(metadata.get("name") or ""),
        )
        yield server, now - renewed


def holders(leases: Mapping[str, Any]) -> dict[str, str]:
    """Who holds each identity Lease, by host name, including servers that no longer renew it."""
    found = {}
    for lease in leases.get("items") or []:
        metadata = lease.get("metadata") or {}
        name = (metadata.get("labels") or {}).get("kubernetes.io/hostname") or metadata.get("name") or "?"
        found[str(name)] = str((lease.get("spec") or {}).get("holderIdentity") or "")
    return found
