# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether etcd has room for what is to be written, and when writes must wait. Pure: the time is an argument, sizes are bytes.

How etcd counts (go.etcd.io/etcd, server/storage/quota.go and backend/backend.go): it refuses every write, and raises the
alarm NOSPACE, once the size of the database file and the write together reach the quota. Each rewrite adds a revision, and
the old one keeps its pages until the API servers compact etcd's history. Compaction frees pages inside the file, which later
writes use; only a defragmentation makes the file smaller. Compaction itself first needs room: it removes up to 1000 revisions
in one transaction (--compaction-batch-limit), copies what stays of each page that it touches, and only then frees the old
pages. Measured with etcd 3.7 and values of 75 kB, the file grew by a tenth of what was removed where all of a page was, and by
1.1 times as much where every other value was; with values of 2 kB it hardly grew.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

# etcd's own default (server/storage/quota.go: DefaultQuotaBytes).
DEFAULT_QUOTA = 2 << 30
NOSPACE = "NOSPACE"
# Where a quota is known from.
TOLD, GIVEN, ASSUMED = "etcd", "option", "default"
# The share of the quota that a migration leaves free; how much more at most for writes in flight; and the share that the file
# always leaves.
_RESERVED = 20
_IN_FLIGHT = 16
_FILE_LEAVES = 80
# A new revision also takes room for its key, and pages that are not full; removing the old one may need as much again.
_OVERHEAD = 1.25
_TO_COMPACT = 1.2
# Faster than etcd was ever seen to write, so that the first look is early enough.
_FASTEST = 50e6
_SOONEST, _LATEST = 0.1, 10.0
# However little is left, a look allows writes for this long, or nothing would ever be decided by what they do.
_LEAST_ALLOWANCE = 0.05
_WHILE_HELD = 0.5
# Writes that began before a look end after it.
_AHEAD_SECONDS = 0.3
_COMPACTION_MINUTES = 5
# What is written in two intervals of compaction may still be there; a third is a margin.
_HISTORY_SECONDS = 900.0
_BUCKET_SECONDS = 10.0


@dataclass(frozen=True)
class Member:
    """The database of one member.

    ``where``: its address. ``size``: of the file. ``in_use``: how much of that is used; None if unknown.
    ``quota``: None if it has none, or if it isn't known. ``quota_from``: ``etcd``, ``option`` or ``default``.
    ``alarms``: those of all members, such as NOSPACE, each with the id of the member that raised it. ``id``: its own one; "" if unknown.
    """

    where: str
    size: int
    in_use: int | None = None
    quota: int | None = None
    quota_from: str = ASSUMED
    alarms: tuple[tuple[str, str], ...] = ()
    id: str = ""

    @property
    def used(self) -> int:
        """Without knowing better, all of the file."""
        return self.size if self.in_use is None else self.in_use

    @property
    def room(self) -> int:
        """What can be written before the quota is reached, if freed pages are used."""
        return (self.quota or 0) - self.used

    @property
    def reserve(self) -> int:
        """What a migration leaves free for everybody else."""
        return (self.quota or 0) // _RESERVED

    @property
    def may_grow(self) -> int:
        """How much the file may grow until freed pages inside it no longer protect anybody, as not each write fits into them."""
        return (self.quota or 0) - self.size - (self.quota or 0) // _FILE_LEAVES

    @property
    def must_be_defragmented(self) -> bool:
        """Whether the file is too close to the quota."""
        return self.quota is not None and self.may_grow <= 0

    @property
    def reclaimable(self) -> int | None:
        """What a defragmentation would free; None if unknown."""
        return None if self.in_use is None else max(0, self.size - self.in_use)

    def with_quota(self, given: int | None) -> Member:
        """With the quota that etcd told, else the one that the user gave, else etcd's default.

        A file larger than the default shows that the default is not the quota.
        """
        if self.quota_from == TOLD:
            return self
        if given is not None:
            return replace(self, quota=given, quota_from=GIVEN)
        return replace(self, quota=DEFAULT_QUOTA if self.size < DEFAULT_QUOTA else None, quota_from=ASSUMED)

    def text(self) -> str:
        """Its figures, for a sentence."""
        used = "" if self.in_use is None else f", {size_text(self.in_use)} of it in use"
        quota = "no known quota" if self.quota is None else f"a quota of {size_text(self.quota)}"
        assumed = " (etcd's default; etcd_quota changes it)" if self.quota and self.quota_from == ASSUMED else ""
        return f"{self.where} has a database of {size_text(self.size)}{used}, and {quota}{assumed}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "member": self.where,
            "size": self.size,
            "in_use": self.in_use,
            "quota": self.quota,
            "quota_from": self.quota_from if self.quota is not None else None,
            "defragmentation_frees": self.reclaimable,
            "alarms": sorted({alarm for alarm, _raised_by in self.alarms}),
        }


