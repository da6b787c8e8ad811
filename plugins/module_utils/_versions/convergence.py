# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether all API servers agree on every storage version. Pure, except for the waiting loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clock import boottime
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    ApiError,
    NotConvergedError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event, Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import some_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.cross_check import CrossCheck
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    Disagreement,
    ServedResource,
    ServerReport,
    by_server_text,
    disagreements,
    group_names,
    version_matches,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.processes import Processes, Seen
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.sampling import (
    EACH_SERVER,
    LISTED_SERVERS,
    SAMPLING,
    Evidence,
)

_NAMED_AT_MOST = 10
_CHANGES_KEPT = 100
# If a poll is this late, the process or its machine was suspended, and what the servers did meanwhile is unknown.
_LATE = 45.0


# For so long, and a little more, a server that died still counts as alive by its Lease.
LEASE_EXPIRES = 60.0
# How long to wait until a server that answers renews its Lease; one that was suspended does so within ten seconds.
_RENEWS_WITHIN = 15.0


@dataclass(frozen=True)
class Expectation:
    """What is required beyond agreement: how many servers, at which release, and for which resources (None: all).

    ``ignored``: living API servers that need not be asked. ``accepts_unchecked``: whether agreement counts even if nobody
    could compare the servers with the identity Leases of all that are alive.
    """

    servers: int | None = None
    version: str | None = None
    resources: tuple[str, ...] | None = None
    ignored: tuple[str, ...] = ()
    accepts_unchecked: bool = False


@dataclass(frozen=True)
class Observation:
    """All API servers at one moment.

    ``reports``: what each server reports.
    ``problems``: sentences about the list of servers itself, such as one that is alive but not listed; with any of
    them, the servers don't count as converged.
    ``expectation``: what is required beyond agreement.
    ``evidence``: the evidence from sampling; None if each server was asked at its own address.
    ``processes``: the servers' processes. ``cross``: what the identity Leases say about the list of servers.
    ``listed_by_user``: whether that list is the user's.
    """

    reports: tuple[ServerReport, ...]
    problems: tuple[str, ...] = ()
    expectation: Expectation = Expectation()
    evidence: Evidence | None = None
    processes: Processes = Processes()
    cross: CrossCheck = CrossCheck()
    listed_by_user: bool = False

    @property
    def proven_by(self) -> str:
        """How strong the evidence for agreement is, if there is any."""
        if self.evidence is not None:
            return SAMPLING
        return EACH_SERVER if self.cross_checked else LISTED_SERVERS

    @property
    def cross_checked(self) -> bool:
        """Whether the servers were compared with the identity Leases of all that are alive."""
        return self.cross.done

    @property
    def counts(self) -> bool:
        """Whether the servers agree, and no other one is known to be alive or could be without anybody noticing."""
        return self.converged and (self.cross_checked or self.expectation.accepts_unchecked)

    @property
    def why_uncounted(self) -> str | None:
        """Why the agreement of those that were asked does not count, in a clause; None if it does, or if they don't agree."""
        if not self.converged or self.counts:
            return None
        return f"whether other API servers are alive was not cross-checked, because {self.cross.why_not}"

    @property
    def unchecked(self) -> str:
        """A sentence on the missing cross-check, unless it was done or the user accepts that."""
        return "" if self.expectation.accepts_unchecked else self.cross.reservation()

    @property
    def who(self) -> str:
        """Who agrees."""
        if self.evidence is None:
            return f"{len(self.reports)} API servers"
        if self.evidence.told_apart is None:
            return f"{self.evidence.connections} answers of API servers that can't be distinguished"
        return f"{self.evidence.told_apart} API servers, distinguished in {self.evidence.connections} samples,"

    @property
    def reservations(self) -> list[str]:
        """Sentences on how much the agreement proves; empty if it is proven."""
        if not self.converged:
            return []
        sampled = "" if self.evidence is None else self.evidence.sentence()
        return [sentence for sentence in (sampled, self.unchecked, self._left_out()) if sentence]

    def _left_out(self) -> str:
        """A sentence on custom resources of which nothing is known; empty without any."""
        names = self.expectation.resources
        found = {name for report in self.reports if report.usable for name in report.hidden}
        hidden = sorted(found if names is None else found.intersection(names))
        if not hidden:
            return ""
        return (
            f"{some_of(hidden)} {'is' if len(hidden) == 1 else 'are'} left out: the storage version isn't served, so only the CRD says how "
            f"{'it is' if len(hidden) == 1 else 'they are'} stored; allow the user to get customresourcedefinitions."
        )

    @cached_property
    def resources(self) -> Mapping[str, ServedResource]:
        """Every stored resource that some usable server serves, as the first of them reports it.

        Cached, as those below, because it is asked for once for each of thousands of resources.
        """
        found: dict[str, ServedResource] = {}
        for report in self.reports:
            if report.usable:
                for name, resource in report.resources.items():
                    found.setdefault(name, resource)
        names = self.expectation.resources
        return found if names is None else {name: found[name] for name in names if name in found}

    @cached_property
    def disagreements(self) -> list[Disagreement]:
        return disagreements(self.reports, self.expectation.resources)

    @cached_property
    def other_groups(self) -> tuple[str, ...]:
        """Candidate groups for decoding a hash."""
        return group_names(self.reports)

    @property
    def converged(self) -> bool:
        return not self.reasons()

    def reasons(self) -> list[str]:
        """Why the servers have not converged, one sentence each, servers before resources; empty if they have."""
        return [*self.server_reasons(), *(by_server_text(found, self.other_groups) for found in self.disagreements)]

    def server_reasons(self) -> list[str]:
        """The reasons that concern servers: missing, failing, not ready, at another release."""
        found = list(self.problems)
        expected = self.expectation.servers
        if not self.reports and not found:
            found.append("No API server was found; name them with the option servers.")
        elif self.evidence is None and self.reports and expected is not None and len(self.reports) != expected:
            why = self.cross.of_missing() if len(self.reports) < expected else ""
            found.append(
                f"{'1 API server is' if expected == 1 else f'{expected} API servers are'} expected, {len(self.reports)} "
                f"{'is' if len(self.reports) == 1 else 'are'} known: {', '.join(report.url for report in self.reports)}."
                + (f" {why} Bring it back, or lower expected_servers." if why else "")
            )
        for report in self.reports:
            if report.error is not None:
                found.append(self._failing_sentence(report, report.error))
            elif not report.ready:
                found.append(f"{report.url} is not ready (its /readyz fails).")
            elif self.expectation.version and not version_matches(report, self.expectation.version):
                found.append(f"{report.url} is at {release_text(report)}, not at {self.expectation.version}.")
        return found

    def _failing_sentence(self, report: ServerReport, error: str) -> str:
        source = "the option servers" if self.listed_by_user else "the EndpointSlice default/kubernetes"
        lease = self.cross.of_asked(report.url, source)
        return (error if report.url in error else f"{report.url}: {error}") + (f" {lease}" if lease else "")

    def summary(self) -> str:
        """All reasons in one line; long lists are truncated."""
        reasons = self.reasons()
        shown = "; ".join(reason.rstrip(".") for reason in reasons[:_NAMED_AT_MOST])
        more = len(reasons) - _NAMED_AT_MOST
        return shown + (f"; and {more} more" if more > 0 else "")


