# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What API servers would write now, and which stored objects differ from it, for which reason. Pure.

An API server rewrites an object exactly if its version, its encoding or its encryption is not what
it would write now (k8s.io/apiserver, pkg/storage/etcd3/store.go: GuaranteedUpdate's ``stale``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.encryption import EncryptionRules
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import JSON_BUILT_IN, is_custom
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, Tally, Variant
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import (
    ServedResource,
    split_group_version,
    storage_version_hash,
    storage_version_of,
)

REASONS = ("version", "encoding", "encryption")
# Why a version can't be told or compared: encryption hides it, the value is broken or empty, nothing is expected.
UNPROVABLE = ("encrypted", "corrupt", "empty", "nothing_expected")
_MEDIA_TYPES = {
    "application/json": "json",
    "application/vnd.kubernetes.protobuf": "protobuf",
    "application/cbor": "cbor",
}


@dataclass(frozen=True)
class Expected:
    """What new values of a resource look like, and how each part is known.

    Sources: ``servers`` (hashes of all API servers), ``configuration`` (files of this master),
    ``rule`` (always so), ``newest`` (the newest value in etcd; a good guess, no proof),
    ``disagreement`` (servers differ, so nothing is expected) and ``none``.
    """

    version: str | None = None
    hash: str | None = None
    kind: str | None = None
    version_source: str = "none"
    encoding: str | None = None
    encoding_source: str = "none"
    provider: str | None = None
    provider_version: str | None = None
    key: str | None = None
    key_id_hash: str | None = None
    encryption_source: str = "none"

    def is_version(self, version: str, kind: str | None) -> bool | None:
        """Whether a stored version is the expected one; None if that can't be told."""
        kind = kind or self.kind
        if self.hash is not None and kind:
            # By hash, which works for versions too that could not be decoded from it.
            return storage_version_hash(*split_group_version(version), kind) == self.hash
        return None if self.version is None else version == self.version


@dataclass(frozen=True)
class Verdict:
    """Of one variant: why it is stale (empty: it isn't) and whether its version can be told at all."""

    reasons: tuple[str, ...]
    provable: bool

    @property
    def stale(self) -> bool:
        return bool(self.reasons)


@dataclass(frozen=True)
class Knowledge:
    """All that is known of what API servers write now."""

    served: Mapping[str, ServedResource] | None = None
    other_groups: tuple[str, ...] = ()
    disagreeing: frozenset[str] = frozenset()
    encryption: EncryptionRules | None = None
    media_type: str | None = None
    evidence: Stored = field(default_factory=Stored)


def expected_of(name: str, variants: Mapping[Variant, Tally], known: Knowledge) -> Expected:
    """What API servers would write for a resource now."""
    version, digest, kind, version_source = _version(name, variants, known)
    encoding, encoding_source = _encoding(name, known)
    newest = _newest(variants)
    if known.encryption is not None:
        rule = known.encryption.of(name)
        remote = None
        if rule.provider == "kms" and rule.provider_version == "v2":
            # Which remote key is current only the KMS plugin knows: the newest under this plugin's name.
            same = {one: tally for one, tally in variants.items() if one[2:5] == tuple(rule)}
            latest = _newest(same)
            remote = latest.key_id_hash if latest else None
        encryption: tuple[str | None, str | None, str | None, str | None] = (*rule, remote)
        encryption_source = "configuration"
    elif newest is not None:
        encryption, encryption_source = newest[2:6], "newest"
    else:
        encryption, encryption_source = (None, None, None, None), "none"
    return Expected(version, digest, kind, version_source, encoding, encoding_source, *encryption, encryption_source)


def _version(
    name: str, variants: Mapping[Variant, Tally], known: Knowledge
) -> tuple[str | None, str | None, str | None, str]:
    if name in known.disagreeing:
        return None, None, None, "disagreement"
    served = (known.served or {}).get(name)
    if served is not None:
        if served.hash is None:
            return None, None, served.kind, "disagreement"
        return storage_version_of(served, known.other_groups), served.hash, served.kind, "servers"
    if known.served is not None:
        return None, None, None, "none"
    visible = {one: tally for one, tally in variants.items() if one.version is not None}
    newest = _newest(visible)
    return (newest.version, None, None, "newest") if newest else (None, None, None, "none")


def _encoding(name: str, known: Knowledge) -> tuple[str | None, str]:
    """Built-in resources share one media type, so the newest write of any shows it (Leases are always fresh)."""
    if name in JSON_BUILT_IN:
        return "json", "rule"
    custom = is_custom(name)
    if known.media_type is not None and not custom:
        return _MEDIA_TYPES.get(known.media_type), "configuration"
    latest, encoding = -1, None
    for other, variants in known.evidence.resources.items():
        if other in JSON_BUILT_IN or is_custom(other) != custom:
            continue
        for variant, tally in variants.items():
            if variant.encoding in ("protobuf", "json", "cbor") and tally.newest > latest:
                latest, encoding = tally.newest, variant.encoding
    if encoding is None:
        return None, "none"
    return encoding, "newest"


def _newest(variants: Mapping[Variant, Tally]) -> Variant | None:
    return max(variants, key=lambda one: variants[one].newest, default=None)


def judge(variant: Variant, kind: str | None, expected: Expected) -> Verdict:
    """Why a variant is stale. What can't be told is no reason, but then the variant isn't proven either."""
    reasons = []
    fits = None if variant.version is None else expected.is_version(variant.version, kind)
    if fits is False:
        reasons.append("version")
    readable = variant.encoding in ("protobuf", "json", "cbor")
    if readable and expected.encoding is not None and variant.encoding != expected.encoding:
        reasons.append("encoding")
    if variant.encoding not in ("empty", "unknown") and expected.provider is not None:
        wanted = (expected.provider, expected.provider_version, expected.key, expected.key_id_hash)
        if variant[2:6] != wanted:
            reasons.append("encryption")
    return Verdict(tuple(reasons), fits is not None)


@dataclass
class Judgement:
    """A scan with what was expected of each resource."""

    stored: Stored
    expected: dict[str, Expected]

    def variants(self, name: str) -> Iterator[tuple[Variant, Tally, Verdict]]:
        """A resource's variants, the most frequent first."""
        expected = self.expected[name]
        found = self.stored.resources.get(name, {})
        for variant in sorted(found, key=lambda one: -found[one].objects):
            yield variant, found[variant], judge(variant, found[variant].kind, expected)

    def stale(self, name: str) -> int:
        """How many objects of a resource are stale."""
        return sum(tally.objects for _variant, tally, verdict in self.variants(name) if verdict.stale)

    def unprovable(self, name: str) -> int:
        """How many have no visible fault, but a version that can't be told (encrypted, corrupt, nothing expected)."""
        return sum(
            tally.objects for _v, tally, verdict in self.variants(name) if not verdict.stale and not verdict.provable
        )


def why_unprovable(variant: Variant) -> str:
    """One of UNPROVABLE, for a variant whose verdict is not provable."""
    if variant.provider != "identity":
        return "encrypted"
    if variant.encoding == "empty":
        return "empty"
    return "nothing_expected" if variant.version is not None else "corrupt"


def judge_all(stored: Stored, known: Knowledge) -> Judgement:
    """Expectations for every resource of a scan."""
    return Judgement(stored, {name: expected_of(name, found, known) for name, found in stored.resources.items()})


def resource_result(name: str, judgement: Judgement, samples: int) -> dict[str, Any]:
    """A resource as modules return it."""
    expected = judgement.expected[name]
    rows, stale_samples = [], []
    reasons = dict.fromkeys(REASONS, 0)
    unprovable: dict[str, int] = {}
    for variant, tally, verdict in judgement.variants(name):
        rows.append(
            {
                **variant._asdict(),
                "objects": tally.objects,
                "bytes": tally.bytes,
                "stale": list(verdict.reasons),
                "provable": verdict.provable,
                "samples": tally.samples[:samples],
            }
        )
        for reason in verdict.reasons:
            reasons[reason] += tally.objects
        if verdict.stale:
            stale_samples += tally.samples
        elif not verdict.provable:
            why = why_unprovable(variant)
            unprovable[why] = unprovable.get(why, 0) + tally.objects
    return {
        "stored": rows,
        "expected": {
            "version": expected.version,
            "version_source": expected.version_source,
            "encoding": expected.encoding,
            "encoding_source": expected.encoding_source,
            "provider": expected.provider,
            "provider_version": expected.provider_version,
            "key": expected.key,
            "encryption_source": expected.encryption_source,
        },
        "objects": sum(row["objects"] for row in rows),
        "bytes": sum(row["bytes"] for row in rows),
        "stale": judgement.stale(name),
        "stale_reasons": reasons,
        "unprovable": judgement.unprovable(name),
        "unprovable_reasons": unprovable,
        "samples": stale_samples[:samples],
    }
