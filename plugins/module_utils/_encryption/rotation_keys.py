# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys in encryption configurations: which exist, whether a rotation may start from them, and the new one. Pure.

Two keys are the same only if provider, name and secret are.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.encryption import keys_in
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.providers import LOCAL_PROVIDERS

# If values are plain so far: the provider that Kubernetes calls strong and that needs no rotation schedule.
_PROVIDER_FOR_PLAIN = "secretbox"
_GENERATED_BYTES = 32  # a size that every provider takes
Document = dict[str, Any]
FullKey = tuple[str, str, str]


class RotationProblem(ValueError):
    """Why there can be no rotation: one sentence that contains no key."""


@dataclass(frozen=True)
class Wish:
    """The request: this key, for these resources; ``secret`` is None for the one that a master already has, or a new one."""

    key: str
    resources: tuple[str, ...]
    provider: str | None = None
    secret: str | None = field(default=None, repr=False)


def patterns_of(entry: Document) -> tuple[str, ...]:
    return tuple(str(resource) for resource in entry.get("resources") or ())


def keys_of(entry: Document) -> list[tuple[str, str]]:
    return [(kind, name) for kind, name, _secret in keys_in(entry["providers"])]


def full_keys_of(entry: Document) -> list[FullKey]:
    """(provider, name, secret) of each key, the writing one first; a KMS plugin keeps its secret to itself."""
    found: list[FullKey] = []
    for provider in entry["providers"]:
        for kind, settings in provider.items():
            if kind in LOCAL_PROVIDERS:
                found += [(kind, key["name"], key["secret"]) for key in settings["keys"]]
            elif kind == "kms":
                found.append((kind, settings["name"], ""))
            else:
                found.append((kind, "", ""))
    return found


def require_plain_text(entry: Document) -> None:
    """Refuses providers that an API server wouldn't accept; YAML may read an unquoted name as a number or a date."""
    where = ", ".join(patterns_of(entry))
    for provider in entry["providers"]:
        if not isinstance(provider, dict) or len(provider) != 1:
            raise RotationProblem(f"The entry for {where} has a provider that is not one name with its settings.")
        (kind, settings) = next(iter(provider.items()))
        keys = (settings or {}).get("keys") if kind in LOCAL_PROVIDERS else None
        named = [settings] if kind == "kms" else keys or []
        if kind in LOCAL_PROVIDERS and not keys:
            raise RotationProblem(f"The entry for {where} has a provider {kind} without keys.")
        for key in named:
            texts = [key.get("name")] + ([key.get("secret")] if keys else [])
            if not all(isinstance(text, str) and text for text in texts):
                raise RotationProblem(
                    f"The entry for {where} has a key of {kind} whose name or secret is not text; put both in quotes."
                )


def require_same_secrets(entries: Mapping[str, list[Document]]) -> None:
    """Every master must have the same secret for a name, since values can't be distinguished in etcd otherwise."""
    for position in range(len(next(iter(entries.values())))):
        known: dict[tuple[str, str], tuple[str, set[str]]] = {}
        for master, found in entries.items():
            here: dict[tuple[str, str], set[str]] = {}
            for kind, name, secret in full_keys_of(found[position]):
                here.setdefault((kind, name), set()).add(secret)
            for (kind, name), held in here.items():
                other, there = known.setdefault((kind, name), (master, held))
                if held != there:
                    raise RotationProblem(
                        f"{other} and {master} have different secrets under the name {name} ({kind}), so neither can read what "
                        "the other writes; make their keys the same, or choose another name if it is the new key."
                    )


def require_mutual_reading(entries: Mapping[str, list[Document]]) -> None:
    """Every master must be able to read what any master writes."""
    for position in range(len(next(iter(entries.values())))):
        for writer, found in entries.items():
            key = full_keys_of(found[position])[0]
            for reader, other in entries.items():
                if key not in full_keys_of(other[position]):
                    what = f"under {key[0]} {key[1]}" if key[1] else "without encryption"
                    raise RotationProblem(
                        f"{reader} can't read what {writer} writes, which, according to its file, is {what}; make that readable on {reader} "
                        "first, or restore the previous configuration."
                    )


