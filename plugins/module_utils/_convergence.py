# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether all API servers agree on every storage version. Pure, but for the waiting loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import (
    ApiError,
    NotConvergedError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Event, Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._sampling import EACH_SERVER, SAMPLING, Evidence
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import (
    Disagreement,
    ServedResource,
    ServerReport,
    by_server_text,
    disagreements,
    group_names,
    version_matches,
)

_NAMED_AT_MOST = 10
_CHANGES_KEPT = 100


@dataclass(frozen=True)
class Expectation:
    """What must hold besides agreement: how many servers, at which release, and for which resources (None: all)."""

    servers: int | None = None
    version: str | None = None
    resources: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Observation:
    """All API servers at one moment.

    ``problems`` are sentences about the list of servers itself (one is alive that nobody listed);
    they too mean that convergence can't be claimed. ``evidence``: what it rests on where samples were taken; None
    where each server was asked at its own address.
    """

    reports: tuple[ServerReport, ...]
    problems: tuple[str, ...] = ()
    expectation: Expectation = Expectation()
    evidence: Evidence | None = None

    @property
    def proven_by(self) -> str:
        """How strong agreement is, if there is any."""
        return EACH_SERVER if self.evidence is None else SAMPLING

    @property
    def who(self) -> str:
        """Whose agreement it is."""
        if self.evidence is None:
            return f"{len(self.reports)} API servers"
        if self.evidence.told_apart is None:
            return f"{self.evidence.connections} answers of API servers that can't be told apart"
        return f"{self.evidence.told_apart} API servers, told apart in {self.evidence.connections} samples,"

    @property
    def reservations(self) -> list[str]:
        """Sentences about what agreement is worth, for the user's eyes; empty where it is proven."""
        return [] if self.evidence is None or not self.converged else [self.evidence.sentence()]

    @property
    def resources(self) -> Mapping[str, ServedResource]:
        """Every stored resource that some usable server serves, in the words of the first that does."""
        found: dict[str, ServedResource] = {}
        for report in self.reports:
            if report.usable:
                for name, resource in report.resources.items():
                    found.setdefault(name, resource)
        names = self.expectation.resources
        return found if names is None else {name: found[name] for name in names if name in found}

    @property
    def disagreements(self) -> list[Disagreement]:
        return disagreements(self.reports, self.expectation.resources)

    @property
    def other_groups(self) -> tuple[str, ...]:
        """Candidate groups for decoding a hash."""
        return group_names(self.reports)

    @property
    def converged(self) -> bool:
        return not self.reasons()

    def reasons(self) -> list[str]:
        """Why it is not converged, one sentence each, servers before resources; empty if it is."""
        return [*self.server_reasons(), *(by_server_text(one, self.other_groups) for one in self.disagreements)]

    def server_reasons(self) -> list[str]:
        """The reasons that lie with servers: missing, failing, not ready, at another release."""
        found = list(self.problems)
        expected = self.expectation.servers
        if not self.reports and not found:
            found.append("No API server was found; name them with the option servers.")
        elif self.evidence is None and self.reports and expected is not None and len(self.reports) != expected:
            found.append(
                f"{expected} API servers are expected, {len(self.reports)} "
                f"{'is' if len(self.reports) == 1 else 'are'} known: {', '.join(one.url for one in self.reports)}."
            )
        for report in self.reports:
            if report.error is not None:
                found.append(report.error if report.url in report.error else f"{report.url}: {report.error}")
            elif not report.ready:
                found.append(f"{report.url} is not ready (its /readyz fails).")
            elif self.expectation.version and not version_matches(report, self.expectation.version):
                found.append(f"{report.url} is at {release_text(report)}, not at {self.expectation.version}.")
        return found

    def summary(self) -> str:
        """All reasons in one line, long lists of resources cut."""
        reasons = self.reasons()
        shown = "; ".join(reason.rstrip(".") for reason in reasons[:_NAMED_AT_MOST])
        more = len(reasons) - _NAMED_AT_MOST
        return shown + (f"; and {more} more" if more > 0 else "")


def release_text(report: ServerReport) -> str:
    """``v1.37.2`` or ``v1.37.2 (emulating 1.36)``."""
    emulated = f" (emulating {report.emulated_version})" if report.emulated_version else ""
    return f"{report.version}{emulated}"


@dataclass(frozen=True)
class Patience:
    """How long to wait for convergence, how often to look, how long it must hold; all in seconds."""

    timeout: float
    interval: float
    stable_for: float


async def wait_converged(
    observe: Callable[[], Awaitable[Observation]], patience: Patience, report: Report
) -> Observation:
    """Looks until every observation was converged, with one and the same content, for ``stable_for``.

    Raises NotConvergedError, which names servers and resources, when time is out.
    """
    start = time.monotonic()
    good_since: float | None = None
    good_hashes: Mapping[str, str | None] = {}
    told = ""
    while True:
        seen = await _look(observe)
        now = time.monotonic()
        if seen.converged:
            hashes = {name: one.hash for name, one in seen.resources.items()}
            if good_since is None or _contradicts(good_hashes, hashes):
                good_since = now
            good_hashes = hashes
            if now - good_since >= patience.stable_for:
                return seen
            text = f"All {seen.who} agree; making sure that it holds for {patience.stable_for:g} s."
        else:
            good_since = None
            text = f"Waiting for the API servers to agree: {seen.summary()}."
        if text != told:
            report(Event("waiting", text, _waiting_fields(seen, now - start)))
            told = text
        if now - start + patience.interval > patience.timeout and not (
            good_since is not None and _can_still_hold(good_since, start, patience)
        ):
            raise NotConvergedError(_timeout_sentence(seen, patience), {"observation": seen})
        await asyncio.sleep(min(patience.interval, max(0.0, start + patience.timeout - now)) or patience.interval)


def _waiting_fields(seen: Observation, seconds: float) -> dict[str, object]:
    return {
        "converged": seen.converged,
        "seconds": round(seconds, 1),
        "reasons": seen.reasons()[:_NAMED_AT_MOST],
        "more": max(0, len(seen.reasons()) - _NAMED_AT_MOST),
    }


class Watch:
    """Observes, and keeps each observation that differs from the one before it, with the time it was made at.

    Of many changes the first and the last are kept.
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
    """Whether two observations tell the same; CRDs that come and go are no difference as long as all agree on them."""
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
    """An observation; a load balancer that is away for a moment is a reason to wait, not to give up."""
    try:
        return await observe()
    except (UnreachableError, ApiError) as error:
        return Observation((), problems=(error.message,))


def _contradicts(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> bool:
    """Whether a resource known before now has another hash; CRDs may come and go meanwhile."""
    return any(name in after and after[name] != known for name, known in before.items())


def _can_still_hold(good_since: float, start: float, patience: Patience) -> bool:
    """Whether the present agreement, if it lasts, reaches its stable time within the time limit."""
    return good_since + patience.stable_for <= start + patience.timeout


def _timeout_sentence(seen: Observation, patience: Patience) -> str:
    if seen.converged:
        return (
            f"The API servers agree, but did not do so for {patience.stable_for:g} s within the "
            f"{patience.timeout:g} s allowed; raise wait_timeout and run again."
        )
    return (
        f"The API servers did not converge within {patience.timeout:g} s: {seen.summary()}. "
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
