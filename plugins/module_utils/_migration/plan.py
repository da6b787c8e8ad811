# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which resources are migrated, in which order, and why each is selected or left out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import require_known
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import KnownCrd, State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.crd_identity import (
    NO_CRDS,
    CrdIdentity,
    CrdLook,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    changed_since,
    decode_hash,
)

EVENTS = ("events", "events.events.k8s.io")
NOT_SERVED = "its CRD exists, but no API server serves it"
_DONE_BEFORE = "the interrupted run before this one had finished it"


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """One object. ``resource_version``: the one at which to rewrite it; None if that must be read first."""

    namespace: str | None
    name: str
    resource_version: str | None = None


@dataclass(frozen=True)
class Target:
    """One resource to migrate.

    ``storage_version``: the version it is stored in now, such as ``apps/v1``; None if unknown.
    ``reason``: why it was selected, for the user.
    ``objects``: only these; None for everything that a list returns.
    ``token``: the continue token of the page where the list begins; None for its beginning.
    ``resumed``: an earlier run had begun it. ``crd``: the edit of the CRD that that run saw; ``settled``: whether its
    list could count then (settling.py).
    """

    resource: ServedResource
    storage_version: str | None
    reason: str
    objects: tuple[ObjectKey, ...] | None = None
    token: str | None = None
    resumed: bool = False
    crd: CrdIdentity | None = None
    settled: bool = False

    @property
    def name(self) -> str:
        return self.resource.name

    @property
    def hash(self) -> str:
        return self.resource.hash or ""


@dataclass(frozen=True)
class Skipped:
    """A resource that is left out, and why."""

    resource: str
    reason: str

    @property
    def done_before(self) -> bool:
        """Whether the interrupted run before this one had finished it."""
        return self.reason == _DONE_BEFORE