def size_text(size: int) -> str:
    """``512 KiB``, ``47.3 MiB``, ``1.9 GiB``"""
    for unit, power in (("GiB", 30), ("MiB", 20)):
        if size >= 1 << power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size / 1024:.0f} KiB"


@dataclass(frozen=True)
class Amount:
    """What a migration has to do with one etcd, in bytes of values.

    ``to_write``: what is known to be stale. ``at_most``: what may be stale; None if unknown, when it may be all that is stored.
    ``live``: all values known to be stored, so that no compaction frees them; None if unknown.
    """

    to_write: int = 0
    at_most: int | None = None
    live: int | None = None


class Fit(Enum):
    """Whether what is to be rewritten fits into etcd."""

    FITS = "fits"
    PACED = "needs pacing"
    NEVER = "can't fit"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Outlook:
    """``why``: a sentence with the figures; ``remedy``: what to do. Both are empty if it fits."""

    fit: Fit
    why: str = ""
    remedy: str = ""


_FIT = Outlook(Fit.FITS)
_DEFRAGMENT = (
    "Defragment the members one after another (etcdctl defrag), which returns the pages that compaction freed; if that frees "
    "little, raise --quota-backend-bytes or remove data."
)
_MORE_ROOM = "Raise --quota-backend-bytes of every member (etcd advises at most 8 GiB), or remove data."
# Of engines whose writes can't be held.
NO_WAIT = "with engine: {engine} the controller can't be made to wait for compaction"
INSTEAD_OF_WAITING = (
    "Use engine: direct, which waits, and needs permission to list and patch; or defragment the members (etcdctl defrag) or raise "
    "--quota-backend-bytes, and run again."
)

_WORST_FIRST = (Fit.NEVER, Fit.PACED, Fit.UNKNOWN, Fit.FITS)
_UNKNOWN_AMOUNT = Amount()


def outlook(found: Mapping[str, Sequence[Member]], amounts: Mapping[str, Amount]) -> Outlook:
    """The worst of all members of every etcd; both by the name of the etcd."""
    outlooks = [
        seen for name, members in found.items() for seen in _of_members(members, amounts.get(name, _UNKNOWN_AMOUNT))
    ]
    return min(outlooks, key=lambda found_outlook: _WORST_FIRST.index(found_outlook.fit), default=Outlook(Fit.UNKNOWN))


def _of_members(members: Sequence[Member], amount: Amount) -> list[Outlook]:
    raised = {alarm for member in members for alarm, _raised_by in member.alarms}
    if raised:
        # Disarming ends all alarms, so what is worse than a lack of room comes first.
        return [_alarmed(min(raised, key=lambda alarm: (alarm == NOSPACE, alarm)), members)]
    return [_of_member(member, amount) for member in members]


def _alarmed(alarm: str, members: Sequence[Member]) -> Outlook:
    """Names the members that raised it, which need not be those that told it."""
    raised_by = sorted({by for member in members for found, by in member.alarms if found == alarm})
    own = [member for member in members if member.id in raised_by]
    known = {member.id for member in own}
    where = ", ".join([*(member.where for member in own), *(id_text(by) for by in raised_by if by not in known)])
    return Outlook(
        Fit.NEVER,
        f"etcd has raised the alarm {alarm} at {where}, so it refuses writes{f': {own[0].text()}' if own else ''}.",
        "Compact etcd's history, defragment every member, and disarm the alarm (etcdctl alarm disarm)."
        if alarm == NOSPACE
        else f"Repair {where} first, and leave the other members as they are (etcdctl alarm list).",
    )


def id_text(member: str) -> str:
    """A member that only its decimal id names, as etcdctl shows it, for a sentence."""
    return f"the member {int(member):x}" if member.isdecimal() else "a member that it doesn't name"


