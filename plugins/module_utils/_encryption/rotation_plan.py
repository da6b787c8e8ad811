# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The three configurations that each master goes through when the encryption key is rotated. Pure.

``readable``: the new key is present, another one writes. ``writing``: the new key writes, all others still
read. ``only``: only the new key remains, with identity where it was. Each builds on the previous one, so a
master that is already further along is never moved back, and a rotation can be resumed anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption.rotation_keys import (
    Document,
    RotationProblem,
    Wish,
    full_keys_of,
    keys_of,
    patterns_of,
    provider_of_new_key,
    require_mutual_reading,
    require_plain_text,
    require_same_secrets,
    secret_of_new_key,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.encryption import (
    normalized,
    parse_configuration,
    pattern_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import EVENTS_TWIN

STAGES = ("readable", "writing", "only")


@dataclass(frozen=True)
class Steps:
    """One master's steps: its progress (the index of its next stage) and its configuration at each stage.

    ``reads``: by rotated resource, (provider, key name) of every key with which its current file can read.
    """

    done: int
    documents: tuple[Document, ...] = field(repr=False)
    reads: Mapping[str, tuple[tuple[str, str | None], ...]]


@dataclass(frozen=True)
class Rotation:
    """All masters' steps, and what has to be rewritten and proven before the last stage.

    ``resources``: those written with the rotated entries; ``affected``: these, and those that only read with them.
    ``all_known``: whether there can be no others. ``old``: (provider, key) that the last stage drops, with a KMS plugin's
    name for its key. ``patterns``: all that the files name. ``lost``: by pattern of the rotated entries, the keys with which
    its resources, served or not, can't be read anymore after the last stage.
    ``kept``: other keys than the new one with which the resources can still be read then, as other entries name them, too.
    ``keys``: (provider, key) of every key that values may be under, in any entry.
    """

    provider: str
    masters: Mapping[str, Steps]
    resources: tuple[str, ...]
    affected: tuple[str, ...]
    all_known: bool
    old: tuple[tuple[str, str], ...]
    patterns: tuple[str, ...]
    lost: Mapping[str, tuple[tuple[str, str], ...]]
    kept: tuple[tuple[str, str], ...]
    keys: tuple[tuple[str, str], ...]


def plan_rotation(configurations: Mapping[str, Any], wish: Wish, served: Iterable[str]) -> Rotation:
    """From every master's parsed EncryptionConfiguration; raises RotationProblem."""
    if not configurations:
        raise RotationProblem("There are no masters.")
    if not wish.key:
        raise RotationProblem("The new key has no name; set one that no existing key has.")
    # Every entry gets its own providers: entries that share them through a YAML anchor would change together.
    own = {name: _unshared(name, document) for name, document in configurations.items()}
    entries = {name: _entries(name, document, wish) for name, document in own.items()}
    first = next(iter(own))
    _require_same_patterns(own)
    rotated = {normalized(pattern) for entry in entries[first] for pattern in patterns_of(entry)}
    joined = [entry for document in own.values() for pattern in sorted(rotated) for entry in _joined(document, pattern)]
    for entry in joined:
        require_plain_text(entry)
    require_same_secrets(entries)
    require_mutual_reading(entries)
    every = [entry for found in entries.values() for entry in found]
    provider = provider_of_new_key(every, wish)
    # Two keys with the new one's name could not be distinguished in etcd.
    secret = secret_of_new_key(joined, wish, provider)
    listed = tuple(dict.fromkeys(pattern for found in _patterns(own[first]) for pattern in found))
    written = {
        pattern for pattern in rotated if any(_joined(own[first], pattern)[0] is entry for entry in entries[first])
    }
    known = [resource for resource in served if resource != EVENTS_TWIN]
    names = sorted(name for name in known if pattern_of(name, listed) in written)
    affected = sorted(name for name in known if pattern_of(name, listed) in rotated)
    if not names:
        raise RotationProblem(f"No API server stores {' or '.join(wish.resources)}; write resources as plural.group.")
    old = sorted({key for entry in every for key in keys_of(entry) if key != (provider, wish.key)})
    new = {"name": wish.key, "secret": secret}
    masters = {name: _steps(name, document, wish, provider, new, affected) for name, document in own.items()}
    return Rotation(
        provider,
        masters,
        tuple(names),
        tuple(affected),
        not any("*" in pattern for pattern in rotated) and rotated <= set(known),
        tuple(old),
        listed,
        {pattern: _lost(own, masters, pattern) for pattern in sorted(rotated)},
        tuple(sorted(_read_at_the_end(masters, written) - {(provider, wish.key)})),
        tuple(
            sorted(
                {key for document in own.values() for entry in document["resources"] for key in keys_of(entry)}
                | {(provider, wish.key)}
            )
        ),
    )


def _unshared(master: str, document: Any) -> Any:
    """A copy without shared objects, which YAML aliases create."""
    try:
        copy = json.loads(json.dumps(document))
    except (TypeError, ValueError, RecursionError):
        copy = None
    if copy != document:
        raise RotationProblem(
            f"The encryption configuration of {master} holds values that are not text, numbers or lists, such as a name that "
            "YAML takes for a date; put names in quotes."
        )
    return copy


def _entries(master: str, document: Any, wish: Wish) -> list[Document]:
    """The entries that write the wished resources."""
    try:
        parse_configuration(document)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise RotationProblem(f"{master} has no valid EncryptionConfiguration.") from None
    _require_nothing_masked(master, document)
    listed = [pattern for found in _patterns(document) for pattern in found]
    found: list[Document] = []
    for resource in wish.resources:
        pattern = pattern_of(resource, listed)
        if pattern is None:
            raise RotationProblem(
                f"The encryption configuration of {master} has no entry for {resource}; add one (with identity as its only "
                "provider, if it is not encrypted yet), let all API servers load it, and run again."
            )
        entry = _joined(document, pattern)[0]
        if not any(entry is known for known in found):
            found.append(entry)
    return found


def _require_same_patterns(documents: Mapping[str, Document]) -> None:
    """A resource that has an entry of its own on one master could be under a wildcard on another."""
    first = next(iter(documents))
    for name, document in documents.items():
        if _patterns(document) != _patterns(documents[first]):
            raise RotationProblem(
                f"The encryption configurations of {first} and {name} name other resources, or name them in another order; make them the same."
            )


def _require_nothing_masked(master: str, document: Document) -> None:
    """Refuses what API servers refuse, too (encryptionconfig/config.go): a name or a wildcard after one that covers it."""
    before: set[str] = set()
    for entry in _patterns(document):
        for pattern in entry:
            wider = {"*.*", f"*.{pattern.partition('.')[2]}"} & before
            if wider:
                raise RotationProblem(
                    f"The encryption configuration of {master} names {pattern} after {wider.pop()}, which covers it, so API servers "
                    "refuse it; move the wildcard to the end."
                )
        before.update(entry)


def _patterns(document: Document) -> list[tuple[str, ...]]:
    """What each entry names."""
    return [tuple(normalized(pattern) for pattern in patterns_of(entry)) for entry in document["resources"]]


def _joined(document: Document, pattern: str) -> list[Document]:
    """The entries that name a pattern, whose providers API servers join: the first one's write, and all read."""
    return [entry for entry, listed in zip(document["resources"], _patterns(document)) if pattern in listed]


def _lost(documents: Mapping[str, Document], masters: Mapping[str, Steps], pattern: str) -> tuple[tuple[str, str], ...]:
    """(provider, name) of each key with which resources of a pattern can be read now, but not at the end."""
    lost = set()
    for name, document in documents.items():
        now, then = (
            {key for entry in _joined(config, pattern) for key in full_keys_of(entry)}
            for config in (document, masters[name].documents[-1])
        )
        lost |= {(kind, key) for kind, key, _secret in now - then}
    return tuple(sorted(lost))


def _read_at_the_end(masters: Mapping[str, Steps], patterns: Iterable[str]) -> set[tuple[str, str]]:
    """(provider, name) of each key with which resources of the patterns can be read after the last stage."""
    return {
        key
        for pattern in patterns
        for steps in masters.values()
        for entry in _joined(steps.documents[-1], pattern)
        for key in keys_of(entry)
    }


def _steps(
    master: str, document: Document, wish: Wish, provider: str, new: Mapping[str, str], resources: Iterable[str]
) -> Steps:
    documents: list[Document] = []
    before, done = document, 0
    for number, stage in enumerate(STAGES):
        after = deepcopy(before)
        for entry in _entries(master, after, wish):
            _STEP[stage](entry, provider, new)
        _require_rest_unchanged(master, document, after, wish)
        if after == document:
            done = number + 1
        documents.append(after)
        before = after
    return Steps(done, tuple(documents), {name: _readable_keys(document, name) for name in resources})


def _readable_keys(document: Document, resource: str) -> tuple[tuple[str, str | None], ...]:
    """(provider, key name) of every key with which a resource can be read."""
    pattern = pattern_of(resource, [pattern for listed in _patterns(document) for pattern in listed])
    joined = [] if pattern is None else _joined(document, pattern)
    return tuple((kind, key or None) for entry in joined for kind, key, _secret in full_keys_of(entry))


def _require_rest_unchanged(master: str, before: Document, after: Document, wish: Wish) -> None:
    """A final safeguard before a file is written: compares everything but the providers of the rotated entries."""

    def rest(document: Document) -> Document:
        copy = deepcopy(document)
        for entry in _entries(master, copy, wish):
            del entry["providers"]
        return copy

    if rest(before) != rest(after):
        raise RotationProblem(
            f"The rotation would change more of the configuration of {master} than the keys of {', '.join(wish.resources)}; "
            "report this as a bug in the collection."
        )


def _make_readable(entry: Document, provider: str, new: Mapping[str, str]) -> None:
    if (provider, new["name"]) in keys_of(entry):
        return
    block = next((listed for listed in entry["providers"] if provider in listed), None)
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
    plain = [listed for listed in entry["providers"] if "identity" in listed]
    block[provider]["keys"] = [key]
    entry["providers"] = [block, *plain]


def _find(entry: Document, provider: str, name: str) -> tuple[Document, Document]:
    for block in entry["providers"]:
        for key in (block.get(provider) or {}).get("keys") or ():
            if key["name"] == name:
                return block, key
    raise RotationProblem(f"The key {name} is not there.")  # not reached: the previous stage added it


_STEP: Mapping[str, Any] = {"readable": _make_readable, "writing": _make_writing, "only": _make_only}
