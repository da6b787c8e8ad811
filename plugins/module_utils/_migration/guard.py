# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Watches the API servers during a run: all must agree before the first write, throughout the run, and at its end."""

from __future__ import annotations

import asyncio
import time

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clock import boottime
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    NotConvergedError,
    StorageUpgradeError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.discovery import is_ready, version_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.context import RunContext
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.endpoints import EndpointPool
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import (
    LEASE_EXPIRES,
    Observation,
    WaitSettings,
    wait_converged,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.processes import Processes, Seen, restarted

_GLANCE_EVERY = 2.0
_LOOK_EVERY = 15.0
# A server that has just started reports ready a moment before it serves CRDs; one that is really older stays different.
_MAY_SETTLE = 10.0
# In one such wait; one that keeps crashing is no server that is being restarted.
_RESTARTS_WAITED_FOR = 2
# With sampling, a server that went away counts as missing until its Lease has expired.
_SAMPLES_MAY_SETTLE = 60.0
_AT_THE_END = 60.0
_NO_SERVER_FOR = 180.0
# After this long without a check, it is unknown what API servers did: this process or its machine was suspended.
_TOO_LATE = 45.0
# If processes are not identified, a glance this late may have missed two restarts.
_BLIND_FOR = 20.0


class Guard:
    """Sets the Control and the endpoints of a run according to the state of the API servers."""

    def __init__(self, context: RunContext, endpoints: EndpointPool) -> None:
        self._cluster = context.cluster
        self._endpoints = endpoints
        self._control = context.control
        self._checkpoint = context.checkpoint
        self._required = context.options.require_convergence
        self._report = context.report
        self._versions: dict[str, tuple[str, str | None]] = {}
        self._processes = Seen(Processes())
        self._looked_at = boottime()
        self._away: set[str] = set()
        self._blind = 0.0
        self._result = context.result
        self._dead: set[str] = set()

    def start(self, seen: Observation, looked_at: float) -> None:
        """Starts from the observation that allowed the run to begin, which was made at ``looked_at`` (``boottime()``)."""
        self._remember(seen)
        self._dead = {item.server.name for item in seen.cross.gone}
        self._checkpoint.observe(seen.reports)
        self._processes = Seen(seen.processes)
        self._checkpoint.processes = self._processes.last
        self._looked_at = looked_at

    @property
    def fresh(self) -> bool:
        """Whether the last check of the API servers is recent enough to continue writing."""
        return boottime() - self._looked_at < _TOO_LATE

    async def refresh(self) -> None:
        """Checks again if the last check is too old."""
        if not self.fresh:
            await self.look()

    async def watch(self) -> None:
        """Until canceled: a glance every two seconds, a full check every 15 s and whenever something changed."""
        looked = glanced = boottime()
        told: set[str] = set()
        alone_since: float | None = None
        while True:
            await asyncio.sleep(_GLANCE_EVERY)
            self._blind = max(self._blind, boottime() - glanced)
            moved = await self._glance()
            glanced = boottime()
            if moved or not self.fresh or self._blind > _BLIND_FOR or boottime() - looked >= _LOOK_EVERY:
                await self.look()
                looked = glanced = boottime()
            out = set(self._endpoints.out)
            if out != told:
                self._report(Event("notice", _endpoints_text(out, told, len(self._endpoints.servers)), {}))
                told = out
            if self._endpoints.servers:
                alone_since = None
            else:
                alone_since = alone_since or time.monotonic()
                if time.monotonic() - alone_since > _NO_SERVER_FOR:
                    self._control.stop(
                        NotConvergedError(
                            f"No API server could be used for {_NO_SERVER_FOR:g} s ({', '.join(self._endpoints.out)}); "
                            "bring them back and run again to resume."
                        )
                    )

    async def look(self) -> None:
        """Observes all API servers, and lets writers write, holds them or stops the run."""
        first_trouble: float | None = None
        told, dying, restarts = "", False, 0
        while self._control.stopped is None:
            asked_at = time.monotonic()
            try:
                seen = await self._observe()
            except StorageUpgradeError:
                return  # The load balancer does not answer; the servers themselves will soon be asked again.
            trouble = seen.disagreements or seen.problems
            if not trouble or not self._required:
                self._sort_endpoints(seen)
                self._checkpoint.mark_persisted(seen, asked_at)
                self._control.release()
                self._control.changed.set()
                return
            self._control.hold()
            first_trouble = first_trouble or asked_at
            if dying and not seen.cross.dying and restarts < _RESTARTS_WAITED_FOR:
                # It was only being restarted, and is listed again a moment after it answers.
                first_trouble, restarts = asked_at, restarts + 1
            dying = bool(seen.cross.dying)
            if self._is_decided(seen) or time.monotonic() - first_trouble > _may_settle(seen):
                self._control.stop(NotConvergedError(_lost_sentence(seen)))
                return
            text = f"Writes are held: {seen.summary()}."
            if text != told:
                self._report(Event("notice", text, {}))
                told = text
            await asyncio.sleep(1.0)

    def _tell_who_died(self, seen: Observation) -> None:
        """Says once of each server that left during the run that the run goes on without it."""
        for item in seen.cross.gone:
            if item.server.name not in self._dead:
                self._dead.add(item.server.name)
                text = (
                    f"{item.server.name} seems to have died: it no longer renews its Lease and is no longer listed, so the run "
                    "continued without it. If it comes back at an older version, upgrade it and migrate again."
                )
                self._result.doubts.append(text)
                self._report(Event("notice", text, {}))

    async def prove_the_end(self) -> Observation:
        """The observation that ends a pass. Raises NotConvergedError if the servers don't agree in time."""
        if self._required:
            return await wait_converged(self._observe, WaitSettings(_AT_THE_END, 1.0, 0.0), self._report)
        return await self._observe()

    async def _observe(self) -> Observation:
        """Observes, and withdraws what an unseen API server may have invalidated since the last observation."""
        asked_at = boottime()
        seen = await self._cluster.observe()
        now = boottime()
        unseen = max(asked_at - self._looked_at, now - asked_at)
        new = self._processes.look(seen.processes)
        back = {report.url for report in seen.reports if report.usable} & self._away
        self._away |= {report.url for report in seen.reports if not report.usable and self._is_hidden(report.url)}
        self._away -= back
        new = new or self._at_another_release(seen)
        why = None
        if new:
            why = f"{restarted(new)} during the run"
        elif unseen > _TOO_LATE:
            why = (
                f"the run was suspended or disconnected for {unseen:.0f} s, during which nobody watched the API servers"
            )
        elif self._blind > _BLIND_FOR and not seen.processes.known:
            why = f"for {self._blind:.0f} s it was not checked whether an API server restarted"
        elif back:
            why = f"{', '.join(sorted(back))} did not answer for a while, and whether it was restarted is unknown"
        self._blind = 0.0
        self._looked_at = now
        self._checkpoint.observe(seen.reports)
        self._checkpoint.processes = self._processes.last
        if why is not None:
            self._checkpoint.doubt(why)
            if self._checkpoint.in_doubt:
                self._report(Event("notice", f"Everything visited so far is visited again: {why}.", {}))
        if not seen.problems:
            self._tell_who_died(seen)
        return seen

    def _at_another_release(self, seen: Observation) -> tuple[str, ...]:
        """Servers that report another release than before: they were restarted, even if nothing identifies their process."""
        if seen.evidence is not None:
            return ()
        now = {report.url: (report.version or "", report.emulated_version) for report in seen.reports if report.usable}
        return tuple(sorted(url for url, version in now.items() if self._versions.get(url, version) != version))

    def _is_hidden(self, url: str) -> bool:
        """Whether a server's process is not identified."""
        return not self._processes.last.known and url not in self._processes.last.started

    async def _glance(self) -> bool:
        """Whether a server changed its version or went away, or an ejected one may be back."""
        known = {server.url: server for server in (await self._servers())}
        answers = await asyncio.gather(*(_glance_at(server) for server in known.values()))
        moved = bool(self._endpoints.out) and any(answer is not None for answer in answers)
        for url, answer in zip(known, answers):
            if answer is None:
                self._endpoints.eject(url)
                if self._is_hidden(url):
                    self._away.add(url)
            elif self._versions.get(url) != answer:
                moved = True
        return moved

    async def _servers(self) -> tuple[ApiServer, ...]:
        try:
            return (await self._cluster.servers()).servers
        except StorageUpgradeError:
            return tuple(self._endpoints.servers)

    def _remember(self, seen: Observation) -> None:
        versions = {
            report.url: (report.version or "", report.emulated_version) for report in seen.reports if report.usable
        }
        if seen.evidence is not None and len(set(versions.values())) == 1:
            # The one address answers like any of them.
            versions[self._cluster.entry.url] = next(iter(versions.values()))
        self._versions = versions

    def _sort_endpoints(self, seen: Observation) -> None:
        """Writes go only through servers that answered, are ready and agree."""
        writers = self._cluster.writers(seen)
        for url in {report.url for report in seen.reports} - {server.url for server in writers}:
            self._endpoints.eject(url)
        for server in writers:
            self._endpoints.readmit(server)
        self._remember(seen)

    def _is_decided(self, seen: Observation) -> bool:
        """Whether a server came back at another version, which does not settle on its own."""
        return any(
            report.usable
            and self._versions
            and (report.version or "", report.emulated_version) not in self._versions.values()
            for report in seen.reports
        ) and bool(seen.disagreements)


def _may_settle(seen: Observation) -> float:
    """Seconds that trouble may last before the run stops."""
    if seen.evidence is not None:
        return _SAMPLES_MAY_SETTLE
    return LEASE_EXPIRES if seen.cross.dying and not seen.disagreements else _MAY_SETTLE


async def _glance_at(server: ApiServer) -> tuple[str, str | None] | None:
    """A server's version and the one that it emulates; None if it does not answer or is not ready."""
    try:
        version, ready = await asyncio.gather(version_of(server), is_ready(server))
    except StorageUpgradeError:
        return None
    return (version.version, version.emulated) if ready else None


def _endpoints_text(out: set[str], before: set[str], used: int) -> str:
    """Which servers were ejected and which are used again."""
    gone, back = sorted(out - before), sorted(before - out)
    parts = [f"{', '.join(gone)} can't be used now"] if gone else []
    parts += [f"{', '.join(back)} is used again"] if back else []
    return f"{'; '.join(parts)}; writing through {used} of {used + len(out)} API servers."


def _lost_sentence(seen: Observation) -> str:
    return (
        f"Stopped, because the API servers no longer agree: {seen.summary()}. What they disagree about does not count "
        "as migrated, since writes may have landed in the old version. Bring all servers to one version, wait until "
        "storage_version_hashes reports converged, and run again to resume."
    )
