#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: encryption_config_info
short_description: Show which encryption configuration each API server has loaded
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Reads from the metrics of every Kubernetes API server, each at its own address, which EncryptionConfiguration it uses. So a key rotation can wait
    until a new file is not just written but loaded.
  - Since Kubernetes 1.34 servers report the SHA-256 of the file. For older servers, compare when they started and last reloaded the file with the
    time at which it was written.
  - The entry point C(rotate_encryption_key) of the role P(kube_storage.upgrade.rolling_upgrade#role) uses it.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - kube_storage.upgrade.cluster
  - kube_storage.upgrade.attributes
notes:
  - The credentials must be allowed to get the path C(/metrics).
seealso:
  - module: kube_storage.upgrade.stored_versions_info
  - module: kube_storage.upgrade.storage_migrate
"""

EXAMPLES = r"""
- name: Get the checksum of the file
  ansible.builtin.stat:
    path: /etc/kubernetes/enc/config.yaml
    checksum_algorithm: sha256
  register: file

- name: Wait until the API servers have loaded it
  kube_storage.upgrade.encryption_config_info:
  register: loaded
  until: loaded.servers | map(attribute='config_hash') | unique == [file.stat.checksum]
  retries: 30
  delay: 5
"""

RETURN = r"""
servers:
  description: The API servers that were asked.
  returned: success
  type: list
  elements: dict
  contains:
    url:
      description: The server's own address.
      type: str
    name:
      description: The name of its node if that is known, otherwise its address.
      type: str
    ready:
      description: Whether it reports that it is ready.
      type: bool
    config_hash:
      description: SHA-256 of the encryption configuration that it has loaded; null before Kubernetes 1.34, and if there is none.
      type: str
    started:
      description: When it started, in seconds since 1970 by its own clock.
      type: float
    reloaded:
      description: When it last loaded a changed encryption configuration without a restart; null if it never did.
      type: float
    error:
      description: Why it could not be asked, null if it could.
      type: str
problems:
  description: Problems with the list of API servers, one sentence each.
  returned: success
  type: list
  elements: str
error:
  description:
    - The kind of failure, null if there was none. Check it after a task with C(failed_when=false).
    - One of V(already_running), V(api), V(bad_input), V(etcd), V(etcd_full), V(incomplete), V(not_converged), V(state_store), V(unreachable) and V(other).
  returned: always
  type: str
cluster:
  description: Which cluster this is about.
  returned: always
  type: dict
  version_added: 0.1.0
  contains:
    name:
      description: What O(cluster_name) calls it, or null.
      type: str
    context:
      description: The context of the kubeconfig; null if none was used.
      type: str
    server:
      description: The URL at which the cluster is reached; null if it is unknown.
      type: str
  sample: {name: null, context: production, server: "https://api.example.com:6443"}
"""

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import CLUSTER_SPEC
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.run_module import run_module
from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption.config_info import (
    encryption_config_info,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.options import ClusterOptions


def main() -> None:
    run_module(CLUSTER_SPEC, ClusterOptions.from_params, encryption_config_info)


if __name__ == "__main__":
    main()
