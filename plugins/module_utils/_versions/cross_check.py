# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether every API server that is alive was asked, according to the identity Leases. Pure.

Agreement of those that were asked proves nothing about one that nobody asked: it may store objects in an older version.
So each living server must be one that was asked, or one that the user named as an exception. Leases that can't be read,
or that not every server renews, leave that unknown, and then the comparison did not take place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.addresses import same_address
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import duration, some_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServerReport
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.identity_leases import (
    Alive,
    Expired,
    IdentityLeases,
)

# In ignored_servers: all servers that are not asked.
ALL_OTHERS = "*"
_IDENTIFY = "name each server by the address in its Lease, or allow the user to get /metrics/slis, which shows which process answers"
_GRANT = "allow the user to list leases in kube-system (the Role kube-storage-upgrade-cross-check grants that)"


@dataclass(frozen=True)
class Unlisted:
    """A living API server that was not asked with the others.

    ``url``: where it was looked for; None if its Lease has no address, or if nobody looked. ``version``: its release, if it
    answered there; ``error``: why it did not.
    """

    server: Alive
    url: str | None = None
    version: str | None = None
    error: str | None = None

    @property
    def silent(self) -> bool:
        """Whether it seems to have died: its Lease is fresh, but nothing answers at its address."""
        return self.error is not None


@dataclass(frozen=True)
class CrossCheck:
    """What the Leases say about the servers that were asked.

    ``why_not``: why they could not be compared, in a clause; None if they were. ``chosen``: because the user wants that. ``remedy``: what
    to do about it, in a clause.
    ``living``: how many servers are alive. ``unlisted``: those that were not asked. ``expired``: by the URL of a server that
    was asked, since how many seconds its Lease is no longer renewed. ``gone``: other servers whose Lease is no longer renewed.
    """

    why_not: str | None = "the identity Leases in kube-system were not read"
    chosen: bool = False
    living: tuple[Alive, ...] = ()
    unlisted: tuple[Unlisted, ...] = ()
    expired: Mapping[str, float] = field(default_factory=dict)
    gone: tuple[Expired, ...] = ()
    remedy: str = _GRANT

    @property
    def done(self) -> bool:
        return self.why_not is None

    @property
    def settled(self) -> bool:
        """Whether a moment later the Leases will say the same: no server that answers has yet to renew its Lease."""
        return self.done or self.chosen or not self.living

    @property
    def dying(self) -> tuple[Unlisted, ...]:
        """The unlisted servers if all of them seem to have died, which the age of their Leases will soon show."""
        return self.unlisted if all(server.silent for server in self.unlisted) else ()

    def reservation(self) -> str:
        """What is unknown without it, and what to do about that; empty if it was done, or if the user wants none."""
        if self.why_not is None or self.chosen:
            return ""
        return (
            f"Whether other API servers are alive was not cross-checked, because {self.why_not}. Another one may still store "
            f"objects in an older version, so nothing is proven: {self.remedy}, or set accept_unchecked if you know that all were asked."
        )

    def problems(self, asked: int, listed_in: str, otherwise: str = "") -> list[str]:
        """Sentences about living servers that were not asked.

        ``listed_in``: what names the ``asked`` ones. ``otherwise``: a clause on what else to do about it.
        """
        dying = self.dying
        if dying:
            return [_dying_sentence(server, listed_in) for server in dying]
        if not self.unlisted:
            return []
        names = ", ".join(server.name for server in self.living)
        if len(self.living) > asked:
            what = f"{len(self.living)} API servers renew their Leases ({names}), but {listed_in} {asked}"
        else:
            unasked = some_of([unlisted.server.name for unlisted in self.unlisted])
            renew = "renews a Lease, but is" if len(self.unlisted) == 1 else "renew their Leases, but are"
            what = f"{unasked} {renew} not among the {asked} API servers that were asked"
        places = [_place(server) for server in self.unlisted if server.url is not None]
        where = f" ({'; '.join(places)})" if places else ""
        return [
            f"{what}{where}; name them all with the option servers, or those that don't belong to this cluster with "
            f"ignored_servers{otherwise}."
        ]

    def of_asked(self, url: str, remove_from: str) -> str:
        """A sentence about the Lease of a server that was asked and did not answer; empty if there is none."""
        seconds = self.expired.get(url)
        if seconds is None:
            return ""
        return f"Its Lease expired {duration(seconds)} ago; bring it back, or remove it from {remove_from}."

    def of_missing(self) -> str:
        """A sentence about servers that are missing among those that were asked; empty if no Lease names one."""
        if not self.gone:
            return ""
        last = self.gone[0]
        return f"{last.server.name} seems to have died: its Lease expired {duration(last.seconds)} ago."


def compare(
    asked: Sequence[ServerReport],
    leases: IdentityLeases,
    ignored: Collection[str],
    starts: Mapping[str, str | None] = MappingProxyType({}),
) -> CrossCheck:
    """Compares the servers that were asked with those whose Leases are fresh.

    A Lease belongs to a server with its address or name. Where neither is known to match (a server behind another address, or
    a Lease without one before 1.36), numbers decide: there must be no more such Leases than such servers. ``starts``: when the process
    behind each URL started, None if unknown. The same start is the same server at two addresses, or a load balancer, and counts once.
    """
    if leases.holders is None:
        return CrossCheck(leases.unread)
    living = tuple(server for server in leases.alive if not is_ignored(server, ignored))
    claimed, expired = _claims(asked, leases)
    rest = [server for server in living if server not in claimed.values()]
    free = _distinct(
        [report for report in asked if report.url not in claimed and report.url not in expired], claimed, starts
    )
    unlisted = tuple(map(Unlisted, rest)) if len(rest) > len(free) else ()
    known = {*map(_name_and_address, leases.alive), *(_name_and_address(item.server) for item in expired.values())}
    gone = tuple(
        item
        for item in leases.expired
        if not any(_same_host(item.server, *other) for other in known) and not is_ignored(item.server, ignored)
    )
    why_not, remedy, chosen = _why_not(asked, leases.alive, expired), _GRANT, False
    if why_not is None:
        # A single server that was asked is the single one that is alive.
        alone = len(asked) == len(living) == 1
        why_not, remedy = None if alone else _unidentified(free, rest, starts), _IDENTIFY
    if ALL_OTHERS in ignored:
        why_not, chosen, unlisted = _ALL_IGNORED, True, ()
    return CrossCheck(
        why_not,
        chosen,
        living,
        unlisted,
        {url: item.seconds for url, item in expired.items()},
        gone if len(free) <= len(rest) else (),
        remedy,
    )


