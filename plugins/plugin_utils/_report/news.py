# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Adds news to the record of an upgrade or a rotation. Pure.

A later run keeps everything that an earlier one saw, and completes what an interrupted run left open.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clean_text import cleaned
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import epoch_seconds
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._masters import is_ready
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import (
    ROTATION,
    UPGRADE,
    EtcdContents,
    InventoryMaster,
    ObservedServer,
    Proof,
    Record,
    RecordedObservation,
    RotationNames,
    Run,
    RunFailure,
    Step,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.results import (
    bounded,
    failure_messages,
    migration_of,
    sampling_of,
    stored_of,
    texts,
    unchecked_of,
    was_told,
)

_RUNS_KEPT = 50
_OBSERVATIONS_KEPT = 500
_MIGRATIONS_KEPT = 10
_FAILURES_KEPT = 20
_REASONS_KEPT = 20
_FORSAKEN_AFTER = 3600.0

News = Mapping[str, Any]


def new_record(version: str | None, now: str, kind: str = UPGRADE, key: str | None = None) -> Record:
    rotation = RotationNames(key) if kind == ROTATION else None
    return Record(kind=kind, version=version, rotation=rotation, status="running", started=now, updated=now)


def belongs(record: Record, kind: str, version: str | None, key: str | None = None) -> bool:
    """Whether news about an upgrade to ``version`` (None: a migration alone), or a rotation to ``key``, belongs to this record."""
    if record.kind != kind:
        return False
    if record.rotation is not None:
        return record.rotation.key == key
    return version is None or record.version is None or _without_build(record.version) == _without_build(version)


def of_another_cluster(record: Record, news: News) -> bool:
    """Whether news is about another cluster than this record. Unless both have its uid, by its name and its masters, as far as both have those."""
    uid, name = _uid_of(news), bounded(news.get("cluster_name") or None)
    if record.uid and uid:
        return record.uid != uid
    if record.cluster and name and record.cluster != name:
        return True
    known, told = {master.name for master in record.masters}, set(map(str, news.get("masters") or {}))
    return bool(known and told and not known & told)


def _uid_of(news: News) -> str | None:
    observed = [result for result in news.get("observed") or () if was_told(result)]
    about = [result["cluster"] for result in observed if isinstance(result.get("cluster"), Mapping)]
    return bounded(news.get("cluster_uid") or next((found["uid"] for found in about if found.get("uid")), None))


def _without_build(release: str) -> str:
    """``1.37.2`` for ``v1.37.2`` and for a distribution's build such as ``v1.37.2+rke2r1``."""
    return release.strip().removeprefix("v").partition("+")[0]


def add_news(record: Record, news: News, now: str) -> Record:
    """The record with the news of one task of the role; ``now`` is in UTC, like all times here."""
    record, news = copy.deepcopy(record), cleaned(news)
    record.updated = now
    record.cluster = bounded(news.get("cluster_name") or None) or record.cluster
    record.uid = record.uid or _uid_of(news)
    record.version = record.version or bounded(news.get("version") or None)
    if news.get("rotation"):
        record.rotation = _rotation(news["rotation"], record.rotation)
    _add_masters(record, news.get("masters") or {})
    run = _current_run(record, bool(news.get("begin")), now, bounded(news.get("run")))
    run.updated = now
    if news.get("step"):
        _add_step(record, news["step"], now)
    for result in news.get("observed") or ():
        _add_observations(record, result, now)
    _complete_steps(record)
    _add_migration(record, news.get("migration"), now)
    _add_stored(record, news, now)
    _add_failures(run, news, now)
    if news.get("verified") and not run.failures and _may_be_proven(record):
        record.proof = _proof(record, news, now)
    if news.get("end") or news.get("verified") or run.failures:
        _end(record, run, now)
    record.status = run.status
    return record


# Runs


def _current_run(record: Record, begin: bool, now: str, process: str | None) -> Run:
    """The run that the news belongs to: the open one, or a new one, which marks an open one as interrupted."""
    runs = record.runs
    if not begin and runs and runs[-1].finished is None and not _is_forsaken(record, runs[-1], now, process):
        return runs[-1]
    for run in runs:
        if run.finished is None:
            run.finished, run.status = run.updated, "cut off"
    _cut_off_steps(record, runs[-1].finished if runs else now)
    runs.append(Run(started=now, updated=now, finished=None, status="running", process=process))
    del runs[:-_RUNS_KEPT]
    record.proof = None
    return runs[-1]


def _cut_off_steps(record: Record, at: str | None) -> list[Step]:
    """Ends the steps that are still running; returns them."""
    found = [step for step in record.steps if step.state == "running"]
    for step in found:
        step.state, step.finished = "cut off", at
    return found


def closed(record: Record, started: str, now: str) -> Record | None:
    """The record after ansible-playbook has ended without closing the run that began at ``started``; None if it has closed it.

    It was killed, or the only host that was left can't be reached anymore.
    """
    if not record.runs or record.runs[-1].started != started or record.runs[-1].finished is not None:
        return None
    record = copy.deepcopy(record)
    run = record.runs[-1]
    run.finished, run.status = now, "cut off"
    begun = [step.master for step in _cut_off_steps(record, now)]
    who = begun[0] if begun else None
    message = (
        f"The run ended abruptly in the step on {who}: {who} can't be reached anymore, or ansible-playbook was ended. Tasks of the "
        f"step may still be running there; make sure that {who} can be reached, and run the playbook again, which waits for them."
        if who
        else "The run ended abruptly: a host can't be reached anymore, or ansible-playbook was ended. Run the playbook again to resume."
    )
    run.failures = [*run.failures, RunFailure(now, who, "upgrade" if who else None, message)][-_FAILURES_KEPT:]
    record.updated, record.status = now, run.status
    return record


def _is_forsaken(record: Record, run: Run, now: str, process: str | None) -> bool:
    """Whether an open run must have ended, since it had no news for too long. A master's upgrade may take any time.

    The ansible-playbook that began it hasn't ended if the news is its own: a migration, or an update that a platform rolls, has none for hours.
    """
    if (process and process == run.process) or any(step.state == "running" for step in record.steps):
        return False
    return epoch_seconds(now) - epoch_seconds(run.updated) > _FORSAKEN_AFTER


def _end(record: Record, run: Run, now: str) -> None:
    run.finished = now
    if run.failures:
        run.status = "failed"
    else:
        run.status = "succeeded" if record.proof else "unfinished"


def _add_failures(run: Run, news: News, now: str) -> None:
    """Notes each failure among the given results once."""
    results = [*(news.get("outcomes") or ()), *(news.get("observed") or ())]
    results += [news.get(name) for name in ("migration", "stored_before", "stored_after")]
    known = {failure.message for failure in run.failures}
    host, during = bounded(news.get("host")), bounded(news.get("during"))
    run.failures += [
        RunFailure(now, host, during, message) for message in failure_messages(results) if message not in known
    ]
    del run.failures[_FAILURES_KEPT:]


def _may_be_proven(record: Record) -> bool:
    """A finished role alone proves nothing: masters may be behind, and objects may never have been visited."""
    if record.kind == ROTATION:
        return record.stored.after is not None and record.all_stages_done
    looked_at_objects = record.stored.after is not None or bool(record.migrations)
    return looked_at_objects and _all_at_release(record)


def _all_at_release(record: Record) -> bool:
    """Whether the last observation found every API server ready at the release."""
    if record.version is None:
        return True
    last = record.last_observation
    return last is not None and bool(last.servers) and all(server.is_at(record.version) for server in last.servers)


def _proof(record: Record, news: News, now: str) -> Proof:
    after = record.stored.after if was_told(news.get("stored_after")) else None
    last = record.last_observation
    return Proof(
        at=now,
        etcd=after is not None and not after.total("stale"),
        agreed=last is None or last.converged,
        one_at_a_time=one_at_a_time(record)[0],
    )


# Masters


def _add_masters(record: Record, masters: Mapping[str, Any]) -> None:
    """Inventory names in order, and the hosts at which they are reached."""
    known = {master.name: master for master in record.masters}
    for name, host in masters.items():
        known[str(name)] = InventoryMaster(str(name), bounded(host) or "")
    record.masters = list(known.values())


def _add_step(record: Record, news: News, now: str) -> None:
    """The upgrade of one master, or one stage of its rotation: ``state`` is running, done or failed."""
    state = str(news.get("state"))
    if state != "running":
        for known in reversed(record.steps):
            if known.master == news["master"] and known.state == "running":
                known.state, known.finished = state, now
                return
    record.steps.append(
        Step(
            master=bounded(news["master"]) or "",
            server=bounded(news.get("server")),
            from_release=bounded(news.get("from")),
            to_release=bounded(news.get("to")),
            started=now,
            finished=None if state == "running" else now,
            state=state,
            stage=int(news["stage"]) if news.get("stage") else None,
        )
    )


def _complete_steps(record: Record) -> None:
    """Tasks of an interrupted step may have continued and upgraded the master after all."""
    last = record.last_observation
    if last is None or record.version is None:
        return
    at_release = {server.url for server in last.servers if server.is_at(record.version)}
    for step in {step.master: step for step in record.steps}.values():
        ended = step.finished or step.started
        is_open = step.state == "cut off" and step.completed is None and last.last > ended
        if is_open and step.server in at_release:
            step.completed = last.first if last.first > ended else last.last


def one_at_a_time(record: Record) -> tuple[bool | None, str]:
    """Whether two masters were ever being upgraded at the same time, and a sentence; None if that is unknown.

    The tasks of an interrupted step may have continued, at most until its master was seen at the release.
    """
    spans = sorted((step.started, step.finished or step.started, step.master) for step in record.steps)
    for earlier, later in zip(spans, spans[1:]):
        if later[0] < earlier[1]:
            both = earlier[2] == later[2]
            who = f"{later[2]} was being upgraded twice" if both else f"{earlier[2]} and {later[2]} were being upgraded"
            return False, f"{who} at the same time."
    doubtful = list(dict.fromkeys(step.master for step in record.steps if _end_is_unknown(step, record.steps)))
    if doubtful:
        return None, (
            f"Whether two masters were being upgraded at the same time is unknown: the upgrade of {', '.join(doubtful)} was "
            "interrupted, and its tasks may have continued."
        )
    return True, "At no time were two masters being upgraded."


def _end_is_unknown(step: Step, steps: list[Step]) -> bool:
    """Whether it may have continued while another step ran."""
    if step.state == "running":
        return True
    if step.state != "cut off":
        return False
    return step.completed is None or any(step.started < other.started < step.completed for other in steps)


# Observations


def _add_observations(record: Record, result: Any, now: str) -> None:
    if not was_told(result):
        return
    for earlier in result.get("history") or ():
        _add_observation(record, earlier, now)
    if "servers" in result:
        _add_observation(record, result, now)


def _add_observation(record: Record, result: News, now: str) -> None:
    at = bounded(result.get("observed_at")) or now
    disagreements = {
        str(found["resource"]): {
            str(url): bounded(said.get("storage_version")) for url, said in (found.get("by_server") or {}).items()
        }
        for found in result.get("disagreements") or ()
    }
    servers = [_server(server) for server in result.get("servers") or ()]
    agreed = {
        str(name): bounded(found.get("storage_version"))
        for name, found in (result.get("resources") or {}).items()
        if str(name) not in disagreements
    }
    if not record.storage_versions_before and agreed:
        record.storage_versions_before = {**agreed, **_before(disagreements, servers, record.version)}
    versions = dict(disagreements)
    for name, version in agreed.items():
        if version != record.storage_versions_before.get(name):
            versions[name] = {server.url: version for server in servers if server.ready}
    seen = RecordedObservation(
        first=at,
        last=at,
        servers=servers,
        converged=bool(result.get("converged")),
        reasons=texts((result.get("reasons") or ())[:_REASONS_KEPT]),
        disagreeing=sorted(disagreements),
        versions=versions,
        complete=bool(result.get("resources")),
        sampling=sampling_of(result.get("sampling")),
        unchecked=unchecked_of(result),
    )
    _keep_observation(record.observations, seen)


def _server(server: News) -> ObservedServer:
    emulated, binary = bounded(server.get("emulated_version")), bounded(server.get("version"))
    return ObservedServer(
        url=bounded(server.get("url")) or "",
        name=bounded(server.get("name")),
        version=emulated or binary,
        ready=is_ready(server),
        error=bounded(server.get("error")),
        binary=binary if emulated else None,
    )


def _keep_observation(kept: list[RecordedObservation], seen: RecordedObservation) -> None:
    """Merges equal observations in a row."""
    if kept and replace(kept[-1], first=seen.first, last=seen.last) == seen:
        kept[-1].last = max(kept[-1].last, seen.last)
        return
    kept.append(seen)
    if len(kept) > _OBSERVATIONS_KEPT:
        del kept[_OBSERVATIONS_KEPT // 2]


def _before(
    disagreements: Mapping[str, Mapping[str, str | None]], servers: list[ObservedServer], target: str | None
) -> dict[str, str | None]:
    """If a report begins with mixed masters: what the masters report that are not at the target yet."""
    found: dict[str, str | None] = {}
    for name, by_server in disagreements.items():
        old = [server.url for server in servers if not server.is_at(target) and server.url in by_server]
        value = by_server[old[0]] if old else None
        if value is not None:
            found[name] = value
    return found


def _rotation(news: News, known: RotationNames | None) -> RotationNames:
    """Names only, never a key or file content. A later run may find fewer old keys than the first."""
    known = known or RotationNames(None)
    old = [texts(key) for key in news.get("old") or ()]
    resources, drop_old = news.get("resources"), news.get("drop_old")
    return RotationNames(
        key=bounded(news.get("key")) or known.key,
        provider=bounded(news.get("provider")) or known.provider,
        resources=known.resources if resources is None else [str(name) for name in resources],
        drop_old=known.drop_old if drop_old is None else bool(drop_old),
        old=[*known.old, *(key for key in old if key not in known.old)],
    )


# Migration and etcd


def _add_migration(record: Record, result: Any, now: str) -> None:
    """Keeps the migrations that did something, and the last one."""
    if not was_told(result) or "rewritten" not in result:
        return
    *earlier, last = [*record.migrations, migration_of(result, now)]
    kept = [
        migration
        for migration in earlier
        if migration.totals.get("rewritten") != 0 or not migration.ok or migration.trimmed
    ]
    while len(kept) >= _MIGRATIONS_KEPT:
        del kept[1]
    record.migrations = [*kept, last]


def _add_stored(record: Record, news: News, now: str) -> None:
    """The first reading counts as before, the last one as after."""
    before, after = (_stored(news.get(name), now) for name in ("stored_before", "stored_after"))
    record.stored.before = record.stored.before or before
    record.stored.after = after or record.stored.after


def _stored(result: Any, now: str) -> EtcdContents | None:
    return stored_of(result, now) if was_told(result) and "totals" in result else None