def unchecked_words(seen: Observation) -> str:
    """What a message adds if it is unknown whether other servers are alive, with a space in front; empty if it is known."""
    if seen.cross_checked or not seen.converged:
        return ""
    accepted = "; accept_unchecked accepts that" if seen.expectation.accepts_unchecked else ""
    return f" Whether other API servers are alive was not cross-checked with their Leases{accepted}."


def release_text(report: ServerReport) -> str:
    """``v1.37.2`` or ``v1.37.2 (emulating 1.36)``."""
    emulated = f" (emulating {report.emulated_version})" if report.emulated_version else ""
    return f"{report.version}{emulated}"


class ConvergenceTimeoutError(NotConvergedError):
    """The API servers did not agree in time; ``observation`` is the last one."""

    def __init__(self, message: str, observation: Observation) -> None:
        super().__init__(message)
        self.observation = observation


@dataclass(frozen=True)
class WaitSettings:
    """How long to wait for convergence, how often to poll, how long it must hold; all in seconds."""

    timeout: float
    interval: float
    stable_for: float


async def wait_converged(
    observe: Callable[[], Awaitable[Observation]], wait: WaitSettings, report: Report
) -> Observation:
    """Polls until every observation has been converged, with the same content, for ``stable_for``.

    Time that nobody watched does not count: if a server was restarted, or a poll is late because this process was
    suspended, ``stable_for`` starts again. Raises ConvergenceTimeoutError, which names servers and resources, on timeout.
    """
    start = time.monotonic()
    good_since: float | None = None
    good_hashes: Mapping[str, str | None] = {}
    told = ""
    processes = Seen(Processes())
    looked_at = boottime()
    while True:
        asked_at = boottime()
        late = asked_at - looked_at > wait.interval + _LATE
        seen = await _look(observe)
        now = time.monotonic()
        looked_at = boottime()
        late = late or looked_at - asked_at > _LATE
        restarted = bool(processes.look(seen.processes))
        if seen.converged:
            hashes = {name: resource.hash for name, resource in seen.resources.items()}
            if good_since is None or late or restarted or _contradicts(good_hashes, hashes):
                good_since = now
            good_hashes = hashes
            held_for = now - good_since
            if held_for >= wait.stable_for and (
                seen.cross.settled or held_for >= min(_RENEWS_WITHIN, wait.timeout / 2)
            ):
                return seen
            text = f"All {seen.who} agree; checking that this holds for {wait.stable_for:g} s."
        else:
            good_since = None
            text = f"Waiting for the API servers to agree: {seen.summary()}."
        if text != told:
            report(Event("waiting", text, _waiting_fields(seen, now - start)))
            told = text
        if now - start + wait.interval > wait.timeout and not (
            good_since is not None and _can_still_hold(good_since, start, wait)
        ):
            raise ConvergenceTimeoutError(_timeout_sentence(seen, wait), seen)
        await asyncio.sleep(min(wait.interval, max(0.0, start + wait.timeout - now)) or wait.interval)