def provider_of_new_key(entries: Sequence[Document], wish: Wish) -> str:
    """The new key's provider: the given one, else the one that writes now; never a weaker or a plain one unasked."""
    if wish.provider:
        if wish.provider not in LOCAL_PROVIDERS:
            raise RotationProblem(f"The provider must be one of {', '.join(LOCAL_PROVIDERS)}, not '{wish.provider}'.")
        return wish.provider
    name_it = "name it with rolling_upgrade_encryption_provider"
    writing = sorted({str(next(iter(entry["providers"][0]))) for entry in entries})
    present = {kind for entry in entries for kind, _name in keys_of(entry)}
    if "kms" in writing or ("kms" in present and "identity" in writing):
        raise RotationProblem(
            "A KMS plugin is among the providers, and the key of a KMS is rotated in the KMS itself (then storage_migrate with "
            "select: stale rewrites what is under the old one). The rotation would replace it with a key in a file on the masters; "
            f"if you want that, {name_it}."
        )
    named = {kind for entry in entries for kind, name in keys_of(entry) if name == wish.key and kind in LOCAL_PROVIDERS}
    if len(named) == 1:
        return named.pop()
    if not named and "identity" in writing and present:
        raise RotationProblem(
            f"identity comes first although there are keys ({_list_keys(entries)}), so new values are not encrypted: decrypting is "
            "in progress, or another rotation was not finished. Finish that one, with its key's name; or, if the new key should encrypt, "
            f"choose a provider and {name_it}."
        )
    local = [kind for kind in writing if kind in LOCAL_PROVIDERS]
    if len(local) > 1 or named:
        raise RotationProblem(
            f"Several providers are in use ({', '.join(sorted(named) or local)}); choose one and {name_it}."
        )
    return local[0] if local else _PROVIDER_FOR_PLAIN


def _list_keys(entries: Sequence[Document]) -> str:
    return ", ".join(sorted({f"{kind} {name}" for entry in entries for kind, name in keys_of(entry)}))


def secret_of_new_key(entries: Sequence[Document], wish: Wish, provider: str) -> str:
    known = {
        secret
        for entry in entries
        for kind, name, secret in full_keys_of(entry)
        if (kind, name) == (provider, wish.key)
    }
    if len(known) > 1:
        raise RotationProblem(
            f"Masters have different secrets under the name {wish.key}; choose another name for the new key."
        )
    if known and wish.secret not in (None, *known):
        raise RotationProblem(f"A key named {wish.key} already exists with a different secret; choose another name.")
    found = next(iter(known), wish.secret)
    if found is None:
        return base64.b64encode(secrets.token_bytes(_GENERATED_BYTES)).decode()
    others = {
        name for entry in entries for _kind, name, secret in full_keys_of(entry) if secret and _same(secret, found)
    }
    if others - {wish.key}:
        raise RotationProblem(
            f"The secret of the key {wish.key} is that of {', '.join(sorted(others - {wish.key}))}, so nothing would be rotated; "
            "use another one."
        )
    try:
        size = len(base64.b64decode(found, validate=True))
    except (binascii.Error, ValueError):
        raise RotationProblem(f"The secret of the key {wish.key} is not base64.") from None
    allowed = LOCAL_PROVIDERS[provider].key_sizes
    if size not in allowed:
        sizes = " or ".join(map(str, allowed))
        raise RotationProblem(f"The secret of the key {wish.key} has {size} bytes; {provider} takes {sizes}.")
    return found


def _same(secret: str, other: str) -> bool:
    try:
        return base64.b64decode(secret) == base64.b64decode(other)
    except (binascii.Error, ValueError):
        return secret == other
