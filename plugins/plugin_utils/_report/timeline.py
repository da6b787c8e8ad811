# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Interprets a record: which masters were out of service and for how long, when they were mixed, what was rewritten. Pure.

Times are seconds since 1970 from here on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from urllib.parse import urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import epoch_seconds
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import short_version
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import (
    EtcdContents,
    FailedObject,
    MigratedResource,
    ObservedServer,
    Record,
    RecordedObservation,
    Step,
    StoredResource,
    StoredVariant,
    TrimmedCrd,
)

NOT_SERVED = "not there"


@dataclass(frozen=True)
class Band:
    """A stretch of time in one state: ``old`` or ``new`` (ready at that release), ``upgrading``, ``down``, ``unseen``."""

    start: float
    end: float
    state: str
    version: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class StoringBand:
    """A stretch of time in which a server stored ``done`` of ``total`` changed resources in their new version."""

    start: float
    end: float
    done: int
    total: int


@dataclass
class MasterTimeline:
    """One API server through all runs. ``away``: at most how many seconds it was out of service; ``still_down``: whether it is.

    ``before`` and ``now`` are the releases at which it was first and last seen ready; ``at_target``: whether the latter is
    the target.
    """

    name: str
    url: str
    bands: list[Band] = field(default_factory=list)
    storing: list[StoringBand] = field(default_factory=list)
    before: str | None = None
    now: str | None = None
    at_target: bool = False
    away: float = 0.0
    still_down: bool = False
    steps: list[Step] = field(default_factory=list)


class ServerLook(NamedTuple):
    """What one server reported from the ``first`` to the ``last`` of equal observations."""

    first: float
    last: float
    state: str
    version: str | None
    error: str | None


@dataclass(frozen=True)
class VersionChange:
    """A resource whose storage version changed; ``since``: by URL, when each server was first seen to use the new one."""

    resource: str
    before: str
    after: str
    since: Mapping[str, float | None]


@dataclass
class Timeline:
    """``spans`` are the runs, ``mixed`` when masters were, ``rewriting`` when objects were rewritten."""

    spans: list[tuple[float, float]]
    masters: list[MasterTimeline]
    mixed: list[tuple[float, float]]
    rewriting: list[tuple[float, float]]
    changes: list[VersionChange]


def timeline(record: Record) -> Timeline:
    spans = run_spans(record)
    servers = _servers(record)
    changes = _changes(record, [url for url, _name in servers])
    masters = [_master(record, url, name, spans, changes) for url, name in servers]
    starts = [(epoch_seconds(migration.started), migration.seconds) for migration in record.migrations]
    rewriting = [(start, start + seconds) for start, seconds in starts]
    return Timeline(spans, masters, _mixed(record, spans), rewriting, changes)


def run_spans(record: Record) -> list[tuple[float, float]]:
    """From the start to the end of each run, in which something was seen."""
    spans = []
    for run in record.runs:
        start, end = epoch_seconds(run.started), epoch_seconds(run.finished or run.updated)
        spans.append((start, max(end, start + 1.0)))
    return spans


def _servers(record: Record) -> list[tuple[str, str]]:
    """(URL, name) of every server seen, masters in their order first; named as in the inventory where that is known.

    With sampling, a restarted server may appear as a new one, so only those in the last observation count.
    """
    names: dict[str, str] = {}
    last = {server.url for seen in record.observations[-1:] for server in seen.servers}
    for seen in record.observations:
        for server in seen.servers:
            if not seen.sampling or server.url in last:
                names.setdefault(server.url, server.name or server.url)
    order: dict[str, int] = {}
    for place, master in enumerate(record.masters):
        for url in names:
            if {urlsplit(url).hostname, names[url]} & {master.name, master.host}:
                names[url], order[url] = master.name, place
    for step in record.steps:
        if step.server:
            names[step.server] = step.master
    return sorted(names.items(), key=lambda item: (order.get(item[0], len(order)), item[1]))


# Storage versions


def _said(seen: RecordedObservation, before: Mapping[str, str | None], resource: str, url: str) -> str | None:
    """The version that a server reported for a resource at that moment; None if that is unknown."""
    if not any(server.url == url and server.ready for server in seen.servers):
        return None
    if resource in seen.versions:
        if url not in seen.versions[resource]:
            return None
        return seen.versions[resource][url] or NOT_SERVED
    return before.get(resource) if seen.complete else None


def _changes(record: Record, urls: list[str]) -> list[VersionChange]:
    names = sorted({name for seen in record.observations for name in seen.versions})
    found = [_change(record, name, urls) for name in names]
    return [change for change in found if change is not None]


