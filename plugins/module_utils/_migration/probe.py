# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds out how API servers write: sends each a no-op patch of one object, and then reads it from etcd."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    EtcdFullError,
    StorageUpgradeError,
    UnreachableError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import EtcdClusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.envelope import KeyNames, classify_base64
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import prefixes_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import StoredObject, Variant
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.stale import key_is_known, may_be_alike
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import METADATA, ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import (
    no_op_patch,
    object_path,
    send_patch,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.managers import would_lose_managers
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import (
    About,
    Verdict,
    outcome_of,
    transport_outcome,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

_TRIES = 3


class Answered(NamedTuple):
    """A server's answer to a no-op patch, and the resourceVersion that the object had before.

    ``answer`` is None if it got lost, so that the object may have been rewritten.
    """

    resource_version: str
    answer: Response | None


class Unpatched(NamedTuple):
    """``why`` there is no useful answer to a patch, for a person; ``perhaps_done``: it may have been carried out.

    ``silent``: the server did not answer at all.
    """

    why: str
    perhaps_done: bool = False
    silent: bool = False


async def patch_once(
    server: ApiServer, resource: ServedResource, namespace: str | None, name: str
) -> Answered | Unpatched:
    """Has one server rewrite one object if that server considers it stale.

    Unpatched if another object has to be tried: the server can't be asked, the object does not exist, or the patch would cost it
    field managers.
    """
    path = object_path(resource, namespace, name)
    try:
        metadata: Mapping[str, Any] = (await server.get(path, accept=METADATA))["metadata"]
        patch = no_op_patch(metadata["resourceVersion"])
        if await would_lose_managers(server, resource, path, patch, metadata):
            return Unpatched(f"a write by {server.url} may drop field managers")
    except StorageUpgradeError as error:
        return Unpatched(error.message, silent=isinstance(error, UnreachableError))
    except KeyError:
        return Unpatched(f"{server.url} did not answer with an object")
    try:
        answer = await send_patch(server, path, patch)
    except UnreachableError as error:
        lost = transport_outcome(error).perhaps_done
        return Answered(metadata["resourceVersion"], None) if lost else Unpatched(error.message, silent=True)
    perhaps_done = outcome_of(answer, metadata["resourceVersion"]).perhaps_done
    return Answered(metadata["resourceVersion"], None if perhaps_done else answer)


class _Patched(NamedTuple):
    """A patch: the object's revision before and after it, how it is stored now, and whether this or an earlier try wrote."""

    before: int
    after: int
    variant: Variant
    wrote: bool

    @property
    def rewritten(self) -> bool:
        return self.before != self.after


@dataclass
class Asked:
    """What the servers' answers about one object show.

    ``written``: how it was stored after each server's patch, by URL; servers without an answer are left out.
    ``same_name``: a server considered it stale and stored it in the same way, so another key has the name of its key.
    ``differ``: (one server, another that considers stale what looks the same and is current for the first).
    ``in_doubt``: a server may have written it without an answer. ``silent``: the URLs of servers that did not answer at all.
    """

    place: StoredObject
    written: dict[str, Variant] = field(default_factory=dict)
    rewritten: bool = False
    same_name: bool = False
    differ: tuple[str, str] | None = None
    in_doubt: bool = False
    silent: list[str] = field(default_factory=list)


def are_conclusive(answers: Sequence[Asked], urls: Collection[str]) -> bool:
    """Whether there is nothing more to learn from another object of the same resource: each server showed how it writes."""
    shown = {url for asked in answers for url, variant in asked.written.items() if key_is_known(variant)}
    return any(asked.differ is not None for asked in answers) or (bool(shown) and shown.issuperset(urls))


def together(answers: Sequence[Asked]) -> Asked:
    """What the answers about several objects of one resource show of how each server writes it."""
    written: dict[str, Variant] = {}
    for url, variant in (pair for asked in answers for pair in asked.written.items()):
        if url not in written or not key_is_known(written[url]):
            written[url] = variant
    return Asked(answers[0].place, written)


class NotPutBack(NamedTuple):
    """An object that a server wrote differently from how it was stored ``before``, and ``why`` that was not undone.

    ``now``: how it is stored; None if that is unknown.
    """

    resource: str
    place: StoredObject
    before: Variant
    now: Variant | None
    why: str


class Prober:
    """Raises EtcdFullError if a server says that etcd is full; then nothing more is sent.

    ``urls``: of the servers that it asks. ``wrote``: whether one of them rewrote anything, or may have.
    ``uncertain``: by resource, the objects that may have been rewritten, as an answer got lost.
    ``not_put_back``: objects that servers left in another form than before, although one of them still writes that form.
    """

    def __init__(self, etcd: EtcdClusters, servers: Sequence[ApiServer], names: KeyNames) -> None:
        self._etcd = etcd
        self._names = names
        self._servers = servers
        self._full = False
        self.urls = frozenset(server.url for server in servers)
        self.wrote = False
        self.uncertain: dict[str, list[StoredObject]] = {}
        self.not_put_back: list[NotPutBack] = []

    async def ask(
        self, resource: ServedResource, place: StoredObject, stored: Variant, servers: int | None = None
    ) -> Asked:
        """Asks every server, or the first ``servers`` of them, with an object that the scan found ``stored`` so."""
        asked = Asked(place)
        try:
            await self._ask_each(resource, stored, self._servers[:servers], asked)
        finally:  # Even if the run is being interrupted.
            await self._put_back(resource, stored, asked)
        return asked

    async def _ask_each(
        self, resource: ServedResource, stored: Variant, servers: Sequence[ApiServer], asked: Asked
    ) -> None:
        place = asked.place
        last: tuple[str, int, Variant] | None = None
        for server in servers:
            doubt, asked.in_doubt = asked.in_doubt, True  # The patch may be interrupted.
            try:
                done = await self._patch(server, resource, place)
            except EtcdFullError:
                asked.in_doubt = doubt  # It was not written.
                raise
            if isinstance(done, Unpatched):
                asked.in_doubt = doubt or done.perhaps_done
                asked.silent += [server.url] * done.silent
                continue
            asked.in_doubt = doubt
            revision = done.after
            asked.written[server.url] = done.variant
            asked.rewritten |= done.wrote
            if done.rewritten:
                again = await self._patch(server, resource, place)
                # If the same server rewrites it again, each write changes it (by a webhook), which says nothing about keys.
                settled = isinstance(again, _Patched) and (again.before, again.after) == (revision, revision)
                if settled and done.variant.provider != "identity":
                    if last is None:
                        asked.same_name = (place.mod_revision, stored) == (done.before, done.variant)
                    elif last[1] == done.before and may_be_alike(last[2], done.variant):
                        asked.differ = (last[0], server.url)
                revision = again.after if isinstance(again, _Patched) else revision
            last = (server.url, revision, done.variant)

    async def _put_back(self, resource: ServedResource, stored: Variant, asked: Asked) -> None:
        """Where servers differ, has one that still can write the object as it was, so that no Secret is left in plain text."""
        ways = {url: _without_key_id(variant) for url, variant in asked.written.items()}
        before = _without_key_id(stored)
        if not ways or (list(ways.values())[-1] == before and not asked.in_doubt):
            return
        home = next((server for server in self._servers if ways.get(server.url) == before), None)
        if home is None:
            return
        try:
            done = await self._patch(home, resource, asked.place)
            now = await self.form_of(resource.name, asked.place)
        except StorageUpgradeError as error:
            self.not_put_back.append(NotPutBack(resource.name, asked.place, stored, None, error.message))
            raise
        self.not_put_back = [
            left for left in self.not_put_back if (left.resource, left.place) != (resource.name, asked.place)
        ]
        if now is not None and not may_be_alike(before, _without_key_id(now)):  # None: it was deleted.
            why = done.why if isinstance(done, Unpatched) else f"{home.url} no longer writes it that way"
            self.not_put_back.append(NotPutBack(resource.name, asked.place, stored, now, why))

    async def _patch(self, server: ApiServer, resource: ServedResource, place: StoredObject) -> _Patched | Unpatched:
        """Unpatched if there is no useful answer."""
        about = About(resource.group, resource.plural, place.namespace, place.name)
        wrote, why = False, "others keep writing it"
        for _try in range(_TRIES):
            if self._full:
                raise EtcdFullError()
            answered = await patch_once(server, resource, place.namespace, place.name)
            if isinstance(answered, Unpatched):
                return answered
            before, answer = answered
            if answer is None:
                self.wrote = True
                self.uncertain.setdefault(resource.name, []).append(place)
                return Unpatched(f"the answer of {server.url} got lost", perhaps_done=True, silent=True)
            outcome = outcome_of(answer, before, about)
            if outcome.full:
                self._full = True
                raise EtcdFullError()
            if outcome.verdict in (Verdict.REWRITTEN, Verdict.UNCHANGED):
                wrote |= outcome.verdict is Verdict.REWRITTEN
                self.wrote = self.wrote or wrote
                after = int(json.loads(answer.body)["metadata"]["resourceVersion"])
                variant = await self.form_of(resource.name, place, after)
                if variant is not None:
                    return _Patched(int(before), after, variant, wrote)
            else:
                why = f"{server.url} refused to write it: {outcome.message}"
                if outcome.verdict not in (Verdict.CONFLICT, Verdict.RETRY):
                    break
        return Unpatched(why)

    async def form_of(self, name: str, place: StoredObject, revision: int | None = None) -> Variant | None:
        """How an object is stored now; None if it is gone, or somebody else wrote it after ``revision``."""
        where = f"{place.namespace}/{place.name}" if place.namespace else place.name
        etcd = self._etcd.of(name)
        for prefix in prefixes_of([name]):
            page = await etcd.range(f"{etcd.prefix}/{prefix}/{where}".encode(), None)
            for item in page.items():
                if revision is None or int(item["mod_revision"]) == revision:
                    envelope, _size = classify_base64(item.get("value") or "", self._names)
                    return Variant(envelope.version, envelope.encoding, *envelope[3:])
        return None


def _without_key_id(variant: Variant) -> Variant:
    """A new version of a KMS key reaches servers one after another."""
    return variant._replace(key_id_hash=None)
