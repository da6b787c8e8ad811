# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What happens to an object's field managers: the option managed_fields. Pure, except that it reads CRDs.

Server-side apply converts each entry of metadata.managedFields to the entry's own version. Once that version is gone from
the CRD, every apply to the object fails. An entry moves to another version by its apiVersion alone, if the paths of its fields
mean the same there. They do if the CRD doesn't convert (strategy None): then only the apiVersion of an object differs
between versions, and where their schemas differ, the API server adapts the paths itself (sigs.k8s.io/structured-merge-diff,
typed/reconcile_schema.go). With a conversion webhook only the webhook knows which field becomes which, so no entry
moves: a moved one might own other fields than before, and its owner's next apply would remove them.

A built-in type may have other fields in each version, too, but the API server goes on converting them for as long as it knows
the version, and then drops the entry with the next write. So entries move only from versions that are no longer served.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import is_custom
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.crds import (
    crd_storage_version,
    has_conversion_webhook,
    require_crd,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.managers import (
    Entries,
    entries_in,
    kept_managed_fields,
    unserved_versions,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    group_version,
    split_group_version,
    storage_version_hash,
)

KEEP = "keep"
REWRITE = "rewrite"
PRUNE = "prune"

Fields = Mapping[str, Any]


class Owner(NamedTuple):
    """What distinguishes entries for API servers, here always with the version."""

    manager: str
    operation: str
    version: str
    subresource: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Owner:
        return cls(*(str(entry.get(name) or "") for name in ("manager", "operation", "apiVersion", "subresource")))


class Fate(NamedTuple):
    """What a write did to an object's managers: entries ``moved`` or were ``pruned``; ``ignored``: not as it was asked."""

    moved: bool
    pruned: bool
    ignored: bool


NO_FATE = Fate(moved=False, pruned=False, ignored=False)


@dataclass(frozen=True)
class Rules:
    """What happens to the field managers of one resource's objects.

    ``mode``: KEEP, REWRITE or PRUNE. ``own``: the group versions in which the resource is served; ``anywhere``: all that are
    served. ``custom``: whether a CRD defines it. ``to``: the group version that entries move to; None: none moves.
    """

    mode: str
    group: str
    own: Collection[str]
    anywhere: Collection[str]
    custom: bool = False
    to: str | None = None

    def moves(self, version: str) -> bool:
        """Whether an entry at that group version moves."""
        if self.mode != REWRITE or self.to is None or version == self.to:
            return False
        return split_group_version(version)[0] == self.group and (self.custom or version not in self.own)

    def wanted(self, entries: Entries) -> list[Any] | None:
        """The managedFields that an object should have; None if they stay as they are."""
        if self.mode == KEEP:
            return None
        if self.mode == PRUNE:
            return kept_managed_fields(entries, self.group, self.own, self.anywhere)
        if not any(self.moves(str(entry.get("apiVersion") or "")) for entry in entries or ()):
            return None
        return joined(self._moved(entry) for entry in entries or ())

    def are_at_risk(self, entries: Entries) -> bool:
        """Whether an API server of any release may drop some of them on its own."""
        if self.custom or all(entry.get("apiVersion") in self.own for entry in entries or ()):
            return False
        return bool(self.unserved(entries))

    def unserved(self, entries: Sequence[Any] | None) -> tuple[str, ...]:
        """The versions of entries that are no longer served."""
        return unserved_versions([entry for entry in entries or () if entry], self.group, self.own, self.anywhere)

    def dead(self, entries: Sequence[Any] | None) -> tuple[str, ...]:
        """The versions whose entries API servers of any release may drop with every write."""
        return () if self.custom else self.unserved(entries)

    def fate(self, before: Entries, wanted: Sequence[Any] | None, answer: Response) -> Fate:
        """Compares the managers of an object ``before`` a write with those in the answer. Raises ValueError if it is not an object."""
        return self._fate(before, wanted, _owners(entries_in(answer)))

    def promised(self, before: Entries, wanted: Sequence[Any] | None) -> Fate:
        """The same for a patch that was carried out as it was sent, but whose answer was lost."""
        return NO_FATE if before is None or wanted is None else self._fate(before, wanted, _owners(wanted))

    def _fate(self, before: Entries, wanted: Sequence[Any] | None, after: Collection[Owner]) -> Fate:
        owners = {Owner.of(entry): Owner.of(self._moved(entry)) for entry in before or () if entry}
        must_be: set[Owner] = set()
        if wanted is not None:
            dead = self.dead(wanted)
            must_be = {owner for owner in map(Owner.of, filter(None, wanted)) if owner.version not in dead}
        must_go = {owner for owner in owners if wanted is not None} - {Owner.of(entry) for entry in wanted or ()}
        return Fate(
            moved=any(was != now and now in after for was, now in owners.items()),
            pruned=any(was not in after and now not in after for was, now in owners.items()),
            ignored=not must_be.issubset(after) or not must_go.isdisjoint(after),
        )

    def _moved(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**entry, "apiVersion": self.to} if self.moves(str(entry.get("apiVersion") or "")) else entry


def _owners(entries: Sequence[Any] | None) -> set[Owner]:
    return {Owner.of(entry) for entry in entries or () if entry}


def rules_for(
    mode: str, resource: ServedResource, own: Collection[str], anywhere: Collection[str], crd: Mapping[str, Any] | None
) -> Rules:
    """``crd``: that of a custom resource, if it could be read; else its entries stay where they are."""
    custom = is_custom(resource.name)
    if custom:
        to = None if crd is None else _storage_version(crd, resource)
    else:
        to = group_version(resource.group, resource.request_version)
    return Rules(mode, resource.group, own, anywhere, custom, to)


async def read_rules(
    server: ApiServer, mode: str, resource: ServedResource, own: Collection[str], anywhere: Collection[str]
) -> Rules:
    """The rules of a resource; reads its CRD if that makes a difference. If it can't be read, no entry moves."""
    rules = rules_for(mode, resource, own, anywhere, None)
    if mode != REWRITE or not rules.custom:
        return rules
    try:
        crd = await require_crd(server, resource.name)
    except StorageUpgradeError:
        return rules
    return replace(rules, to=None if crd is None else _storage_version(crd, resource))


def _storage_version(crd: Mapping[str, Any], resource: ServedResource) -> str | None:
    """The group version to move to; None if paths may mean something else there, or it is just changing."""
    version = crd_storage_version(crd)
    if version is None or has_conversion_webhook(crd):
        return None
    settled = storage_version_hash(resource.group, version, resource.kind) == resource.hash
    return group_version(resource.group, version) if settled else None


def joined(entries: Iterable[Mapping[str, Any]]) -> list[Any]:
    """The entries, of which those of the same owner and version become one with the fields of all of them.

    An API server would take only the last one of them (k8s.io/apimachinery, pkg/util/managedfields/internal,
    DecodeManagedFields).
    """
    found: dict[Owner, Mapping[str, Any]] = {}
    for entry in entries:
        owner = Owner.of(entry)
        found[owner] = entry if owner not in found else _join(found[owner], entry)
    return list(found.values())


def _join(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    fields = union_of_fields(one.get("fieldsV1") or {}, other.get("fieldsV1") or {})
    # As for entries that API servers themselves join, the later time counts; all are in UTC.
    times = [time for time in (one.get("time"), other.get("time")) if time]
    return {**one, "fieldsV1": fields, **({"time": max(times)} if times else {})}


def union_of_fields(one: Fields, other: Fields) -> Fields:
    """The union of two sets of paths in the form FieldsV1 (sigs.k8s.io/structured-merge-diff, fieldpath/serialize.go)."""
    if not one or not other:
        return one or other
    found = dict(one)
    for name, below in other.items():
        found[name] = _union_below(found[name], below) if name in found else below
    return found


def _union_below(one: Fields, other: Fields) -> Fields:
    """Below the root an empty mapping is the field itself, which beside fields in it is written as ``.``."""
    if bool(one) != bool(other):
        return {".": {}, **(one or other)}
    return union_of_fields(one, other)


def how_to_move(name: str, storage: str | None, versions: Sequence[str], webhook: bool | None) -> str:
    """What to do before a CRD drops these versions (without their group); ``webhook``: None if that is unknown."""
    gone, to = " and ".join(versions), storage or "its storage version"
    run = f"storage_migrate with resources: [{name}] and managed_fields"
    if webhook is False:
        return (
            f"Before a CRD drops {gone}, run {run}: rewrite; else every server-side apply to them fails from then on."
        )
    owners = f"have their owners apply them at {to}; when {gone} is no longer served, drop the remaining ones by {run}: prune."
    if webhook is None:
        return f"Before a CRD drops {gone}, run {run}: rewrite as a user who can get the CRD; or {owners}"
    return (
        f"Before a CRD drops {gone}, {owners} Only the CRD's conversion webhook knows which field of one version is which of "
        "another, so managed_fields: rewrite moves none."
    )
