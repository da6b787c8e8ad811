# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""etcd's space before, during and after a run: a run must never be what fills etcd.

The decisions are those of _etcd/space.py. What is looked at is etcd itself if it was given, else the metrics of an API server.
If neither can be read, the run goes on and says that etcd's space isn't known; the first refusal of a full etcd stops it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    EtcdError,
    EtcdFullError,
    MigrationIncompleteError,
    StorageUpgradeError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.space import (
    NOSPACE,
    Amount,
    Decision,
    Fit,
    Member,
    Outlook,
    Pacer,
    outlook,
    with_quotas,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.storage_size import storage_sizes

if TYPE_CHECKING:
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import EtcdClusters

ETCD, METRICS = "etcd", "metrics"
# Metrics are dearer than a status of etcd, and show nothing new while nothing is written.
_METRICS_EVERY = 2.0

Found = Mapping[str, Sequence[Member]]
Look = Callable[[], Awaitable[Found]]


class Space:
    """What one run knows of etcd's space. ``look`` is None if nothing can be known; then nothing is held.

    ``source``: ``etcd``, ``metrics`` or None. ``unknown``: what isn't known, and why, as a sentence.
    ``before``, ``after``: all members. ``held``: why writes are held. ``watched``: whether to look again during the run.
    ``may_write`` is True for a while after a look that found room, so that a slow look can't let writes fill etcd meanwhile.
    ``first``: a look that was just taken.
    """

    def __init__(
        self,
        look: Look | None,
        *,
        source: str | None,
        quota: int | None,
        patience: float,
        unknown: str | None = None,
        first: Found | None = None,
    ) -> None:
        self._look = look
        self._first = first
        self._quota = quota
        self._patience = patience
        self.source = source
        self.unknown = unknown
        self.pacer = Pacer(patience)
        self.outlook = Outlook(Fit.UNKNOWN)
        self.before: list[Member] = []
        self.after: list[Member] = []
        self.held: str | None = None
        self._write_until = math.inf if look is None else -math.inf
        self.watched = False
        self._due = 0.0

    async def evaluate(self, amounts: Mapping[str, Amount]) -> Outlook:
        """Before the first write, and again when how servers encrypt is known.

        Raises EtcdFullError, or MigrationIncompleteError if what is to be rewritten can't fit.
        """
        if self._look is None:
            return self.outlook
        found = await self._members()
        self.before = self.before or _flat(found)
        self.outlook = outlook(found, amounts)
        if self.outlook.fit is Fit.UNKNOWN:
            self.unknown = f"{self.outlook.why} {self.outlook.remedy}"
        if self.outlook.fit is Fit.NEVER:
            if {alarm for member in _flat(found) for alarm, _raised_by in member.alarms} == {NOSPACE}:
                raise EtcdFullError()
            raise self.refusal(
                f"Nothing was migrated, because it would fill etcd. {self.outlook.why} {self.outlook.remedy} Then run again."
            )
        # With nothing to write, a lack of room is nothing to stop for.
        self.watched = not amounts or any(amount.at_most != 0 for amount in amounts.values())
        if self.watched:
            self._decide(_flat(found))
        else:
            self._write_until = math.inf
        return self.outlook

    def refusal(self, why: str) -> MigrationIncompleteError:
        """The error for a run that may not begin, with what is known of etcd's space."""
        return MigrationIncompleteError(why, {"changed": False, "etcd_space": self.as_dict()})

    async def watch(self) -> None:
        """Watched from now on, as there is something to write that was not there at first."""
        if self._look is not None and not self.watched:
            await self.look()
            self.watched = True

    @property
    def can_watch(self) -> bool:
        """Whether anything is known of etcd's space."""
        return self._look is not None

    @property
    def may_write(self) -> bool:
        return time.monotonic() < self._write_until

    async def look(self) -> Decision:
        """During the run: looks again, and sets ``may_write`` and ``held``."""
        try:
            members = _flat(await self._members())
        except StorageUpgradeError:
            members = []
        return self._decide(members)

    def _decide(self, members: Sequence[Member]) -> Decision:
        now = time.monotonic()
        decision = self.pacer.look(now, members)
        writes = decision is Decision.WRITE
        self._write_until = now + self.pacer.allowance if writes else -math.inf
        self.held = None if writes else self.pacer.why
        spared = self.source == METRICS and decision is Decision.HOLD
        self._due = now + (max(self.pacer.next_look, _METRICS_EVERY) if spared else self.pacer.next_look)
        return decision

    @property
    def next_look(self) -> float:
        """Seconds until then."""
        return max(0.0, self._due - time.monotonic())

    def why_stop(self) -> StorageUpgradeError:
        """The error for a Decision.STOP."""
        if NOSPACE in self.pacer.alarms:
            return EtcdFullError()
        if self.pacer.stuck:
            why = (
                f"{self.pacer.why}. Compaction does not make the file smaller, so defragment the members one after another "
                "(etcdctl defrag), or raise --quota-backend-bytes"
            )
        else:
            why = (
                f"writes were held for {self._patience:g} s (compaction_timeout) and no compaction freed enough: "
                f"{self.pacer.why}. Make sure that the API servers compact etcd (--etcd-compaction-interval must not be 0), or raise "
                "--quota-backend-bytes"
            )
        return MigrationIncompleteError(f"Stopped before etcd is full: {why}. Then run again to resume.")

    async def end(self) -> None:
        """After the run."""
        if self._look is not None and self.before:
            try:
                self.after = _flat(await self._members())
            except StorageUpgradeError:
                self.after = []

    async def _members(self) -> dict[str, tuple[Member, ...]]:
        found, self._first = self._first, None
        if found is None:
            found = await self._look() if self._look is not None else {}
        return with_quotas(found, self._quota)

    def as_dict(self) -> dict[str, Any]:
        """As the module returns it."""
        return {
            "source": self.source,
            "unknown": self.unknown,
            "outlook": self.outlook.fit.value,
            "before": [member.as_dict() for member in self.before],
            "after": [member.as_dict() for member in self.after],
            "held_seconds": round(self.pacer.held_seconds, 1),
        }


def nothing_known(unknown: str | None = None) -> Space:
    """Nothing is held."""
    return Space(None, source=None, quota=None, patience=0.0, unknown=unknown)


def _flat(found: Found) -> list[Member]:
    return [member for members in found.values() for member in members]


async def find_space(
    server: ApiServer, etcd_look: Look | None, *, quota: int | None, patience: float, why_not_etcd: str | None = None
) -> Space:
    """From etcd if it can be asked, else from the metrics of an API server, else nothing is known."""
    if etcd_look is not None:
        try:
            first = await etcd_look()
            return Space(etcd_look, source=ETCD, quota=quota, patience=patience, first=first)
        except EtcdError as error:
            why_not_etcd = error.message
    doubt = "" if why_not_etcd is None else f" ({why_not_etcd})"

    async def metrics() -> Found:
        found = await storage_sizes(server) or {}
        return {name: (Member(f"{name} (by the metrics of {server.url})", size),) for name, size in found.items()}

    first = await metrics()
    if first:
        unknown = f"Only the size of etcd's file is known, not how much of it is in use{doubt}."
        return Space(metrics, source=METRICS, quota=quota, patience=patience, unknown=unknown, first=first)
    return nothing_known(
        f"Whether etcd has room for the migration is unknown{doubt}: give etcd, or let the user get /metrics."
    )


def members_look(etcd: EtcdClusters, resources: Sequence[str]) -> Look:
    """Looks at every member of each etcd that keeps some of the resources."""
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.maintenance import AllMaintenance

    return AllMaintenance.of(etcd, resources).members
