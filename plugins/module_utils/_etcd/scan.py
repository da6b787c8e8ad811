# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One scan of everything in etcd, at one revision: how many objects of each resource are stored in which form.

Values are held one page of a few MiB at a time and discarded as soon as their envelope is known.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import EtcdError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Report, nobody_listens
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import Speed, progress_event
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.access import CompactedError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd, EtcdClusters, Page, end_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.envelope import (
    NO_NAMES,
    KeyNames,
    classify_base64,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import (
    BUILT_IN,
    INTERNAL_PREFIXES,
    KeyMap,
    object_of,
    prefixes_of,
    split_key,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

_FIRST_PAGE = 100
# For every page etcd counts the rest of the range, so a scan of many objects is faster with few large pages.
_LARGEST_PAGE = 4000
_PAGE_BYTES = 2 << 20
_SAMPLES = 5
_RESTARTS = 1
_TELL_EVERY = 1.0
# changes_since() reads in stretches, as etcd holds a whole stretch in memory to filter it by revision.
_STRETCH_OBJECTS = 5000
_STRETCH_BYTES = 8 << 20


Key = bytes


class _IncompleteError(EtcdError):
    """etcd returned a different number of keys than it counts: kine ends a page early, without an error, if its database fails meanwhile."""


class Variant(NamedTuple):
    """One way in which objects of a resource are stored; the fields are those of Envelope."""

    version: str | None
    encoding: str | None
    provider: str = "identity"
    provider_version: str | None = None
    key: str | None = None
    key_id_hash: str | None = None
    key_begins_with: str | None = None


class StoredObject(NamedTuple):
    """Where one object is, and the revision of its last write, which is its metadata.resourceVersion."""

    namespace: str | None
    name: str
    mod_revision: int


@dataclass
class Tally:
    """The counts of one variant; ``newest`` is the revision of the latest write among them, ``latest`` that object.

    ``kept`` has every object's place until there are more than a scan should keep; then it is None.
    ``encryption``, only for keys that belong to no resource: how many are under which (provider, its version, key,
    what the key's name begins with if the name is unknown).
    """

    kind: str | None = None
    objects: int = 0
    bytes: int = 0
    newest: int = 0
    latest: tuple[str | None, str] | None = None
    samples: list[str] = field(default_factory=list)
    kept: list[StoredObject] | None = field(default_factory=list, repr=False)
    encryption: dict[tuple[str, str | None, str | None, str | None], int] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Counts of another etcd; revisions are not compared with those there."""
        self.objects += other.objects
        self.bytes += other.bytes
        self.samples = [*self.samples, *other.samples][:_SAMPLES]
        for key, number in other.encryption.items():
            self.encryption[key] = self.encryption.get(key, 0) + number


@dataclass
class Stored:
    """The outcome of a scan.

    ``consistent``: all of it was read at the one ``revision``. If etcd was compacted twice meanwhile,
    the rest was read at later ones, ``revision`` is the first of them, and objects read before may
    have been rewritten since. ``unknown`` and ``internal`` are by storage prefix. ``stretches`` are
    the bounds of adjoining parts of what was read, each small enough to be read at once. ``parts``
    are the scans that this one adds up, with the etcd of each; the revision is that of the first.
    """

    revision: int = 0
    last_revision: int = 0
    consistent: bool = True
    resources: dict[str, dict[Variant, Tally]] = field(default_factory=dict)
    unknown: dict[str, Tally] = field(default_factory=dict)
    internal: dict[str, Tally] = field(default_factory=dict)
    objects: int = 0
    bytes: int = 0
    seconds: float = 0.0
    stretches: list[list[Key]] = field(default_factory=list, repr=False)
    parts: list[tuple[Etcd, Stored]] = field(default_factory=list, repr=False)

    def number_of(self, resource: str) -> int:
        """How many objects of a resource there are."""
        return sum(tally.objects for tally in self.resources.get(resource, {}).values())

    def counts(self, resource: str) -> dict[tuple[str | None, str | None, str, str | None], int]:
        """Objects of a resource by (version, encoding, provider, key name)."""
        found: dict[tuple[str | None, str | None, str, str | None], int] = {}
        for variant, tally in self.resources.get(resource, {}).items():
            key = (variant.version, variant.encoding, variant.provider, variant.key)
            found[key] = found.get(key, 0) + tally.objects
        return found

    def versions(self, resource: str) -> dict[str | None, int]:
        """Objects of a resource by version."""
        found: dict[str | None, int] = {}
        for variant, tally in self.resources.get(resource, {}).items():
            found[variant.version] = found.get(variant.version, 0) + tally.objects
        return found


class _Pace:
    """Limits a scan to a number of objects per second, measured from its start; 0 is no limit."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._started = time.monotonic()
        self._done = 0

    async def after(self, objects: int) -> None:
        self._done += objects
        if self._rate > 0:
            ahead = self._done / self._rate - (time.monotonic() - self._started)
            if ahead > 0:
                await asyncio.sleep(ahead)


async def scan_clusters(
    clusters: EtcdClusters,
    served: Mapping[str, ServedResource] | None = None,
    *,
    resources: Iterable[str] | None = None,
    max_rate: float = 0,
    keep: int = 0,
    names: KeyNames = NO_NAMES,
    report: Report = nobody_listens,
) -> Stored:
    """``scan`` of every etcd, each for the resources kept there; ``served`` has the resources if API servers reported them."""
    everything = {*BUILT_IN.values(), *(served or {})}
    parts = []
    for etcd, own in clusters.split(everything if resources is None else resources):
        whole = resources is None and etcd is clusters.default
        parts.append(
            (
                etcd,
                await scan(
                    etcd,
                    keys_of(clusters, etcd, served),
                    resources=None if whole else own,
                    max_rate=max_rate,
                    keep=keep,
                    names=names,
                    report=report,
                    may_be_empty=etcd is not clusters.default,
                ),
            )
        )
    return _together(parts)


async def changes_in_clusters(
    clusters: EtcdClusters,
    before: Stored,
    served: Mapping[str, ServedResource] | None = None,
    *,
    keep: int = 0,
    names: KeyNames = NO_NAMES,
) -> Stored:
    """``changes_since`` of every etcd that ``scan_clusters`` read."""
    return _together(
        [
            (etcd, await changes_since(etcd, stored, keys_of(clusters, etcd, served), keep=keep, names=names))
            for etcd, stored in before.parts
        ]
    )


def keys_of(clusters: EtcdClusters, etcd: Etcd, served: Mapping[str, ServedResource] | None) -> KeyMap:
    """What the keys of one of the clusters mean."""
    return KeyMap(served, elsewhere=lambda name: clusters.of(name) is not etcd)


def misplaced(
    clusters: EtcdClusters,
    stored: Stored,
    served: Mapping[str, ServedResource] | None,
    resources: Collection[str] | None = None,
) -> dict[str, int]:
    """By resource (None: any), how many keys are stored where its objects are, but don't have their form, so that no variant counts them.

    API servers list them, too: of a CRD that was deleted by force and created again with another scope, objects may remain.
    """
    found: dict[str, int] = {}
    for etcd, part in stored.parts:
        keys = keys_of(clusters, etcd, served)
        for prefix, tally in part.unknown.items():
            name = keys.resource_at(prefix)
            if name is not None and (resources is None or name in resources):
                found[name] = found.get(name, 0) + tally.objects
    return found


def _together(parts: list[tuple[Etcd, Stored]]) -> Stored:
    first = parts[0][1]
    whole = Stored(first.revision, first.last_revision, all(part.consistent for _etcd, part in parts), parts=parts)
    for _etcd, part in parts:
        whole.resources.update(part.resources)
        whole.objects += part.objects
        whole.bytes += part.bytes
        whole.seconds += part.seconds
        for mine, theirs in ((whole.unknown, part.unknown), (whole.internal, part.internal)):
            for prefix, tally in theirs.items():
                mine.setdefault(prefix, Tally(kept=None)).add(tally)
    return whole


async def changes_since(
    etcd: Etcd, before: Stored, keys: KeyMap | None = None, *, keep: int = 0, names: KeyNames = NO_NAMES
) -> Stored:
    """What was written after an earlier scan, among the keys that it covered, at one newer revision.

    Objects that aren't in the result are unchanged or deleted. etcd filters by revision itself, so
    this takes a fraction of the time of a scan. Raises EtcdError.
    """

    def attempt(patient: bool) -> Awaitable[Stored]:
        return _Scan(etcd, keys or KeyMap(), None, _Pace(0), keep, patient=patient, names=names).run_since(before)

    return await _until_whole(attempt)


async def still_there(etcd: Etcd, prefix: str, objects: Iterable[StoredObject]) -> list[StoredObject]:
    """The objects, of those given under a storage prefix, that still exist and were not written since."""
    found = []
    for stored in objects:
        place = f"{stored.namespace}/{stored.name}" if stored.namespace else stored.name
        page = await etcd.range(f"{etcd.prefix}/{prefix}/{place}".encode(), None, keys_only=True)
        if any(int(item["mod_revision"]) == stored.mod_revision for item in page.items()):
            found.append(stored)
    return found


async def scan(
    etcd: Etcd,
    keys: KeyMap | None = None,
    *,
    resources: Iterable[str] | None = None,
    max_rate: float = 0,
    keep: int = 0,
    names: KeyNames = NO_NAMES,
    report: Report = nobody_listens,
    may_be_empty: bool = False,
) -> Stored:
    """Reads all keys, or those of some resources, and counts.

    ``keep``: for how many objects of each variant to keep namespace, name and revision. ``names``: known names of
    encryption keys. A compaction during the scan restarts it once. After another one the scan evidently takes longer
    than etcd keeps history, so it continues at a newer revision and says so. Raises EtcdError, also if nothing at all
    is below the prefix, as in no cluster's etcd, unless it ``may_be_empty``.
    """
    keys = keys or KeyMap()
    wanted = None if resources is None else list(resources)
    pace = _Pace(max_rate)

    def attempt(patient: bool) -> Awaitable[Stored]:
        attempted = _Scan(etcd, keys, wanted, pace, keep, patient=patient, names=names, report=report)
        return attempted.run(may_be_empty=may_be_empty)

    return await _until_whole(attempt)


async def _until_whole(attempt: Callable[[bool], Awaitable[Stored]]) -> Stored:
    """``attempt``: takes whether it is the last, which a compaction doesn't end."""
    for _restart in range(_RESTARTS):
        with suppress(CompactedError, _IncompleteError):
            return await attempt(False)
    return await attempt(True)


class _Scan:
    def __init__(
        self,
        etcd: Etcd,
        keys: KeyMap,
        resources: list[str] | None,
        pace: _Pace,
        keep: int,
        *,
        patient: bool,
        names: KeyNames,
        report: Report = nobody_listens,
    ) -> None:
        self._etcd = etcd
        self._keys = keys
        self._resources = resources
        self._pace = pace
        self._keep = keep
        self._patient = patient
        self._names = names
        self._root = etcd.prefix.encode() + b"/"
        self._stored = Stored()
        self._stretch_objects = 0
        self._stretch_bytes = 0
        self._report = report
        self._total: int | None = None
        self._speed = Speed()
        self._told = time.monotonic()

    async def run(self, *, may_be_empty: bool) -> Stored:
        started = time.monotonic()
        stored = self._stored
        if not await self._fix_revision() and not may_be_empty:
            raise EtcdError(
                f"etcd at {', '.join(self._etcd.endpoints)} holds nothing below {self._etcd.prefix}/; check etcd.prefix "
                "(the API servers' --etcd-prefix) and etcd.endpoints."
            )
        if self._resources is None:
            there = await self._count(self._root, end_of(self._root))
            stored.stretches.append([self._root])
            await self._everything()
            stored.stretches[-1].append(end_of(self._root))
            self._require_all(there, stored.objects)
        else:
            for prefix in prefixes_of(self._resources):
                await self._prefix(prefix)
            for name in set(stored.resources) - set(self._resources):
                del stored.resources[name]
        stored.seconds = time.monotonic() - started
        return stored

    async def run_since(self, before: Stored) -> Stored:
        started = time.monotonic()
        await self._fix_revision()
        if self._stored.revision < before.revision:
            raise EtcdError(
                f"etcd's revision went back from {before.revision} to {self._stored.revision}: it was restored from a snapshot "
                "meanwhile. Run again."
            )
        for bounds in before.stretches:
            there, read = await self._count(bounds[0], bounds[-1]), 0
            parts = list(itertools.pairwise(bounds))
            if len(parts) > 1 and sum([await self._count(*part) for part in parts]) != there:
                # kine before 0.16.3 takes the end of a range for the end of a prefix, which only the last one is.
                read = await self._changed_in_pages(bounds[0], bounds[-1], before.revision)
            else:
                for start, end in parts:
                    page = await self._read(start, end, 0, min_mod_revision=before.revision + 1)
                    read += page.count
                    self._take_each(page.items())
            self._require_all(there, read)
        self._stored.stretches = before.stretches
        self._stored.seconds = time.monotonic() - started
        return self._stored

    async def _changed_in_pages(self, at: bytes, end: bytes, since: int) -> int:
        """Takes what was written after a revision; returns how many keys were read."""
        read = 0
        while True:
            page = await self._read(at, end, _FIRST_PAGE)
            items, last = page.items(), page.last_key
            self._take_each([item for item in items if int(item["mod_revision"]) > since])
            read += len(items)
            if last is None or not page.more:
                return read
            at = last + b"\0"

    def _take_each(self, found: list[dict[str, str]]) -> None:
        for prefix, items in itertools.groupby(found, self._prefix_of):
            self._take(prefix, list(items))

    async def _count(self, start: bytes, end: bytes) -> int:
        return (await self._read(start, end, 0, count_only=True)).count

    def _require_all(self, there: int, read: int) -> None:
        if self._stored.consistent and read != there:
            raise _IncompleteError(
                f"etcd at {', '.join(self._etcd.endpoints)} returned {read} of the {there} keys that it counts; check that it is healthy "
                "(of kine: its database), and run again."
            )

    async def _fix_revision(self) -> int:
        """Notes etcd's revision; returns the total number of keys."""
        newest = await self._etcd.range(self._root, end_of(self._root), limit=1, keys_only=True)
        self._stored.revision = self._stored.last_revision = newest.revision
        self._total = newest.count if self._resources is None else None
        self._speed.at(time.monotonic(), 0)
        return newest.count

    def _tell(self, prefix: str) -> None:
        """Progress, once a second."""
        now = time.monotonic()
        if now - self._told >= _TELL_EVERY:
            self._told = now
            done = self._stored.objects
            rate = self._speed.at(now, done)
            at = self._keys.resource_at(prefix) or prefix
            self._report(progress_event("keys read from etcd", done, self._total, rate, resources=[at]))

    def _prefix_of(self, item: dict[str, str]) -> str:
        relative = base64.b64decode(item["key"])[len(self._root) :].decode(errors="backslashreplace")
        return split_key(relative)[0]

    async def _everything(self) -> None:
        """Finds one storage prefix after the other, so that each starts with a small page."""
        at, end = self._root, end_of(self._root)
        while True:
            page = await self._read(at, end, 1, keys_only=True)
            key = page.last_key
            if key is None:
                return
            relative = key[len(self._root) :].decode(errors="backslashreplace")
            prefix, rest = split_key(relative)
            if not rest:
                # A key that is no longer than a prefix: not an object, but counted under that prefix.
                self._take(prefix, (await self._read(key, None, 1)).items())
                at = key + b"\0"
                continue
            head = self._root + b"/".join(key[len(self._root) :].split(b"/")[: prefix.count("/") + 1]) + b"/"
            await self._range(prefix, max(at, head), end_of(head))
            at = end_of(head)

    async def _prefix(self, prefix: str) -> None:
        head = self._root + prefix.encode() + b"/"
        there, before = await self._count(head, end_of(head)), self._stored.objects
        self._stored.stretches.append([head])
        await self._range(prefix, head, end_of(head))
        self._stored.stretches[-1].append(end_of(head))
        self._require_all(there, self._stored.objects - before)

    async def _range(self, prefix: str, start: bytes, end: bytes) -> None:
        limit = _FIRST_PAGE
        coming: asyncio.Task[Page] | None = asyncio.ensure_future(self._read(start, end, limit))
        while coming is not None:
            page = await coming
            coming = None
            last = page.last_key
            if page.more and last is not None:
                # Requested before this page is processed, so that etcd and we work at the same time.
                limit = max(10, min(_LARGEST_PAGE, 2 * limit, limit * _PAGE_BYTES // max(1, len(page.body))))
                coming = asyncio.ensure_future(self._read(last + b"\0", end, limit))
                await asyncio.sleep(0)
            try:
                taken = self._take(prefix, page.items())
                self._mark(last, taken, len(page.body))
                self._tell(prefix)
                await self._pace.after(taken)
            except BaseException:
                if coming is not None:
                    coming.cancel()
                raise

    def _mark(self, last: bytes | None, objects: int, size: int) -> None:
        """Begins a new stretch after a page if the current one has grown large."""
        self._stretch_objects += objects
        self._stretch_bytes += size
        if last is not None and (self._stretch_objects >= _STRETCH_OBJECTS or self._stretch_bytes >= _STRETCH_BYTES):
            # Not the key after it: kine's databases do not sort, or do not take, a zero byte.
            self._stored.stretches[-1].append(last)
            self._stretch_objects = self._stretch_bytes = 0

    async def _read(
        self,
        start: bytes,
        end: bytes | None,
        limit: int,
        *,
        keys_only: bool = False,
        count_only: bool = False,
        min_mod_revision: int = 0,
    ) -> Page:
        stored = self._stored
        while True:
            try:
                return await self._etcd.range(
                    start,
                    end,
                    limit=limit,
                    revision=stored.last_revision,
                    keys_only=keys_only,
                    count_only=count_only,
                    min_mod_revision=min_mod_revision,
                )
            except CompactedError:
                if not self._patient:
                    raise
                newest = await self._etcd.range(self._root, end_of(self._root), limit=1, keys_only=True)
                stored.last_revision = newest.revision
                stored.consistent = False

    def _take(self, prefix: str, items: list[dict[str, str]]) -> int:
        """Counts objects of one prefix; the only place that sees values."""
        stored, keep, skip = self._stored, self._keep, len(self._root)
        name = self._keys.resource_at(prefix)
        known = stored.resources.setdefault(name, {}) if name is not None else {}
        for item in items:
            relative = base64.b64decode(item["key"])[skip:].decode(errors="backslashreplace")
            rest = relative[len(prefix) + 1 :]
            envelope, size = classify_base64(item.get("value") or "", self._names)
            revision = int(item["mod_revision"])
            if name is not None and self._keys.fits(name, rest):
                variant = Variant(envelope[1], envelope[0], *envelope[3:])
                tally = known.get(variant)
                if tally is None:
                    tally = known[variant] = Tally(kind=envelope.kind)
                place = object_of(rest)
                if tally.kept is not None and place is not None:
                    if tally.objects < keep:
                        tally.kept.append(StoredObject(*place, revision))
                    else:
                        tally.kept = None
            else:
                where = stored.internal if prefix.split("/")[0] in INTERNAL_PREFIXES else stored.unknown
                tally = where.setdefault(prefix, Tally(kept=None))
                sealed = (*envelope[3:6], envelope.key_begins_with)
                tally.encryption[sealed] = tally.encryption.get(sealed, 0) + 1
            tally.objects += 1
            tally.bytes += size
            if revision > tally.newest:
                tally.newest, tally.latest = revision, object_of(rest)
            if len(tally.samples) < _SAMPLES:
                tally.samples.append(f"{self._etcd.prefix}/{relative}")
            stored.bytes += size
        if name is not None and not known:
            del stored.resources[name]
        stored.objects += len(items)
        return len(items)