@dataclass(frozen=True)
class Plan:
    """Every stored resource is in one of the two lists."""

    targets: tuple[Target, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class Selection:
    """The options select, resources (empty: all), exclude and managed_fields."""

    select: str = "all"
    resources: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    managed_fields: str = "keep"

    def as_dict(self) -> dict[str, object]:
        selected = {"select": self.select, "resources": sorted(self.resources), "exclude": sorted(self.exclude)}
        return {**selected, **managers_as_dict(self.managed_fields)}


def managers_as_dict(managed_fields: str) -> dict[str, str]:
    """How the record shows that a run also moved or dropped field managers."""
    return {} if managed_fields == "keep" else {"managed_fields": managed_fields}


def make_plan(
    resources: Mapping[str, ServedResource],
    state: State,
    selection: Selection,
    other_groups: tuple[str, ...],
    stale: Mapping[str, tuple[ObjectKey, ...] | None] | None = None,
    crds: CrdLook = NO_CRDS,
    older: Mapping[str, tuple[str, ...]] | None = None,
) -> Plan:
    """Decides for every stored resource. Raises BadInputError for names that no server stores.

    ``stale``: for ``select: stale``, the objects that etcd holds in an old form (None: all of a resource).
    ``older``: the storedVersions of CRDs that name more than the storage version.
    """
    require_known(selection.resources, resources, "resources")
    require_known(selection.exclude, resources, "exclude")
    older = older or {}
    changed = unfinished(resources, state, crds) | set(older)
    finished = _finished_by_interrupted_run(resources, state, selection, crds) if stale is None else set()
    finished -= set(older)
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
            skipped.append(Skipped(name, "etcd holds no stale objects of it"))
            continue
        target = _target(resource, state, selection, other_groups, older.get(name, ()))
        if stale is not None:
            target = replace(target, objects=stale[name], token=None, resumed=False, reason="stale in etcd")
        targets.append(target)
    skipped += [Skipped(name, NOT_SERVED) for name in unserved(resources, selection, crds)]
    return Plan(tuple(targets), tuple(skipped))


def unfinished(resources: Mapping[str, ServedResource], state: State, crds: CrdLook) -> set[str]:
    """What ``select: changed`` selects by the record: another hash, an unfinished migration, or a record of another CRD."""
    changed = {change.resource for change in changed_since(resources, state.persisted)}
    changed |= {name for name, known in state.resources.items() if known.progress is not None}
    return changed | {name for name in resources if _was_recreated(state.of(name).crd, crds.identity(name))}


def _was_recreated(known: KnownCrd | None, present: CrdIdentity | None) -> bool:
    """Whether the record is about a CRD of that name that is gone; what the present one stored before is unknown."""
    return known is not None and present is not None and known.identity.uid != present.uid


def unserved(resources: Mapping[str, ServedResource], selection: Selection, crds: CrdLook) -> list[str]:
    """CRDs whose resource no API server serves, although the user named no resources, or did not leave it out.

    They may have objects: a server that has just started does not serve CRDs yet, and a version can be taken out of service.
    """
    if selection.resources or crds.facts is None:
        return []
    known = {*resources, *selection.exclude}
    return sorted(name for name, facts in crds.facts.items() if name not in known and not facts.deleting)


def _in_order(resources: Mapping[str, ServedResource], named: Sequence[str]) -> Iterable[str]:
    """CRDs first, since all custom resources depend on them; then by name. Of twins the core one comes first."""
    first = "customresourcedefinitions.apiextensions.k8s.io"
    wanted = sorted(named or resources, key=lambda name: (name != first, resources[name].group != "", name))
    return wanted


def _storages(resources: Iterable[ServedResource]) -> dict[str, str]:
    """By hash, the name under which each storage is migrated: the first that can be listed and patched."""
    found: dict[str, str] = {}
    for resource in resources:
        if resource.hash is not None and {"list", "patch"} <= resource.verbs:
            found.setdefault(resource.hash, resource.name)
    return found


def _why_not(
    resource: ServedResource, selection: Selection, changed: bool, twin: str | None, finished: bool
) -> str | None:
    """Why a resource is left out; None if it is selected."""
    if resource.name in selection.exclude:
        return "excluded by the option exclude"
    if resource.name in EVENTS and resource.name not in selection.resources:
        return "events expire on their own, and a rewrite would make them live longer; name them in resources to migrate them"
    missing = [verb for verb in ("list", "patch") if verb not in resource.verbs]
    if missing:
        return f"the API server does not support {' or '.join(missing)} for it"
    if resource.hash is None:
        return "its storage version is changing right now; run again when it has settled"
    if twin is not None:
        return f"it is stored together with {twin}"
    if selection.select == "changed" and not changed:
        return "its storage version has not changed since the last complete migration or the baseline"
    if finished:
        return _DONE_BEFORE
    return None


def _target(
    resource: ServedResource,
    state: State,
    selection: Selection,
    other_groups: tuple[str, ...],
    older: tuple[str, ...],
) -> Target:
    known = state.of(resource.name)
    version = decode_hash(resource.hash or "", resource.group, resource.kind, resource.versions, other_groups)
    progress = known.progress
    reason = "selected" if selection.select == "all" else "its storage version changed or no migration is on record"
    if older and selection.select == "changed":
        reason = f"status.storedVersions of its CRD names {', '.join(older)}"
    if progress and progress.get("doubt"):
        reason = str(progress["doubt"])
    if (
        progress
        and progress.get("hash") == resource.hash
        and list(progress.get("persisted") or ()) == list(known.persisted)
        # An earlier run that left field managers alone has done only a part of what is to be done now.
        and selection.managed_fields in ("keep", progress.get("managed_fields"))
    ):
        resumed = Target(
            resource,
            version,
            reason,
            resumed=True,
            crd=CrdIdentity.on_record(progress),
            settled=progress.get("settled") is True,
        )
        if progress.get("listed") and progress.get("failed") is not None and selection.select == "changed":
            objects = tuple(ObjectKey(namespace, name) for namespace, name in progress["failed"])
            why = "objects that failed before" if objects else "its CRD was not trimmed yet"
            return replace(resumed, reason=why, objects=objects)
        if progress.get("token"):
            return replace(resumed, reason="resumes where an earlier run stopped", token=progress["token"])
    return Target(resource, version, reason)


def _finished_by_interrupted_run(
    resources: Mapping[str, ServedResource], state: State, selection: Selection, crds: CrdLook
) -> set[str]:
    """What a run with the same selection had done before it was interrupted, if that is still proven."""
    last = state.last_run
    if not last or last.get("finished") or last.get("selection") != selection.as_dict():
        return set()
    done = {
        name
        for name in last.get("done") or ()
        if (known := state.of(name).persisted)
        and len(known) == 1
        and (name not in resources or known == (resources[name].hash,))
    }
    return {name for name in done if name not in resources or _is_still_done(resources[name], state, crds)}


def _is_still_done(resource: ServedResource, state: State, crds: CrdLook) -> bool:
    """Whether, for a custom resource, its CRD is the same, and not edited, since it was migrated."""
    if not crds.is_custom(resource.name, resource.group, resource.kind):
        return True
    present = crds.identity(resource.name)
    return present is not None and state.is_migrated(resource.name, present)
