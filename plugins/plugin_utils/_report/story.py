# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a record means: who was out of service and how long, when masters were mixed, what was rewritten. Pure.

Times are seconds since 1970 from here on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import short_version
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import Record, at_release

NOT_SERVED = "not there"


def seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def clock(at: float, date: bool = False) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S")


def duration(length: float) -> str:
    """``4.2 s``, ``43 s``, ``2 min 5 s``, ``3 h 10 min``, ``2 days``."""
    length = max(0.0, length)
    if length < 9.95:
        return f"{length:.1f} s"
    whole = round(length)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    minutes = round(length / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    return f"{round(length / 86400)} days"


def number(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}".replace(",", "\u202f")


def things(count: int | None, one: str, many: str | None = None) -> str:
    if count is None:
        return f"an unknown number of {many or one + 's'}"
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


@dataclass(frozen=True)
class Band:
    """A stretch of time in one state: ``old`` or ``new`` (ready at that release), ``upgrading``, ``down``, ``unseen``."""

    start: float
    end: float
    state: str
    version: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Progress:
    """A stretch of time in which a server stored ``done`` of ``total`` changed resources in their new version."""

    start: float
    end: float
    done: int
    total: int


@dataclass
class Master:
    """One API server through all runs. ``away``: seconds out of service at the most; ``still_down`` if it is."""

    name: str
    url: str
    bands: list[Band] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    before: str | None = None
    now: str | None = None
    away: float = 0.0
    still_down: bool = False
    steps: list[Mapping[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class VersionChange:
    """A resource that API servers stored differently at different times; ``since``: by URL, when each began."""

    resource: str
    before: str
    after: str
    since: Mapping[str, float | None]


@dataclass
class Timeline:
    spans: list[tuple[float, float]]
    masters: list[Master]
    mixed: list[tuple[float, float]]
    work: list[tuple[float, float, str]]
    changes: list[VersionChange]


def timeline(record: Record) -> Timeline:
    spans = run_spans(record)
    servers = _servers(record)
    changes = _changes(record, [url for url, _name in servers])
    masters = [_master(record, url, name, spans, changes) for url, name in servers]
    work = [
        (seconds(one["started"]), seconds(one["started"]) + one["seconds"], "rewriting") for one in record["migrations"]
    ]
    return Timeline(spans, masters, _mixed(record, spans), work, changes)


def run_spans(record: Record) -> list[tuple[float, float]]:
    """From the start to the end of each run, in which something was seen."""
    spans = []
    for run in record["runs"]:
        start, end = seconds(run["started"]), seconds(run["finished"] or run["updated"])
        spans.append((start, max(end, start + 1.0)))
    return spans


def _servers(record: Record) -> list[tuple[str, str]]:
    """(URL, name) of every server seen, masters in their order first; named as in the inventory where that is known.

    Among samples a restarted server may be another one, so only those count that the last look found.
    """
    names: dict[str, str] = {}
    last = {one["url"] for seen in record["observations"][-1:] for one in seen["servers"]}
    for seen in record["observations"]:
        for one in seen["servers"]:
            if not seen.get("sampling") or one["url"] in last:
                names.setdefault(one["url"], one["name"] or one["url"])
    order: dict[str, int] = {}
    for place, master in enumerate(record["masters"]):
        for url in names:
            if urlsplit(url).hostname in (master["name"], master["host"]) or names[url] in (
                master["name"],
                master["host"],
            ):
                names[url], order[url] = master["name"], place
    for step in record["steps"]:
        if step["server"]:
            names[step["server"]] = step["master"]
    return sorted(names.items(), key=lambda item: (order.get(item[0], len(order)), item[1]))


# Storage versions


def _said(seen: Mapping[str, Any], before: Mapping[str, str | None], resource: str, url: str) -> str | None:
    """The version that a server reported for a resource at that moment, or None if that can't be told."""
    if not any(one["url"] == url and one["ready"] for one in seen["servers"]):
        return None
    if resource in seen["versions"]:
        if url not in seen["versions"][resource]:
            return None
        return seen["versions"][resource][url] or NOT_SERVED
    return before.get(resource) if seen["complete"] else None


def _changes(record: Record, urls: list[str]) -> list[VersionChange]:
    before = record["storage_versions_before"]
    names = sorted({name for seen in record["observations"] for name in seen["versions"]})
    found = []
    for name in names:
        old: str | None = before.get(name)
        new: str | None = None
        said: dict[str, list[tuple[float, str]]] = {url: [] for url in urls}
        for seen in record["observations"]:
            for url in urls:
                value = _said(seen, before, name, url)
                if value is not None:
                    said[url].append((seconds(seen["first"]), value))
                    version = next(one["version"] for one in seen["servers"] if one["url"] == url)
                    if at_release(version, record["version"]) or record["version"] is None:
                        new = value
        values = {value for history in said.values() for _at, value in history}
        if old is None:
            old = NOT_SERVED
        if new is None:
            new = next((one for one in sorted(values) if one != old), old)
        if new is None or old is None or old == new:
            continue
        since = {url: next((at for at, value in history if value == new), None) for url, history in said.items()}
        found.append(VersionChange(name, short_version(old, name), short_version(new, name), since))
    return found


# One master


def _master(
    record: Record, url: str, name: str, spans: list[tuple[float, float]], changes: list[VersionChange]
) -> Master:
    master = Master(name, url)
    master.steps = [step for step in record["steps"] if step["server"] == url]
    looks: list[tuple[float, float, str, str | None, str | None]] = []
    for seen in record["observations"]:
        for one in seen["servers"]:
            if one["url"] == url:
                state = "down" if not one["ready"] else _age(one["version"], record["version"])
                looks.append((seconds(seen["first"]), seconds(seen["last"]), state, one["version"], one["error"]))
                if one["ready"]:
                    master.before = master.before or one["version"]
                    master.now = one["version"]
                master.still_down = not one["ready"]
    looks.sort(key=lambda look: look[0])
    for start, end in spans:
        master.bands += _with_steps(_held(looks, start, end), master.steps)
        if changes:
            master.progress += _progress(url, changes, start, end)
    master.away = _away(master, looks)
    return master


def _age(version: str | None, target: str | None) -> str:
    return "new" if target is None or at_release(version, target) else "old"


def _held(looks: list[tuple[float, float, str, str | None, str | None]], start: float, end: float) -> list[Band]:
    """What was seen holds until the next look; before the first look of a run, that one."""
    within = [look for look in looks if start - 0.5 <= look[0] <= end + 0.5]
    earlier = [look for look in looks if look[0] < start and look[1] >= start]
    within = earlier + within
    if not within:
        return [Band(start, end, "unseen")]
    bands: list[Band] = []
    for place, (_first, _last, state, version, note) in enumerate(within):
        begin = start if place == 0 else max(start, within[place][0])
        until = within[place + 1][0] if place + 1 < len(within) else end
        until = min(max(until, begin), end)
        if bands and (bands[-1].state, bands[-1].version) == (state, version):
            bands[-1] = Band(bands[-1].start, until, state, version, bands[-1].note)
        elif until > begin:
            bands.append(Band(begin, until, state, version, note))
    return bands


def _with_steps(bands: list[Band], steps: Iterable[Mapping[str, Any]]) -> list[Band]:
    """While a master is being upgraded, nobody knows that it is ready until it was seen to be so at the new release."""
    for step in steps:
        start = seconds(step["started"])
        end = seconds(step["finished"]) if step["finished"] else float("inf")
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


def _progress(url: str, changes: list[VersionChange], start: float, end: float) -> list[Progress]:
    times = sorted({at for change in changes if (at := change.since.get(url)) is not None})
    cuts = [start, *(at for at in times if start < at < end), end]
    return [
        Progress(begin, until, sum(1 for one in changes if (one.since.get(url) or end + 1) <= begin), len(changes))
        for begin, until in zip(cuts, cuts[1:])
    ]


def _away(master: Master, looks: list[tuple[float, float, str, str | None, str | None]]) -> float:
    """Seconds in which it may have been out of service: from the last look at which it was ready, or the start of
    its upgrade, to the first at which it was ready again."""
    away = 0.0
    counted_until = 0.0
    losses = [seconds(step["started"]) for step in master.steps]
    losses += [
        max(before[1], before[0])
        for before, after in zip(looks, looks[1:])
        if before[2] != "down"
        and after[2] == "down"
        and not any(before[0] <= seconds(step["started"]) <= after[0] for step in master.steps)
    ]
    if looks and looks[0][2] == "down":
        losses.append(looks[0][0])
    last = max([look[1] for look in looks], default=0.0)
    for lost in sorted(losses):
        if lost < counted_until:
            continue
        step_end = max(
            (
                seconds(one["finished"])
                for one in master.steps
                if one["finished"] and one["state"] == "done" and seconds(one["started"]) == lost
            ),
            default=None,
        )
        back = next(
            (
                look[0]
                for look in looks
                if look[0] > lost and look[2] != "down" and (step_end is None or look[2] == "new")
            ),
            step_end or last,
        )
        away += max(0.0, back - lost)
        counted_until = back
    return away


def _mixed(record: Record, spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """From the first look at which ready servers differed to the first at which all agreed again."""
    windows: list[tuple[float, float]] = []
    since: float | None = None
    releases: dict[str, str | None] = {}
    for seen in record["observations"]:
        if seen.get("sampling"):
            releases = {}
        for one in seen["servers"]:
            if one["ready"]:
                releases[one["url"]] = one["version"]
        if seen["disagreeing"] or len(set(releases.values())) > 1:
            since = seconds(seen["first"]) if since is None else since
        elif since is not None and len(seen["servers"]) >= len(releases):
            windows.append((since, seconds(seen["first"])))
            since = None
    if since is not None and spans:
        windows.append((since, spans[-1][1]))
    return windows


# What was rewritten


def resource_rows(record: Record) -> list[dict[str, Any]]:
    """By resource over all migrations: sums of what was written, the rest as the last one saw it."""
    rows: dict[str, dict[str, Any]] = {}
    for migration in record["migrations"]:
        for name, one in migration["resources"].items():
            row = rows.setdefault(
                name, {"resource": name, "rewritten": 0, "conflicts": 0, "deleted": 0, "pruned": 0, "seconds": 0.0}
            )
            for count in ("rewritten", "conflicts", "deleted", "pruned", "seconds"):
                row[count] = _plus(row[count], one[count])
            row.update({key: one[key] for key in ("unchanged", "failed", "storage_version", "persisted", "reason")})
    return sorted(rows.values(), key=lambda row: (-(row["failed"] or 0), -(row["rewritten"] or 0), row["resource"]))


def all_rewritten(rows: Sequence[Mapping[str, Any]]) -> int | None:
    """None where of one resource nobody could count."""
    total: int | None = 0
    for row in rows:
        total = _plus(total, row["rewritten"])
    return total


def _plus(one: Any, other: Any) -> Any:
    return None if one is None or other is None else one + other


def open_failures(record: Record) -> list[dict[str, Any]]:
    """Objects that failed in the last migration that visited their resource."""
    last: dict[str, list[dict[str, Any]]] = {}
    for migration in record["migrations"]:
        for name in migration["resources"]:
            last[name] = []
        for failure in migration["failures"]:
            last.setdefault(failure["resource"], []).append(failure)
    return [failure for name in sorted(last) for failure in last[name]]


def trimmed(record: Record) -> list[dict[str, Any]]:
    return [one for migration in record["migrations"] for one in migration["trimmed"]]


@dataclass(frozen=True)
class StoredPart:
    """Objects of one resource stored in one way; ``stale``: not as the API servers write it now."""

    label: str
    objects: int
    stale: bool


@dataclass(frozen=True)
class StoredRow:
    """None where etcd was not read."""

    resource: str
    before: tuple[StoredPart, ...] | None
    after: tuple[StoredPart, ...] | None
    stale_before: int
    stale_after: int


def stored_rows(record: Record, changes: Iterable[VersionChange]) -> list[StoredRow]:
    """Every resource that etcd held before or after, those with old objects first.

    What was stored before is old by what the API servers write at the end: that is what the upgrade changed.
    """
    before, after = (record["stored"][when] for when in ("before", "after"))
    names = {name for side in (before, after) if side for name in side["resources"]}
    changed = {change.resource: change.after for change in changes}
    rows = []
    for name in names:
        sides = [(side or {"resources": {}})["resources"].get(name) for side in (before, after)]
        seen = [row for side in sides if side for row in side["stored"]]
        current = _current(name, sides[1], changed)
        parts = [
            None if side is None else _parts(name, found, seen, current) if found else ()
            for side, found in zip((before, after), sides)
        ]
        old = [sum(part.objects for part in side or () if part.stale) for side in parts]
        rows.append(StoredRow(name, parts[0], parts[1], old[0], old[1]))
    return sorted(rows, key=lambda row: (-row.stale_after, -row.stale_before, row.resource))


def _current(name: str, after: Mapping[str, Any] | None, changed: Mapping[str, str]) -> set[str] | None:
    """Versions that are current at the end; None where that isn't known."""
    if after is None:
        return {changed[name]} if name in changed else None
    current = {row["version"] for row in after["stored"] if row["version"] and "version" not in row["stale"]}
    current |= {after["expected"]} if after["expected"] else set()
    return {short_version(version, name) for version in current} or None


def _parts(
    name: str, found: Mapping[str, Any], seen: list[Mapping[str, Any]], current: set[str] | None
) -> tuple[StoredPart, ...]:
    """Encoding and key are named only where they make a difference."""
    encodings = len({row["encoding"] for row in seen if row["encoding"]}) > 1
    keys = len({(row["provider"], row["key"]) for row in seen}) > 1
    counts: dict[tuple[str, bool], int] = {}
    for row in found["stored"]:
        version = short_version(row["version"], name) if row["version"] else None
        label = version or ("version hidden by encryption" if row["provider"] != "identity" else "unreadable")
        label += f" {row['encoding']}" if encodings and row["encoding"] else ""
        if keys:
            label += " plain" if row["provider"] == "identity" else f" {row['provider']} {row['key'] or ''}".rstrip()
        old = bool(row["stale"]) or (version is not None and current is not None and version not in current)
        counts[label, old] = counts.get((label, old), 0) + row["objects"]
    parts = [StoredPart(label, count, old) for (label, old), count in counts.items()]
    return tuple(sorted(parts, key=lambda part: (part.stale, -part.objects, part.label)))
