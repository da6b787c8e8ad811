# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compares new CustomResourceDefinitions with those in the cluster and with their stored objects. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.dropped import Dropped
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.pruning import Schemas, schemas_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.managed_fields import how_to_move
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Finding, count, listed

_KEYS_SHOWN = 5
_USUAL_NAME = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?")
_STAGES = {"alpha": 0, "beta": 1, None: 2}
_OLD_API = "apiextensions.k8s.io/v1beta1"


@dataclass(frozen=True)
class Definition:
    """The relevant parts of a CRD. ``served`` and ``versions`` are names such as ``v1beta1``.

    ``storages``: the versions marked as the storage version; there must be exactly one. ``document``: as it was read.
    """

    name: str
    group: str
    kind: str
    versions: tuple[str, ...]
    served: tuple[str, ...]
    storages: tuple[str, ...]
    stored: tuple[str, ...]
    plural: str = ""
    scope: str = "Namespaced"
    conversion: Mapping[str, Any] | None = None
    terminating: bool = False
    schemas: Schemas | None = field(default=None, repr=False, compare=False)
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def storage(self) -> str | None:
        return self.storages[0] if self.storages else None

    @property
    def converts(self) -> bool:
        """Whether objects in another version than the stored one need the conversion webhook."""
        return self.conversion is not None and len(self.versions) > 1

    @property
    def old_api(self) -> bool:
        return self.document.get("apiVersion") == _OLD_API


