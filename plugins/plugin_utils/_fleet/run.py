# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run over a fleet: where it resumes, whether the next wave may begin, and how it ends. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import epoch_seconds
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.clusters import row_of, same_cluster
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.record import (
    FINISHED,
    NOT_BEGUN,
    RUNNING,
    STOPPED,
    ClusterRow,
    FleetRecord,
    FleetWave,
    Severity,
    UnfinishedRun,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.waves import Wave
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import Snapshot
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.wording import some_of, things

_NAMED = 5
_UNSEEN = (Severity.FAILURE, Severity.NOT_REACHED)


@dataclass(frozen=True)
class Report:
    """The newest report about a cluster, and the pages about it by kind."""

    snapshot: Snapshot
    pages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rules:
    """When a run stops between two waves, and when it fails at its end.

    ``stop_on``: the least severity of one cluster that stops it; None: no severity does. Clusters that failed or were not reached
    stop it only if they are more than ``max_failures``. ``fail_on``: the least severity that counts as failed at the end; None: none does.
    """

    stop_on: Severity | None = Severity.BLOCKER
    max_failures: int = 0
    fail_on: Severity | None = Severity.BLOCKER


@dataclass(frozen=True)
class Verdict:
    """``problems``: a sentence for each cluster that counts as failed. ``only_unreachable``: each of them was just not reached."""

    problems: Mapping[str, str]
    only_unreachable: bool


def begun(
    before: FleetRecord | None,
    run: str,
    purpose: str,
    version: str | None,
    waves: Sequence[Wave],
    now: str,
    resume_within: float = 0.0,
) -> FleetRecord:
    """The record of a new run, or of one that resumes an earlier run, which did not finish and had the same to do with some of its clusters."""
    record = FleetRecord(
        run=run,
        purpose=purpose,
        version=version,
        started=now,
        updated=now,
        waves=[FleetWave(wave.name, list(wave.clusters)) for wave in waves],
        clusters=list(before.clusters) if before else [],
    )
    resumed = _resumed(before, record, resume_within) if before else None
    return replace(record, started=resumed.started) if resumed else record


def _resumed(before: FleetRecord, record: FleetRecord, within: float) -> UnfinishedRun | None:
    """The newest of the runs that this one resumes."""

    def fits(earlier: UnfinishedRun) -> bool:
        same = (earlier.purpose, earlier.version) == (record.purpose, record.version)
        recent = epoch_seconds(record.started) - epoch_seconds(earlier.updated) <= within
        return same and recent and bool(set(earlier.clusters) & set(record.hosts))

    return max(filter(fits, _unfinished(before)), key=lambda earlier: earlier.updated, default=None)


def _unfinished(record: FleetRecord) -> list[UnfinishedRun]:
    """With the run of the record itself, which files of earlier releases don't list."""
    known = {earlier.run for earlier in record.unfinished}
    return [*record.unfinished, *([_as_unfinished(record)] if record.run not in known else [])]


def _as_unfinished(record: FleetRecord) -> UnfinishedRun:
    """Without clusters if it has finished."""
    return UnfinishedRun(
        run=record.run,
        purpose=record.purpose,
        version=record.version,
        started=record.started,
        updated=record.updated,
        clusters=record.hosts if record.status != FINISHED else [],
    )


def still_unfinished(before: FleetRecord | None, record: FleetRecord) -> list[UnfinishedRun]:
    """This run, if it has not finished, and those that ``before`` has, without the clusters that this run has taken over."""
    others = [earlier for earlier in _unfinished(before) if earlier.run != record.run] if before else []
    taken = set(record.hosts)
    left = [replace(earlier, clusters=[name for name in earlier.clusters if name not in taken]) for earlier in others]
    return [earlier for earlier in (*left, _as_unfinished(record)) if earlier.clusters]


def done_before(record: FleetRecord) -> list[str]:
    """Clusters that an interrupted run has done, so that the run that resumes it leaves them alone."""
    return [
        row.host
        for row in record.clusters
        if row.observed
        and row.observed >= record.started
        and row.state != NOT_BEGUN
        and Severity(row.state).rank < Severity.DISAGREEMENT.rank
    ]


def folded(record: FleetRecord, reports: Mapping[str, Report], now: str) -> FleetRecord:
    """The record with a row for each cluster of the run, and for each other one that there is a report about."""
    earlier = {row.host: row for row in record.clusters}
    wave_of = {host: wave for wave in record.waves for host in wave.clusters}
    rows = []
    for host in [*wave_of, *(host for host in sorted(reports) if host not in wave_of)]:
        report = reports.get(host)
        row = row_of(host, report.snapshot, report.pages, earlier.get(host)) if report else ClusterRow(host, NOT_BEGUN)
        wave = wave_of.get(host)
        row.wave = wave.name if wave else None
        if wave is not None and not (row.observed and row.observed >= record.started):
            row.state, row.why = _without_report(record, wave)
        rows.append(row)
    return replace(record, updated=now, clusters=same_cluster(rows))


def _without_report(record: FleetRecord, wave: FleetWave) -> tuple[str, list[str]]:
    """Of a cluster that this run has no report about."""
    if wave.finished:
        return Severity.FAILURE.value, ["This run has no result for it; see the playbook's output."]
    if record.status == STOPPED:
        return NOT_BEGUN, [f"The run stopped before the wave '{wave.name}'."]
    return NOT_BEGUN, ["It has not had its turn yet."]


def wave_finished(record: FleetRecord, index: int, now: str) -> FleetRecord:
    """The record after a wave; it has to be folded again."""
    waves = [replace(wave, finished=now) if number == index else wave for number, wave in enumerate(record.waves)]
    return replace(record, waves=waves, updated=now)


def stopped_after(record: FleetRecord, index: int, rules: Rules) -> FleetRecord:
    """The record, stopped if the rules want that after this wave and there is another one."""
    why = stop_reason(record, record.waves[index], rules)
    if why and any(wave.clusters for wave in record.waves[index + 1 :]):
        return replace(record, status=STOPPED, stopped=why)
    return record


def stop_reason(record: FleetRecord, wave: FleetWave, rules: Rules) -> str | None:
    """Why no further wave may begin; None if one may. ``record`` must be folded."""
    rows = [row for row in record.clusters if row.host in set(wave.clusters)]
    failed = [row for row in record.clusters if row.wave and row.state in {severity.value for severity in _UNSEEN}]
    if len(failed) > rules.max_failures:
        count = things(len(failed), "cluster")
        return f"{count} failed or could not be reached, and {rules.max_failures} are allowed: {_names(failed)}."
    bad = [row for row in rows if row not in failed and _at_least(row, rules.stop_on)]
    if bad and rules.stop_on is not None:
        found = ", ".join(f"{row.host} ({row.state})" for row in bad[:_NAMED])
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        return f"The wave '{wave.name}' has clusters in the state {rules.stop_on.value} or worse: {found}{more}."
    return None


def ended(record: FleetRecord, now: str) -> FleetRecord:
    """The record at the end of the play; it is finished once every cluster had its turn."""
    left = any(wave.clusters and not wave.finished for wave in record.waves)
    return record if left or record.status != RUNNING else replace(record, status=FINISHED, updated=now)


def verdict(record: FleetRecord, rules: Rules) -> Verdict:
    """Which clusters of the run count as failed. After a stop, the first that had no turn counts for all of these."""
    found = {
        row.host: f"{state_words(row.state)}: {' '.join(row.why)}"
        for row in record.clusters
        if row.wave and _at_least(row, rules.fail_on)
    }
    waiting = [row for row in record.clusters if row.wave and row.state == NOT_BEGUN]
    if record.status == STOPPED and waiting:
        found[waiting[0].host] = (
            f"{things(len(waiting), 'cluster')} had no turn, because the run stopped: {record.stopped}"
        )
    states = {row.state for row in record.clusters if row.host in found}
    return Verdict(found, states == {Severity.NOT_REACHED.value})


def summary(record: FleetRecord) -> list[str]:
    """A few lines for the end of a playbook."""
    rows = [row for row in record.clusters if row.wave]
    lines = [f"{things(len(rows), 'cluster')}:"]
    for state in [*(severity.value for severity in reversed(Severity)), NOT_BEGUN]:
        found = [row for row in rows if row.state == state]
        if found:
            lines.append(f"  {len(found)} {state_words(state)}: {_names(found)}")
    return lines + ([f"Stopped: {record.stopped}"] if record.stopped else [])


def _at_least(row: ClusterRow, least: Severity | None) -> bool:
    return least is not None and row.state != NOT_BEGUN and Severity(row.state).rank >= least.rank


def _names(rows: Sequence[ClusterRow]) -> str:
    return some_of([row.host for row in rows], _NAMED)


_WORDS = {
    Severity.FINE.value: "nothing found",
    Severity.CONCERN.value: "to consider",
    Severity.STALE.value: "stale",
    Severity.DISAGREEMENT.value: "API servers differ",
    Severity.BLOCKER.value: "blocked",
    Severity.FAILURE.value: "failed",
    Severity.NOT_REACHED.value: "not reached",
    NOT_BEGUN: "not begun",
}


def state_words(state: str) -> str:
    """What people read instead of a state's name."""
    return _WORDS[state]
