# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every member of an etcd says about its database, by POST /v3/maintenance/status. Reads only.

Alarms are among the errors of a status (go.etcd.io/etcd, server/etcdserver/api/v3rpc/maintenance.go: Status), so that needs no
other request. Every member lists those of all members. The quota is there since 3.6; a negative one switches the limit off.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import EtcdError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd, EtcdClusters, document_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.space import ASSUMED, TOLD, Member

_ALARM = re.compile(r"\balarm:(\w+)")
_RAISED_BY = re.compile(r"\bmemberID:(\d+)")


@dataclass(frozen=True)
class Statuses:
    """``members``: those that answered. ``silent``: the addresses of those that didn't."""

    members: tuple[Member, ...] = ()
    silent: tuple[str, ...] = ()


@dataclass
class Maintenance:
    """All members of one etcd, also those that the endpoints leave out, as ``etcdctl endpoint status --cluster`` finds them."""

    etcd: Etcd
    _addresses: tuple[str, ...] = field(default=(), init=False)

    async def statuses(self) -> Statuses:
        """Of every member, each asked separately. Raises EtcdError if the user may not ask, or if none answers."""
        if not self._addresses:
            self._addresses = self.etcd.endpoints
            found = await self._ask()
            self._addresses = (*self._addresses, *await self._others({who for who, _member in found.values()}))
            if self._addresses == self.etcd.endpoints:
                return self._told(found)
        return self._told(await self._ask())

    async def _ask(self) -> dict[str, tuple[str, Member]]:
        """By address, the member's id and what it says."""
        answers = await self.etcd.ask_each("/v3/maintenance/status", self._addresses)
        if not any(isinstance(answer, bytes) for answer in answers.values()):
            raise next(answer for answer in answers.values() if isinstance(answer, EtcdError))
        found = {}
        for address, answer in answers.items():
            if isinstance(answer, bytes):
                document = document_of(answer)
                found[address] = (str((document.get("header") or {}).get("member_id")), member_of(address, document))
        return found

    async def _others(self, known: set[str]) -> list[str]:
        """A client URL of each member that did not answer at one of the endpoints; none if etcd doesn't list its members."""
        try:
            document = document_of(await self.etcd.ask("/v3/cluster/member/list", {}))
        except EtcdError:
            return []
        others = []
        for member in document.get("members") or ():
            urls = [str(url).rstrip("/") for url in member.get("clientURLs") or ()]
            if str(member.get("ID")) not in known and urls and not set(urls) & set(self._addresses):
                others.append(urls[0])
        return others

    def _told(self, found: Mapping[str, tuple[str, Member]]) -> Statuses:
        # Two endpoints may lead to the same member.
        members = dict(found.values())
        return Statuses(tuple(members.values()), tuple(url for url in self._addresses if url not in found))


def alarms_in(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """(name, id of the member that raised it) of each alarm in the answer to a status request, whichever member answered. Pure."""
    found = set()
    for error in document.get("errors") or ():
        alarm, member = _ALARM.search(str(error)), _RAISED_BY.search(str(error))
        if alarm is not None:
            found.add((alarm[1], member[1] if member is not None else ""))
    return tuple(sorted(found))


def member_of(address: str, document: Mapping[str, Any]) -> Member:
    """From the answer to a status request; numbers of 64 bits are texts, and zeros are left out. Pure.

    kine, which is no member and so has no id, has no quota either.
    """
    quota = int(document.get("dbSizeQuota") or 0)
    header = document.get("header")
    is_kine = header is not None and not header.get("member_id")
    in_use = document.get("dbSizeInUse")
    return Member(
        where=address,
        size=int(document.get("dbSize") or 0),
        in_use=None if in_use is None else int(in_use),
        quota=quota if quota > 0 else None,
        quota_from=TOLD if quota or is_kine else ASSUMED,
        alarms=alarms_in(document),
        id=str((header or {}).get("member_id") or ""),
    )


@dataclass
class AllMaintenance:
    """The members of every etcd that keeps some resources. By the first endpoint of each, as ``name_of`` gives it."""

    etcds: list[Maintenance]

    @classmethod
    def of(cls, clusters: EtcdClusters, resources: Iterable[str]) -> AllMaintenance:
        return cls([Maintenance(etcd) for etcd, _names in clusters.split(sorted(resources))])

    async def statuses(self) -> dict[str, Statuses]:
        """Raises EtcdError if the user may not ask one of them, or if none of its members answers."""
        answers = await asyncio.gather(*(cluster.statuses() for cluster in self.etcds))
        return {name_of(cluster.etcd): answer for cluster, answer in zip(self.etcds, answers)}

    async def members(self) -> dict[str, Sequence[Member]]:
        """The same, just the members that answered."""
        return {name: found.members for name, found in (await self.statuses()).items()}


def name_of(etcd: Etcd) -> str:
    """What identifies one of several etcd clusters in the option ``etcd``."""
    return etcd.endpoints[0]
