# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which resources are migrated, in which order, and why each is taken or left. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from ansible_collections.kube_storage.upgrade.plugins.module_utils._options import require_known
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import (
    ServedResource,
    changed_since,
    decode_hash,
)

EVENTS = ("events", "events.events.k8s.io")


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """One object, and the resourceVersion at which it is to be rewritten (None: to be asked for)."""

    namespace: str | None
    name: str
    resource_version: str | None = None


@dataclass(frozen=True)
class Target:
    """One resource to migrate. ``objects`` limits it to those; None means that everything is listed.

    ``resumed``: it goes on from an earlier run, which of a CRD had seen that ``generation``.
    """

    resource: ServedResource
    storage_version: str | None
    reason: str
    objects: tuple[ObjectKey, ...] | None = None
    token: str | None = None
    resumed: bool = False
    generation: int | None = None

    @property
    def name(self) -> str:
        return self.resource.name

    @property
    def hash(self) -> str:
        return self.resource.hash or ""

    def path_of(self, key: ObjectKey) -> str:
        """The URL path of one object."""
        namespace = f"/namespaces/{key.namespace}" if key.namespace else ""
        return f"{self.resource.path}{namespace}/{self.resource.plural}/{quote(key.name, safe=':')}"


@dataclass(frozen=True)
class Skipped:
    resource: str
    reason: str


@dataclass(frozen=True)
class Plan:
    targets: tuple[Target, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class Selection:
    """What the user asked for."""

    select: str = "all"
    resources: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        return {"select": self.select, "resources": sorted(self.resources), "exclude": sorted(self.exclude)}


def make_plan(
    resources: Mapping[str, ServedResource],
    state: State,
    selection: Selection,
    other_groups: tuple[str, ...],
    stale: Mapping[str, tuple[ObjectKey, ...] | None] | None = None,
) -> Plan:
    """Decides for every stored resource. Raises BadInputError for names that no server stores.

    ``stale``: for ``select: stale``, the objects that etcd holds in an old form (None: all of a resource).
    """
    require_known(selection.resources, resources, "resources")
    require_known(selection.exclude, resources, "exclude")
    changed = {change.resource for change in changed_since(resources, state.persisted)}
    changed |= {name for name, one in state.resources.items() if one.progress is not None}
    finished = _finished_by_interrupted_run(state, selection) if stale is None else set()
    targets: list[Target] = []
    skipped: list[Skipped] = []
    ordered = list(_in_order(resources, selection.resources))
    storages = _storages(resources[name] for name in ordered if name not in selection.exclude)
    for name in ordered:
        resource = resources[name]
        stored_as = storages.get(resource.hash or "", name)
        twin = None if stored_as == name else stored_as
        why_not = _why_not(resource, selection, name in changed, twin, name in finished)
        if why_not is not None:
            skipped.append(Skipped(name, why_not))
            continue
        if stale is not None and name not in stale:
            skipped.append(Skipped(name, "etcd holds nothing stale of it"))
            continue
        target = _target(resource, state, selection, other_groups)
        if stale is not None:
            target = replace(target, objects=stale[name], token=None, resumed=False, reason="stale in etcd")
        targets.append(target)
    return Plan(tuple(targets), tuple(skipped))


def _in_order(resources: Mapping[str, ServedResource], named: Sequence[str]) -> Iterable[str]:
    """CRDs first, since all custom resources depend on them; then by name. Of twins the core one comes first."""
    first = "customresourcedefinitions.apiextensions.k8s.io"
    wanted = sorted(named or resources, key=lambda name: (name != first, resources[name].group != "", name))
    return wanted


def _storages(resources: Iterable[ServedResource]) -> dict[str, str]:
    """Under which name each storage is migrated, by hash: the first that can be listed and patched."""
    found: dict[str, str] = {}
    for resource in resources:
        if resource.hash is not None and {"list", "patch"} <= resource.verbs:
            found.setdefault(resource.hash, resource.name)
    return found


def _why_not(
    resource: ServedResource, selection: Selection, changed: bool, twin: str | None, finished: bool
) -> str | None:
    """Why a resource is left out; None if it is taken."""
    if resource.name in selection.exclude:
        return "excluded by the option exclude"
    if resource.name in EVENTS and resource.name not in selection.resources:
        return (
            "events expire by themselves and a rewrite would prolong their life; name them in resources to migrate them"
        )
    missing = [verb for verb in ("list", "patch") if verb not in resource.verbs]
    if missing:
        return f"the API server offers no {' or '.join(missing)} for it"
    if resource.hash is None:
        return "its storage version is changing at this moment; run again when it has settled"
    if twin is not None:
        return f"it is stored together with {twin}"
    if selection.select == "changed" and not changed:
        return "its storage version has not changed since the last complete migration or the baseline"
    if finished:
        return "the interrupted run before this one had finished it"
    return None


def _target(resource: ServedResource, state: State, selection: Selection, other_groups: tuple[str, ...]) -> Target:
    known = state.of(resource.name)
    version = decode_hash(resource.hash or "", resource.group, resource.kind, resource.versions, other_groups)
    progress = known.progress
    reason = "selected" if selection.select == "all" else "its storage version changed or no migration is on record"
    if (
        progress
        and progress.get("hash") == resource.hash
        and list(progress.get("persisted") or ()) == list(known.persisted)
    ):
        if progress.get("listed") and progress.get("failed") is not None and selection.select == "changed":
            objects = tuple(ObjectKey(namespace, name) for namespace, name in progress["failed"])
            reason = "objects that failed before" if objects else "its CRD was not trimmed yet"
            return Target(
                resource, version, reason, objects=objects, resumed=True, generation=progress.get("generation")
            )
        if progress.get("token"):
            return Target(
                resource,
                version,
                "goes on where an earlier run stopped",
                token=progress["token"],
                resumed=True,
                generation=progress.get("generation"),
            )
    return Target(resource, version, reason)


def _finished_by_interrupted_run(state: State, selection: Selection) -> set[str]:
    """What a run with the same selection had done before it was cut off, and is still proven to be done."""
    last = state.last_run
    if not last or last.get("finished") or last.get("selection") != selection.as_dict():
        return set()
    return {name for name in last.get("done") or () if len(state.of(name).persisted) == 1}