def definition_of(document: Mapping[str, Any]) -> Definition:
    """From a CRD in apiextensions.k8s.io/v1 or v1beta1; raises BadInputError if it isn't one."""
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    name = str(metadata.get("name") or "without a name")
    try:
        spec = document["spec"]
        versions = spec.get("versions") or [{"name": spec["version"], "served": True, "storage": True}]
        conversion = spec.get("conversion") or {}
        webhook = conversion.get("webhook") or {}
        # In v1beta1 the client's configuration is one level higher.
        config = webhook.get("clientConfig") or conversion.get("webhookClientConfig") or {}
        if not isinstance(config, Mapping) or not isinstance(config.get("service") or {}, Mapping):
            raise TypeError
        return Definition(
            name=name,
            group=str(spec["group"]),
            kind=str(spec["names"]["kind"]),
            plural=str(spec["names"].get("plural") or ""),
            scope=str(spec.get("scope") or "Namespaced"),
            versions=tuple(str(version["name"]) for version in versions),
            served=tuple(str(version["name"]) for version in versions if version.get("served")),
            storages=tuple(str(version["name"]) for version in versions if version.get("storage")),
            stored=tuple((document.get("status") or {}).get("storedVersions") or ()),
            conversion=config if conversion.get("strategy") == "Webhook" else None,
            terminating=metadata.get("deletionTimestamp") is not None,
            # v1beta1 has schemas elsewhere; no API server since 1.22 accepts them.
            schemas=schemas_of(document) if document.get("apiVersion") != _OLD_API else None,
            document=document,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInputError(
            f"crd_manifests: the CustomResourceDefinition {name} has no valid spec; check the manifest."
        ) from error


@dataclass(frozen=True)
class StoredObjects:
    """Objects of one custom resource in etcd.

    ``versions``: how many by version, such as ``v1beta1``. ``hidden``: how many more, as encryption hides their version. ``complete``:
    whether these are all; False if there may be others, so that nothing follows from what is missing here.
    """

    versions: Mapping[str, int]
    hidden: int = 0
    complete: bool = True

    def has_none(self, versions: Iterable[str]) -> bool:
        """Whether it is known that nothing is stored in these versions."""
        return self.complete and not self.hidden and not any(self.versions.get(version) for version in versions)

    def text(self, version: str) -> str:
        number = self.versions.get(version, 0)
        if not self.complete and not number:
            return version
        return f"{version}: {'' if self.complete else 'at least '}{count(number, 'object')} in etcd"


def evaluate_new(new: Definition, live: Definition | None, held: StoredObjects | None) -> list[Finding]:
    """What a new CRD would break. ``held``: what etcd holds; None: it was not read."""
    if live is None:
        return []
    found = [_drops_storage_version(new, live), _drops_stored_versions(new, live, held), _stops_serving(new, live)]
    return [finding for finding in found if finding is not None]


def _drops_storage_version(new: Definition, live: Definition) -> Finding | None:
    """A CRD without the current storage version is older; a migration doesn't help, as it writes exactly that version."""
    storage = live.storage
    if storage is None or storage in new.versions:
        return None
    common = [version for version in live.versions if version in new.versions]
    if common:
        first = f"make {common[-1]}, which both have, the storage version of the CRD in the cluster"
    else:
        first = f"add {listed(new.versions)} to the CRD in the cluster and make one of these its storage version"
    return Finding(
        "crd_drops_storage_version",
        new.name,
        f"The new CRD lacks {storage}, the current storage version: it is older than the CRD in the cluster.",
        "Everything is written in that version now, and the API server could no longer read it.",
        f"Don't apply it. To apply it anyway, first {first}, run storage_migrate with resources: [{new.name}], and only then "
        "apply it.",
    )


def _drops_stored_versions(new: Definition, live: Definition, held: StoredObjects | None) -> Finding | None:
    stored = dict.fromkeys([*live.stored, *(held.versions if held is not None else ())])
    dropped = [version for version in stored if version not in new.versions and version != live.storage]
    if not dropped:
        return None
    numbers = [held.text(version) if held is not None else version for version in dropped]
    empty = held is not None and held.has_none(dropped)
    return Finding(
        "crd_drops_stored_version",
        new.name,
        f"The new CRD drops {listed(numbers)}, which {'is' if len(dropped) == 1 else 'are'} on record as stored.{_hidden(held)}",
        "The API server refuses a CRD that lacks a version in status.storedVersions; objects in a version that is gone "
        "can't be read.",
        (
            "Nothing is stored in it anymore: trim status.storedVersions (storage_migrate with "
            f"resources: [{new.name}] does so), then apply the CRD."
            if empty
            else f"Apply a CRD that still has it, run storage_migrate with resources: [{new.name}], which also trims "
            "status.storedVersions, and only then apply this one."
        ),
    )


def _hidden(held: StoredObjects | None) -> str:
    """A sentence about objects that may be stored in any version; empty without any."""
    return (
        f" The version of {count(held.hidden, 'object')} in etcd is hidden by encryption."
        if held and held.hidden
        else ""
    )


def _stops_serving(new: Definition, live: Definition) -> Finding | None:
    before = live.storage
    if before is None or new.storage == before or before not in new.versions or before in new.served:
        return None
    return Finding(
        "crd_stops_serving",
        new.name,
        f"The new CRD changes the storage version from {before} to {new.storage} and no longer serves {before}.",
        f"Clients and controllers that still use {before} break at once, before anything was migrated.",
        f"Serve {before} beside {new.storage} first, run storage_migrate with resources: [{new.name}], and stop serving it "
        "in a later step.",
    )


def evaluate_conversion(new: Definition, live: Definition) -> Finding | None:
    """A new CRD without the webhook that converts between its versions now: then only the apiVersion of an object changes."""
    used = {new.storage, *new.served, *live.stored}
    common = [version for version in new.versions if version in live.versions and version in used]
    if live.conversion is None or new.conversion is not None or len(common) < 2:
        return None
    return Finding(
        "crd_conversion",
        new.name,
        f"The new CRD has no conversion webhook, and the CRD in the cluster has one, which converts between {listed(common)}.",
        "Without it, an API server takes an object of one version for one of another as it is, and the next write drops every field that the other version "
        "doesn't know.",
        "Add spec.conversion of the CRD in the cluster to the new one. If these versions differ in nothing but their names, or if something else adds it "
        "when the CRD is applied, ignore this blocker.",
    )


class Refusal(NamedTuple):
    """Why every API server refuses a new CRD; ``of_change``: because the one in the cluster can't be changed so."""

    reason: str
    of_change: bool = False


def why_refused(new: Definition, live: Definition | None) -> list[Refusal]:
    """What is refused whatever is stored (apiextensions-apiserver, pkg/apis/apiextensions/validation)."""
    found = []
    if new.old_api:
        found.append(Refusal(f"it is written for {_OLD_API}, which no API server since 1.22 serves"))
    if len(new.storages) != 1:
        marked = f" ({listed(new.storages)})" if new.storages else ""
        found.append(
            Refusal(f"it has {count(len(new.storages), 'storage version')}{marked}, and must have exactly one")
        )
    if live is not None:
        found += [
            Refusal(
                f"its {what} is {after}, but that of the CRD in the cluster is {before}, which can't be changed", True
            )
            for what, before, after in (
                ("scope", live.scope, new.scope),
                ("kind", live.kind, new.kind),
                ("group", live.group, new.group),
                ("plural name", live.plural, new.plural),
            )
            if before != after
        ]
    return found


def evaluate_refusals(new: Definition, refused: Sequence[Refusal], verdict: str | None) -> Finding | None:
    """``verdict``: what the API server says to a dry run; None: it accepts it, or was not asked."""
    if not refused and verdict is None:
        return None
    reasons = "; ".join(refusal.reason for refusal in refused)
    what = (
        f"The API server refuses the new CRD in a dry run: {verdict}."
        if verdict
        else f"The new CRD is not valid: {reasons}."
    )
    why = (
        f"It is not valid: {reasons}."
        if verdict and reasons
        else "It can't be applied, so anything that needs it can't be upgraded."
    )
    remediation = (
        "Keep what the CRD in the cluster has; otherwise delete that CRD, with all its objects, before you apply this one."
        if any(refusal.of_change for refusal in refused)
        else "Fix the manifest, or get that of another release, and check again."
    )
    return Finding("crd_refused", new.name, what, why, remediation)


def evaluate_live(live: Definition, held: StoredObjects | None, *, to_be_applied: bool) -> list[Finding]:
    """Problems of a CRD as it is now: being deleted, removed versions, and storedVersions that were never trimmed."""
    found = [_terminating(live, blocks=to_be_applied)] if live.terminating else []
    gone = sorted(version for version in (held.versions if held is not None else ()) if version not in live.versions)
    if gone:
        return [*found, _gone(live, gone)]
    old = [version for version in live.stored if version != live.storage]
    if old and not live.terminating:
        found.append(_outstanding(live, old, held))
    return found


def _terminating(live: Definition, *, blocks: bool) -> Finding:
    return Finding(
        "crd_terminating",
        live.name,
        "The CRD is being deleted, and all its objects with it.",
        "It disappears as soon as the finalizers of the CRD and of its objects are gone; a CRD that is applied meanwhile "
        "disappears with it.",
        "Let the deletion finish (check which objects still have finalizers), and apply the CRD again if it is needed.",
        blocks=blocks,
    )


def _gone(live: Definition, versions: Sequence[str]) -> Finding:
    return Finding(
        "undecodable",
        live.name,
        f"Objects are stored as {listed(versions)}, which the CRD no longer has.",
        "The API server can't read them.",
        readd_version(live.name),
    )


def readd_version(resource: str) -> str:
    """How objects in a version that was removed from their CRD become readable again."""
    return f"Add the version to the CRD again (it need not be served) and run storage_migrate with resources: [{resource}]."


def _outstanding(live: Definition, old: Sequence[str], held: StoredObjects | None) -> Finding:
    number = None if held is None or not held.complete else sum(held.versions.get(version, 0) for version in old)
    return Finding(
        "outstanding_migration",
        live.name,
        f"status.storedVersions still has {listed(old)} beside {live.storage}"
        + (
            "."
            if number is None
            else f"; {count(number, 'object')} in etcd {'is' if number == 1 else 'are'} stored that way."
        )
        + _hidden(held),
        "A later CRD without that version is refused.",
        f"Run storage_migrate with resources: [{live.name}]; it rewrites what remains and trims storedVersions.",
        blocks=False,
    )


def evaluate_managers(
    name: str, objects: Mapping[str, int], storage: str | None, *, new: bool, webhook: bool = False
) -> Finding | None:
    """Field managers of versions that a CRD doesn't have: ``objects`` by version. ``new``: of a CRD to be applied.

    Server-side apply converts each entry of managedFields to the entry's version, so from then on every apply fails
    (k8s.io/apimachinery, pkg/util/managedfields/internal). ``webhook``: the CRD in the cluster converts by one.
    """
    if not objects:
        return None
    versions = sorted(objects)
    return Finding(
        "crd_drops_managed_version" if new else "managers_of_dropped_version",
        name,
        f"{_managers_at(objects)}, which {'the new CRD drops' if new else 'the CRD no longer has'}.",
        f'{"Then every" if new else "Every"} server-side apply to these objects fails ("request to convert CR to an invalid '
        f'group/version"), and API servers before 1.37 drop all their managers with the next write.',
        how_to_move(name, storage, versions, webhook) if new else _how_to_repair(name, storage, versions, webhook),
        blocks=new,
    )


def _how_to_repair(name: str, storage: str | None, versions: Sequence[str], webhook: bool) -> str:
    run = f"storage_migrate with resources: [{name}] and managed_fields"
    if not webhook:
        return f"Run {run}: rewrite; it moves these entries to {storage}, and keeps their ownership."
    return (
        f"Add {listed(versions)} to the CRD again (it need not be served), have each owner apply the objects at {storage}, then "
        f"drop it; or give up the ownership: run {run}: prune."
    )


def evaluate_older_managers(
    name: str, objects: Mapping[str, int], storage: str | None, *, webhook: bool
) -> Finding | None:
    """Field managers of versions that the CRD still has, but that a later one may drop."""
    if not objects:
        return None
    return Finding(
        "managers_of_older_version",
        name,
        f"{_managers_at(objects)}; the storage version is {storage}.",
        "Once the CRD drops that version, every server-side apply to these objects fails.",
        how_to_move(name, storage, sorted(objects), webhook),
        blocks=False,
    )


def evaluate_built_in_managers(name: str, objects: Mapping[str, int], release: str) -> Finding | None:
    """Field managers of group versions that a release on the way to the target doesn't know."""
    if not objects:
        return None
    return Finding(
        "managers_of_dropped_version",
        name,
        f"{_managers_at(objects)}, which Kubernetes {release} does not know.",
        "Its API servers drop these entries with the next write of each object, and their owners no longer own the fields.",
        f"After the upgrade run storage_migrate with resources: [{name}] and managed_fields: rewrite (in the role: "
        "rolling_upgrade_managed_fields), which moves the entries of objects that nobody wrote before.",
        blocks=False,
    )


def _managers_at(objects: Mapping[str, int]) -> str:
    numbers = [f"{version} ({count(number, 'object')})" for version, number in sorted(objects.items())]
    return f"Field managers of objects are at {listed(numbers)}"


def is_older(version: str, storage: str | None) -> bool:
    """Whether a version comes before the storage version, as Kubernetes orders versions by their names."""
    return storage is not None and _rank(version) < _rank(storage)


def _rank(version: str) -> tuple[int, ...]:
    """GA before beta before alpha, then the numbers; other names come last (k8s.io/apimachinery, pkg/version/helpers.go)."""
    found = _USUAL_NAME.fullmatch(version)
    if found is None:
        return (-1,)
    return (_STAGES[found[2]], int(found[1]), int(found[3] or 0))


def evaluate_fields(name: str, dropped: Dropped, *, new: bool) -> Finding | None:
    """Objects that hold fields which the CRD (``new``: the one to be applied) does not know; None if there are none."""
    if not dropped.objects:
        return None
    number = len(dropped.objects)
    crd = "the new CRD does not know" if new else "the CRD no longer knows"
    plural, _dot, group = name.partition(".")
    return Finding(
        "crd_drops_fields" if new else "dropped_fields",
        name,
        f"{count(number, 'object')} {'holds' if number == 1 else 'hold'} fields that {crd} ({listed(dropped.fields)}).",
        "A rewrite drops them permanently, and so does any other update.",
        f"Add them to the CRD's schema first, or accept the loss: ignore this blocker, and name {name} in the option "
        "drop_unknown_fields of storage_migrate.",
        keys=tuple(
            "/".join(part for part in (group, plural, namespace, object_name) if part)
            for namespace, object_name in list(dropped.objects)[:_KEYS_SHOWN]
        ),
    )
