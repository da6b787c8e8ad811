#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: readable_objects_info
short_description: Check whether each API server can read every object from etcd
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Has every Kubernetes API server, each at its own address, list the named resources completely and then read each object from etcd.
  - A list alone proves nothing, as a server may answer it from memory. A single object is always read from etcd, and decrypted with
    the keys that the server has at that moment.
  - Only metadata is transferred. The result contains only the names of objects that can't be read.
  - The entry point C(rotate_encryption_key) of the role P(kube_storage.upgrade.rolling_upgrade#role) uses it before and after each stage.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - kube_storage.upgrade.cluster
  - kube_storage.upgrade.attributes
options:
  resources:
    description: What to read, written as V(plural.group), core resources without a dot.
    type: list
    elements: str
    required: true
  revision:
    description:
      - List the objects that existed at this revision of etcd, as M(kube_storage.upgrade.stored_versions_info) returns it, so that the numbers
        can be compared. Objects deleted since then count as gone.
      - By default the current objects are listed.
    type: int
  workers:
    description: Requests in flight to each API server.
    type: int
    default: 8
notes:
  - The credentials must be allowed to get and list the resources.
  - It takes one request for each object and API server, at a few thousand per second.
seealso:
  - module: kube_storage.upgrade.encryption_config_info
  - module: kube_storage.upgrade.stored_versions_info
"""

EXAMPLES = r"""
- name: Check whether every master can read every Secret
  kube_storage.upgrade.readable_objects_info:
    resources: [secrets]
  register: reading
  failed_when: not reading.readable
"""

RETURN = r"""
msg:
  description: What each API server could read, in one sentence.
  returned: always
  type: str
readable:
  description: Whether every API server could be asked and could read every object of every named resource.
  returned: success
  type: bool
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
    readable:
      description: Whether it could read everything.
      type: bool
    error:
      description: Why it could not be asked at all, null if it could.
      type: str
    resources:
      description: What it could read, by resource.
      type: dict
      contains:
        objects:
          description: How many objects it lists; null if it can't list them.
          type: int
        read:
          description: How many of them it read from etcd.
          type: int
        gone:
          description: How many were deleted meanwhile.
          type: int
        unreadable:
          description: How many it could not read.
          type: int
        samples:
          description: Names of some of those, with their namespaces.
          type: list
          elements: str
        error:
          description: What the server said about the first one, or about the list; null if everything was read.
          type: str
revision:
  description: The revision of etcd that was listed, null if the current objects were.
  returned: success
  type: int
problems:
  description: Problems with the list of API servers, one sentence each.
  returned: success
  type: list
  elements: str
error:
  description:
    - The kind of failure, null if there was none. Check it after a task with C(failed_when=false).
    - One of V(api), V(bad_input), V(unreachable) and V(other).
  returned: always
  type: str
cluster:
  description: Which cluster this is about.
  returned: always
  type: dict
  version_added: 1.0.0
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
from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption.readable_objects import (
    ReadableObjectsOptions,
    readable_objects,
)

SPEC = {
    **CLUSTER_SPEC,
    "resources": {"type": "list", "elements": "str", "required": True},
    "revision": {"type": "int"},
    "workers": {"type": "int", "default": 8},
}


def main() -> None:
    run_module(SPEC, ReadableObjectsOptions.from_params, readable_objects)


if __name__ == "__main__":
    main()
