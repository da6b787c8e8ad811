# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What API servers would write now, and which stored objects differ from it, and why. Pure.

An API server rewrites an object exactly if its version, its encoding or its encryption is not what
it would write now (k8s.io/apiserver, pkg/storage/etcd3/store.go: GuaranteedUpdate's ``stale``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.counts import Uncounted
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.encryption import EncryptionRules
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import JSON_BUILT_IN, LEASES, is_custom
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.kms_keys import KeyIds
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, Tally, Variant
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.space import Amount
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    split_group_version,
    storage_version_hash,
    storage_version_of,
)

REASONS = ("version", "encoding", "encryption")
# Why a version is unknown or can't be compared: encryption hides it, the value is broken or empty, nothing is expected.
UNPROVABLE = ("encrypted", "corrupt", "empty", "nothing_expected")
# Why it is unknown whether an object is encrypted as API servers would do it now: nothing shows how they do it, several
# names of its key are possible, several keys have its name, or it is unknown which key the KMS plugin uses now.
ENCRYPTION_UNKNOWN = ("guessed", "key_name", "same_name", "kms_key")
_MEDIA_TYPES = {
    "application/json": "json",
    "application/vnd.kubernetes.protobuf": "protobuf",
    "application/cbor": "cbor",
}


@dataclass(frozen=True)
class Expected:
    """What new values of a resource look like, and how each part is known.

    Sources: ``servers`` (hashes of all API servers), ``configuration`` (files of this master),
    ``rule`` (always the case), ``newest`` (the newest value in etcd; a good guess, no proof), ``probe`` (a patch through
    each server), ``disagreement`` (servers differ, so nothing is expected) and ``none``. ``key_repeated``: several keys
    with different secrets have this name.
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
    key_begins_with: str | None = None
    encryption_source: str = "none"
    key_id_source: str = "none"
    key_repeated: bool = False

    @property
    def is_kms_v2(self) -> bool:
        """Whether the key also has an ID, which changes when the key is rotated where it is kept."""
        return (self.provider, self.provider_version) == ("kms", "v2")

    def encrypted_as(self, variant: Variant) -> Expected:
        """The same with the encryption of a variant; its key's ID is only an observation."""
        return replace(
            self,
            provider=variant.provider,
            provider_version=variant.provider_version,
            key=variant.key,
            key_begins_with=variant.key_begins_with,
            key_id_hash=variant.key_id_hash,
            key_id_source="none" if variant.key_id_hash is None else "newest",
        )

    def is_version(self, version: str, kind: str | None) -> bool | None:
        """Whether a stored version is the expected one; None if that is unknown."""
        kind = kind or self.kind
        if self.hash is not None and kind:
            # By hash, which also works for versions that could not be decoded from it.
            return storage_version_hash(*split_group_version(version), kind) == self.hash
        return None if self.version is None else version == self.version


@dataclass(frozen=True)
class Staleness:
    """For one variant: why it is stale (empty if no fault is visible), and whether its version can be proven at all.

    ``encryption_unknown``: why it is unknown whether it is encrypted as it should be, one of ENCRYPTION_UNKNOWN; None
    if that is known, or if it is stale in any case.
    """

    reasons: tuple[str, ...]
    provable: bool
    encryption_unknown: str | None = None

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
    key_ids: KeyIds = field(default_factory=KeyIds)


def expected_of(name: str, variants: Mapping[Variant, Tally], known: Knowledge) -> Expected:
    """What API servers would now write for a resource."""
    version, digest, kind, version_source = _version(name, variants, known)
    encoding, encoding_source = _encoding(name, known)
    return replace(
        _encryption(name, variants, known),
        version=version,
        hash=digest,
        kind=kind,
        version_source=version_source,
        encoding=encoding,
        encoding_source=encoding_source,
    )


def with_version(name: str, expected: Expected, known: Knowledge) -> Expected:
    """The same for the storage version that is known now."""
    version, digest, kind, source = _version(name, {}, known)
    return replace(expected, version=version, hash=digest, kind=kind, version_source=source)


def _encryption(name: str, variants: Mapping[Variant, Tally], known: Knowledge) -> Expected:
    """The expected encryption."""
    intact = {variant: tally for variant, tally in variants.items() if variant.encoding not in ("empty", "unknown")}
    newest = _newest(intact)
    if known.encryption is not None:
        rule = known.encryption.of(name)
        found = Expected(
            provider=rule.provider,
            provider_version=rule.provider_version,
            key=rule.key,
            encryption_source="configuration",
            key_repeated=known.encryption.is_repeated(name, rule.provider, rule.key),
        )
        newest = _newest({variant: tally for variant, tally in intact.items() if variant[2:5] == tuple(rule)})
    elif newest is not None:
        found = Expected(encryption_source="newest").encrypted_as(newest)
    else:
        return Expected()
    if not found.is_kms_v2:
        return found
    told = known.key_ids.current.get(found.key or "")
    if told is not None:
        return replace(found, key_id_hash=told, key_id_source="servers")
    return found if newest is None else replace(found, key_id_hash=newest.key_id_hash, key_id_source="newest")


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
    visible = {variant: tally for variant, tally in variants.items() if variant.version is not None}
    newest = _newest(visible)
    return (newest.version, None, None, "newest") if newest else (None, None, None, "none")


