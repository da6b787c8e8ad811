# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The work of upgrade_fleet: reads the reports of the clusters, and writes the fleet's record, page and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.folder import FleetFolder, require_names
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.metrics import exposition
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.page import fleet_page
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.record import (
    MIGRATE,
    STOPPED,
    FleetRecord,
    Severity,
    read_fleet,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.run import (
    FleetRules,
    Report,
    begun,
    beside,
    done_before,
    ended,
    folded,
    stopped_after,
    summary,
    verdict,
    wave_finished,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.waves import planned_waves
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.json_data import as_json
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.wording import things


@dataclass(frozen=True)
class FleetNews:
    """What a task passes: ``clusters`` if the run begins, ``finished_wave`` (its number) after a wave, ``end`` at the end of the play.

    ``begun``: the run as the task before returned it. Several runs may share a folder, as those of slices do.
    """

    run: str
    purpose: str = "audit"
    version: str | None = None
    clusters: Sequence[str] | None = None
    begun: Mapping[str, Any] | None = None
    waves: Sequence[Any] = ()
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    resume_within: float = 0.0
    finished_wave: int | None = None
    stop_on: Severity | None = Severity.BLOCKER
    max_failures: int = 0
    fail_on: Severity | None = Severity.BLOCKER
    end: bool = False

    @property
    def only_reports(self) -> bool:
        """Whether the task makes one page of reports that are there already."""
        return self.clusters is not None and self.finished_wave is not None

    @property
    def rules(self) -> FleetRules:
        return FleetRules(self.stop_on, self.max_failures, self.fail_on)


def keep(folder: FleetFolder, news: FleetNews, now: str, write: bool = True) -> dict[str, Any]:
    """The module's result."""
    with folder.files.locked():
        folder.require_writable()
        run = _run_of(folder.read(), news, now, folder)
        reports = folder.reports(run.task)
        if news.only_reports:
            reports = dict(_as_results(run, reports))
            run = _from_reports(run, reports)
        record = _next(run, reports, news, now)
        if write:
            folder.write_record(record)
            folder.files.write_page(fleet_page(record))
            folder.write_metrics(exposition(record))
    return {"changed": write, **_told(folder, record, news)}


def _run_of(before: FleetRecord | None, news: FleetNews, now: str, folder: FleetFolder) -> FleetRecord:
    """The run that the task is about, with the rows that the folder has so far."""
    if news.clusters is not None:
        return _begun(before, news, now)
    if news.begun:
        return beside(read_fleet(dict(news.begun)), before)
    if before is None:
        raise BadInputError(f"No run of a fleet has begun in {folder.path}; start one by giving its clusters.")
    return before


def _begun(before: FleetRecord | None, news: FleetNews, now: str) -> FleetRecord:
    clusters = list(news.clusters or ())
    if not clusters:
        raise BadInputError("The fleet has no clusters; the play must have a host for each of them.")
    require_names(clusters)
    waves = planned_waves(clusters, news.waves, news.groups)
    return begun(before, news.run, news.purpose, news.version, waves, now, news.resume_within)


def _as_results(record: FleetRecord, reports: Mapping[str, Report]) -> Mapping[str, Report]:
    """The reports as those of the run, whichever task they are of; but no audit shows that a cluster was migrated."""
    if record.purpose == MIGRATE:
        return reports
    return {host: Report(replace(report.snapshot, fleet=record.task), report.pages) for host, report in reports.items()}


def _from_reports(record: FleetRecord, reports: Mapping[str, Report]) -> FleetRecord:
    """The run as if it had begun before the reports of its clusters."""
    found = [reports[host] for host in record.hosts if host in reports]
    times = [snapshot.updated for report in found for snapshot in (report.snapshot, report.result) if snapshot]
    return replace(record, started=min([record.started, *times]))


def _next(record: FleetRecord, reports: Mapping[str, Report], news: FleetNews, now: str) -> FleetRecord:
    if news.finished_wave is not None:
        record = wave_finished(record, news.finished_wave, now)
    record = folded(record, reports, now)
    if news.finished_wave is not None:
        stopped = stopped_after(record, news.finished_wave, news.rules)
        record = folded(stopped, reports, now) if stopped is not record else record
    return ended(record, now) if news.end else record


def _told(folder: FleetFolder, record: FleetRecord, news: FleetNews) -> dict[str, Any]:
    found = verdict(record, news.rules)
    lines, done = summary(record), done_before(record)
    return {
        "html": str(folder.files.html),
        "json": str(folder.files.json),
        "metrics": str(folder.metrics),
        "run": as_json(replace(record, clusters=[], unfinished=[])),
        "status": record.status,
        "stopped": record.status == STOPPED,
        "waves": [{"name": wave.name, "clusters": wave.clusters} for wave in record.waves],
        "done": done,
        "notes": _notes(record, done),
        "states": {row.host: row.state for row in record.clusters if row.wave},
        "problems": dict(found.problems),
        "only_unreachable": found.only_unreachable,
        "summary": lines,
        "msg": record.stopped or lines[0].rstrip(":") + ".",
    }


def _notes(record: FleetRecord, done: Sequence[str]) -> list[str]:
    """What to know before the first wave."""
    notes = [
        f"The wave '{wave.name}' is empty: none of its clusters is in this play, or they are in earlier waves."
        for wave in record.waves
        if not wave.clusters
    ]
    if done:
        notes.append(f"Resumed: {things(len(done), 'cluster')} done by an earlier run, and left alone.")
    return notes
