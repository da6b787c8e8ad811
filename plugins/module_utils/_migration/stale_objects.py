# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``select: stale``: the objects that etcd holds in another form than API servers would write them now.

The servers' hashes reveal which version they write, but nothing reveals the encoding and the encryption key. So
each server gets a no-op patch of one object of each resource: etcd then shows how this server writes. This finds a
master that doesn't have the new key first before anything is rewritten through it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Optional

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    ApiError,
    EtcdError,
    NotConvergedError,
    StorageUpgradeError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event, Report, nobody_listens
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.gathering import gather_limited
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import EtcdClusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.counting import compare_counts, with_misplaced
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.counts import COUNTS_DIFFER, count_problems
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.dropped import Place, find_dropped
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.encryption import EncryptionRules
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.envelope import NO_NAMES, KeyNames
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.identity import require_own_etcd
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import (
    EVENTS_TWIN,
    JSON_BUILT_IN,
    is_custom,
    prefixes_of,
    stored_as,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.kms_keys import KeyIds
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.kms_status import present_key_ids, told_key_ids
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.maintenance import name_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.opening import open_clusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.pruning import schemas_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import (
    Stored,
    StoredObject,
    Variant,
    changes_in_clusters,
    misplaced,
    scan_clusters,
    still_there,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.space import Amount
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.stale import (
    Evaluation,
    Expected,
    Knowledge,
    amount_of,
    evaluate_variant,
    key_is_known,
    may_be_alike,
    with_version,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.stored_versions import (
    Servers,
    known_names,
    local_configuration,
    read_stored,
    unknown_key_sentence,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.crds import (
    require_crd,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import collection_path, pages
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.managed_fields import read_rules
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.options import MigrateOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.probe import (
    Asked,
    NotPutBack,
    Prober,
    are_conclusive,
    together,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.space import Look, members_look
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

# How many stale objects of a kind to keep by name; if there are more, the whole resource is visited.
_KEPT = 20_000
_PARALLEL = 8
# How many objects of a resource to try until one can be patched.
_CANDIDATES = 5
# After how many objects about which a server did not answer it isn't asked for one more of the same resource.
_SILENCES = 2
_FIELDS_NAMED = 5
# How many more, older objects to patch, to find out whether another key has the same name as the current one.
_OLDER = 4
# How often to ask while a KMS plugin's key is being rotated.
_TURNS = 3
_LEFT_NAMED = 3

Objects = Optional[tuple[ObjectKey, ...]]


@asynccontextmanager
async def open_stale_objects(options: MigrateOptions) -> AsyncIterator[StaleObjects]:
    """For ``select: stale``. Raises BadInputError if the options for etcd make no sense."""
    rules, media_type = local_configuration(options.encryption_config)
    names = known_names(rules, options.encryption_keys)
    async with open_clusters(options.etcd) as etcd:
        yield StaleObjects(
            etcd,
            encryption=rules,
            media_type=media_type,
            names=names,
            max_rate=options.etcd_max_rate,
        )


@dataclass
class Left:
    """What is still stale after a run; all but ``revision`` and ``problems`` by resource.

    ``revision``: the one at which etcd was read. ``count``: stale objects. ``objects``: their names; None if too many.
    ``reasons``: why they are stale. ``unprovable``: objects whose version etcd doesn't show.
    ``encryption_unknown``: objects for which etcd doesn't show whether the current key encrypts them.
    ``problems``: why the proof is incomplete, one sentence each. ``uncounted``: the resources that this etcd was not shown
    to hold completely.
    """

    revision: int
    count: dict[str, int] = field(default_factory=dict)
    objects: dict[str, Objects] = field(default_factory=dict)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    unprovable: dict[str, int] = field(default_factory=dict)
    encryption_unknown: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    uncounted: set[str] = field(default_factory=set)

    def hides_more(self, name: str) -> bool:
        """Whether objects of a resource are left in an old version, and the version of others is hidden, so may be old, too."""
        return "version" in self.reasons.get(name, ()) and self.unprovable.get(name, 0) > 0


class StaleObjects:
    """What etcd holds, what servers write, and what remains to be rewritten.

    ``withheld``: by resource, the objects whose rewrite would drop fields, with a sentence on that.
    ``rewritten``: by resource, the objects that a server rewrote when it was asked how it writes.
    ``uncertain``: likewise, those that it may have rewritten, as its answer got lost.
    ``wrote``: whether a server may have rewritten anything then. ``probed``: the resources of which objects were written so.
    ``managed``: by resource, the objects whose field managers are to be moved or dropped; None if too many.
    """

    def __init__(
        self,
        etcd: EtcdClusters,
        *,
        encryption: EncryptionRules | None = None,
        media_type: str | None = None,
        names: KeyNames = NO_NAMES,
        max_rate: float = 0,
    ) -> None:
        self._etcd = etcd
        self._encryption = encryption
        self._media_type = media_type
        self._key_names = names
        self._max_rate = max_rate
        self._evaluation = Evaluation(Stored(), {})
        self._servers: Servers | None = None
        self._report: Report = nobody_listens
        self._probed: set[str] | None = None
        self._visited = False
        # Resources that are to be asked about, which had to wait.
        self._due: set[str] = set()
        self._wanted: set[str] = set()
        self._resources: Mapping[str, ServedResource] = {}
        self._names: list[str] = []
        self._whole: set[str] = set()
        self._objects: dict[str, int] = {}
        self._listed: dict[str, list[StoredObject]] = {}
        self._doubtful: dict[str, list[StoredObject]] = {}
        self.withheld: dict[str, dict[Place, str]] = {}
        self.rewritten: dict[str, tuple[ObjectKey, ...]] = {}
        self.uncertain: dict[str, tuple[ObjectKey, ...]] = {}
        self.managed: dict[str, Objects] = {}
        self.wrote = False

    async def read(
        self,
        entry: ApiServer,
        servers: Sequence[ApiServer],
        seen: Observation,
        resources: Collection[str] | None,
        report: Report,
    ) -> None:
        """The scan that everything else builds on. Raises EtcdError if this is not the API servers' etcd."""
        self._servers = Servers(entry, servers)
        self._report = report
        self._resources = seen.resources
        self._names = [name for name in seen.resources if not resources or name in resources]
        self._evaluation = await read_stored(
            self._etcd,
            seen,
            self._servers,
            resources=resources or None,
            encryption=self._encryption,
            media_type=self._media_type,
            names=self._key_names,
            max_rate=self._max_rate,
            keep=_KEPT,
            report=report,
        )
        stored = self._evaluation.stored.resources
        self._objects = {name: sum(tally.objects for tally in found.values()) for name, found in stored.items()}

    def members_look(self) -> Look:
        """How to look at the members of each etcd that keeps something of what is served."""
        return members_look(self._etcd, sorted(self._resources))

    def amounts(self, names: Iterable[str]) -> dict[str, Amount]:
        """What a migration of these resources has to write to each etcd, and what is known to be stored there."""
        stored, found = self._evaluation.stored, {}
        for etcd, own in self._etcd.split(names):
            held = next((part.bytes for part_of, part in stored.parts if part_of is etcd), None)
            found[name_of(etcd)] = amount_of(self._evaluation, own, held)
        return found

    async def withhold(
        self, server: ApiServer, accepted: Collection[str], report: Report, again: Collection[str] | None = None
    ) -> None:
        """Finds the custom resources that would lose fields; those of ``accepted`` resources (``*``: all) may lose them.

        ``again``: only these, since their CRDs may have been edited, or they may have objects now. Raises ApiError if a CRD may
        not be read, because then it is unknown what a rewrite drops.
        """
        for name in self._names if again is None else again:
            if "*" in accepted or name in accepted or not is_custom(name):
                continue
            if again is None and not self._evaluation.stored.resources.get(name):
                continue
            crd = await require_crd(server, name)
            schemas = None if crd is None else schemas_of(crd)
            if schemas is None:
                continue
            dropped = await find_dropped(self._etcd.of(name), name, schemas)
            if dropped.unknown:
                report(
                    Event(
                        "notice",
                        f"Whether a rewrite drops fields of {dropped.unknown} {name} is unknown: they are encrypted, not "
                        "stored as JSON, or converted by a webhook.",
                        {},
                    )
                )
            self.withheld[name] = {place: _lost_text(name, fields) for place, fields in dropped.objects.items()}

    async def look_at_managers(
        self, server: ApiServer, mode: str, names: Iterable[str], served: Mapping[str, Collection[str]]
    ) -> list[str]:
        """Lists metadata, as values in etcd may be encrypted, for field managers that managed_fields is about.

        ``served``: the group versions in which each resource is served. Returns sentences about what could not be listed.
        """
        anywhere = frozenset[str]().union(*served.values())
        doubts: list[str] = []

        async def look(name: str) -> None:
            resource = self._resources[name]
            rules = await read_rules(server, mode, resource, served.get(name, ()), anywhere)
            found: dict[Place, ObjectKey] = {}
            try:
                async for page in pages(server, collection_path(resource)):
                    for metadata in (item["metadata"] for item in page.items):
                        if rules.wanted(metadata.get("managedFields")) is not None:
                            key = ObjectKey(metadata.get("namespace"), metadata["name"])
                            found[key.namespace, key.name] = key
            except (ApiError, UnreachableError) as error:
                doubts.append(
                    f"Whether field managers of {name} are at versions that managed_fields is about is unknown, as it could "
                    f"not be listed: {error.message}"
                )
            if found:
                self.managed[name] = tuple(found.values()) if len(found) <= _KEPT else None

        await gather_limited(_PARALLEL, look, names)
        return sorted(doubts)

    def select(self, changed: Collection[str], *, unseen: bool = False) -> dict[str, Objects]:
        """The objects to rewrite, by resource; None for all of it, found by a list.

        A resource without stale objects, but also without a complete migration on record (``changed``), is included
        without objects: etcd itself proves that it is migrated. All objects are visited if encryption hides their
        version and no migration is on record, or if this etcd doesn't hold what the API servers list. ``unseen``: API
        servers were restarted since the record was made, maybe at an older release, so it doesn't say what encryption hides.
        """
        found: dict[str, Objects] = {}
        for name in self._names:
            stale, doubtful = self._to_visit(name)
            # What etcd shows in an old version contradicts the record, which then proves nothing about the rest either.
            unproven = name in changed or self.is_contradicted(name)
            hidden = (unproven or unseen) and self._unprovable(name) > 0
            hidden = hidden or (unproven and name in self._evaluation.uncounted)
            elsewhere = self._is_elsewhere(name)
            if hidden or elsewhere or stale is None or doubtful is None or name == EVENTS_TWIN:
                found[name] = None
            elif (
                stale
                or doubtful
                or any(name in names for names in (changed, self.rewritten, self.uncertain, self.managed))
            ):
                found[name] = self._with_managed(name, tuple(map(_key, (*stale, *doubtful))))
                self._listed[name] = stale
                self._doubtful[name] = doubtful
        self._whole = {name for name, objects in found.items() if objects is None}
        return found

    def is_contradicted(self, name: str) -> bool:
        """Whether etcd shows objects of a resource in an old version."""
        return name in self._evaluation.expected and any(
            "version" in verdict.reasons for _variant, _tally, verdict in self._evaluation.variants(name)
        )

    def _with_managed(self, name: str, objects: tuple[ObjectKey, ...]) -> Objects:
        managed = self.managed.get(name, ())
        if managed is None:
            return None
        known = {(key.namespace, key.name) for key in objects}
        return (*objects, *(key for key in managed if (key.namespace, key.name) not in known))

    def reason(self, name: str) -> str:
        """Why a resource was selected."""
        stale = self._listed.get(name) or self._doubtful.get(name) or name in self._whole
        return "stale in etcd" if stale or name not in self.managed else "field managers at other versions"

    def _is_elsewhere(self, name: str) -> bool:
        uncounted = self._evaluation.uncounted.get(stored_as(name))
        return uncounted is not None and uncounted.kind == COUNTS_DIFFER

    def _unprovable(self, name: str) -> int:
        return self._evaluation.unprovable(name) if name in self._evaluation.expected else 0

    def _to_visit(self, name: str) -> tuple[list[StoredObject] | None, list[StoredObject] | None]:
        """(the stale objects, those that may be stale); None if there are more than were kept.

        If it is unknown which key encrypts an object, the API server's answer to the patch shows whether it is stale.
        """
        if name not in self._evaluation.expected:
            return [], []
        stale: list[StoredObject] | None = []
        doubtful: list[StoredObject] | None = []
        for _variant, tally, verdict in self._evaluation.variants(name):
            if verdict.stale:
                stale = None if stale is None or tally.kept is None else stale + tally.kept
            elif self._is_doubtful(verdict.encryption_unknown):
                doubtful = None if doubtful is None or tally.kept is None else doubtful + tally.kept
        return stale, doubtful

    def _is_doubtful(self, unknown: str | None) -> bool:
        # Before the servers were asked, how they encrypt is unknown, and everything would count as doubtful.
        return unknown is not None and (self._probed is not None or unknown != "guessed")

    # What each server writes

    async def probe(self, servers: Sequence[ApiServer], names: Iterable[str]) -> None:
        """Finds out how each server writes, by no-op patches of a few objects of each resource.

        Raises NotConvergedError if servers write the same resource differently. Any error, and a notice if the run is interrupted,
        names the objects that could not be put back.
        """
        self._wanted = set(names)
        self._probed = self._wanted & set(self._evaluation.stored.resources)
        await self._probe_each(servers, self._probed)

    @property
    def probed(self) -> frozenset[str]:
        return frozenset(self._probed or ())

    async def probe_again(self, servers: Sequence[ApiServer], *, replaced: bool, edited: Collection[str] = ()) -> None:
        """Finds out again how each server writes, and has everything read again of resources that are written in another way now.

        ``replaced``: a server may have been started with other flags. Without that, one may only have loaded another
        encryption configuration, which it does without a restart. ``edited``: resources that are visited again in any case, and of
        which a write may drop other fields than those that were looked for. Raises like ``probe``.
        """
        self._visited = True
        due = self._due | {name for name in self.probed if replaced or self._may_be_reloaded(name)}
        names, self._due = due - set(edited), due & set(edited)
        before = {name: _way(expected) for name, expected in self._evaluation.expected.items()}
        await self._probe_each(servers, names)
        self._whole |= {name for name, expected in self._evaluation.expected.items() if _way(expected) != before[name]}

    def _may_be_reloaded(self, name: str) -> bool:
        """Encrypted until now, or what nearly everybody encrypts first."""
        return name == "secrets" or self._evaluation.expected[name].provider not in (None, "identity")

    async def _probe_each(self, servers: Sequence[ApiServer], names: Collection[str]) -> None:
        self._ask_these(servers)
        prober = Prober(self._etcd, servers, self._key_names)
        try:
            await self._probe(prober, servers, names)
        except StorageUpgradeError as error:
            error.message += _not_put_back_text(prober.not_put_back)
            raise
        except asyncio.CancelledError:
            if prober.not_put_back:
                self._report(Event("notice", _not_put_back_text(prober.not_put_back).lstrip(), {}))
            raise
        finally:
            self.wrote = self.wrote or prober.wrote

    async def _probe(self, prober: Prober, servers: Sequence[ApiServer], names: Collection[str]) -> None:
        async def ask(name: str) -> None:
            asked[name] = await self._ask(prober, name)

        asked: dict[str, list[Asked]] = {}
        pending = set(names)
        for turns_left in reversed(range(_TURNS)):
            await gather_limited(_PARALLEL, ask, sorted(pending))
            for name in pending:
                self._learn(name, asked[name], prober.urls)
            pending = {name for name in pending if self._is_turning(name)}
            if not pending or not turns_left:
                break
            plugins = {self._evaluation.expected[name].key or "" for name in pending}
            self._learn_key_ids(await present_key_ids(servers, plugins, self._report))
        self.uncertain = {name: tuple(map(_key, places)) for name, places in prober.uncertain.items()}
        answers = [
            (name, answer) for name in sorted(asked) if asked[name] for answer in (*asked[name], together(asked[name]))
        ]
        differing = [(name, answer) for name, answer in answers if not _alike(answer)]
        if differing:
            raise NotConvergedError(
                "The API servers write objects differently although their storage versions agree: "
                + "; ".join(_differing_text(*pair) for pair in list(dict(differing).items())[:5])
                + ". Give all of them the same encryption configuration and storage media type, restart them, "
                "and run again."
            )

    async def _ask(self, prober: Prober, name: str) -> list[Asked]:
        """The answers of all servers about one object, or several if one is not enough."""
        resource = self._resources[name]
        found: list[Asked] = []
        silent = Counter[str]()
        async for place, stored in self._candidates(prober, name):
            asked = await prober.ask(resource, place, stored)
            silent.update(asked.silent)
            if asked.written or asked.rewritten:
                found.append(asked)
            # Another object doesn't help where a server is silent, and each may cost a timeout.
            answering = {url for url in prober.urls if silent[url] < _SILENCES}
            if not answering or are_conclusive(found, answering):
                break
        if not found or found[-1].differ is not None:
            return found
        # Two keys may have the same name: if the other one encrypts anything, then older objects.
        for place, stored in self._older(name, set(together(found).written.values())):
            found.append(await prober.ask(resource, place, stored, servers=1))
        return found

    async def _candidates(self, prober: Prober, name: str) -> AsyncIterator[tuple[StoredObject, Variant]]:
        """Objects that the first scan found, and after the visits, when those may be gone, some that exist by now."""
        for found in self._newest(name):
            yield found
        if self._visited and self._servers is not None:
            for place in await self._listed_now(self._servers.entry, name):
                stored = await prober.form_of(name, place)
                if stored is not None:
                    yield place, stored

    async def _listed_now(self, server: ApiServer, name: str) -> list[StoredObject]:
        try:
            async for page in pages(server, collection_path(self._resources[name])):
                found = [
                    StoredObject(metadata.get("namespace"), metadata["name"], int(metadata["resourceVersion"]))
                    for metadata in (item["metadata"] for item in page.items)
                ]
                return self._not_withheld(name, found)[:_CANDIDATES]
        except (ApiError, UnreachableError):
            pass
        return []

    def _newest(self, name: str) -> list[tuple[StoredObject, Variant]]:
        """The latest objects first, since patching them is the least likely to rewrite them.

        Several, since some may be gone by now, or may not be patchable.
        """
        found: dict[StoredObject, Variant] = {}
        for variant, tally in self._evaluation.stored.resources.get(name, {}).items():
            if variant.encoding not in ("empty", "unknown") and tally.latest is not None:
                places = [StoredObject(*tally.latest, tally.newest), *(tally.kept or ())[-_CANDIDATES:]]
                found.update(dict.fromkeys(self._not_withheld(name, places), variant))
        return sorted(found.items(), key=lambda item: -item[0].mod_revision)[:_CANDIDATES]

    def _not_withheld(self, name: str, places: Iterable[StoredObject]) -> list[StoredObject]:
        """Without the objects that must not be patched, and those whose managers a patch without their new ones may drop."""
        left_alone: set[Place] = {*self.withheld.get(name, {})}
        if not is_custom(name):
            left_alone.update((key.namespace, key.name) for key in self.managed.get(name) or ())
        return [place for place in places if (place.namespace, place.name) not in left_alone]

    def _older(self, name: str, variants: Collection[Variant]) -> list[tuple[StoredObject, Variant]]:
        """Objects whose key has the name of the current one, oldest first; a KMS v2 key also has an ID, so needs none."""
        found = []
        for variant, tally in self._evaluation.stored.resources.get(name, {}).items():
            if variant in variants and variant.provider != "identity" and variant.key_id_hash is None:
                kept = self._not_withheld(name, tally.kept or ())
                places = sorted(kept, key=lambda place: place.mod_revision)[:-1]
                found += [(place, variant) for place in places[:: max(1, len(places) // _OLDER)][:_OLDER]]
        return found

    def _learn(self, name: str, asked: Sequence[Asked], urls: Collection[str]) -> None:
        rewritten = [answer.place for answer in asked if answer.rewritten]
        for place in rewritten:
            self._forget(name, place)
        if rewritten:
            known = self.rewritten.get(name, ())
            self.rewritten[name] = (*known, *(key for key in map(_key, rewritten) if key not in known))
        written = [variant for answer in asked for variant in answer.written.values()]
        if not written and self._visited:
            # What it showed before the visits may no longer be true.
            self._evaluation.expected[name] = replace(self._evaluation.expected[name], encryption_source="newest")
        elif written:
            variant = next(filter(key_is_known, written), written[0])
            if len({other.key_id_hash for other in written}) > 1:
                variant = variant._replace(key_id_hash=None)
            self._expect(name, variant, same_name=any(answer.same_name for answer in asked))
            if not {url for answer in asked for url in answer.written}.issuperset(urls):
                # A server that showed nothing may encrypt with another key.
                self._evaluation.expected[name] = replace(self._evaluation.expected[name], encryption_source="newest")

    def _forget(self, name: str, place: StoredObject) -> None:
        """Drops an object that the patch rewrote, so that it is not visited at its old revision."""
        for tally in self._evaluation.stored.resources[name].values():
            if tally.kept is not None and place in tally.kept:
                tally.kept.remove(place)
                tally.objects -= 1

    def _expect(self, name: str, variant: Variant, *, same_name: bool) -> None:
        known = self._evaluation.expected[name]
        expected = replace(
            known.encrypted_as(variant),
            encoding=variant.encoding,
            encoding_source="probe",
            encryption_source="probe",
            key_repeated=same_name
            or (known.key_repeated and (known.provider, known.key) == (variant.provider, variant.key))
            or (self._encryption is not None and self._encryption.is_repeated(name, variant.provider, variant.key)),
        )
        self._evaluation.expected[name] = self._with_key_id(expected)
        if variant.encoding is not None and name not in JSON_BUILT_IN:
            self._expect_encoding(variant.encoding, custom=is_custom(name))

    def _expect_encoding(self, encoding: str, *, custom: bool) -> None:
        """Built-in resources share one media type, and custom resources another, so a probe of one shows that of those that weren't probed."""
        for name, expected in self._evaluation.expected.items():
            told = expected.encoding_source == "probe" and name not in self.probed
            if (
                (told or expected.encoding_source in ("newest", "none"))
                and name not in JSON_BUILT_IN
                and is_custom(name) == custom
            ):
                self._evaluation.expected[name] = replace(expected, encoding=encoding, encoding_source="probe")

    def _with_key_id(self, expected: Expected) -> Expected:
        """With the key's ID that the servers report if a patch confirmed it; otherwise with none."""
        if not expected.is_kms_v2:
            return expected
        told = self._evaluation.key_ids.current.get(expected.key or "")
        known = told is not None and told == expected.key_id_hash
        return replace(expected, key_id_source="servers") if known else replace(expected, key_id_hash=None)

    def _is_turning(self, name: str) -> bool:
        """Whether the servers report a key other than the one that they were seen to use."""
        expected = self._evaluation.expected[name]
        told = expected.is_kms_v2 and (expected.key or "") in self._evaluation.key_ids.current
        return told and expected.key_id_source != "servers"

    def _learn_key_ids(self, found: KeyIds) -> None:
        known = self._evaluation.key_ids
        unknown = {name: why for name, why in known.unknown.items() if name not in found.current}
        current = {name: key_id for name, key_id in known.current.items() if name not in found.unknown}
        self._evaluation.key_ids = KeyIds({**current, **found.current}, {**unknown, **found.unknown})

    # What remains

    def _ask_these(self, servers: Sequence[ApiServer]) -> None:
        """From now on, asks these API servers for counts and keys: one may have died since the scan, or joined."""
        if self._servers is not None and servers:
            self._servers = replace(self._servers, each=servers)

    def follow(self, seen: Observation, servers: Sequence[ApiServer]) -> None:
        """Expects the storage versions that the API servers report by now. A resource whose own has changed is read as a whole again."""
        self._ask_these(servers)
        known = Knowledge(
            served=seen.resources,
            other_groups=seen.other_groups,
            disagreeing=frozenset(differing.resource for differing in seen.disagreements),
        )
        for name in self._names:
            served = seen.resources.get(name)
            if served is None or served.hash == self._resources[name].hash:
                continue
            self._resources = {**self._resources, name: served}
            self._evaluation.expected[name] = with_version(name, self._evaluation.expected[name], known)
            self._whole.add(name)

    async def left(self) -> Left:
        """Reads what was written since the first scan, and returns what is stale now. Raises EtcdError.

        Resources in which something can't be proven are read again as a whole, so that everything is counted.
        """
        await self._require_own()
        now = await changes_in_clusters(
            self._etcd, self._evaluation.stored, self._resources, keep=_KEPT, names=self._key_names
        )
        found = Left(revision=now.revision)
        whole_again = self._whole | {name for name in self._names if self._unprovable(name)}
        await self._read_whole(whole_again, now)
        self._evaluate(now, found)
        for name in self._listed.keys() - whole_again:
            await self._look_for_untouched(name, now, found)
        await self._count(now, found)
        await self._look_at_kms_keys(found)
        return found

    async def _read_whole(self, names: Collection[str], now: Stored) -> None:
        """Has ``now`` hold everything of these resources, instead of what was written since the first scan."""
        if not names:
            return
        whole = await scan_clusters(
            self._etcd,
            self._resources,
            resources=sorted(names),
            max_rate=self._max_rate,
            keep=_KEPT,
            names=self._key_names,
        )
        for name in names:
            now.resources.pop(name, None)
        now.resources.update({name: whole.resources[name] for name in names if name in whole.resources})

    def _evaluate(self, now: Stored, found: Left) -> None:
        """What of these objects is stale, or may be."""
        for name, variants in now.resources.items():
            expected = self._evaluation.expected.get(name)
            if expected is None:
                continue
            for variant, tally in variants.items():
                verdict = evaluate_variant(variant, tally.kind, expected)
                if verdict.stale:
                    self._add(found, name, tally.objects, tally.kept, verdict.reasons)
                elif not verdict.provable:
                    found.unprovable[name] = found.unprovable.get(name, 0) + tally.objects
                if verdict.encryption_unknown is not None and name in self._wanted:
                    found.encryption_unknown[name] = found.encryption_unknown.get(name, 0) + tally.objects

    async def _look_for_untouched(self, name: str, now: Stored, found: Left) -> None:
        """What the first scan found stale and nobody has written since."""
        remaining = await self._untouched(self._listed[name], name, now)
        if remaining:
            self._add(found, name, len(remaining), remaining, ())
        # Not stale for the API server that was asked, but etcd doesn't show it.
        doubtful = await self._untouched(self._doubtful[name], name, now)
        if doubtful:
            found.encryption_unknown[name] = found.encryption_unknown.get(name, 0) + len(doubtful)

    async def _look_at_kms_keys(self, found: Left) -> None:
        """Claims nothing about objects under a KMS plugin whose key is unknown or was rotated during the run."""
        users: dict[str, list[str]] = {}
        for name in sorted(self._probed or ()):
            expected = self._evaluation.expected[name]
            if expected.is_kms_v2 and expected.key is not None:
                users.setdefault(expected.key, []).append(name)
        if not users:
            return
        before = self._evaluation.key_ids
        now = await told_key_ids(self._servers.each if self._servers is not None else (), users)
        for plugin, names in users.items():
            if plugin in before.current and now.current.get(plugin) == before.current[plugin]:
                continue
            why = before.unknown.get(plugin) or now.unknown.get(plugin) or "it was rotated during the run"
            found.problems.append(unknown_key_sentence(plugin, why))
            found.encryption_unknown.update({name: self._objects.get(name, 0) for name in names})

    async def _untouched(self, objects: list[StoredObject], name: str, now: Stored) -> list[StoredObject]:
        """The objects among these that haven't changed since the first scan."""
        written = {
            (place.namespace, place.name)
            for tally in now.resources.get(name, {}).values()
            for place in (tally.kept or ())
        }
        etcd = self._etcd.of(name)
        untouched = [place for place in objects if (place.namespace, place.name) not in written]
        return [place for prefix in prefixes_of([name]) for place in await still_there(etcd, prefix, untouched)]

    async def _require_own(self) -> None:
        if self._servers is not None:
            try:
                await require_own_etcd(self._etcd, self._servers.entry, self._resources, self._names)
            except (ApiError, UnreachableError) as error:
                raise EtcdError(f"whether it is the API servers' own is unknown: {error.message}") from error

    async def _count(self, now: Stored, found: Left) -> None:
        """For resources that etcd may not hold completely, the scan proves nothing."""
        if self._servers is None:
            return
        counted = await compare_counts(self._etcd, self._servers.each, self._resources, self._names)
        odd: dict[str, int] = {}
        for stored in (self._evaluation.stored, now):
            for name, number in misplaced(self._etcd, stored, self._resources, self._names).items():
                odd[name] = max(number, odd.get(name, 0))  # The second scan has only what was written since.
        uncounted = with_misplaced(counted, odd, lambda name: self._objects.get(name, 0))
        for name, difference in uncounted.items():
            unproven = difference.unproven(found.count.get(name, 0))
            found.unprovable[name] = max(found.unprovable.get(name, 0), unproven)
            found.uncounted.add(name)
        found.problems += count_problems(uncounted)

    def _add(
        self, found: Left, name: str, count: int, objects: list[StoredObject] | None, reasons: Iterable[str]
    ) -> None:
        found.count[name] = found.count.get(name, 0) + count
        known = found.objects.get(name, ())
        found.objects[name] = None if objects is None or known is None else known + tuple(map(_key, objects))
        found.reasons[name] = sorted({*found.reasons.get(name, ()), *reasons})


def _lost_text(name: str, fields: Sequence[str]) -> str:
    more = f" and {len(fields) - _FIELDS_NAMED} more" if len(fields) > _FIELDS_NAMED else ""
    return (
        f"it holds fields that its CRD no longer knows ({', '.join(fields[:_FIELDS_NAMED])}{more}), and a rewrite would drop them: add them to the "
        f"CRD's schema, or name {name} in drop_unknown_fields"
    )


def _key(stored: StoredObject) -> ObjectKey:
    # An object's resourceVersion is the revision of its key (k8s.io/apiserver, pkg/storage/etcd3).
    return ObjectKey(stored.namespace, stored.name, str(stored.mod_revision))


def _way(expected: Expected) -> tuple[object, ...]:
    """How new values look, apart from their version, which ``follow`` compares."""
    return (
        expected.encoding,
        expected.provider,
        expected.provider_version,
        expected.key,
        expected.key_id_hash,
        expected.encryption_source,
        expected.key_repeated,
    )


def variant_text(variant: Variant) -> str:
    """``protobuf``, ``json``, ``aescbc key2``, for a person."""
    if variant.provider == "identity":
        return f"{variant.encoding} without encryption"
    begins_with = f"{variant.key_begins_with}:…?" if variant.key_begins_with else None
    return " ".join(part for part in (variant.provider, variant.provider_version, variant.key or begins_with) if part)


def _not_put_back_text(left: Sequence[NotPutBack]) -> str:
    """Begins with a space; empty if there are none."""
    if not left:
        return ""
    told = "".join(map(_left_text, left[:_LEFT_NAMED]))
    if len(left) > _LEFT_NAMED:
        told += f" The same is true of {len(left) - _LEFT_NAMED} more."
    sealed = any(found.now is None or found.now.provider != "identity" for found in left)
    key = " Until then, every API server needs the key that encrypts it now." if sealed else ""
    return f"{told} The next run that succeeds rewrites what stays changed.{key}"


def _left_text(found: NotPutBack) -> str:
    where = "/".join(part for part in (found.place.namespace, found.place.name) if part)
    now = "how it is stored now is unknown" if found.now is None else f"it is now stored as {_how_stored(found.now)}"
    before = _how_stored(found.before)
    return (
        f" {found.resource} {where} was stored as {before} and could not be put back ({found.why.rstrip('.')}): {now}."
    )


def _how_stored(variant: Variant) -> str:
    return variant_text(variant) + (f" as {variant.version}" if variant.version else "")


def _alike(asked: Asked) -> bool:
    """Whether the servers write an object alike; they do if only a remote key is being rotated."""
    variants = [variant._replace(key_id_hash=None) for variant in asked.written.values()]
    return asked.differ is None and all(may_be_alike(*pair) for pair in itertools.combinations(variants, 2))


def _differing_text(name: str, asked: Asked) -> str:
    if asked.differ is not None:
        first, other = asked.differ
        return f"{name}: {variant_text(asked.written[first])} by {first}, and another key of that name by {other}"
    urls: dict[str, list[str]] = {}
    for url, variant in asked.written.items():
        urls.setdefault(_how_stored(variant), []).append(url)
    return f"{name}: " + ", ".join(f"{text} by {', '.join(found)}" for text, found in sorted(urls.items()))
