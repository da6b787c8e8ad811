# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which remote key of each KMS v2 plugin API servers use, according to their metrics. Pure.

The metric is apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds: when a plugin last reported the ID of
its key, by the hash of that ID (k8s.io/apiserver, pkg/storage/value/encrypt/envelope/metrics).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_STATUS = re.compile(
    r"^apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds\{(.*)\} (\S+)$", re.MULTILINE
)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

# By plugin: (hash of the ID of its key, when the plugin last reported that ID, by the server's clock).
Told = Mapping[str, tuple[str, float]]


def is_kms_failure(message: str) -> bool:
    """Whether an API server could not read an object because a KMS plugin doesn't answer, or refuses to decrypt it.

    Nothing but a KMS plugin is asked over gRPC to transform an object (k8s.io/apiserver, pkg/storage/value/encrypt/envelope).
    """
    lower = message.lower()
    return ("rpc error: code = " in lower and "transform" in lower) or "failed to decrypt dek" in lower


@dataclass(frozen=True)
class KeyIds:
    """By plugin: the hash of the key's ID that every API server uses now, or a sentence that says why it is unknown."""

    current: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)


def parse_key_ids(metrics: str) -> Told:
    """The last key ID that each plugin reported, from a server's metrics."""
    found: dict[str, tuple[str, float]] = {}
    for text, value in _STATUS.findall(metrics):
        labels = {name: re.sub(r"\\(.)", r"\1", value) for name, value in _LABEL.findall(text)}
        try:
            at = float(value)
        except ValueError:
            continue
        plugin, key = labels.get("provider_name"), labels.get("key_id_hash")
        if plugin and key and at >= found.get(plugin, ("", at))[1]:
            found[plugin] = (key, at)
    return found


def agreed(told: Mapping[str, Told], plugins: Iterable[str], first: Mapping[str, Told] | None = None) -> KeyIds:
    """What all servers, by name, report; with ``first``, only what their plugins have reported since."""
    current, unknown = {}, {}
    for plugin in plugins:
        without = [name for name, plugins in told.items() if plugin not in plugins]
        late = (
            []
            if first is None
            else [name for name, keys in told.items() if keys.get(plugin) == first[name].get(plugin)]
        )
        keys = {plugins[plugin][0] for plugins in told.values() if plugin in plugins}
        if without or not keys:
            unknown[plugin] = f"{', '.join(without) or 'no API server'} has no KMS v2 plugin of this name"
        elif late:
            unknown[plugin] = f"{', '.join(late)} has not asked the plugin since"
        elif len(keys) > 1:
            unknown[plugin] = "the API servers were told different keys"
        else:
            current[plugin] = keys.pop()
    return KeyIds(current, unknown)
