# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether this master's API server can still read what etcd holds once the upgrade has restarted it.

An API server that doesn't watch its encryption configuration goes on with the one that it was started with, whatever has become of
the file.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from urllib.parse import urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.addresses import is_loopback
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import EtcdClusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.encryption import (
    KUBEADM_MANIFEST,
    EncryptionRules,
    read_configuration,
    read_manifest,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Finding, count, listed

_AT_RESTART = "The upgrade restarts the API server with this file."


def check_encryption_file(
    etcd: EtcdClusters | None, stored: Stored | None, served: Collection[str], manifest: str = KUBEADM_MANIFEST
) -> list[Finding]:
    """Of what is ``served``. Nothing if this host isn't shown to be a master of the cluster, by the etcd that it has, or if the files may not be read."""
    if etcd is None or stored is None:
        return []
    if not any(is_loopback(urlsplit(endpoint).hostname or "") for endpoint in etcd.default.endpoints):
        return []
    flags = read_manifest(manifest)
    if flags is None:
        return []
    path = flags.encryption_config
    if path is not None and not os.access(path, os.R_OK):
        return []
    try:
        rules = EncryptionRules() if path is None else read_configuration(path)
    except BadInputError as error:
        return [
            _finding(error.message.partition(": ")[2], f"{_AT_RESTART} It doesn't start then.", "Correct the file.")
        ]
    return evaluate_keys(rules, stored, served, path or manifest)


def evaluate_keys(rules: EncryptionRules, stored: Stored, served: Collection[str], where: str) -> list[Finding]:
    """Objects under keys that the file doesn't name. A key whose name is unknown says nothing, nor does what no server reads anyway. Pure."""
    missing: dict[str, int] = {}
    for name in sorted(set(stored.resources) & set(served)):
        variants = stored.resources[name]
        for variant, tally in variants.items():
            if (
                variant.provider != "identity"
                and variant.key is not None
                and (variant.provider, variant.key) not in rules.keys
            ):
                kind = f"{name} under {variant.provider} {variant.key}"
                missing[kind] = missing.get(kind, 0) + tally.objects
    if not missing:
        return []
    texts = [f"{count(number, 'object')} of {kind}" for kind, number in missing.items()]
    return [
        _finding(
            f"{where} names no key for {listed(texts)}.",
            f"{_AT_RESTART} It can't read these objects then, even if it can now.",
            "Put the missing keys back into the file (another master may have them), and check again. Delete nothing.",
        )
    ]


def _finding(what: str, why: str, remediation: str) -> Finding:
    return Finding("encryption_file", "kube-apiserver", what, why, remediation)
