# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who the members of an etcd are, what each says about itself, and whether all of them hold the same. Reads only.

By POST /v3/cluster/member/list, /v3/maintenance/status and /v3/maintenance/hashkv.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import EtcdError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd, document_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.maintenance import alarms_in
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.space import id_text

_STATUS, _LIST, _HASH = "/v3/maintenance/status", "/v3/cluster/member/list", "/v3/maintenance/hashkv"
# A member may compact between two answers; then the hashes cover different revisions, and are asked for again.
_HASH_ROUNDS = 3
_HASH_PAUSE = 0.5


@dataclass(frozen=True)
class MemberState:
    """What one member says about itself. ``id`` and ``leader`` are decimal texts; ``leader`` is None if it knows none.

    ``alarms``: those of all members, each with the id of the member that raised it.
    """

    address: str
    id: str
    cluster: str
    version: str
    leader: str | None
    learner: bool
    alarms: tuple[tuple[str, str], ...]
    revision: int
    db_size: int

    @property
    def leads(self) -> bool:
        return self.leader == self.id

    @property
    def cluster_id(self) -> str:
        """The id of its cluster as etcdctl shows it."""
        return f"{int(self.cluster or 0):x}"


@dataclass(frozen=True)
class Listed:
    """A member as the others list it."""

    id: str
    name: str
    addresses: tuple[str, ...]
    learner: bool

    @property
    def text(self) -> str:
        """For a sentence."""
        where = self.addresses[0] if self.addresses else ""
        return f"{self.name} ({where})" if self.name and where else self.name or where or self.id


@dataclass(frozen=True)
class Membership:
    """``states``: of the members that answered. ``silent``: endpoints without an answer, and the error of each.

    ``listed``: all members; empty if etcd does not list them.
    """

    states: tuple[MemberState, ...]
    silent: Mapping[str, str] = field(default_factory=dict)
    listed: tuple[Listed, ...] = ()

    @property
    def is_kine(self) -> bool:
        """Whether it is kine, which lists itself as the only member, without an id, and knows no leader, alarm or hash."""
        return any(member.name == "kine" and not member.id for member in self.listed)

    def text_of(self, member: str) -> str:
        """One of the members, by its decimal id, for a sentence."""
        known = {state.id: state.address for state in self.states} | {listed.id: listed.text for listed in self.listed}
        return known.get(member) or id_text(member)

    @property
    def down(self) -> list[str]:
        """The members that exist and did not answer, and the endpoints at which nobody answered, for a sentence."""
        answered = {state.id for state in self.states}
        missing = [member for member in self.listed if member.id not in answered]
        known = {address for member in self.listed for address in member.addresses}
        return [member.text for member in missing] + [url for url in self.silent if url not in known]


@dataclass(frozen=True)
class Hashes:
    """Hashes of all keys and values at one revision, by address; ``compacted``: what each had compacted up to."""

    revision: int
    by_address: Mapping[str, int]
    compacted: Mapping[str, int]

    @property
    def comparable(self) -> bool:
        return len(set(self.compacted.values())) <= 1

    @property
    def differ(self) -> bool:
        return len(set(self.by_address.values())) > 1


def state_of(address: str, document: Mapping[str, Any]) -> MemberState:
    """From the answer to a status request, in which zeros and ``false`` are left out. Pure."""
    header = document.get("header") or {}
    leader = str(document.get("leader") or "0")
    return MemberState(
        address,
        str(header.get("member_id") or ""),
        str(header.get("cluster_id") or ""),
        str(document.get("version") or ""),
        None if leader == "0" else leader,
        document.get("isLearner") is True,
        alarms_in(document),
        int(header.get("revision") or 0),
        int(document.get("dbSize") or 0),
    )


def listed_in(document: Mapping[str, Any]) -> tuple[Listed, ...]:
    """From the answer to a request for the members. Pure."""
    return tuple(
        Listed(
            str(member.get("ID") or ""),
            str(member.get("name") or ""),
            tuple(str(url).rstrip("/") for url in member.get("clientURLs") or ()),
            member.get("isLearner") is True,
        )
        for member in document.get("members") or ()
    )


async def membership(etcd: Etcd) -> Membership:
    """Asks every endpoint, and each member that the endpoints leave out at an address that it advertises.

    Raises EtcdError if the user may not ask, or if nobody answers.
    """
    found, silent = await _states(etcd, etcd.endpoints)
    if not found:
        raise EtcdError(next(iter(silent.values())))
    try:
        listed = listed_in(document_of(await etcd.ask(_LIST, {})))
    except EtcdError:
        listed = ()
    asked = set(etcd.endpoints)
    answered = {state.id for state in found}
    others = [
        member.addresses[0]
        for member in listed
        if member.id not in answered and member.addresses and not asked & set(member.addresses)
    ]
    if others:
        more, still_silent = await _states(etcd, others)
        found += more
        silent.update(still_silent)
    # Two endpoints may lead to the same member.
    return Membership(tuple({state.id: state for state in reversed(found)}.values())[::-1], silent, listed)


async def _states(etcd: Etcd, addresses: Sequence[str]) -> tuple[list[MemberState], dict[str, str]]:
    answers = await etcd.ask_each(_STATUS, addresses)
    found, silent = [], {}
    for address, answer in answers.items():
        if isinstance(answer, bytes):
            found.append(state_of(address, document_of(answer)))
        else:
            silent[address] = answer.message
    return found, silent


async def hashes(etcd: Etcd, members: Sequence[MemberState]) -> Hashes:
    """The hash of each member at one revision that all of them have. Raises EtcdError if one can't say it.

    Learners and others that lag are asked only for what they have.
    """
    found = Hashes(0, {}, {})
    for attempt in range(_HASH_ROUNDS):
        if attempt:
            await asyncio.sleep(_HASH_PAUSE)
            still_there, silent = await _states(etcd, [member.address for member in members])
            if silent:
                raise EtcdError(next(iter(silent.values())))
            members = still_there
        revision = min(member.revision for member in members)
        answers = await asyncio.gather(
            *(etcd.ask_member(member.address, _HASH, {"revision": str(revision)}) for member in members)
        )
        documents = {member.address: document_of(answer) for member, answer in zip(members, answers)}
        found = Hashes(
            revision,
            {address: int(document.get("hash") or 0) for address, document in documents.items()},
            {address: int(document.get("compact_revision") or 0) for address, document in documents.items()},
        )
        if found.comparable:
            break
    return found