def _change(record: Record, name: str, urls: list[str]) -> VersionChange | None:
    """None if no server was seen to store it differently than before."""
    old = record.storage_versions_before.get(name) or NOT_SERVED
    new: str | None = None
    said: dict[str, list[tuple[float, str]]] = {url: [] for url in urls}
    for seen in record.observations:
        for url in urls:
            value = _said(seen, record.storage_versions_before, name, url)
            if value is not None:
                said[url].append((epoch_seconds(seen.first), value))
                server = next(server for server in seen.servers if server.url == url)
                if record.version is None or server.is_at(record.version):
                    new = value
    if new is None:
        values = {value for history in said.values() for _at, value in history}
        new = next((value for value in sorted(values) if value != old), old)
    if old == new:
        return None
    since = {url: next((at for at, value in history if value == new), None) for url, history in said.items()}
    return VersionChange(name, short_version(old, name), short_version(new, name), since)


# One master


def _master(
    record: Record, url: str, name: str, spans: list[tuple[float, float]], changes: list[VersionChange]
) -> MasterTimeline:
    master = MasterTimeline(name, url)
    master.steps = [step for step in record.steps if step.server == url]
    looks: list[ServerLook] = []
    for seen in record.observations:
        for server in seen.servers:
            if server.url == url:
                looks.append(_look(seen, server, record.version))
                if server.ready:
                    master.before = master.before or server.version
                    master.now, master.at_target = server.version, server.is_at(record.version)
                master.still_down = not server.ready
    looks.sort(key=lambda look: look.first)
    for start, end in spans:
        master.bands += _with_steps(_held(looks, start, end), master.steps)
        if changes:
            master.storing += _storing(url, changes, start, end)
    master.away = _away(master, looks)
    return master


def _look(seen: RecordedObservation, server: ObservedServer, target: str | None) -> ServerLook:
    state = "down" if not server.ready else "new" if target is None or server.is_at(target) else "old"
    return ServerLook(epoch_seconds(seen.first), epoch_seconds(seen.last), state, server.version, server.error)


def _held(looks: list[ServerLook], start: float, end: float) -> list[Band]:
    """An observation counts until the next one, and the first of a run from its start."""
    within = [look for look in looks if look.first < start <= look.last]
    within += [look for look in looks if start - 0.5 <= look.first <= end + 0.5]
    if not within:
        return [Band(start, end, "unseen")]
    bands: list[Band] = []
    for place, look in enumerate(within):
        begin = start if place == 0 else max(start, look.first)
        until = within[place + 1].first if place + 1 < len(within) else end
        until = min(max(until, begin), end)
        if bands and (bands[-1].state, bands[-1].version) == (look.state, look.version):
            bands[-1] = replace(bands[-1], end=until)
        elif until > begin:
            bands.append(Band(begin, until, look.state, look.version, look.error))
    return bands


def _with_steps(bands: list[Band], steps: Iterable[Step]) -> list[Band]:
    """While a master is being upgraded, it counts as ready only once it was seen ready at the new release."""
    for step in steps:
        start = epoch_seconds(step.started)
        end = epoch_seconds(step.finished) if step.finished else float("inf")
        ready = next((band.start for band in bands if band.state == "new" and start < band.start <= end), end)
        result: list[Band] = []
        for band in bands:
            cuts = [band.start, *sorted(cut for cut in (start, ready) if band.start < cut < band.end), band.end]
            for begin, until in zip(cuts, cuts[1:]):
                upgrading = start <= begin < ready and band.state != "down"
                state = "upgrading" if upgrading else band.state
                result.append(Band(begin, until, state, band.version, band.note))
        bands = result
    return bands


def _storing(url: str, changes: list[VersionChange], start: float, end: float) -> list[StoringBand]:
    times = sorted({at for change in changes if (at := change.since.get(url)) is not None})
    cuts = [start, *(at for at in times if start < at < end), end]
    return [
        StoringBand(begin, until, sum((change.since.get(url) or end + 1) <= begin for change in changes), len(changes))
        for begin, until in zip(cuts, cuts[1:])
    ]


def _away(master: MasterTimeline, looks: list[ServerLook]) -> float:
    """Seconds in which it may have been out of service: from the last observation in which it was ready, or the start of
    its upgrade, to the first in which it was ready again."""
    away, counted_until = 0.0, 0.0
    last = max((look.last for look in looks), default=0.0)
    for lost in sorted(_losses(master.steps, looks)):
        if lost < counted_until:
            continue
        ended = _end_of_step(master.steps, lost)
        back = next((look.first for look in looks if look.first > lost and _is_back(look, ended)), ended or last)
        away += max(0.0, back - lost)
        counted_until = back
    return away


