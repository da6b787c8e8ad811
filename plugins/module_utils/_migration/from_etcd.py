# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``select: stale``: the objects that etcd holds otherwise than API servers would write them now.

Which version servers write is told by their hashes; which encoding and which encryption key is told by
nobody. So each server is asked by a no-op patch of one object of each resource: what etcd holds after
it is what this server writes. In that way a master that doesn't have the new key first is found before
anything is rewritten through it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Optional
from urllib.parse import quote

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import MERGE_PATCH, METADATA, ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import (
    NotConvergedError,
    StorageUpgradeError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd, open_etcd
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.encryption import EncryptionRules
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.envelope import classify_base64
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import KeyMap, prefixes_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import (
    Stored,
    StoredObject,
    Variant,
    changes_since,
    scan,
    still_there,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.stale import Judgement, judge
from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import (
    Verdict,
    outcome_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import ServedResource
from ansible_collections.kube_storage.upgrade.plugins.module_utils._stored_versions import (
    local_configuration,
    read_stored,
)

# Of how many stale objects of one kind the names are kept; beyond it the whole resource is visited.
_KEPT = 20_000
_PARALLEL = 8
_TRIES = 3
# How many objects of a resource to ask the servers with until one can be patched.
_CANDIDATES = 5

# Stored as events, under whose name a scan counts it.
_EVENTS_TWIN = "events.events.k8s.io"

Objects = Optional[tuple[ObjectKey, ...]]


@asynccontextmanager
async def open_truth(params: Mapping[str, Any]) -> AsyncIterator[EtcdTruth]:
    """From a module's parameters. Raises BadInputError."""
    rules, media_type = local_configuration(params.get("encryption_config"))
    async with open_etcd(params.get("etcd")) as etcd:
        yield EtcdTruth(etcd, encryption=rules, media_type=media_type, max_rate=params.get("etcd_max_rate") or 0)


@dataclass
class Left:
    """What is still stale after a run, by resource; ``objects`` None: more than could be kept by name."""

    revision: int
    count: dict[str, int] = field(default_factory=dict)
    objects: dict[str, Objects] = field(default_factory=dict)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    unprovable: dict[str, int] = field(default_factory=dict)


class EtcdTruth:
    """What etcd holds, what servers write, and what is left to do."""

    def __init__(
        self,
        etcd: Etcd,
        *,
        encryption: EncryptionRules | None = None,
        media_type: str | None = None,
        max_rate: float = 0,
    ) -> None:
        self._etcd = etcd
        self._encryption = encryption
        self._media_type = media_type
        self._max_rate = max_rate
        self._judgement = Judgement(Stored(), {})
        self._resources: Mapping[str, ServedResource] = {}
        self._names: list[str] = []
        self._whole: set[str] = set()
        self._listed: dict[str, list[StoredObject]] = {}
        self.rewritten: dict[str, int] = {}

    async def read(self, seen: Observation, resources: Collection[str] | None, report: Report) -> None:
        """The scan that everything else builds on."""
        self._resources = seen.resources
        self._names = [name for name in seen.resources if not resources or name in resources]
        self._judgement = await read_stored(
            self._etcd,
            seen,
            resources=resources or None,
            encryption=self._encryption,
            media_type=self._media_type,
            max_rate=self._max_rate,
            keep=_KEPT,
            report=report,
        )

    def select(self, changed: Collection[str]) -> dict[str, Objects]:
        """The objects to rewrite, by resource; None: all of it, found by a list.

        A resource of which nothing is stale, but no complete migration is on record (``changed``), is in
        it without objects: etcd itself proves that it is migrated. Where encryption hides the version
        of objects and no migration is on record, all are visited.
        """
        found: dict[str, Objects] = {}
        for name in self._names:
            stale = self._stale_objects(name)
            hidden = name in changed and self._unprovable(name) > 0
            if hidden or stale is None or name == _EVENTS_TWIN:
                found[name] = None
            elif stale or name in changed or name in self.rewritten:
                found[name] = tuple(_key(one) for one in stale)
                self._listed[name] = stale
        self._whole = {name for name, objects in found.items() if objects is None}
        return found

    def _unprovable(self, name: str) -> int:
        return self._judgement.unprovable(name) if name in self._judgement.expected else 0

    def _stale_objects(self, name: str) -> list[StoredObject] | None:
        if name not in self._judgement.expected:
            return []
        found: list[StoredObject] = []
        for _variant, tally, verdict in self._judgement.variants(name):
            if verdict.stale:
                if tally.kept is None:
                    return None
                found += tally.kept
        return found

    # What each server writes

    async def probe(self, servers: Sequence[ApiServer], names: Iterable[str]) -> None:
        """Learns from each server, by one no-op patch for each resource, how it writes.

        Raises NotConvergedError where servers write the same resource differently.
        """
        slots = asyncio.Semaphore(_PARALLEL)
        prober = _Prober(self._etcd, servers)

        async def one(name: str) -> tuple[str, dict[str, Variant], int, StoredObject | None]:
            async with slots:
                for place in self._newest(name):
                    written, rewritten = await prober.ask(self._resources[name], place)
                    if written or rewritten:
                        return name, written, rewritten, place
                return name, {}, 0, None

        names = [name for name in names if name in self._judgement.expected]
        answers = await asyncio.gather(*(one(name) for name in names))
        differing = []
        for name, written, rewritten, place in answers:
            if rewritten:
                self.rewritten[name] = rewritten
                self._forget(name, place)
            if len(set(written.values())) > 1:
                differing.append(_differing_text(name, written))
            elif written:
                self._expect(name, next(iter(written.values())))
        if differing:
            raise NotConvergedError(
                "The API servers write objects differently though their storage versions agree: "
                + "; ".join(differing[:5])
                + ". Give all of them the same encryption configuration and storage media type, restart them, "
                "and run again.",
                {"changed": bool(self.rewritten)},
            )

    def _newest(self, name: str) -> list[StoredObject]:
        """The latest written objects first: they are the least likely to need a rewrite for the question.

        More than one, as any may be gone by now, or can't be patched.
        """
        found = set()
        for variant, tally in self._judgement.stored.resources.get(name, {}).items():
            if variant.encoding not in ("empty", "unknown") and tally.latest is not None:
                found.add(StoredObject(*tally.latest, tally.newest))
                found.update((tally.kept or ())[-_CANDIDATES:])
        return sorted(found, key=lambda one: -one.mod_revision)[:_CANDIDATES]

    def _forget(self, name: str, place: StoredObject | None) -> None:
        """An object that the question rewrote is not to be visited again at its old revision."""
        for tally in self._judgement.stored.resources[name].values():
            if tally.kept is not None and place in tally.kept:
                tally.kept.remove(place)
                tally.objects -= 1

    def _expect(self, name: str, variant: Variant) -> None:
        expected = self._judgement.expected[name]
        self._judgement.expected[name] = replace(
            expected,
            encoding=variant.encoding,
            encoding_source="probe",
            provider=variant.provider,
            provider_version=variant.provider_version,
            key=variant.key,
            key_id_hash=variant.key_id_hash,
            encryption_source="probe",
        )

    # What is left

    async def left(self) -> Left:
        """Reads again what was written since the first scan, and says what is stale now."""
        keys = KeyMap(self._resources)
        before = self._judgement.stored
        now = await changes_since(self._etcd, before, keys, keep=_KEPT)
        found = Left(revision=now.revision)
        if self._whole:
            whole = await scan(self._etcd, keys, resources=sorted(self._whole), max_rate=self._max_rate, keep=_KEPT)
            for name in self._whole:
                now.resources.pop(name, None)
            now.resources.update({name: whole.resources[name] for name in self._whole if name in whole.resources})
        for name, variants in now.resources.items():
            expected = self._judgement.expected.get(name)
            if expected is None:
                continue
            for variant, tally in variants.items():
                verdict = judge(variant, tally.kind, expected)
                if verdict.stale:
                    self._add(found, name, tally.objects, tally.kept, verdict.reasons)
                elif not verdict.provable:
                    found.unprovable[name] = found.unprovable.get(name, 0) + tally.objects
        for name, listed in self._listed.items():
            if name in self._whole:
                continue
            written = {
                (one.namespace, one.name)
                for tally in now.resources.get(name, {}).values()
                for one in (tally.kept or ())
            }
            untouched = [one for one in listed if (one.namespace, one.name) not in written]
            for prefix in prefixes_of([name]):
                remaining = await still_there(self._etcd, prefix, untouched)
                if remaining:
                    self._add(found, name, len(remaining), remaining, ())
        return found

    def _add(
        self, found: Left, name: str, count: int, objects: list[StoredObject] | None, reasons: Iterable[str]
    ) -> None:
        found.count[name] = found.count.get(name, 0) + count
        known = found.objects.get(name, ())
        found.objects[name] = None if objects is None or known is None else known + tuple(_key(one) for one in objects)
        found.reasons[name] = sorted({*found.reasons.get(name, ()), *reasons})


class _Prober:
    def __init__(self, etcd: Etcd, servers: Sequence[ApiServer]) -> None:
        self._etcd = etcd
        self._servers = servers

    async def ask(self, resource: ServedResource, place: StoredObject) -> tuple[dict[str, Variant], int]:
        """(variant by server's URL, how often the object was rewritten); servers without an answer are left out."""
        written: dict[str, Variant] = {}
        rewritten = 0
        namespace = f"/namespaces/{place.namespace}" if place.namespace else ""
        path = f"{resource.path}{namespace}/{resource.plural}/{quote(place.name, safe=':')}"
        for server in self._servers:
            for _try in range(_TRIES):
                try:
                    before = (await server.get(path, accept=METADATA))["metadata"]["resourceVersion"]
                    body = json.dumps({"metadata": {"resourceVersion": before}}).encode()
                    answer = await server.request("PATCH", path, accept=METADATA, content_type=MERGE_PATCH, body=body)
                except (StorageUpgradeError, KeyError):
                    break
                verdict = outcome_of(answer, before).verdict
                if verdict not in (Verdict.REWRITTEN, Verdict.UNCHANGED):
                    if verdict in (Verdict.CONFLICT, Verdict.RETRY):
                        continue
                    break
                rewritten += verdict is Verdict.REWRITTEN
                revision = int(json.loads(answer.body)["metadata"]["resourceVersion"])
                variant = await self._variant(resource.name, place, revision)
                if variant is not None:
                    written[server.url] = variant
                    break
        return written, rewritten

    async def _variant(self, name: str, place: StoredObject, revision: int) -> Variant | None:
        """How an object is stored now; None if somebody else wrote it after ``revision``."""
        where = f"{place.namespace}/{place.name}" if place.namespace else place.name
        for prefix in prefixes_of([name]):
            page = await self._etcd.range(f"{self._etcd.prefix}/{prefix}/{where}".encode(), None)
            for item in page.items():
                if int(item["mod_revision"]) == revision:
                    envelope, _size = classify_base64(item.get("value") or "")
                    return Variant(envelope.version, envelope.encoding, *envelope[3:])
        return None


def _key(one: StoredObject) -> ObjectKey:
    # An object's resourceVersion is the revision of its key (k8s.io/apiserver, pkg/storage/etcd3).
    return ObjectKey(one.namespace, one.name, str(one.mod_revision))


def variant_text(variant: Variant) -> str:
    """``protobuf``, ``json``, ``aescbc key2``, for a person."""
    if variant.provider == "identity":
        return f"{variant.encoding} without encryption"
    return " ".join(part for part in (variant.provider, variant.provider_version, variant.key) if part)


def _differing_text(name: str, written: Mapping[str, Variant]) -> str:
    urls: dict[str, list[str]] = {}
    for url, variant in written.items():
        text = variant_text(variant) + (f" as {variant.version}" if variant.version else "")
        urls.setdefault(text, []).append(url)
    return f"{name}: " + ", ".join(f"{text} by {', '.join(found)}" for text, found in sorted(urls.items()))