def _of_member(member: Member, amount: Amount) -> Outlook:
    at_most = member.used if amount.at_most is None else amount.at_most
    if not at_most:
        return _FIT
    if member.quota is None:
        if member.quota_from == TOLD:
            return _FIT  # Switched off with a negative quota.
        return Outlook(
            Fit.UNKNOWN,
            f"Whether etcd has room for the migration is unknown: {member.text()}.",
            "Give its --quota-backend-bytes as etcd_quota.",
        )
    if member.must_be_defragmented:
        return Outlook(
            Fit.NEVER, f"The database file of etcd is almost as large as its quota: {member.text()}.", _DEFRAGMENT
        )
    # Of an unknown amount, most is usually current.
    if _fits(member, at_most, _OVERHEAD if amount.at_most is None else _OVERHEAD + _TO_COMPACT):
        return _FIT
    exact = amount.at_most == amount.to_write
    figures = (
        f"{'About' if exact else 'Up to'} {size_text(at_most)} must be rewritten, and {member.text()}. A migration keeps "
        f"{size_text(member.reserve)} of the quota free."
    )
    # What compaction can't free, as far as that is known.
    kept = amount.live or 0
    step = ((member.quota or 0) - kept - _hold_at_most(member)) / (1 + _TO_COMPACT)
    if step <= member.reserve // 2 and not _fits(member, amount.to_write, _OVERHEAD + _TO_COMPACT):
        why = f"{figures} Current values, which compaction keeps, take up {size_text(kept)}."
        return Outlook(Fit.NEVER, why, _MORE_ROOM)
    first = max(0.0, (member.room - _hold_at_most(member)) / (1 + _TO_COMPACT))
    rounds = max(1, math.ceil((_OVERHEAD * at_most - first) / max(step, member.reserve)))
    return Outlook(
        Fit.PACED,
        f"{figures} The old revisions stay until the API servers compact them.",
        f"storage_migrate waits for that {'about' if exact else 'up to'} {rounds} time{'' if rounds == 1 else 's'}, each for up "
        f"to {2 * _COMPACTION_MINUTES} minutes with the API servers' default (--etcd-compaction-interval, {_COMPACTION_MINUTES} "
        "minutes). To avoid that, defragment the members (etcdctl defrag) or raise --quota-backend-bytes.",
    )


def _fits(member: Member, values: int, factor: float) -> bool:
    """Whether values can be written without a wait for compaction."""
    return member.used + factor * values + member.reserve <= (member.quota or 0)


def with_quotas(found: Mapping[str, Sequence[Member]], quota: int | None) -> dict[str, tuple[Member, ...]]:
    """Members by their etcd, each with the quota that counts; ``quota``: as the user gave it."""
    return {name: tuple(member.with_quota(quota) for member in members) for name, members in found.items()}


def _hold_at_most(member: Member) -> int:
    """The room at which writes are held if they are as fast as can be."""
    return member.reserve + _ahead(member, _FASTEST)


def _ahead(member: Member, growth: float) -> int:
    """The room for what may be written before a hold takes effect, at this many bytes a second, and for its compaction."""
    return int(min(growth * _AHEAD_SECONDS, (member.quota or 0) / _IN_FLIGHT) * (1 + _TO_COMPACT))


class Decision(Enum):
    WRITE = "write"
    HOLD = "hold"
    STOP = "stop"


@dataclass
class _History:
    """How much of a member's database was in use at the last look, and the least of each of the last minutes."""

    at: float
    used: int
    lows: deque[tuple[float, int]] = field(default_factory=deque)

    def look(self, now: float, used: int) -> float:
        """Returns the growth since the last look, in bytes a second."""
        growth = (used - self.used) / (now - self.at) if now > self.at else 0.0
        self.at, self.used = now, used
        if self.lows and now - self.lows[-1][0] < _BUCKET_SECONDS:
            began, low = self.lows.pop()
            self.lows.append((began, min(low, used)))
        else:
            self.lows.append((now, used))
        while now - self.lows[0][0] > _HISTORY_SECONDS:
            self.lows.popleft()
        return growth

    @property
    def to_compact(self) -> int:
        """What was written in the last minutes, so that its old revisions may still have to be removed."""
        return self.used - min(low for _began, low in self.lows)


