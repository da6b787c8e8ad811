# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which provider and key an API server encrypts each resource with, from its EncryptionConfiguration.

Pure, but for ``read_configuration``. Of each key only the name is ever kept.
Rules: k8s.io/apiserver, pkg/apis/apiserver/v1 EncryptionConfiguration and
pkg/server/options/encryptionconfig/config.go (the first entry that names a resource wins; the first
provider writes; resources in no entry are not encrypted).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import BadInputError

KUBEADM_MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
# Those whose keys are in the file; the names are also those in the stored prefix.
LOCAL_PROVIDERS = ("aescbc", "aesgcm", "secretbox")


class Encryption(NamedTuple):
    """What new values are written with; the names are those in the stored prefix."""

    provider: str
    provider_version: str | None = None
    key: str | None = None


IDENTITY = Encryption("identity")


@dataclass(frozen=True)
class EncryptionRules:
    """(resource patterns, encryption) in the configuration's order."""

    rules: tuple[tuple[tuple[str, ...], Encryption], ...] = ()

    def of(self, resource: str) -> Encryption:
        """What a resource (``secrets``, ``widgets.example.com``) is written with."""
        return next((encryption for patterns, encryption in self.rules if covers(patterns, resource)), IDENTITY)


def covers(patterns: Sequence[str], resource: str) -> bool:
    """Whether an entry with these ``resources`` is for a resource."""
    # Events of both groups are one storage, whose name in the configuration is the core one.
    name = "events" if resource == "events.events.k8s.io" else resource
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
    """From the parsed YAML of an EncryptionConfiguration; raises ValueError where it isn't one."""
    if not isinstance(document, Mapping) or document.get("kind") not in ("EncryptionConfiguration", "EncryptionConfig"):
        raise ValueError("no EncryptionConfiguration")
    rules = []
    for entry in document.get("resources") or []:
        providers = entry.get("providers") or []
        if not providers or not isinstance(providers[0], Mapping):
            raise ValueError("no providers")
        rules.append((tuple(str(one) for one in entry.get("resources") or []), _first(providers[0])))
    return EncryptionRules(tuple(rules))


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
    """What matters here of a kube-apiserver's command line; None: flag not given."""

    encryption_config: str | None
    storage_media_type: str | None


def parse_manifest(document: Any) -> ServerFlags | None:
    """From the parsed static pod manifest of a kube-apiserver; None if it is none."""
    try:
        container = document["spec"]["containers"][0]
        words: Sequence[Any] = [*(container.get("command") or []), *(container.get("args") or [])]
    except (KeyError, TypeError, IndexError, AttributeError):
        return None
    flags: dict[str, str] = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = str(word).partition("=")
        flags[name] = value if equals else str(following)
    if not any(str(word).endswith("kube-apiserver") for word in words[:1]):
        return None
    return ServerFlags(flags.get("--encryption-provider-config"), flags.get("--storage-media-type"))


def read_configuration(path: str) -> EncryptionRules:
    """Raises BadInputError with one sentence that quotes nothing of the file."""
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            return parse_configuration(yaml.safe_load(file))
    except OSError as error:
        raise BadInputError(
            f"encryption_config: {path} can't be read ({error.strerror}); give the path on the host where the task "
            "runs, and run it as a user who may read it."
        ) from error
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        # Without the cause: a parser's message may quote a key.
        raise BadInputError(f"encryption_config: {path} is not a valid EncryptionConfiguration.") from None


def read_manifest(path: str = KUBEADM_MANIFEST) -> ServerFlags | None:
    """The flags of this host's kube-apiserver; None where there is no manifest that we may read."""
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            return parse_manifest(yaml.safe_load(file))
    except (OSError, yaml.YAMLError, ValueError):
        return None
