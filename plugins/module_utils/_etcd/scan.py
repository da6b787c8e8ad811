# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One scan of all that etcd holds, at one revision: how many objects of which resource are stored how.

Values live in one page of a few MiB at a time and are dropped as soon as their envelope is known.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import EtcdError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import CompactedError, Etcd, Page
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.envelope import classify_base64
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import (
    INTERNAL_PREFIXES,
    KeyMap,
    object_of,
    prefixes_of,
    split_key,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Report, nobody_listens
from ansible_collections.kube_storage.upgrade.plugins.module_utils._progress import Speed, progress_event

_FIRST_PAGE = 100
# For every page etcd counts all that is left of the range, so a scan of many objects is quicker in few large pages.
_LARGEST_PAGE = 4000
_PAGE_BYTES = 2 << 20
_SAMPLES = 5
_RESTARTS = 1
_TELL_EVERY = 1.0
# changes_since() reads in stretches, as etcd holds a whole stretch in memory to filter it by revision.
_STRETCH_OBJECTS = 5000
_STRETCH_BYTES = 8 << 20


Key = bytes


class Variant(NamedTuple):
    """One way in which objects of a resource are stored; the fields are those of Envelope."""

    version: str | None
    encoding: str | None
    provider: str = "identity"
    provider_version: str | None = None
    key: str | None = None
    key_id_hash: str | None = None


class StoredObject(NamedTuple):
    """Where one object is, and the revision of its last write, which is its metadata.resourceVersion."""

    namespace: str | None
    name: str
    mod_revision: int


@dataclass
class Tally:
    """What was counted of one variant; ``newest`` is the revision of the latest write among them, ``latest`` that object.

    ``kept`` holds every object's place until there are more than a scan was told to keep; then None.
    ``encryption``, of keys that belong to no resource only: how many are under which (provider, its version, key).
    """

    kind: str | None = None
    objects: int = 0
    bytes: int = 0
    newest: int = 0
    latest: tuple[str | None, str] | None = None
    samples: list[str] = field(default_factory=list)
    kept: list[StoredObject] | None = field(default_factory=list, repr=False)
    encryption: dict[tuple[str, str | None, str | None], int] = field(default_factory=dict)


@dataclass
class Stored:
    """The outcome of a scan.

    ``consistent``: all of it was read at the one ``revision``. If etcd was compacted twice meanwhile,
    the rest was read at later ones, ``revision`` is the first of them, and what was read before may
    have been rewritten since. ``unknown`` and ``internal`` are by storage prefix. ``stretches`` are
    the bounds of adjoining parts of what was read, each small enough to be read at once.
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
    """Holds a scan to so many objects a second, measured from its start; 0 is no limit."""

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


async def changes_since(etcd: Etcd, before: Stored, keys: KeyMap | None = None, *, keep: int = 0) -> Stored:
    """What was written after an earlier scan, of the keys that it covered, at one newer revision.

    Objects that aren't in the result are as they were, or deleted. etcd filters by revision itself, so
    this takes a small part of the time of a scan. Raises EtcdError.
    """
    for attempt in range(_RESTARTS + 1):
        one = _Scan(etcd, keys or KeyMap(), None, _Pace(0), keep, patient=attempt == _RESTARTS)
        try:
            return await one.run_since(before)
        except CompactedError:
            continue
    raise EtcdError("etcd was compacted faster than it could be read.")  # not reached: the last attempt goes on


async def still_there(etcd: Etcd, prefix: str, objects: Iterable[StoredObject]) -> list[StoredObject]:
    """Those of some objects under a storage prefix that exist and were not written since."""
    found = []
    for one in objects:
        place = f"{one.namespace}/{one.name}" if one.namespace else one.name
        page = await etcd.range(f"{etcd.prefix}/{prefix}/{place}".encode(), None, keys_only=True)
        if any(int(item["mod_revision"]) == one.mod_revision for item in page.items()):
            found.append(one)
    return found


async def scan(
    etcd: Etcd,
    keys: KeyMap | None = None,
    *,
    resources: Iterable[str] | None = None,
    max_rate: float = 0,
    keep: int = 0,
    report: Report = nobody_listens,
) -> Stored:
    """Reads all keys, or those of some resources, and counts.

    ``keep``: of how many objects of each variant to keep namespace, name and revision. A compaction
    in mid-scan starts it anew once; if it happens again the scan takes longer than etcd keeps
    history, so it goes on at a newer revision and says so. Raises EtcdError.
    """
    keys = keys or KeyMap()
    wanted = None if resources is None else list(resources)
    pace = _Pace(max_rate)
    for attempt in range(_RESTARTS + 1):
        one = _Scan(etcd, keys, wanted, pace, keep, patient=attempt == _RESTARTS, report=report)
        try:
            return await one.run()
        except CompactedError:
            continue
    raise EtcdError("etcd was compacted faster than it could be read.")  # not reached: the last attempt goes on


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
        report: Report = nobody_listens,
    ) -> None:
        self._etcd = etcd
        self._keys = keys
        self._resources = resources
        self._pace = pace
        self._keep = keep
        self._patient = patient
        self._root = etcd.prefix.encode() + b"/"
        self._stored = Stored()
        self._stretch_objects = 0
        self._stretch_bytes = 0
        self._report = report
        self._total: int | None = None
        self._speed = Speed()
        self._told = time.monotonic()

    async def run(self) -> Stored:
        started = time.monotonic()
        stored = self._stored
        await self._fix_revision()
        if self._resources is None:
            stored.stretches.append([self._root])
            await self._everything()
            stored.stretches[-1].append(_end_of(self._root))
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
        for bounds in before.stretches:
            for start, end in itertools.pairwise(bounds):
                page = await self._read(start, end, 0, min_mod_revision=before.revision + 1)
                for prefix, items in itertools.groupby(page.items(), self._prefix_of):
                    self._take(prefix, list(items))
        self._stored.stretches = before.stretches
        self._stored.seconds = time.monotonic() - started
        return self._stored

    async def _fix_revision(self) -> None:
        newest = await self._etcd.range(self._root, _end_of(self._root), limit=1, keys_only=True)
        self._stored.revision = self._stored.last_revision = newest.revision
        self._total = newest.count if self._resources is None else None
        self._speed.at(time.monotonic(), 0)

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
        at, end = self._root, _end_of(self._root)
        while True:
            page = await self._read(at, end, 1, keys_only=True)
            key = page.last_key
            if key is None:
                return
            relative = key[len(self._root) :].decode(errors="backslashreplace")
            prefix, rest = split_key(relative)
            if not rest:
                # A key that is no longer than a prefix: no object, but counted where it stands.
                self._take(prefix, (await self._read(key, key + b"\0", 1)).items())
                at = key + b"\0"
                continue
            head = self._root + b"/".join(key[len(self._root) :].split(b"/")[: prefix.count("/") + 1]) + b"/"
            await self._range(prefix, max(at, head), _end_of(head))
            at = _end_of(head)

    async def _prefix(self, prefix: str) -> None:
        head = self._root + prefix.encode() + b"/"
        self._stored.stretches.append([head])
        await self._range(prefix, head, _end_of(head))
        self._stored.stretches[-1].append(_end_of(head))

    async def _range(self, prefix: str, start: bytes, end: bytes) -> None:
        limit = _FIRST_PAGE
        coming: asyncio.Task[Page] | None = asyncio.ensure_future(self._read(start, end, limit))
        while coming is not None:
            page = await coming
            coming = None
            last = page.last_key
            if page.more and last is not None:
                # Asked for before this one is looked at: etcd and we work at the same time.
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
        """Begins a new stretch behind a page where the present one has grown large."""
        self._stretch_objects += objects
        self._stretch_bytes += size
        if last is not None and (self._stretch_objects >= _STRETCH_OBJECTS or self._stretch_bytes >= _STRETCH_BYTES):
            self._stored.stretches[-1].append(last + b"\0")
            self._stretch_objects = self._stretch_bytes = 0

    async def _read(
        self, start: bytes, end: bytes, limit: int, *, keys_only: bool = False, min_mod_revision: int = 0
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
                    min_mod_revision=min_mod_revision,
                )
            except CompactedError:
                if not self._patient:
                    raise
                newest = await self._etcd.range(self._root, _end_of(self._root), limit=1, keys_only=True)
                stored.last_revision = newest.revision
                stored.consistent = False

    def _take(self, prefix: str, items: list[dict[str, str]]) -> int:
        """Counts objects of one prefix; the one place where values are seen."""
        stored, keep, skip = self._stored, self._keep, len(self._root)
        name = self._keys.resource_at(prefix)
        known = stored.resources.setdefault(name, {}) if name is not None else {}
        for item in items:
            relative = base64.b64decode(item["key"])[skip:].decode(errors="backslashreplace")
            rest = relative[len(prefix) + 1 :]
            envelope, size = classify_base64(item.get("value") or "")
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
                tally.encryption[envelope[3:6]] = tally.encryption.get(envelope[3:6], 0) + 1
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


def _end_of(prefix: bytes) -> bytes:
    """The first key behind all that begin with a prefix (which doesn't end in 0xff here)."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