def _encoding(name: str, known: Knowledge) -> tuple[str | None, str]:
    """Built-in resources share one media type, so the newest Lease shows it: API servers renew theirs all the time, and nothing else is as certain to
    have been written by one. Without a Lease that can be read, and for custom resources, the newest write of any of them has to do.
    """
    if name in JSON_BUILT_IN:
        return "json", "rule"
    custom = is_custom(name)
    if known.media_type is not None and not custom:
        return _MEDIA_TYPES.get(known.media_type), "configuration"
    seen = {
        other: variants
        for other, variants in known.evidence.resources.items()
        if other not in JSON_BUILT_IN and is_custom(other) == custom
    }
    encoding = _newest_encoding([seen.get(LEASES, {})]) or _newest_encoding(seen.values())
    return (encoding, "newest") if encoding else (None, "none")


def _newest_encoding(resources: Iterable[Mapping[Variant, Tally]]) -> str | None:
    """That of the newest value whose encoding can be seen."""
    visible = [
        (tally.newest, variant.encoding)
        for variants in resources
        for variant, tally in variants.items()
        if variant.encoding in ("protobuf", "json", "cbor")
    ]
    return max(visible, default=(0, None))[1]


def _newest(variants: Mapping[Variant, Tally]) -> Variant | None:
    return max(variants, key=lambda variant: variants[variant].newest, default=None)


def evaluate_variant(variant: Variant, kind: str | None, expected: Expected) -> Staleness:
    """Why a variant is stale. Unknown facts are no reason, but then the variant isn't proven either."""
    reasons = []
    fits = None if variant.version is None else expected.is_version(variant.version, kind)
    if fits is False:
        reasons.append("version")
    readable = variant.encoding in ("protobuf", "json", "cbor")
    if readable and expected.encoding is not None and variant.encoding != expected.encoding:
        reasons.append("encoding")
    unknown = None
    if variant.encoding not in ("empty", "unknown"):
        current, unknown = _is_encrypted_as(variant, expected)
        if current is False:
            reasons.append("encryption")
    return Staleness(tuple(reasons), fits is not None, None if reasons else unknown)


def _is_encrypted_as(variant: Variant, expected: Expected) -> tuple[bool | None, str | None]:
    """(whether a variant is encrypted as expected, why that is unknown)."""
    if expected.provider is None:
        return None, "guessed"
    if (variant.provider, variant.provider_version) != (expected.provider, expected.provider_version):
        return False, None
    if variant.provider != "identity":
        if variant.key is None or expected.key is None:
            return (None, "key_name") if _may_be_one_name(variant, expected) else (False, None)
        if variant.key != expected.key:
            return False, None
        if expected.is_kms_v2:
            if variant.key_id_hash is None or expected.key_id_hash is None:
                return None, "kms_key"
            if variant.key_id_hash != expected.key_id_hash:
                return False, None
            if expected.key_id_source != "servers":
                return None, "kms_key"
        if expected.key_repeated:
            return None, "same_name"
    return (None, "guessed") if expected.encryption_source in ("newest", "none") else (True, None)


def key_is_known(variant: Variant) -> bool:
    """Whether it is known which key encrypts a variant, or that none does."""
    return variant.provider == "identity" or variant.key is not None


def may_be_alike(variant: Variant, other: Variant) -> bool:
    """Whether two variants are the same, or may be, since the name of a key is unknown."""
    if key_is_known(variant) and key_is_known(other):
        return variant == other
    return variant[:4] == other[:4] and _may_be_one_name(variant, other)


def _may_be_one_name(known: Variant | Expected, other: Variant | Expected) -> bool:
    """Whether two keys can have the same name, if at least one name is unknown."""
    begin, rest = known.key_begins_with, other.key if other.key is not None else other.key_begins_with
    if known.key is not None:
        begin, rest = other.key_begins_with, known.key
    if begin is None or rest is None:
        return True
    # An unknown name is either just its known beginning, or continues after that with a colon.
    if rest == begin or rest.startswith(f"{begin}:"):
        return True
    return None in (known.key, other.key) and known.key == other.key and begin.startswith(f"{rest}:")


