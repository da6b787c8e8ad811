# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Watches over a run: every API server must agree, before the first write, during it and at its end."""

from __future__ import annotations

import asyncio
import time

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._cluster import Cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._convergence import (
    Observation,
    Patience,
    wait_converged,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._discovery import is_ready, version_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import (
    NotConvergedError,
    StorageUpgradeError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Event, Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engine import Control
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.lanes import Lanes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.ledger import Ledger

_GLANCE_EVERY = 2.0
_LOOK_EVERY = 15.0
# A server that has just started serves CRDs a moment later than it says ready; a real old one stays different.
_MAY_SETTLE = 10.0
# Among samples, one that went away is missed until its Lease is no longer fresh.
_SAMPLES_MAY_SETTLE = 60.0
_AT_THE_END = 60.0
_NO_SERVER_FOR = 180.0


class Guard:
    """Moves the Control and the Lanes of a run by what it sees of the API servers."""

    def __init__(
        self, cluster: Cluster, lanes: Lanes, control: Control, ledger: Ledger, *, required: bool, report: Report
    ) -> None:
        self._cluster = cluster
        self._lanes = lanes
        self._control = control
        self._ledger = ledger
        self._required = required
        self._report = report
        self._versions: dict[str, tuple[str, str | None]] = {}

    def start(self, seen: Observation) -> None:
        """Takes the observation that let the run begin."""
        self._remember(seen)
        self._ledger.observe(seen.reports)

    async def watch(self) -> None:
        """Looks until cancelled: a glance every two seconds, a full look when something moved and every 15 s."""
        looked = time.monotonic()
        told: set[str] = set()
        alone_since: float | None = None
        while True:
            await asyncio.sleep(_GLANCE_EVERY)
            moved = await self._glance()
            if moved or time.monotonic() - looked >= _LOOK_EVERY:
                await self.look()
                looked = time.monotonic()
            out = set(self._lanes.out)
            if out != told:
                self._report(Event("notice", _lanes_text(out, told, len(self._lanes.servers)), {}))
                told = out
            if self._lanes.servers:
                alone_since = None
            else:
                alone_since = alone_since or time.monotonic()
                if time.monotonic() - alone_since > _NO_SERVER_FOR:
                    self._control.stop(
                        NotConvergedError(
                            f"No API server could be used for {_NO_SERVER_FOR:g} s ({', '.join(self._lanes.out)}); "
                            "bring them back and run again: the run goes on from where it was."
                        )
                    )

    async def look(self) -> None:
        """A full observation and what follows from it."""
        first_trouble: float | None = None
        while self._control.stopped is None:
            asked_at = time.monotonic()
            try:
                seen = await self._cluster.observe()
            except StorageUpgradeError:
                return  # The load balancer is away; the servers themselves are asked again soon.
            self._ledger.observe(seen.reports)
            trouble = seen.disagreements or seen.problems
            if not trouble or not self._required:
                self._sort_lanes(seen)
                self._ledger.settle(seen, asked_at)
                self._control.release()
                self._control.changed.set()
                return
            self._control.hold()
            first_trouble = first_trouble or asked_at
            patience = _MAY_SETTLE if seen.evidence is None else _SAMPLES_MAY_SETTLE
            if self._is_decided(seen) or time.monotonic() - first_trouble > patience:
                self._control.stop(NotConvergedError(_lost_sentence(seen)))
                return
            self._report(Event("notice", f"Writes are held: {seen.summary()}.", {}))
            await asyncio.sleep(1.0)

    async def prove_the_end(self) -> Observation:
        """The observation that closes a pass; raises NotConvergedError if the servers don't agree in time."""
        if self._required:
            seen = await wait_converged(self._cluster.observe, Patience(_AT_THE_END, 1.0, 0.0), self._report)
        else:
            seen = await self._cluster.observe()
        self._ledger.observe(seen.reports)
        return seen

    async def _glance(self) -> bool:
        """Whether a server changed its version, went away, or one that was out may be back."""
        known = {server.url: server for server in (await self._servers())}
        answers = await asyncio.gather(*(_glance_at(server) for server in known.values()))
        moved = bool(self._lanes.out) and any(answer is not None for answer in answers)
        for url, answer in zip(known, answers):
            if answer is None:
                self._lanes.take_out(url)
            elif self._versions.get(url) != answer:
                moved = True
        return moved

    async def _servers(self) -> tuple[ApiServer, ...]:
        try:
            return (await self._cluster.servers()).servers
        except StorageUpgradeError:
            return tuple(self._lanes.servers)

    def _remember(self, seen: Observation) -> None:
        versions = {
            report.url: (report.version or "", report.emulated_version) for report in seen.reports if report.usable
        }
        if seen.evidence is not None and len(set(versions.values())) == 1:
            # The one address answers as any of them.
            versions[self._cluster.entry.url] = next(iter(versions.values()))
        self._versions = versions

    def _sort_lanes(self, seen: Observation) -> None:
        """Servers that answered, are ready and agree are used; the others are not."""
        writers = self._cluster.writers(seen)
        for url in {report.url for report in seen.reports} - {server.url for server in writers}:
            self._lanes.take_out(url)
        for server in writers:
            self._lanes.take_back(server)
        self._remember(seen)

    def _is_decided(self, seen: Observation) -> bool:
        """Whether a server came back at another version: that does not settle by itself."""
        return any(
            report.usable
            and self._versions
            and (report.version or "", report.emulated_version) not in self._versions.values()
            for report in seen.reports
        ) and bool(seen.disagreements)


async def _glance_at(server: ApiServer) -> tuple[str, str | None] | None:
    """A server's version, None if it is not there or not ready."""
    try:
        version, ready = await asyncio.gather(version_of(server), is_ready(server))
    except StorageUpgradeError:
        return None
    return version if ready else None


def _lanes_text(out: set[str], before: set[str], used: int) -> str:
    """Which servers went out of use or are back in it."""
    gone, back = sorted(out - before), sorted(before - out)
    parts = [f"{', '.join(gone)} can't be used now"] if gone else []
    parts += [f"{', '.join(back)} is used again"] if back else []
    return f"{'; '.join(parts)}; writing through {used} of {used + len(out)} API servers."


def _lost_sentence(seen: Observation) -> str:
    return (
        f"Stopped, because the API servers no longer agree: {seen.summary()}. What they disagree about does not count "
        "as migrated, since writes may have landed in the old version. Bring all servers to one version, wait until "
        "storage_version_hashes reports converged, and run again: it goes on from here."
    )
