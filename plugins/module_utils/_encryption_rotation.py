# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The three configurations that each master goes through when the encryption key is rotated. Pure.

``readable``: the new key is there, another one writes. ``writing``: the new key writes, all others still
read. ``only``: the new key alone is left, with identity where it was. Each contains the one before, so a
master that is further already is never taken back, and a rotation can be taken up anywhere.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.encryption import (
    LOCAL_PROVIDERS,
    covers,
    parse_configuration,
)

STAGES = ("readable", "writing", "only")
# Of what writes plain text so far: the provider that Kubernetes calls strong and that needs no rotation schedule.
_PROVIDER_FOR_PLAIN = "secretbox"
_SIZES: Mapping[str, tuple[int, ...]] = {"aescbc": (16, 24, 32), "aesgcm": (16, 24, 32), "secretbox": (32,)}
_GENERATED_BYTES = 32
_EVENTS_TWIN = "events.events.k8s.io"

Document = dict[str, Any]


class RotationProblem(ValueError):
    """Why there can be no rotation: one sentence that holds no key."""


@dataclass(frozen=True)
class Wish:
    """What is wanted: this key, for these resources; ``secret`` None: the one that some master has, or a new one."""

    key: str
    resources: tuple[str, ...]
    provider: str | None = None
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Steps:
    """One master's way: how far it is (the index of its next stage) and its configuration at each stage."""

    done: int
    documents: tuple[Document, ...] = field(repr=False)


@dataclass(frozen=True)
class Rotation:
    """All masters' ways, and what has to be rewritten and proven before the last stage.

    ``resources``: what is stored under the rotated entries; ``all_known``: whether those are all that
    can be. ``old``: (provider, key) that the last stage drops, with a KMS plugin's name for its key.
    """

    provider: str
    masters: Mapping[str, Steps]
    resources: tuple[str, ...]
    all_known: bool
    old: tuple[tuple[str, str], ...]


def plan_rotation(configurations: Mapping[str, Any], wish: Wish, served: Iterable[str]) -> Rotation:
    """From every master's parsed EncryptionConfiguration; raises RotationProblem."""
    if not configurations:
        raise RotationProblem("There are no masters.")
    if not wish.key:
        raise RotationProblem("The new key has no name; set one that no present key has.")
    entries = {name: _entries(name, document, wish) for name, document in configurations.items()}
    first = next(iter(configurations))
    patterns = {name: [_patterns(one) for one in found] for name, found in entries.items()}
    for name, found in patterns.items():
        if found != patterns[first]:
            raise RotationProblem(
                f"The encryption configurations of {first} and {name} name other resources where "
                f"{', '.join(wish.resources)} {'is' if len(wish.resources) == 1 else 'are'} covered; make them alike."
            )
    every = [entry for found in entries.values() for entry in found]
    provider = _provider(every, wish)
    secret = _secret(every, wish, provider)
    names, all_known = _covered(configurations[first], patterns[first], served)
    if not names:
        raise RotationProblem(f"No API server stores {' or '.join(wish.resources)}; write resources as plural.group.")
    old = sorted({one for entry in every for one in _keys(entry) if one != (provider, wish.key)})
    new = {"name": wish.key, "secret": secret}
    return Rotation(
        provider,
        {name: _steps(document, wish, provider, new) for name, document in configurations.items()},
        tuple(names),
        all_known,
        tuple(old),
    )


def _entries(master: str, document: Any, wish: Wish) -> list[Document]:
    """The entries that write the wished resources."""
    try:
        parse_configuration(document)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise RotationProblem(f"{master} has no valid EncryptionConfiguration.") from None
    found: list[Document] = []
    for resource in wish.resources:
        entry = next((one for one in document["resources"] if covers(_patterns(one), resource)), None)
        if entry is None:
            raise RotationProblem(
                f"The encryption configuration of {master} has no entry for {resource}; add one (with identity as its only "
                "provider, if it is not encrypted yet), let all API servers load it, and run again."
            )
        if not any(entry is one for one in found):
            found.append(entry)
    return found


def _patterns(entry: Document) -> tuple[str, ...]:
    return tuple(str(one) for one in entry.get("resources") or ())


def _keys(entry: Document) -> list[tuple[str, str]]:
    found = []
    for one in entry["providers"]:
        for kind, settings in one.items():
            if kind in LOCAL_PROVIDERS:
                found += [(kind, str(key["name"])) for key in settings["keys"]]
            elif kind == "kms":
                found.append((kind, str(settings["name"])))
    return found


def _provider(entries: Sequence[Document], wish: Wish) -> str:
    if wish.provider:
        if wish.provider not in LOCAL_PROVIDERS:
            raise RotationProblem(f"The provider must be one of {', '.join(LOCAL_PROVIDERS)}, not '{wish.provider}'.")
        return wish.provider
    for entry in entries:
        for kind, name in _keys(entry):
            if name == wish.key and kind in LOCAL_PROVIDERS:
                return kind
    first = next(iter(entries[0]["providers"][0]))
    return str(first) if first in LOCAL_PROVIDERS else _PROVIDER_FOR_PLAIN