@dataclass
class Pacer:
    """Decides after each look at the members whether to write, to hold writes, or to stop before etcd raises the alarm.

    ``patience``: seconds for which writes may be held at a time. ``held_seconds``: for how long they were held altogether.
    ``why``: the figures of the last decision. ``near``: whether there is so little room that each look counts.
    ``stuck``: whether no compaction helps, as the file itself is too large. ``alarms``: those raised.
    ``allowance``: for how many seconds after a look writes are allowed, however long the next look takes.

    If only the file's size is known (from an API server's metrics), it can't be seen that compaction has freed pages. Then
    writes are tried after two thirds of the patience, and held again as soon as the file grows, that is if none were free.
    A quota so small that a try could fill etcd is never tried.
    """

    patience: float
    held_since: float | None = None
    held_seconds: float = 0.0
    why: str = ""
    near: bool = False
    stuck: bool = False
    alarms: tuple[str, ...] = ()
    allowance: float = 2 * _LATEST
    _growth: float = 0.0
    _seen: dict[str, _History] = field(default_factory=dict)
    _known: dict[str, Member] = field(default_factory=dict)
    _trial: int | None = None
    _next: float = _LATEST
    _looked: float | None = None

    def look(self, now: float, members: Sequence[Member]) -> Decision:
        """``members``: those that answered; without any, writes are held if there was little room before.

        One that answered before and is silent now counts with its last figures: it takes up everything once it is back.
        """
        if self.held_since is not None and self._looked is not None:
            self.held_seconds += now - self._looked
        self._looked = now
        self._known |= {member.where: member for member in members}
        limited = [member for member in (self._known.values() if members else ()) if member.quota is not None]
        self.alarms = tuple(sorted({alarm for member in members for alarm, _raised_by in member.alarms}))
        if NOSPACE in self.alarms:
            return Decision.STOP
        if not limited:
            return self._unseen(now, answered=bool(members))
        for member in members:
            if member.quota is not None:
                self._watch_growth(now, member)
        tightest = min(limited, key=lambda member: (member.room - self.holds_at(member)) / (member.quota or 1))
        stuck = [member for member in limited if member.must_be_defragmented]
        self.why = (stuck[0] if stuck else tightest).text()
        self._plan_next(limited)
        self.stuck = bool(stuck)
        decision = Decision.STOP if stuck else self._decide(now, tightest)
        self._allow(limited)
        return decision

    @property
    def next_look(self) -> float:
        """Seconds until the members should be looked at again."""
        return self._next if self.held_since is None else max(self._next, _WHILE_HELD)

    def holds_at(self, member: Member) -> int:
        """The room at which writes are held: the reserve, what may be written before that takes effect, and what compaction needs."""
        seen = self._seen.get(member.where)
        to_compact = 0 if seen is None else int(_TO_COMPACT * seen.to_compact)
        return member.reserve + _ahead(member, self._growth) + to_compact

    def _watch_growth(self, now: float, member: Member) -> None:
        seen = self._seen.setdefault(member.where, _History(now, member.used))
        self._growth = max(self._growth, seen.look(now, member.used))

    def _plan_next(self, members: Sequence[Member]) -> None:
        self._next = min(_LATEST, max(_SOONEST, self._left(members) / self._fastest / 4))
        self.near = self._next < _LATEST

    def _left(self, members: Sequence[Member]) -> int:
        """What may be written before writes are held; during a try, by how much the file may grow."""
        if self._trial is not None:
            return max(0, min(member.may_grow for member in members))
        return max(0, min(min(member.room - self.holds_at(member), member.may_grow) for member in members))

    @property
    def _fastest(self) -> float:
        return max(_FASTEST, self._growth)

    def _allow(self, members: Sequence[Member]) -> None:
        """A look may take long just when much is written, so what was seen allows half of what remains, and no more."""
        safe = self._left(members) / self._fastest / 2
        self.allowance = min(2 * self._next, max(_LEAST_ALLOWANCE, safe))

    def _unseen(self, now: float, *, answered: bool) -> Decision:
        if answered or not self.near:
            self._release()
            return Decision.WRITE
        return self._hold(now)

    def _decide(self, now: float, member: Member) -> Decision:
        level = self.holds_at(member)
        if self.held_since is None:
            if self._trial is not None:
                if member.size < self._trial:
                    self._trial = None  # Somebody defragmented.
                elif member.size - self._trial <= member.reserve // 4:
                    return Decision.WRITE
                else:
                    self._trial = None
            return Decision.WRITE if member.room > level else self._hold(now)
        if member.room > level + member.reserve // 2:
            self._release()
            return Decision.WRITE
        if self._may_try(member) and now - self.held_since >= self.patience * 2 / 3:
            self._trial = member.size
            self._release()
            return Decision.WRITE
        return self._hold(now)

    def _may_try(self, member: Member) -> bool:
        """Whether only a try shows that pages are free, and neither what it writes nor its compaction can fill etcd."""
        burst = self._fastest * _AHEAD_SECONDS
        return member.in_use is None and member.may_grow > member.reserve // 2 + burst

    def _hold(self, now: float) -> Decision:
        if self.held_since is None:
            self.held_since = now
        return Decision.STOP if now - self.held_since > self.patience else Decision.HOLD

    def _release(self) -> None:
        self.held_since = None


@dataclass(frozen=True)
class Sizes:
    """The largest database of all members before and after a migration, and what a defragmentation would free."""

    before: int
    after: int
    reclaimable: int | None

    def text(self) -> str:
        back = "" if self.reclaimable is None else f"; a defragmentation would free {size_text(self.reclaimable)}"
        return f"etcd's database: {size_text(self.before)} before, {size_text(self.after)} after{back}."


def sizes_of(space: Mapping[str, Any] | None) -> Sizes | None:
    """From the result of a migration; None if it doesn't have both."""
    if not space or not space.get("before") or not space.get("after"):
        return None
    before, after = (max(int(member["size"]) for member in space[side]) for side in ("before", "after"))
    frees = [int(found) for member in space["after"] if (found := member.get("defragmentation_frees")) is not None]
    return Sizes(before, after, max(frees, default=None))
