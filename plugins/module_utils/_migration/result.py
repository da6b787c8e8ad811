# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that a run did, as the module's return values and its closing sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.crds import CRDS, Trimmed, Untrimmed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.choice import DIRECT, Choice
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.pace import PaceKept
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.history import Count, History
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import (
    Failure,
    OutcomeCounts,
    describe_failure,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Plan
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import write_whole
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import (
    Observation,
    unchecked_words,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.diff import diff_of

if TYPE_CHECKING:
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.managers_left import ManagersLeft
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.space import Space
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.stale_objects import Left

_FAILURES_RETURNED = 100
_FAILURES_IN_MESSAGE = 3
_NOTHING = OutcomeCounts()
NO_LONGER_SERVED = "it is no longer served, so what happened to its objects is unknown"


@dataclass(frozen=True)
class Wait:
    """``what`` must wait ``until`` that time, in seconds of time.monotonic()."""

    until: float
    what: str


@dataclass
class MigrationResult:
    """Everything that a run did; it owns the runs of all resources and every count.

    ``runs``: the latest run of each resource. ``earlier``: the counts of its earlier passes, without failures.
    ``managers_left``: custom resources with field managers at versions that may go.
    ``trimmed``, ``untrimmed``: CRDs. ``proven``: resources whose migration is proven.
    ``left``: what etcd still holds in an old form; None if it was not read.
    ``engine``: the engine and why that one. ``seconds``: how long the run took.
    ``recorded``: the versions on record before the run, by resource.
    ``agreement``: the last observation of the API servers.
    ``doubts``: sentences about what could not be shown. ``doubted``: the resources that therefore don't count
    as persisted although they were visited.
    ``answered_doubts``: how many of the checkpoint's doubts the last reading of etcd has answered.
    ``space``: etcd's, and ``pace``: what was kept to until now; None if nothing was to be written.
    ``wait``: what the run is waiting for. ``finished``: whether nothing remains to be visited again.
    """

    plan: Plan
    runs: dict[str, ResourceRun] = field(default_factory=dict)
    earlier: dict[str, OutcomeCounts] = field(default_factory=dict)
    trimmed: list[Trimmed] = field(default_factory=list)
    untrimmed: list[Untrimmed] = field(default_factory=list)
    managers_left: list[ManagersLeft] = field(default_factory=list)
    proven: list[str] = field(default_factory=list)
    left: Left | None = None
    engine: Choice = field(default_factory=lambda: Choice(DIRECT, "asked for"))
    seconds: float = 0.0
    history: History = field(default_factory=History)
    recorded: Mapping[str, str | None] = field(default_factory=dict)
    agreement: Observation = Observation(())
    doubts: list[str] = field(default_factory=list)
    doubted: list[str] = field(default_factory=list)
    answered_doubts: int = 0
    space: Space | None = None
    pace: Callable[[], PaceKept] | None = None
    wait: Wait | None = None
    finished: bool = False
    _sampled: dict[str, ResourceRun] = field(default_factory=dict)

    def begin(self, runs: Iterable[ResourceRun]) -> None:
        """Takes the runs of a pass; of an earlier pass, the counts are kept and its failures taken over."""
        for run in runs:
            before = self.runs.get(run.target.name)
            if before is not None:
                counts = self.earlier.setdefault(run.target.name, OutcomeCounts())
                counts.add(replace(before.tally, failed=0))
                run.goes_on_from(before)
            self.runs[run.target.name] = run

    @property
    def reservations(self) -> list[str]:
        """Sentences that warn the user about what does not count, or proves less."""
        unproven = [
            f"{name} does not count as migrated: {run.unproven}. Run again with engine: direct, or with select: stale and "
            "etcd, as a user who can list and patch it."
            for name, run in sorted(self.runs.items())
            if run.unproven is not None
        ]
        managers = [left.sentence for left in self.managers_left]
        return [*self.agreement.reservations, *unproven, *self.doubts, *self.etcd_problems, *managers]

    @property
    def etcd_problems(self) -> Sequence[str]:
        """Why the proof from etcd is incomplete."""
        return self.left.problems if self.left is not None else ()

    @property
    def total(self) -> OutcomeCounts:
        tally = OutcomeCounts()
        for name in self.runs:
            tally.add(self.of(name))
        return tally

    def of(self, name: str) -> OutcomeCounts:
        """The outcomes of the objects of one resource in all passes, each object counted once."""
        run = self.runs[name]
        tally = run.tally.without(run.visits.twice)
        tally.add(self.earlier.get(name, _NOTHING))
        return tally

    @property
    def wrote(self) -> bool:
        """Whether an object was rewritten, even if it failed in a later pass."""
        return any(run.visits.wrote for run in self.runs.values())

    @property
    def gone(self) -> list[str]:
        """Resources that are no longer served, so that nothing is known about their objects."""
        return sorted(name for name, run in self.runs.items() if run.gone)

    @property
    def failures(self) -> list[Failure]:
        crds = [
            Failure(CRDS, None, crd.crd, crd.status, crd.status_reason, f"storedVersions not trimmed: {crd.reason}")
            for crd in self.untrimmed
            if crd.failed
        ]
        return [failure for run in self.runs.values() for failure in run.known_failures] + crds

    def sample(self, seconds: float, *, last: bool = False) -> None:
        """Adds to the history how many objects of each resource are done. ``last``: also of those that were already sampled at their end."""
        counts = {}
        for name, run in self.runs.items():
            if not last and (run.started is None or self._sampled.get(name) is run):
                continue
            tally = self.of(name)
            counts[name] = Count(tally.visited, tally.rewritten)
            if run.finished is not None:
                self._sampled[name] = run
        self.history.add(seconds, counts)


def write_failures(path: Path | None, failures: Sequence[Failure]) -> None:
    """All failures as JSON lines; an empty file if there are none."""
    if path:
        lines = "".join(json.dumps(failure.as_dict()) + "\n" for failure in failures)
        write_whole(path, lines.encode())


def with_result(error: StorageUpgradeError, result: dict[str, Any]) -> StorageUpgradeError:
    """The error that stopped a run, with everything done until then."""
    error.result = {**result, **error.result}
    return error


def failed_sentence(result: MigrationResult) -> str:
    """Which objects failed, and what to do next."""
    total = result.total
    failures = result.failures
    shown = "; ".join(describe_failure(failure) for failure in failures[:_FAILURES_IN_MESSAGE])
    more = len(failures) - _FAILURES_IN_MESSAGE
    done = "" if total.unknown else f", {total.visited - total.failed} are done"
    return (
        f"{len(failures)} {'object' if len(failures) == 1 else 'objects or lists'} could not be rewritten{done}: "
        f"{shown}{f'; and {more} more (see failures)' if more > 0 else ''}. "
        "Fix the causes and run it again with select: changed, which visits only what remains."
    )


def done_sentence(result: MigrationResult) -> str:
    """The whole run in one sentence."""
    total = result.total
    if not result.runs:
        left_out = f"{len(result.plan.skipped)} resources were left out (see skipped_resources)"
        doubts = [*result.doubts, *result.etcd_problems]
        if doubts:
            return f"Nothing was migrated, and {left_out}; whether anything had to be is unknown: {doubts[0]}"
        return f"There was nothing to migrate: {left_out}."
    if total.unknown:
        counts = f"{result.engine.engine} did the work, and the user cannot list the objects, so they were not counted"
    else:
        counts = (
            f"{total.rewritten} objects were rewritten, {total.unchanged} were current, "
            f"{total.conflicts} were written by others meanwhile, {total.deleted} were deleted{_uncertain(total)}"
        )
    trimmed = "1 CRD was" if len(result.trimmed) == 1 else f"{len(result.trimmed)} CRDs were"
    how = "" if result.agreement.evidence is None else " That all API servers agree is known by sampling only."
    how += unchecked_words(result.agreement)
    unproven = [name for name, run in sorted(result.runs.items()) if run.unproven is not None or name in result.doubted]
    left = f" Not proven to be migrated: {', '.join(unproven)} (see unproven)." if unproven else ""
    gone = result.gone
    lost = (
        f" What happened to the objects of {', '.join(gone)} is unknown, because it is no longer served."
        if gone
        else ""
    )
    managers = _managers_left(result)
    return (
        f"{counts}; {trimmed} trimmed; {result.seconds:.1f} s.{how}{left}{lost}{_encryption_unknown(result)}{managers}"
    )


def _managers_left(result: MigrationResult) -> str:
    """What to do is in the warnings."""
    names = [left.resource for left in result.managers_left if left.objects is not None]
    return f" Field managers at older versions remain in {', '.join(names)} (see managers_left)." if names else ""


def _uncertain(total: OutcomeCounts) -> str:
    if not total.uncertain:
        return ""
    objects = "1 was" if total.uncertain == 1 else f"{total.uncertain} were"
    return f", {objects} written after an answer got lost, by this run or by others (uncertain)"


def _encryption_unknown(result: MigrationResult) -> str:
    number = sum(result.left.encryption_unknown.values()) if result.left is not None else 0
    if not number:
        return ""
    objects = "1 object" if number == 1 else f"{number} objects"
    return f" Etcd doesn't show whether {objects} are under the current encryption key (see proof)."


def as_return_values(result: MigrationResult) -> dict[str, Any]:
    """The module's return values."""
    total = result.total
    failures, proven = result.failures, set(result.proven)
    seconds = round(result.seconds, 3)
    # Found by comparing all servers, so not again for each of thousands of resources.
    uncounted = result.agreement.why_uncounted
    return {
        # If nothing was counted, or answers got lost, something may have been rewritten.
        "changed": bool(total.rewritten or total.pruned or total.unknown or result.trimmed or result.wrote),
        **_counts(total),
        "moved": total.moved,
        "pruned": total.pruned,
        # Ansible gives "failed" and "skipped" another meaning at the top of a result.
        "totals": {
            **_counts(total),
            "failed": len(failures),
            "skipped": len(result.plan.skipped),
        },
        "skipped_resources": [
            {"resource": skipped.resource, "reason": skipped.reason} for skipped in result.plan.skipped
        ],
        "resources": {
            name: _resource_result(run, result.of(name), name in proven, uncounted)
            for name, run in sorted(result.runs.items())
        },
        "failures": [failure.as_dict() for failure in failures[:_FAILURES_RETURNED]],
        "trimmed": [{"crd": crd.crd, "before": list(crd.before), "after": list(crd.after)} for crd in result.trimmed],
        "untrimmed": [{"crd": crd.crd, "reason": crd.reason} for crd in result.untrimmed],
        "managers_left": [left.as_dict() for left in result.managers_left],
        "proof": _proof(result),
        "proven_by": result.agreement.proven_by,
        "cross_checked": result.agreement.cross_checked,
        "sampling": evidence.as_dict() if (evidence := result.agreement.evidence) is not None else None,
        "etcd_space": result.space.as_dict() if result.space is not None else None,
        "pace": result.pace().as_dict() if result.pace is not None else None,
        "history": result.history.as_dict(),
        "engine": result.engine.engine,
        "engine_reason": result.engine.reason,
        "resumed": any(target.resumed for target in result.plan.targets)
        or any(skipped.done_before for skipped in result.plan.skipped),
        "seconds": seconds,
        "rate": None if total.unknown else round(total.visited / seconds, 1) if seconds else 0.0,
        "diff": diff_of("on record before", "stored now", _diff_rows(result)),
    }


def _counts(tally: OutcomeCounts) -> dict[str, int | None]:
    """The outcomes by kind; null if a controller did the work and nothing was counted."""
    names = ("rewritten", "unchanged", "conflicts", "deleted", "uncertain")
    return {name: None if tally.unknown else getattr(tally, name) for name in names}


def _diff_rows(result: MigrationResult) -> Iterator[tuple[str, str | None, str | None]]:
    """What was rewritten, from which version on record, to which version."""
    for name, run in result.runs.items():
        before, now = result.recorded.get(name), run.target.storage_version
        tally = result.of(name)
        if tally.rewritten or run.failures or (before is not None and before != now):
            failed = f", {len(run.failures)} failed" if run.failures else ""
            yield name, before, f"{now or 'unknown'} ({tally.rewritten} of {tally.visited} rewritten{failed})"
    for crd in result.trimmed:
        yield f"{crd.crd} status.storedVersions", ", ".join(crd.before), ", ".join(crd.after)


def _proof(result: MigrationResult) -> dict[str, Any] | None:
    """What etcd holds after the run; None if it was not read."""
    left = result.left
    if left is None:
        return None
    return {
        "revision": left.revision,
        "stale": sum(left.count.values()),
        "unprovable": sum(left.unprovable.values()),
        "unprovable_resources": dict(sorted(left.unprovable.items())),
        "encryption_unknown": sum(left.encryption_unknown.values()),
        "encryption_unknown_resources": dict(sorted(left.encryption_unknown.items())),
        "problems": list(left.problems),
        "resources": {
            name: {"stale": count, "reasons": left.reasons.get(name, [])} for name, count in sorted(left.count.items())
        },
    }


def _resource_result(run: ResourceRun, tally: OutcomeCounts, persisted: bool, uncounted: str | None) -> dict[str, Any]:
    return {
        **_counts(tally),
        "failed": len(run.known_failures),
        "moved": tally.moved,
        "pruned": tally.pruned,
        "seconds": round(run.seconds, 3),
        "rate": None if tally.unknown else round(tally.visited / run.seconds, 1) if run.seconds else 0.0,
        "storage_version": run.target.storage_version,
        "engine": run.engine,
        "engine_reason": run.why_engine,
        "persisted": persisted,
        "unproven": run.unproven
        or (NO_LONGER_SERVED if run.gone else None)
        or (None if persisted else run.doubt or uncounted),
        "reason": NO_LONGER_SERVED if run.gone else run.target.reason,
    }