def compare_sampled(told_apart: int | None, leases: IdentityLeases, ignored: Collection[str]) -> CrossCheck:
    """The same for samples, of which only the number of servers is known; sampling.py compares that."""
    if leases.holders is None:
        return CrossCheck(leases.unread)
    if ALL_OTHERS in ignored:
        return CrossCheck(_ALL_IGNORED, True)
    living = not_ignored(leases.alive, ignored)
    if not living:
        return CrossCheck(_NOBODY)
    if told_apart is not None and len(living) < told_apart:
        return CrossCheck(_only(len(living), told_apart), living=living)
    return CrossCheck(None, living=living)


def not_ignored(servers: Sequence[Alive], ignored: Collection[str]) -> tuple[Alive, ...]:
    """Those that the option ignored_servers does not name."""
    return tuple(server for server in servers if not is_ignored(server, ignored))


def is_ignored(server: Alive, ignored: Collection[str]) -> bool:
    """Whether the option ignored_servers names it: by host, address, URL, Lease or holder."""
    names = {server.name, server.lease, server.process, server.address or "", f"{server.address}:{server.port}"}
    if server.address and ":" in server.address:
        names.add(f"[{server.address}]:{server.port}")
    hosts = {same_address(urlsplit(name).hostname or "") for name in ignored if "://" in name}
    return not (names - {""}).isdisjoint({*ignored, *map(same_address, ignored), *(hosts - {""})})


_ALL_IGNORED = "ignored_servers leaves out all others"
_NOBODY = "no API server renews an identity Lease in kube-system"


def _only(living: int, answered: int) -> str:
    return f"only {living} of the {answered} API servers that answered renew their identity Leases in kube-system"


def _why_not(asked: Sequence[ServerReport], living: Sequence[Alive], expired: Mapping[str, Expired]) -> str | None:
    """Why the Leases may not name every living server: one that answered does without."""
    if not living:
        return _NOBODY
    answered = [report for report in asked if report.version is not None]
    if len(living) < len(answered) or any(report.url in expired for report in answered):
        renew = min(len(living), sum(report.url not in expired for report in answered))
        return _only(renew, len(answered))
    return None


def _distinct(
    free: Sequence[ServerReport], claimed: Collection[str], starts: Mapping[str, str | None]
) -> list[ServerReport]:
    """The free ones, except those that are a process seen before at another address."""
    seen = {starts.get(url) for url in claimed}
    found = []
    for report in free:
        start = starts.get(report.url)
        if start is None or start not in seen:
            found.append(report)
            seen.add(start)
    return found


def _unidentified(free: Sequence[ServerReport], rest: Sequence[Alive], starts: Mapping[str, str | None]) -> str | None:
    """Why numbers may not decide: a living server has another address than all that were asked, which may be a load balancer's."""
    elsewhere = next((server for server in rest if server.address is not None), None)
    unknown = next((report for report in free if report.version is not None and starts.get(report.url) is None), None)
    if elsewhere is None or unknown is None:
        return None
    return f"whether {unknown.url} is {elsewhere.name} at {elsewhere.address} is unknown"


def _claims(asked: Sequence[ServerReport], leases: IdentityLeases) -> tuple[dict[str, Alive], dict[str, Expired]]:
    """The fresh Lease of each server that was asked, by its URL, and the expired ones of those that have no fresh one."""
    claimed: dict[str, Alive] = {}
    for server in leases.alive:
        url = next((report.url for report in asked if report.url not in claimed and _is(server, report)), None)
        if url is not None:
            claimed[url] = server
    expired: dict[str, Expired] = {}
    for item in leases.expired:
        for report in asked:
            if report.url not in claimed and report.url not in expired and _is(item.server, report):
                expired[report.url] = item
                break
    return claimed, expired


def _name_and_address(server: Alive) -> tuple[str, str | None]:
    return server.name, server.address


def _same_host(server: Alive, name: str, address: str | None) -> bool:
    return server.name == name or (address is not None and server.address == address)


def _is(server: Alive, report: ServerReport) -> bool:
    host = urlsplit(report.url).hostname or ""
    return server.name in (report.name, host) or (server.address is not None and server.address == host)


def _place(unlisted: Unlisted) -> str:
    if unlisted.version is None:
        return f"{unlisted.server.name} {'does not answer' if unlisted.silent else 'cannot be asked'} at {unlisted.url}"
    return f"{unlisted.server.name} answers at {unlisted.url}, and is at {unlisted.version}"


def _dying_sentence(unlisted: Unlisted, listed_in: str) -> str:
    subject = listed_in.rpartition(" ")[0]
    return (
        f"{unlisted.server.name} seems to have died: {subject} doesn't name it and {unlisted.url} doesn't answer, but its Lease was "
        "renewed less than 40 s ago."
    )
