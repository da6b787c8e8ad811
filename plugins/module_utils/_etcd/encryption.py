# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which provider and key an API server encrypts each resource with, from its EncryptionConfiguration.

Pure, except for ``read_configuration``. Only the name of each key is ever kept.
Rules: k8s.io/apiserver, pkg/apis/apiserver/v1 EncryptionConfiguration and pkg/server/options/encryptionconfig/config.go.
The providers of all entries that name a resource are joined in order; the first of them writes, and all read. A
resource's own name takes precedence over ``*.group``, and that over ``*.*``. Resources in no entry are not encrypted.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.library import require_yaml
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import (
    stored_as,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.providers import LOCAL_PROVIDERS
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.command_line import parse_command

KUBEADM_MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"


class Encryption(NamedTuple):
    """What new values are written with; the names are those in the stored prefix."""

    provider: str
    provider_version: str | None = None
    key: str | None = None


IDENTITY = Encryption("identity")


@dataclass(frozen=True)
class EncryptionRules:
    """By resource pattern in ``normalized`` form, what is written, and the (provider, name) of every key in the file.

    ``repeated``: (pattern, provider, name) of each name that two keys with different secrets share. API servers allow that
    and try each key (validation_encryption.go's validateKeys; pkg/storage/value/transformer.go), so the stored name
    doesn't identify the key.
    """

    rules: Mapping[str, Encryption] = field(default_factory=dict)
    keys: tuple[tuple[str, str], ...] = ()
    repeated: frozenset[tuple[str, str, str]] = frozenset()

    def of(self, resource: str) -> Encryption:
        """What a resource (``secrets``, ``widgets.example.com``) is written with."""
        pattern = pattern_of(resource, self.rules)
        return IDENTITY if pattern is None else self.rules[pattern]

    def is_repeated(self, resource: str, provider: str | None, key: str | None) -> bool:
        """Whether two keys of a resource have this name."""
        return (pattern_of(resource, self.rules), provider, key) in self.repeated


def normalized(pattern: str) -> str:
    """The normal form of a pattern: ``secrets.`` becomes ``secrets``, and ``*.`` stays, for the core group."""
    return pattern if pattern.startswith("*.") else pattern.rstrip(".")


def pattern_of(resource: str, patterns: Container[str]) -> str | None:
    """The pattern that counts for a resource: its name, its group, or everything."""
    name = stored_as(resource)
    candidates = (name, f"*.{name.partition('.')[2]}", "*.*")
    return next((pattern for pattern in candidates if pattern in patterns), None)


def covers(patterns: Sequence[str], resource: str) -> bool:
    """Whether an entry with these ``resources`` is for a resource."""
    name = stored_as(resource)
    return any(_matches(pattern, name) for pattern in patterns)


def _matches(pattern: str, name: str) -> bool:
    """``secrets``, ``deployments.apps``, ``*.apps``, ``*.`` (core) or ``*.*``."""
    if pattern == "*.*":
        return True
    group = name.partition(".")[2]
    if pattern.startswith("*."):
        return group == pattern[2:]
    return pattern.rstrip(".") == name


def parse_configuration(document: Any) -> EncryptionRules:
    """From the parsed YAML of an EncryptionConfiguration; raises ValueError if it isn't one."""
    if not isinstance(document, Mapping) or document.get("kind") not in ("EncryptionConfiguration", "EncryptionConfig"):
        raise ValueError("no EncryptionConfiguration")
    rules: dict[str, Encryption] = {}
    keys: set[tuple[str, str]] = set()
    secrets: dict[tuple[str, str, str], set[str]] = {}
    for entry in document.get("resources") or []:
        providers = entry.get("providers") or []
        if not providers or not isinstance(providers[0], Mapping):
            raise ValueError("no providers")
        first = _first(providers[0])
        for pattern in (normalized(str(resource)) for resource in entry.get("resources") or []):
            rules.setdefault(pattern, first)
            for provider, name, secret in keys_in(providers):
                secrets.setdefault((pattern, provider, name), set()).add(secret)
        keys.update((provider, name) for provider, name, _secret in keys_in(providers))
    repeated = frozenset(key for key, found in secrets.items() if len(found) > 1)
    return EncryptionRules(rules, tuple(sorted(keys)), repeated)


def keys_in(providers: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """(provider, name, secret) of each key of an entry's providers; of KMS v1 and v2 the plugin's name and endpoint."""
    for listed in providers:
        for provider, settings in listed.items():
            if provider in LOCAL_PROVIDERS:
                for key in settings["keys"]:
                    yield provider, str(key["name"]), str(key.get("secret"))
            elif provider == "kms":
                yield provider, str(settings["name"]), str(settings.get("endpoint"))


def parse_keys(given: Iterable[str] | None) -> tuple[tuple[str, str], ...]:
    """From the option ``encryption_keys``, such as ``aescbc:key1``; raises BadInputError."""
    found = []
    for text in given or ():
        provider, _colon, name = text.partition(":")
        if provider not in (*LOCAL_PROVIDERS, "kms") or not name:
            raise BadInputError(
                f"encryption_keys: '{text}' is not a provider and the name of one of its keys; write it as aescbc:key1. The provider is "
                f"one of {', '.join(LOCAL_PROVIDERS)} and kms."
            )
        found.append((provider, name))
    return tuple(found)


def _first(provider: Mapping[str, Any]) -> Encryption:
    for name in LOCAL_PROVIDERS:
        if name in provider:
            return Encryption(name, "v1", str(provider[name]["keys"][0]["name"]))
    if "kms" in provider:
        return Encryption("kms", str(provider["kms"].get("apiVersion") or "v1"), str(provider["kms"]["name"]))
    if "identity" in provider:
        return IDENTITY
    raise ValueError("unknown provider")


class ServerFlags(NamedTuple):
    """The relevant flags of a kube-apiserver; None if a flag isn't set."""

    encryption_config: str | None
    storage_media_type: str | None


def parse_manifest(document: Any) -> ServerFlags | None:
    """From the parsed static pod manifest of a kube-apiserver; None if it isn't one."""
    try:
        container = document["spec"]["containers"][0]
        words: Sequence[Any] = [*(container.get("command") or []), *(container.get("args") or [])]
    except (KeyError, TypeError, IndexError, AttributeError):
        return None
    if not any(str(word).endswith("kube-apiserver") for word in words[:1]):
        return None
    flags = dict(parse_command("kube-apiserver", "", map(str, words)).flags)
    return ServerFlags(flags.get("encryption-provider-config"), flags.get("storage-media-type"))


def read_configuration(path: str) -> EncryptionRules:
    """Raises BadInputError with one sentence that quotes nothing of the file."""
    yaml = require_yaml()

    try:
        with open(path, encoding="utf-8") as file:
            return parse_configuration(yaml.safe_load(file))
    except OSError as error:
        raise BadInputError(
            f"encryption_config: {path} can't be read ({error.strerror}); give the path on the host where the task "
            "runs, and run it as a user who can read it."
        ) from error
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        # Without the cause: a parser's message may quote a key.
        raise BadInputError(f"encryption_config: {path} is not a valid EncryptionConfiguration.") from None


def read_manifest(path: str = KUBEADM_MANIFEST) -> ServerFlags | None:
    """The flags of this host's kube-apiserver; None if there is no manifest that we may read."""
    yaml = require_yaml()

    try:
        with open(path, encoding="utf-8") as file:
            return parse_manifest(yaml.safe_load(file))
    except (OSError, yaml.YAMLError, ValueError):
        return None