@dataclass
class Evaluation:
    """A scan with what was expected of each resource.

    ``uncounted``: the resources that this etcd was not shown to hold completely. ``verified``: it was shown to be the API
    servers' own; False if none was asked.
    """

    stored: Stored
    expected: dict[str, Expected]
    uncounted: dict[str, Uncounted] = field(default_factory=dict)
    verified: bool = False
    key_ids: KeyIds = field(default_factory=KeyIds)

    def variants(self, name: str) -> Iterator[tuple[Variant, Tally, Staleness]]:
        """A resource's variants, the most frequent first."""
        expected = self.expected[name]
        found = self.stored.resources.get(name, {})
        for variant in sorted(found, key=lambda key: -found[key].objects):
            yield variant, found[variant], evaluate_variant(variant, found[variant].kind, expected)

    def stale(self, name: str) -> int:
        """How many objects of a resource are stale."""
        return sum(tally.objects for _variant, tally, verdict in self.variants(name) if verdict.stale)

    def encryption_unknown(self, name: str) -> dict[str, int]:
        """How many objects aren't stale but may not be encrypted as they should be, by reason."""
        found: dict[str, int] = {}
        for _variant, tally, verdict in self.variants(name):
            if verdict.encryption_unknown is not None:
                found[verdict.encryption_unknown] = found.get(verdict.encryption_unknown, 0) + tally.objects
        return found

    def unprovable(self, name: str) -> int:
        """How many have no visible fault, but an unknown version (encrypted, corrupt, nothing expected).

        All of them if this etcd may not hold all.
        """
        if name in self.uncounted:
            return self.uncounted[name].unproven(self.stale(name))
        return sum(
            tally.objects for _v, tally, verdict in self.variants(name) if not verdict.stale and not verdict.provable
        )


def amount_of(
    evaluation: Evaluation, names: Iterable[str], live: int | None, whole: Collection[str] = frozenset()
) -> Amount:
    """What a migration of these resources has to write, in bytes; of the ``whole`` ones everything. ``live``: see Amount."""
    stale = at_most = 0
    for name in names:
        found = evaluation.stored.resources.get(name, {})
        if name in whole:
            stale += sum(tally.bytes for tally in found.values())
            at_most += sum(tally.bytes for tally in found.values())
        elif name in evaluation.expected:
            for _variant, tally, verdict in evaluation.variants(name):
                stale += tally.bytes if verdict.stale else 0
                # Until a server was seen to write, how it encrypts is a guess for everything, and a good one.
                doubtful = not verdict.provable or verdict.encryption_unknown not in (None, "guessed")
                at_most += tally.bytes if verdict.stale or doubtful else 0
    return Amount(stale, at_most, live)


def why_unprovable(variant: Variant) -> str:
    """One of UNPROVABLE, for a variant whose verdict is not provable."""
    if variant.provider != "identity":
        return "encrypted"
    if variant.encoding == "empty":
        return "empty"
    return "nothing_expected" if variant.version is not None else "corrupt"


def evaluate_all(stored: Stored, known: Knowledge) -> Evaluation:
    """Expectations for every resource of a scan, and for those that are served, as they may get objects later."""
    names = {**stored.resources, **dict.fromkeys(known.served or ())}
    expected = {name: expected_of(name, stored.resources.get(name, {}), known) for name in names}
    return Evaluation(stored, expected, key_ids=known.key_ids)


def kms_plugins(stored: Stored, encryption: EncryptionRules | None) -> list[str]:
    """The KMS v2 plugins whose current key must be known to say whether what is stored is stale."""
    found = {
        variant.key
        for variants in stored.resources.values()
        for variant in variants
        if (variant.provider, variant.provider_version) == ("kms", "v2")
    }
    if encryption is not None:
        # The key of a plugin that writes nothing now doesn't matter: everything under it is stale.
        found &= {rule.key for name in stored.resources if (rule := encryption.of(name)).provider == "kms"}
    return sorted(name for name in found if name is not None)


def resource_result(name: str, evaluation: Evaluation, samples: int) -> dict[str, Any]:
    """A resource as modules return it."""
    expected = evaluation.expected[name]
    rows, stale_samples = [], []
    reasons = dict.fromkeys(REASONS, 0)
    unprovable: dict[str, int] = {}
    encryption_unknown = evaluation.encryption_unknown(name)
    for variant, tally, verdict in evaluation.variants(name):
        rows.append(
            {
                **variant._asdict(),
                "objects": tally.objects,
                "bytes": tally.bytes,
                "stale": list(verdict.reasons),
                "provable": verdict.provable,
                "encryption_unknown": verdict.encryption_unknown,
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
    if name in evaluation.uncounted:
        unprovable = {evaluation.uncounted[name].kind: evaluation.unprovable(name)}
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
            "key_begins_with": expected.key_begins_with,
            "key_id_hash": expected.key_id_hash,
            "encryption_source": expected.encryption_source,
            "key_id_source": expected.key_id_source,
        },
        "objects": sum(row["objects"] for row in rows),
        "bytes": sum(row["bytes"] for row in rows),
        "stale": evaluation.stale(name),
        "stale_reasons": reasons,
        "unprovable": evaluation.unprovable(name),
        "unprovable_reasons": unprovable,
        "encryption_unknown": sum(encryption_unknown.values()),
        "encryption_unknown_reasons": encryption_unknown,
        "samples": stale_samples[:samples],
    }
