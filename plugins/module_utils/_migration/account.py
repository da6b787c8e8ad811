# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that a run did, and how it is told: the module's return values and its closing sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._crds import CRDS, Trimmed, Untrimmed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._diff import diff_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.choice import DIRECT, Choice
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engine import ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.history import Count, History
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import (
    Failure,
    Tally,
    describe_failure,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Plan
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state_store import write_whole

if TYPE_CHECKING:
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.from_etcd import Left

_FAILURES_RETURNED = 100
_FAILURES_IN_MESSAGE = 3
_NOTHING = Tally()


@dataclass
class Account:
    """Everything that a run did; ``recorded``: the versions on record before it, by resource.

    ``agreement``: how the API servers stood when that was looked at last.
    """

    plan: Plan
    runs: dict[str, ResourceRun] = field(default_factory=dict)
    earlier: dict[str, Tally] = field(default_factory=dict)
    trimmed: list[Trimmed] = field(default_factory=list)
    untrimmed: list[Untrimmed] = field(default_factory=list)
    proven: list[str] = field(default_factory=list)
    left: Left | None = None
    engine: Choice = field(default_factory=lambda: Choice(DIRECT, "asked for"))
    seconds: float = 0.0
    history: History = field(default_factory=History)
    recorded: Mapping[str, str | None] = field(default_factory=dict)
    agreement: Observation = Observation(())

    @property
    def reservations(self) -> list[str]:
        return self.agreement.reservations

    @property
    def total(self) -> Tally:
        tally = Tally()
        for name, run in self.runs.items():
            tally.add(run.tally)
            if name in self.earlier:
                tally.add(self.earlier[name])
        return tally

    @property
    def failures(self) -> list[Failure]:
        crds = [
            Failure(CRDS, None, one.crd, one.status, one.status_reason, f"storedVersions not trimmed: {one.reason}")
            for one in self.untrimmed
            if one.failed
        ]
        return [failure for run in self.runs.values() for failure in run.failures] + crds

    def sample(self, seconds: float) -> None:
        """Takes down how far each resource is."""
        counts = {}
        for name, run in self.runs.items():
            before = self.earlier.get(name, _NOTHING)
            counts[name] = Count(before.visited + run.tally.visited, before.rewritten + run.tally.rewritten)
        self.history.add(seconds, counts)


def write_failures(path: str | None, failures: Sequence[Failure]) -> None:
    """All failures as JSON lines; an empty file where there are none."""
    if path:
        lines = "".join(json.dumps(failure.as_dict()) + "\n" for failure in failures)
        write_whole(Path(path).expanduser(), lines.encode())


def with_result(error: StorageUpgradeError, result: dict[str, Any]) -> StorageUpgradeError:
    """What stopped a run, with all that the run did until then."""
    error.result = {**result, **_plain(error.result)}
    return error


def _plain(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if isinstance(value, (str, int, float, list, dict))}


def failed_sentence(account: Account) -> str:
    total = account.total
    failures = account.failures
    shown = "; ".join(describe_failure(one) for one in failures[:_FAILURES_IN_MESSAGE])
    more = len(failures) - _FAILURES_IN_MESSAGE
    done = "" if total.unknown else f", {total.visited - total.failed} are done"
    return (
        f"{len(failures)} {'object' if len(failures) == 1 else 'objects or lists'} could not be rewritten{done}: "
        f"{shown}{f'; and {more} more (see failures)' if more > 0 else ''}. "
        "Mend the causes and run the same again with select: changed, which visits only what is left."
    )


def done_sentence(account: Account) -> str:
    """The whole run in one sentence."""
    total = account.total
    if not account.runs:
        return f"There was nothing to migrate: {len(account.plan.skipped)} resources were left out (see skipped_resources)."
    if total.unknown:
        counts = (
            f"{account.engine.engine} did the work, and the user may not list the objects, so they were not counted"
        )
    else:
        counts = (
            f"{total.rewritten} objects were rewritten, {total.unchanged} were current, "
            f"{total.conflicts} were written by others meanwhile, {total.deleted} were deleted"
        )
    trimmed = "1 CRD was" if len(account.trimmed) == 1 else f"{len(account.trimmed)} CRDs were"
    how = "" if account.agreement.evidence is None else " That all API servers agree is known by sampling only."
    return f"{counts}; {trimmed} trimmed; {account.seconds:.1f} s.{how}"


def result_of(account: Account) -> dict[str, Any]:
    """The module's return values."""
    total = account.total
    failures = account.failures
    seconds = round(account.seconds, 3)
    return {
        # Where nobody could count, something may have been rewritten.
        "changed": bool(total.rewritten or total.pruned or total.unknown or account.trimmed),
        **_counts(total),
        "pruned": total.pruned,
        # Ansible gives a meaning of its own to "failed" and "skipped" at the top of a result.
        "totals": {
            **_counts(total),
            "failed": len(failures),
            "skipped": len(account.plan.skipped),
        },
        "skipped_resources": [{"resource": one.resource, "reason": one.reason} for one in account.plan.skipped],
        "resources": {
            name: _resource_result(run, account.earlier.get(name), name in account.proven)
            for name, run in sorted(account.runs.items())
        },
        "failures": [failure.as_dict() for failure in failures[:_FAILURES_RETURNED]],
        "trimmed": [{"crd": one.crd, "before": list(one.before), "after": list(one.after)} for one in account.trimmed],
        "untrimmed": [{"crd": one.crd, "reason": one.reason} for one in account.untrimmed],
        "proof": _proof(account),
        "proven_by": account.agreement.proven_by,
        "sampling": evidence.as_dict() if (evidence := account.agreement.evidence) is not None else None,
        "history": account.history.as_dict(),
        "engine": account.engine.engine,
        "engine_reason": account.engine.reason,
        "resumed": any(target.resumed for target in account.plan.targets)
        or any("interrupted run" in one.reason for one in account.plan.skipped),
        "seconds": seconds,
        "rate": None if total.unknown else round(total.visited / seconds, 1) if seconds else 0.0,
        "diff": diff_of("stored before", "stored now", _diff_rows(account)),
    }


def _counts(tally: Tally) -> dict[str, int | None]:
    """What became of the objects; null where a controller did the work and nobody could count."""
    names = ("rewritten", "unchanged", "conflicts", "deleted")
    return {name: None if tally.unknown else getattr(tally, name) for name in names}


def _diff_rows(account: Account) -> Iterator[tuple[str, str | None, str | None]]:
    """What was rewritten, and from which version on record to which."""
    for name, run in account.runs.items():
        before, now = account.recorded.get(name), run.target.storage_version
        tally = Tally()
        tally.add(run.tally)
        tally.add(account.earlier.get(name, _NOTHING))
        if tally.rewritten or run.failures or (before is not None and before != now):
            failed = f", {len(run.failures)} failed" if run.failures else ""
            yield name, before, f"{now or 'unknown'} ({tally.rewritten} of {tally.visited} rewritten{failed})"
    for one in account.trimmed:
        yield f"{one.crd} status.storedVersions", ", ".join(one.before), ", ".join(one.after)


def _proof(account: Account) -> dict[str, Any] | None:
    """What etcd was seen to hold after the run; None where it was not read."""
    left = account.left
    if left is None:
        return None
    return {
        "revision": left.revision,
        "stale": sum(left.count.values()),
        "unprovable": sum(left.unprovable.values()),
        "unprovable_resources": dict(sorted(left.unprovable.items())),
        "resources": {
            name: {"stale": count, "reasons": left.reasons.get(name, [])} for name, count in sorted(left.count.items())
        },
    }


def _resource_result(run: ResourceRun, earlier: Tally | None, persisted: bool) -> dict[str, Any]:
    tally = Tally()
    tally.add(run.tally)
    if earlier is not None:
        tally.add(earlier)
    return {
        **_counts(tally),
        "failed": len(run.failures),
        "pruned": tally.pruned,
        "seconds": round(run.seconds, 3),
        "rate": None if tally.unknown else round(tally.visited / run.seconds, 1) if run.seconds else 0.0,
        "storage_version": run.target.storage_version,
        "engine": run.engine,
        "engine_reason": run.why_engine,
        "persisted": persisted,
        "reason": run.target.reason,
    }