def _secret(entries: Sequence[Document], wish: Wish, provider: str) -> str:
    known = {
        str(key["secret"])
        for entry in entries
        for one in entry["providers"]
        for key in (one.get(provider) or {}).get("keys") or ()
        if key["name"] == wish.key
    }
    if len(known) > 1:
        raise RotationProblem(
            f"Masters have different secrets under the name {wish.key}; choose another name for the new key."
        )
    if known and wish.secret not in (None, *known):
        raise RotationProblem(
            f"A key named {wish.key} is there already, with another secret than the given one; choose another name."
        )
    found = next(iter(known), wish.secret)
    if found is None:
        return base64.b64encode(secrets.token_bytes(_GENERATED_BYTES)).decode()
    try:
        size = len(base64.b64decode(found, validate=True))
    except (binascii.Error, ValueError):
        raise RotationProblem(f"The secret of the key {wish.key} is not base64.") from None
    if size not in _SIZES[provider]:
        sizes = " or ".join(str(one) for one in _SIZES[provider])
        raise RotationProblem(f"The secret of the key {wish.key} has {size} bytes; {provider} takes {sizes}.")
    return found


def _covered(document: Document, patterns: Sequence[tuple[str, ...]], served: Iterable[str]) -> tuple[list[str], bool]:
    """(served resources whose first matching entry is one of ours, whether our entries name nothing else)."""
    ours = set(patterns)
    known = [one for one in served if one != _EVENTS_TWIN]
    names = []
    for name in known:
        entry = next((_patterns(one) for one in document["resources"] if covers(_patterns(one), name)), None)
        if entry in ours:
            names.append(name)
    exact = {pattern.rstrip(".") for one in ours for pattern in one}
    return sorted(names), not any("*" in pattern for pattern in exact) and exact <= set(known)


def _steps(document: Document, wish: Wish, provider: str, new: Mapping[str, str]) -> Steps:
    documents: list[Document] = []
    before, done = document, 0
    for number, stage in enumerate(STAGES):
        after = deepcopy(before)
        for entry in _entries("", after, wish):
            _STEP[stage](entry, provider, new)
        if after == document:
            done = number + 1
        documents.append(after)
        before = after
    return Steps(done, tuple(documents))


def _make_readable(entry: Document, provider: str, new: Mapping[str, str]) -> None:
    if (provider, new["name"]) in _keys(entry):
        return
    block = next((one for one in entry["providers"] if provider in one), None)
    if block is None:
        entry["providers"].insert(1, {provider: {"keys": [dict(new)]}})
    else:
        block[provider]["keys"].append(dict(new))


def _make_writing(entry: Document, provider: str, new: Mapping[str, str]) -> None:
    block, key = _find(entry, provider, new["name"])
    entry["providers"].remove(block)
    entry["providers"].insert(0, block)
    block[provider]["keys"].remove(key)
    block[provider]["keys"].insert(0, key)


def _make_only(entry: Document, provider: str, new: Mapping[str, str]) -> None:
    block, key = _find(entry, provider, new["name"])
    plain = [one for one in entry["providers"] if "identity" in one]
    block[provider]["keys"] = [key]
    entry["providers"] = [block, *plain]


def _find(entry: Document, provider: str, name: str) -> tuple[Document, Document]:
    for block in entry["providers"]:
        for key in (block.get(provider) or {}).get("keys") or ():
            if key["name"] == name:
                return block, key
    raise RotationProblem(f"The key {name} is not there.")  # not reached: the stage before put it there


_STEP: Mapping[str, Any] = {"readable": _make_readable, "writing": _make_writing, "only": _make_only}

Row = Mapping[str, Any]


def still_needed(stored: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """What keeps the old keys from being dropped, by the result of stored_versions_info; empty: nothing does.

    ``plan`` holds resources, provider, key and old. Everything stored of the resources must be under the new
    key, and nothing else that was read, whatever it is, under an old one.
    """
    found: list[str] = []
    for name in plan["resources"]:
        rows: Iterable[Row] = (stored["resources"].get(name) or {}).get("stored") or ()
        wrong = [row for row in rows if (row["provider"], row["key"]) != (plan["provider"], plan["key"])]
        if wrong:
            count = sum(row["objects"] for row in wrong)
            kinds = sorted({_encryption_text(row) for row in wrong})
            found.append(f"{count} of {name} ({', '.join(kinds)})")
    olds = {tuple(one) for one in plan["old"]}
    for part in ("unknown", "internal"):
        for one in stored[part]:
            count = sum(row["objects"] for row in one["encryption"] if (row["provider"], row["key"]) in olds)
            if count:
                found.append(f"{count} under {one['prefix']}, which no API server serves")
    found += stored.get("problems") or []
    return found


def _encryption_text(row: Row) -> str:
    if row["provider"] == "identity":
        return {"empty": "empty", "unknown": "corrupt"}.get(row["encoding"], "not encrypted")
    return f"{row['provider']} {row['key']}"
