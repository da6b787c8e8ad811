#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: encryption_config_info
short_description: Tell which encryption configuration each API server has loaded
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Asks the metrics of every Kubernetes API server, each at its own address, which EncryptionConfiguration it works with, so that a
    key rotation goes on only when a new file is not just written but loaded.
  - Since Kubernetes 1.34 servers report the SHA-256 of the file. Of older ones the time of their start and of their last automatic
    reload can be compared with the time when the file was written.
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
- name: Look at the file
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
      description: The name of its node where that is known, else its address.
      type: str
    ready:
      description: Whether it says that it is ready.
      type: bool
    config_hash:
      description: SHA-256 of the encryption configuration that it has loaded; null before Kubernetes 1.34, and where there is none.
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
  description: What is odd about the list of API servers, one sentence each.
  returned: success
  type: list
  elements: str
error:
  description:
    - What kind of failure it was, null where there was none. A task that has C(failed_when=false), so that it prints nothing, tells by it.
    - One of V(already_running), V(api), V(bad_input), V(etcd), V(incomplete), V(not_converged), V(state_store), V(unreachable) and V(other).
  returned: always
  type: str
"""

from ansible_collections.kube_storage.upgrade.plugins.module_utils._ansible import run_module
from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption_config_info import (
    encryption_config_info,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._options import CLUSTER_SPEC


def main() -> None:
    run_module(CLUSTER_SPEC, encryption_config_info)


if __name__ == "__main__":
    main()
