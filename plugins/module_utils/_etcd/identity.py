# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether an etcd is the one that the API servers write to. Otherwise its content proves nothing.

Two things must match, at every endpoint that answers:

- A known object is stored under its key as an API server returns it: kube-system, whose uid commonly serves as the
  cluster's id, and whose resourceVersion is the revision of its key (k8s.io/apiserver, pkg/storage/etcd3).
- etcd's revision lies between those of two consistent lists, one before and one after. This also exposes a copy of the
  cluster's own etcd, such as a restored backup, as soon as there was one write since.

If encryption hides the uid, the second must hold over several writes: clusters that were made in the same way
may have the same revision at some time, but don't advance together. An etcd for single resources may be idle; there, every
object of a page must be under its key, at its revision.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    ApiError,
    EtcdError,
    UnreachableError,
    is_forbidden,
    is_passing,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd, EtcdClusters, Page, end_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.counts import revision_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.envelope import ENCRYPTED
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import KeyMap, own_prefixes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import (
    METADATA,
    METADATA_LIST,
    ApiServer,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import (
    KUBE_SYSTEM,
    collection_path,
    with_query,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

# A mismatch may be temporary, as both keep being written to; a server may just be starting.
_TRIES = 4
_TRIES_OF_SERVER = 6
_PAUSE = 0.2
# If the uid is hidden: in how many states of etcd the revisions must match, and how long to wait for those. API servers
# renew their Leases every 10 s, so the revision advances even in an idle cluster.
_STATES = 3
_WAIT = 60.0
_WAIT_IF_IDLE = 5.0
_PAGE = 500


@dataclass(frozen=True)
class Known:
    """An object as an API server returns it, and the revisions of its lists before and after etcd was read."""

    what: str
    uid: str
    resource_version: str
    earliest: int
    latest: int


@dataclass(frozen=True)
class StoredValue:
    """What is under the object's key, and etcd's revision then; ``value`` is None if there is nothing."""

    value: bytes | None
    mod_revision: int
    revision: int

    @property
    def encrypted(self) -> bool:
        return self.value is not None and self.value.startswith(ENCRYPTED)


def difference(known: Known, held: StoredValue) -> str | None:
    """Why an etcd is not the API servers' own, as the end of a sentence; None if it may be. Pure."""
    if held.value is None:
        return f"holds nothing there, while the API server has {known.what}"
    # Protobuf, JSON and CBOR all have it in the clear.
    if not held.encrypted and known.uid.encode() not in held.value:
        return f"holds another {known.what} there, with another uid than the API server's"
    if str(held.mod_revision) != known.resource_version:
        return (
            f"holds {known.what} as of revision {held.mod_revision}, while the API server has it as of "
            f"{known.resource_version}"
        )
    return revision_difference(known, held)


def revision_difference(known: Known, held: StoredValue) -> str | None:
    """The same for the revisions alone."""
    if not known.earliest <= held.revision <= known.latest:
        return (
            f"is at revision {held.revision}, while the API server's is at {_span(known.earliest, known.latest)}, so it "
            "is a copy or a backup of it at best"
        )
    return None


def _span(earliest: int, latest: int) -> str:
    return str(earliest) if earliest == latest else f"{earliest} to {latest}"


@dataclass(frozen=True)
class _Source:
    """What an API server is asked about one etcd: a list, and an object by name or else the first of the list."""

    list_path: str
    prefix: str
    what: str
    namespaced: bool
    get_path: str | None = None


# The aggregator keeps them, to which --etcd-servers-overrides does not apply (k8s.io/kubernetes, pkg/controlplane/
# apiserver/aggregator.go), and every module lists them anyway.
_API_SERVICES = _Source(
    "/apis/apiregistration.k8s.io/v1/apiservices",
    "apiregistration.k8s.io/apiservices",
    "an APIService",
    namespaced=False,
)


async def require_own_etcd(
    clusters: EtcdClusters,
    server: ApiServer,
    served: Mapping[str, ServedResource],
    resources: Iterable[str] | None = None,
) -> None:
    """Raises EtcdError, in one sentence, if some etcd is not the API servers'; ApiError if those can't be asked.

    Apart from the first, only those are checked that keep some of the ``resources`` (None: any).

    From then on only verified endpoints are used. If an etcd for single resources is still empty, only its revision
    is compared.
    """
    wanted = served.keys() if resources is None else served.keys() & set(resources)
    for etcd, names in clusters.split(sorted(name for name in wanted if "list" in served[name].verbs)):
        if etcd is clusters.default:
            source = _API_SERVICES
        elif names:
            source = await _filled(server, [_source_of(served[name], KeyMap(served)) for name in names])
        else:
            continue
        if etcd is clusters.of("namespaces"):
            source = replace(source, prefix="namespaces", what="kube-system", namespaced=False, get_path=KUBE_SYSTEM)
        option = "etcd.endpoints and etcd.prefix" if etcd is clusters.default else "etcd.overrides"
        await _require(
            etcd, server, source, option, may_be_idle=source.get_path is None and etcd is not clusters.default
        )


def _source_of(resource: ServedResource, keys: KeyMap) -> _Source:
    prefixes = own_prefixes(resource.name, keys)
    return _Source(
        collection_path(resource),
        # Only built-in resources can be kept elsewhere; those that the table doesn't know are stored under their plural.
        resource.plural if resource.plural in prefixes else prefixes[0],
        f"an object of {resource.name}",
        resource.namespaced,
    )


async def _filled(server: ApiServer, sources: list[_Source]) -> _Source:
    """A source with an object, or the first if none has one."""
    for source in sources:
        _revision, item = await _first(server, source)
        if item is not None:
            return source
    return sources[0]


async def _require(etcd: Etcd, server: ApiServer, source: _Source, option: str, *, may_be_idle: bool) -> None:
    states: set[int] = set()
    started = time.monotonic()
    tries = unanswered = 0
    while True:
        try:
            held, problem = await _compare(etcd, server, source, option)
            if problem is None:
                states.update(value.revision for value in held.values())
                hidden = any(value.encrypted for value in held.values()) and len(states) < _STATES
                waited = time.monotonic() - started
                if hidden and may_be_idle and waited > _WAIT_IF_IDLE:
                    hidden = not await _is_same_page(etcd, server, source, list(held))
                if not hidden:
                    etcd.use_only(held)
                    return
                if waited > _WAIT:
                    raise EtcdError(
                        f"Whether etcd at {', '.join(held)} is the one that {server.url} writes to is unknown: {source.what} "
                        f"is encrypted there, and nothing was written within {_WAIT:g} s for a comparison; run again."
                    )
            else:
                tries += 1
                if tries == _TRIES:
                    raise problem
        except (ApiError, UnreachableError) as error:
            unanswered += 1
            if unanswered == _TRIES_OF_SERVER or not is_passing(error):
                raise
        await asyncio.sleep(_PAUSE * 2 ** max(0, tries + unanswered - 1))


async def _is_same_page(etcd: Etcd, server: ApiServer, source: _Source, endpoints: list[str]) -> bool:
    """Whether the first objects of a list are the first keys in etcd, each at its revision."""
    page = await server.get(with_query(source.list_path, limit=_PAGE), accept=METADATA_LIST)
    listed = {}
    for item in page.get("items") or ():
        metadata = item["metadata"]
        place = f"{metadata['namespace']}/{metadata['name']}" if source.namespaced else str(metadata["name"])
        listed[place] = str(metadata["resourceVersion"])
    start = f"{etcd.prefix}/{source.prefix}/".encode()
    etcd.use_only(endpoints)
    held = await etcd.range(start, end_of(start), limit=_PAGE, keys_only=True)
    keys = {base64.b64decode(item["key"])[len(start) :].decode(): item["mod_revision"] for item in held.items()}
    return bool(listed) and keys == listed


async def _compare(
    etcd: Etcd, server: ApiServer, source: _Source, option: str
) -> tuple[dict[str, StoredValue], EtcdError | None]:
    """(what each endpoint has, what is wrong with the first that is not the API server's)."""
    earliest, item = await _first(server, source)
    if source.get_path is not None:
        item = await _get(server, source.get_path)
    name = "" if item is None else str(item["name"])
    place = f"{item.get('namespace')}/{name}" if item is not None and source.namespaced else name
    key = f"{etcd.prefix}/{source.prefix}/{place}"
    pages = await etcd.read_from_each(key.encode())
    latest, _item = await _first(server, source)
    held = {endpoint: _held(page) for endpoint, page in pages.items()}
    known = Known(
        source.what,
        "" if item is None else str(item["uid"]),
        "" if item is None else str(item["resourceVersion"]),
        earliest,
        latest,
    )
    for endpoint, value in held.items():
        why = revision_difference(known, value) if item is None else difference(known, value)
        if why is not None:
            return held, EtcdError(
                f"etcd at {endpoint} is not the one that {server.url} writes to: {source.what} was looked up under {key}, "
                f"and that etcd {why}; check {option}."
            )
    return held, None


def _held(page: Page) -> StoredValue:
    items = page.items()
    if not items:
        return StoredValue(None, 0, page.revision)
    return StoredValue(base64.b64decode(items[0].get("value") or ""), int(items[0]["mod_revision"]), page.revision)


async def _first(server: ApiServer, source: _Source) -> tuple[int, Mapping[str, Any] | None]:
    """(revision of a consistent list, its first object's metadata). Without a resourceVersion a list is never older than etcd."""
    page = await server.get(with_query(source.list_path, limit=1), accept=METADATA_LIST)
    items = page.get("items") or []
    return revision_of(page), items[0]["metadata"] if items else None


async def _get(server: ApiServer, path: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = (await server.get(path, accept=METADATA))["metadata"]
    except ApiError as error:
        if is_forbidden(error):
            why = f"{error.message} That namespace shows whether etcd is this cluster's."
            raise ApiError(why, status=error.status, reason=error.reason) from error
        raise
    return found