def _losses(steps: list[Step], looks: list[ServerLook]) -> list[float]:
    """When it may have gone out of service."""
    starts = [epoch_seconds(step.started) for step in steps]
    losses = [
        before.last
        for before, after in zip(looks, looks[1:])
        if before.state != "down"
        and after.state == "down"
        and not any(before.first <= start <= after.first for start in starts)
    ]
    down_at_first = [looks[0].first] if looks and looks[0].state == "down" else []
    return [*starts, *losses, *down_at_first]


def _end_of_step(steps: list[Step], started: float) -> float | None:
    ends = [
        epoch_seconds(step.finished)
        for step in steps
        if step.finished and step.state == "done" and epoch_seconds(step.started) == started
    ]
    return max(ends, default=None)


def _is_back(look: ServerLook, step_ended: float | None) -> bool:
    return look.state != "down" and (step_ended is None or look.state == "new")


def _mixed(record: Record, spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """From the first observation of ready servers that differ to the first in which all agree again."""
    windows: list[tuple[float, float]] = []
    since: float | None = None
    releases: dict[str, str | None] = {}
    for seen in record.observations:
        if seen.sampling:
            releases = {}
        for server in seen.servers:
            if server.ready:
                releases[server.url] = server.version
        if seen.disagreeing or len(set(releases.values())) > 1:
            since = epoch_seconds(seen.first) if since is None else since
        elif since is not None and len(seen.servers) >= len(releases):
            windows.append((since, epoch_seconds(seen.first)))
            since = None
    if since is not None and spans:
        windows.append((since, spans[-1][1]))
    return windows


# What was rewritten


@dataclass(kw_only=True)
class ResourceRow(MigratedResource):
    """One resource over all migrations: sums of what was written, the rest as the last one saw it."""

    resource: str


def resource_rows(record: Record) -> list[ResourceRow]:
    """Failures first, then the resources with the most rewritten objects."""
    rows: dict[str, ResourceRow] = {}
    for migration in record.migrations:
        for name, found in migration.resources.items():
            rows[name] = _added(rows.get(name), name, found)
    return sorted(rows.values(), key=lambda row: (-(row.failed or 0), -(row.rewritten or 0), row.resource))


def _added(row: ResourceRow | None, name: str, found: MigratedResource) -> ResourceRow:
    last = ResourceRow(resource=name, **vars(found))
    if row is None:
        return last
    return replace(
        last,
        rewritten=_plus(row.rewritten, last.rewritten),
        conflicts=_plus(row.conflicts, last.conflicts),
        deleted=_plus(row.deleted, last.deleted),
        uncertain=((row.uncertain or 0) + (last.uncertain or 0)) or None,
        pruned=_plus(row.pruned, last.pruned),
        seconds=row.seconds + last.seconds,
    )


def all_rewritten(rows: Sequence[ResourceRow]) -> int | None:
    """None if the count of any resource is unknown."""
    total: int | None = 0
    for row in rows:
        total = _plus(total, row.rewritten)
    return total


def _plus(count: int | None, other: int | None) -> int | None:
    return None if count is None or other is None else count + other


def open_failures(record: Record) -> list[FailedObject]:
    """Objects that failed in the last migration that visited their resource."""
    last: dict[str, list[FailedObject]] = {}
    for migration in record.migrations:
        for name in migration.resources:
            last[name] = []
        for failure in migration.failures:
            last.setdefault(failure.resource or "", []).append(failure)
    return [failure for name in sorted(last) for failure in last[name]]


def trimmed(record: Record) -> list[TrimmedCrd]:
    return [crd for migration in record.migrations for crd in migration.trimmed]


def rewritten_off_record(record: Record, rows: Sequence[ResourceRow]) -> int | None:
    """Objects rewritten by an interrupted run, whose module continued; 0 if there was no such run, None if the number is unknown.

    Counted from etcd: objects that were stale before and are not now, minus those that runs on record wrote.
    """
    if not any(
        _may_have_migrated(record, run.started, run.finished or run.updated)
        for run in record.runs
        if run.status == "cut off"
    ):
        return 0
    before, after = record.stored.before, record.stored.after
    if before is None or after is None:
        return None
    known = {row.resource: _written(row) for row in rows}
    if None in known.values():
        return None
    stale = {row.resource: row.stale_before - row.stale_after for row in stored_rows(record, timeline(record).changes)}
    return sum(max(0, count - (known.get(name) or 0)) for name, count in stale.items())


def _written(row: ResourceRow) -> int | None:
    """Objects that are no longer as they were before, whoever wrote them."""
    return _plus(_plus(row.rewritten, row.conflicts), _plus(row.deleted, row.uncertain or 0))


def _may_have_migrated(record: Record, start: str, end: str) -> bool:
    """Whether a run was interrupted after all API servers agreed at the release, without a migration on record."""
    seen = [look for look in record.observations if look.first <= end]
    if not seen or not seen[-1].converged or any(start <= migration.finished <= end for migration in record.migrations):
        return False
    return record.version is None or all(server.is_at(record.version) for server in seen[-1].servers)


@dataclass(frozen=True)
class StoredPart:
    """Objects of one resource stored in one way; ``stale``: not as the API servers write it now."""

    label: str
    objects: int
    stale: bool


@dataclass(frozen=True)
class StoredRow:
    """None if etcd was not read."""

    resource: str
    before: tuple[StoredPart, ...] | None
    after: tuple[StoredPart, ...] | None
    stale_before: int
    stale_after: int


def stored_rows(record: Record, changes: Iterable[VersionChange]) -> list[StoredRow]:
    """Every resource that etcd held before or after, those with old objects first.

    Whether objects were stale before is judged by what the API servers write at the end, as that is what the upgrade changed.
    """
    return _rows((record.stored.before, record.stored.after), changes)


def snapshot_rows(stored: EtcdContents) -> list[StoredRow]:
    """What etcd holds now, with nothing before."""
    return _rows((None, stored), ())


def _rows(sides: tuple[EtcdContents | None, EtcdContents | None], changes: Iterable[VersionChange]) -> list[StoredRow]:
    names = {name for side in sides if side for name in side.resources}
    changed = {change.resource: change.after for change in changes}
    rows = []
    for name in names:
        found = [side.resources.get(name) if side else None for side in sides]
        seen = [variant for resource in found if resource for variant in resource.stored]
        current = _current(name, found[1], changed)
        before, after = (
            None if side is None else _parts(name, resource, seen, current) if resource else ()
            for side, resource in zip(sides, found)
        )
        rows.append(StoredRow(name, before, after, stale_objects(before), stale_objects(after)))
    return sorted(rows, key=lambda row: (-row.stale_after, -row.stale_before, row.resource))


def stale_objects(parts: Sequence[StoredPart] | None) -> int:
    return sum(part.objects for part in parts or () if part.stale)


def _current(name: str, after: StoredResource | None, changed: Mapping[str, str]) -> set[str] | None:
    """Versions that are current at the end; None if that isn't known."""
    if after is None:
        return {changed[name]} if name in changed else None
    current = {variant.version for variant in after.stored if variant.version and "version" not in variant.stale}
    current |= {after.expected} if after.expected else set()
    return {short_version(version, name) for version in current} or None


def _parts(
    name: str, found: StoredResource, seen: list[StoredVariant], current: set[str] | None
) -> tuple[StoredPart, ...]:
    """Encoding and key are named only if they make a difference."""
    encodings = len({variant.encoding for variant in seen if variant.encoding}) > 1
    keys = len({(variant.provider, variant.key) for variant in seen}) > 1
    counts: dict[tuple[str, bool], int] = {}
    for variant in found.stored:
        version = short_version(variant.version, name) if variant.version else None
        label = version or ("version hidden by encryption" if variant.provider != "identity" else "unreadable")
        label += f" {variant.encoding}" if encodings and variant.encoding else ""
        label += f" {key_label(variant)}" if keys else ""
        old = bool(variant.stale) or (version is not None and current is not None and version not in current)
        counts[label, old] = counts.get((label, old), 0) + variant.objects
    return sorted_parts(counts)


def key_label(variant: StoredVariant) -> str:
    """``plain``, or provider and name of the key."""
    return "plain" if variant.provider == "identity" else f"{variant.provider} {variant.key or ''}".rstrip()


def sorted_parts(counts: Mapping[tuple[str, bool], int]) -> tuple[StoredPart, ...]:
    """From counts by label and whether it is old: current ones first, then the largest."""
    parts = [StoredPart(label, count, old) for (label, old), count in counts.items()]
    return tuple(sorted(parts, key=lambda part: (part.stale, -part.objects, part.label)))