async def once_nobody_dies(observe: Callable[[], Awaitable[Observation]], report: Report) -> tuple[float, Observation]:
    """When an observation began, by ``boottime``, and the observation.

    Waits first while a server that doesn't answer still counts as alive by its Lease, if that is all that is wrong.
    """
    start = time.monotonic()
    told = False
    while True:
        asked_at = boottime()
        seen = await observe()
        only_that = seen.cross.dying and len(seen.reasons()) == len(seen.cross.dying)
        if not only_that or time.monotonic() - start > LEASE_EXPIRES:
            return asked_at, seen
        if not told:
            report(Event("waiting", f"Waiting until that is certain: {' '.join(seen.problems)}", {}))
            told = True
        await asyncio.sleep(1.0)


def _waiting_fields(seen: Observation, seconds: float) -> dict[str, object]:
    return {
        "converged": seen.converged,
        "seconds": round(seconds, 1),
        "reasons": seen.reasons()[:_NAMED_AT_MOST],
        "more": max(0, len(seen.reasons()) - _NAMED_AT_MOST),
    }


class Watch:
    """Observes, and keeps each observation that differs from the previous one, with its time.

    If there are many changes, the first and the last are kept.
    """

    def __init__(self, observe: Callable[[], Awaitable[Observation]], now: Callable[[], str]) -> None:
        self._observe = observe
        self._now = now
        self._changes: list[tuple[str, Observation]] = []

    async def observe(self) -> Observation:
        seen = await self._observe()
        if not self._changes or not _same(self._changes[-1][1], seen):
            if len(self._changes) >= _CHANGES_KEPT:
                del self._changes[_CHANGES_KEPT // 2]
            self._changes.append((self._now(), seen))
        return seen

    @property
    def changes(self) -> list[tuple[str, Observation]]:
        return list(self._changes)


def _same(one: Observation, other: Observation) -> bool:
    """Whether two observations report the same; CRDs may come and go as long as all servers agree on them."""
    if one.problems != other.problems or len(one.reports) != len(other.reports):
        return False
    for before, after in zip(one.reports, other.reports):
        if replace(before, resources={}) != replace(after, resources={}):
            return False
        if any(
            before.resources[name].hashes != resource.hashes
            for name, resource in after.resources.items()
            if name in before.resources
        ):
            return False
    return [item.resource for item in one.disagreements] == [item.resource for item in other.disagreements]


async def _look(observe: Callable[[], Awaitable[Observation]]) -> Observation:
    """An observation; if a load balancer briefly doesn't answer, waits instead of giving up."""
    try:
        return await observe()
    except (UnreachableError, ApiError) as error:
        return Observation((), problems=(error.message,))


def _contradicts(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> bool:
    """Whether a known resource has another hash now; CRDs may come and go."""
    return any(name in after and after[name] != known for name, known in before.items())


def _can_still_hold(good_since: float, start: float, wait: WaitSettings) -> bool:
    """Whether the current agreement, if it lasts, becomes stable within the time limit."""
    return good_since + wait.stable_for <= start + wait.timeout


def _timeout_sentence(seen: Observation, wait: WaitSettings) -> str:
    if seen.converged:
        return (
            f"The API servers agree, but did not do so for {wait.stable_for:g} s within the "
            f"{wait.timeout:g} s allowed; raise wait_timeout and run again."
        )
    return (
        f"The API servers did not converge within {wait.timeout:g} s: {seen.summary()}. "
        "Nothing may be migrated before they do; finish or repair these servers and run again."
    )


def hashes_by_resource(reports: Iterable[ServerReport]) -> dict[str, set[str]]:
    """Every hash that any usable server reports, by resource."""
    found: dict[str, set[str]] = {}
    for report in reports:
        if report.usable:
            for name, resource in report.resources.items():
                found.setdefault(name, set()).update(resource.hashes)
    return found
