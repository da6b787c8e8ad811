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
    MIGRATE,
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
# How many seconds the record of the folder knows a run that was never resumed.
_FORGOTTEN_AFTER = 30 * 86400.0


@dataclass(frozen=True)
class Report:
    """The newest report about a cluster, and the pages about it by kind. ``result``: the newest one of a run with the same task as this one."""

    snapshot: Snapshot
    pages: Mapping[str, str] = field(default_factory=dict)
    result: Snapshot | None = None


@dataclass(frozen=True)
class FleetRules:
    """When a run stops between two waves, and when it fails at its end.

    ``stop_on``: the least severity of one cluster that stops it; None: no severity does. Clusters that failed or were not reached
    stop it only if they are more than ``max_failures``. ``fail_on``: the least severity that counts as failed at the end; None: none does.
    """

    stop_on: Severity | None = Severity.BLOCKER
    max_failures: int = 0
    fail_on: Severity | None = Severity.BLOCKER


@dataclass(frozen=True)
class FleetVerdict:
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
    """The record of a new run, or of one that resumes the last, if that did not finish and had the same to do."""
    record = FleetRecord(
        run=run,
        purpose=purpose,
        version=version,
        started=now,
        updated=now,
        waves=[FleetWave(wave.name, list(wave.clusters)) for wave in waves],
        clusters=list(before.clusters) if before else [],
    )
    unfinished = _unfinished_runs(before)
    resumed = [run for run in unfinished if _resumes(run, record, resume_within)]
    kept_for = max(resume_within, _FORGOTTEN_AFTER)
    left = [_without(run, record) for run in unfinished if _age(run, record.started) <= kept_for]
    record.unfinished = [run for run in left if run.clusters]
    if resumed:
        record.started, record.resumed = max(resumed, key=lambda run: run.updated).started, now
    return record


def beside(record: FleetRecord, before: FleetRecord | None) -> FleetRecord:
    """A run that goes on, with the rows and the unfinished runs that its folder has meanwhile."""
    others = [run for run in _unfinished_runs(before) if (run.run, run.started) != (record.run, record.started)]
    return replace(record, clusters=list(before.clusters) if before else [], unfinished=others)


def _unfinished_runs(before: FleetRecord | None) -> list[UnfinishedRun]:
    """Those in the folder, by its record. Runs with other tasks, and slices of the same one, take turns in writing it."""
    if before is None:
        return []
    last = UnfinishedRun(before.run, before.purpose, before.version, before.started, before.updated, before.hosts)
    return [*before.unfinished, *([last] if before.status != FINISHED else [])]


def _resumes(record: UnfinishedRun, by: FleetRecord, within: float) -> bool:
    """Whether a run that begins now resumes that one; a slice with other clusters doesn't."""
    shared = set(record.clusters) & set(by.hosts)
    return bool(shared) and _has_task_of(record, by) and _age(record, by.started) <= within


def _without(run: UnfinishedRun, record: FleetRecord) -> UnfinishedRun:
    """What remains to resume of that run, once this one has its turn with its own clusters."""
    if not _has_task_of(run, record):
        return run
    return replace(run, clusters=[host for host in run.clusters if host not in record.hosts])


def _has_task_of(run: UnfinishedRun, record: FleetRecord) -> bool:
    return (run.purpose, run.version) == (record.purpose, record.version)


def _age(run: UnfinishedRun, now: str) -> float:
    """Seconds since it was last heard of."""
    return epoch_seconds(now) - epoch_seconds(run.updated)


def done_before(record: FleetRecord) -> list[str]:
    """Clusters that an interrupted run has done, so that the run that resumes it leaves them alone."""
    return [row.host for row in record.clusters if _is_done(record, row)]


def _is_done(record: FleetRecord, row: ClusterRow) -> bool:
    """Whether this run needs nothing more from it. A row that no result of this run is about is failed or has not begun."""
    least = Severity.STALE if record.purpose == MIGRATE else Severity.DISAGREEMENT
    return row.wave is not None and row.state != NOT_BEGUN and not _at_least(row, least)


def waiting(record: FleetRecord) -> list[ClusterRow]:
    """The clusters that still have to have their turn: their wave has not ended, and no earlier run has done them."""
    hosts = {host for wave in record.waves if not wave.finished for host in wave.clusters}
    return [row for row in record.clusters if row.host in hosts and not _is_done(record, row)]


