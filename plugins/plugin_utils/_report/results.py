# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Results of modules as parts of a record. Pure.

Only the fields named here are used: no task options, no keys in etcd, nothing else that a record does not need.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clean_text import clean_text
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.space import sizes_of
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import (
    EtcdContents,
    EtcdDatabase,
    EtcdSizes,
    FailedObject,
    MigratedResource,
    Migration,
    ProgressSample,
    Sampling,
    SkippedResource,
    StoredResource,
    StoredVariant,
    TrimmedCrd,
)

Result = Mapping[str, Any]

_TEXT_LIMIT = 2000


def was_told(result: Any) -> bool:
    """Whether a registered result is from a task that ran."""
    return isinstance(result, Mapping) and bool(result) and not result.get("skipped")


def bounded(value: Any) -> str | None:
    """A plain string of bounded length, safe to print."""
    if value is None:
        return None
    text = clean_text(str(value))
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 1] + "…"


def texts(values: Any) -> list[str]:
    return [bounded(value) or "" for value in values or ()]


def named_texts(result: Result, *names: str) -> dict[str, str | None]:
    return {name: bounded(result.get(name)) for name in names}


def failed_among(results: list[Any]) -> list[Result]:
    """The results of tasks that failed, or whose host could not be reached by Ansible."""
    return [
        result
        for result in results
        if isinstance(result, Mapping)
        and (result.get("failed") or result.get("unreachable"))
        and not result.get("skipped")
    ]


def failure_messages(results: list[Any]) -> list[str]:
    """What each failed task said, once."""
    said = [
        bounded(result.get("msg")) or "A task failed; see the playbook's output." for result in failed_among(results)
    ]
    return list(dict.fromkeys(said))


def databases_of(result: Result) -> list[EtcdDatabase] | None:
    """The databases of each etcd that stored_versions_info read; None if their sizes are unknown."""
    etcd = result.get("etcd") or {}
    found = [
        EtcdDatabase(
            bounded((cluster.get("endpoints") or [None])[0]),
            int(cluster["db_size"]),
            _count(cluster.get("db_in_use")),
            _count(cluster.get("quota")),
        )
        for cluster in (etcd, *(etcd.get("overrides") or ()))
        if cluster.get("db_size")
    ]
    return found or None


def sampling_of(evidence: Any) -> Sampling | None:
    """None if each server was asked at its own address."""
    if not isinstance(evidence, Mapping):
        return None
    chance = evidence.get("chance_missed")
    return Sampling(
        connections=_count(evidence.get("connections")),
        told_apart=_count(evidence.get("told_apart")),
        servers=_count(evidence.get("servers")),
        chance_missed=None if chance is None else float(chance),
    )


def unchecked_of(result: Result) -> str | None:
    """Why a result of storage_version_hashes was not compared with the Leases of all living servers; None if it was."""
    if result.get("cross_checked") is True:
        return None
    return bounded(result.get("unchecked_reason")) or "the identity Leases in kube-system were not read"


def migration_of(result: Result, now: str) -> Migration:
    """From a result of storage_migrate."""
    history = result.get("history") or {}
    return Migration(
        started=bounded(history.get("started")) or now,
        finished=now,
        ok=not result.get("failed"),
        message=bounded(result.get("msg")) if result.get("failed") else None,
        seconds=float(result.get("seconds") or 0),
        rate=float(result.get("rate") or 0),
        resumed=bool(result.get("resumed")),
        totals={str(name): _count(count) for name, count in (result.get("totals") or {}).items()},
        resources={str(name): _migrated(found) for name, found in (result.get("resources") or {}).items()},
        skipped=[
            SkippedResource(bounded(skipped.get("resource")), bounded(skipped.get("reason")))
            for skipped in result.get("skipped_resources") or ()
        ],
        failures=[_failed_object(failure) for failure in result.get("failures") or ()],
        trimmed=[
            TrimmedCrd(bounded(crd.get("crd")), texts(crd.get("before")), texts(crd.get("after")))
            for crd in result.get("trimmed") or ()
        ],
        samples=[_sample(sample) for sample in history.get("samples") or ()],
        etcd_sizes=_etcd_sizes(result),
    )


def _etcd_sizes(result: Result) -> EtcdSizes | None:
    sizes = sizes_of(result.get("etcd_space"))
    return None if sizes is None else EtcdSizes(sizes.before, sizes.after, sizes.reclaimable)


def _migrated(found: Result) -> MigratedResource:
    return MigratedResource(
        rewritten=_count(found.get("rewritten", 0)),
        unchanged=_count(found.get("unchanged", 0)),
        conflicts=_count(found.get("conflicts", 0)),
        deleted=_count(found.get("deleted", 0)),
        uncertain=_count(found.get("uncertain")) or None,
        failed=_count(found.get("failed", 0)),
        pruned=_count(found.get("pruned", 0)),
        seconds=float(found.get("seconds") or 0),
        storage_version=bounded(found.get("storage_version")),
        persisted=bool(found.get("persisted")),
        reason=bounded(found.get("reason")),
    )


def _failed_object(failure: Result) -> FailedObject:
    named = named_texts(failure, "resource", "namespace", "name", "reason", "message")
    return FailedObject(**named, status=int(failure.get("status") or 0))


def _sample(sample: Result) -> ProgressSample:
    counts = {
        str(name): (int(count["visited"] or 0), int(count["rewritten"] or 0))
        for name, count in sample["resources"].items()
    }
    return ProgressSample(float(sample["seconds"]), counts)


def _count(count: Any) -> int | None:
    """None if it could not be counted."""
    return None if count is None else int(count)


def stored_of(result: Result, now: str) -> EtcdContents:
    """From a result of stored_versions_info."""
    return EtcdContents(
        at=now,
        revision=int(result.get("revision") or 0),
        consistent=bool(result.get("consistent", True)),
        totals={str(name): int(count) for name, count in (result.get("totals") or {}).items()},
        problems=texts(result.get("problems")),
        unprovable={
            str(name): _counts(reasons) for name, reasons in (result.get("unprovable_resources") or {}).items()
        },
        resources={str(name): _stored_resource(found) for name, found in (result.get("resources") or {}).items()},
    )


def _stored_resource(found: Result) -> StoredResource:
    reasons = _counts(found.get("stale_reasons") or {})
    return StoredResource(
        objects=int(found.get("objects") or 0),
        stale=int(found.get("stale") or 0),
        reasons={reason: count for reason, count in reasons.items() if count},
        unprovable=int(found.get("unprovable") or 0),
        expected=bounded((found.get("expected") or {}).get("version")),
        stored=[
            StoredVariant(
                **named_texts(variant, "version", "encoding", "provider", "key"),
                objects=int(variant.get("objects") or 0),
                stale=[str(reason) for reason in variant.get("stale") or ()],
            )
            for variant in found.get("stored") or ()
        ],
    )


def _counts(found: Mapping[str, Any]) -> dict[str, int]:
    return {str(name): int(count) for name, count in found.items()}