def folded(record: FleetRecord, reports: Mapping[str, Report], now: str) -> FleetRecord:
    """The record with a row for each cluster of the run, and for each other one that there is a report about, or that another run began with."""
    earlier = {row.host: row for row in record.clusters}
    wave_of = {host: wave for wave in record.waves for host in wave.clusters}
    others = {*reports, *(host for run in record.unfinished for host in run.clusters)} - set(wave_of)
    rows = []
    for host in [*wave_of, *sorted(others)]:
        report, wave = reports.get(host), wave_of.get(host)
        result = _result(report, record) if report and wave else None
        shown = result or (report.snapshot if report else None)
        row = row_of(host, shown, report.pages, earlier.get(host)) if report and shown else ClusterRow(host, NOT_BEGUN)
        if wave is None and report is None:
            row.why = ["Another run, which has not ended, has no result for it yet."]
        if wave is not None:
            row.wave = wave.name
            if result is None:
                row.state, row.why = _without_result(record, wave)
            elif wave.finished and record.resumed and result.updated < record.resumed and not _is_done(record, row):
                row.state, row.why = Severity.FAILURE.value, [_NOT_TRIED_AGAIN, *row.why]
        rows.append(row)
    return replace(record, updated=now, clusters=same_cluster(rows))


_NOT_TRIED_AGAIN = "The run that was resumed has no new result for it; see the playbook's output."


def _result(report: Report, record: FleetRecord) -> Snapshot | None:
    """What this run, or one that had the same task meanwhile, found; None if its cluster had no turn yet."""
    found = (report.snapshot, report.result)
    return next((snapshot for snapshot in found if snapshot and _counts(snapshot, record)), None)


def _counts(snapshot: Snapshot, record: FleetRecord) -> bool:
    """Nothing but the run's own tasks can know that a cluster was migrated; an audit may be anybody's."""
    same = snapshot.fleet == record.task if snapshot.fleet else record.purpose != MIGRATE
    return same and snapshot.updated >= record.started


def _without_result(record: FleetRecord, wave: FleetWave) -> tuple[str, list[str]]:
    """Of a cluster that this run has no result for."""
    if wave.finished:
        return Severity.FAILURE.value, ["This run has no result for it; see the playbook's output."]
    if record.status == STOPPED:
        return NOT_BEGUN, [f"The run stopped before the wave '{wave.name}'."]
    return NOT_BEGUN, ["It has not had its turn yet."]


def wave_finished(record: FleetRecord, index: int, now: str) -> FleetRecord:
    """The record after a wave; it has to be folded again."""
    waves = [replace(wave, finished=now) if number == index else wave for number, wave in enumerate(record.waves)]
    return replace(record, waves=waves, updated=now)


def stopped_after(record: FleetRecord, index: int, rules: FleetRules) -> FleetRecord:
    """The record, stopped if the rules want that after this wave and a cluster still has to have its turn."""
    why = stop_reason(record, record.waves[index], rules)
    if why and waiting(record):
        return replace(record, status=STOPPED, stopped=why)
    return record


def stop_reason(record: FleetRecord, wave: FleetWave, rules: FleetRules) -> str | None:
    """Why no further wave may begin; None if one may. ``record`` must be folded."""
    rows = [row for row in record.clusters if row.host in set(wave.clusters)]
    # Clusters of later waves may have failed in the run that this one resumes; they have yet to be tried again.
    had_turn = {host for wave in record.waves if wave.finished for host in wave.clusters}
    unseen = {severity.value for severity in _UNSEEN}
    failed = [row for row in record.clusters if row.host in had_turn and row.state in unseen]
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


def verdict(record: FleetRecord, rules: FleetRules) -> FleetVerdict:
    """Which clusters of the run count as failed. After a stop, the first that had no turn counts for all of these."""
    found = {
        row.host: f"{state_words(row.state)}: {' '.join(row.why)}"
        for row in record.clusters
        if row.wave and _at_least(row, rules.fail_on)
    }
    left = waiting(record) if record.status == STOPPED else []
    # Those that failed in the run that this one resumes speak for themselves.
    silent = [row.host for row in left if row.host not in found]
    if silent:
        found[silent[0]] = f"{things(len(left), 'cluster')} had no turn, because the run stopped: {record.stopped}"
    states = {row.state for row in record.clusters if row.host in found}
    return FleetVerdict(found, states == {Severity.NOT_REACHED.value})


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
