#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_version_hashes
short_description: Show in which version each API server stores each resource, and wait until all agree
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Asks every Kubernetes API server, each at its own address, for the storage version hash of every resource it stores,
    and turns the hashes back into versions.
  - While old and new masters serve side by side, a write may land on an old one and be stored in the old version. So
    before objects are migrated, all API servers must report the same hashes. With O(state=converged) this module waits for that.
  - With O(state=recorded) it saves the hashes as the baseline that later runs and M(kube_storage.upgrade.storage_migrate) compare with.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - kube_storage.upgrade.cluster
  - kube_storage.upgrade.cluster.sampling
  - kube_storage.upgrade.attributes
options:
  state:
    description:
      - V(queried) reads and never reports a change.
      - V(recorded) also saves the current hashes as the baseline. Recording again adds new hashes, and never forgets that a resource still has to be
        migrated, so it is safe in a half-upgraded cluster. If an API server can't be asked for the first baseline, that doesn't say how objects are
        stored, so the next migration visits all of them.
      - V(converged) waits until all API servers agree. If they don't in time, it fails and names the servers and resources.
    type: str
    choices: [queried, recorded, converged]
    default: queried
  expected_version:
    description:
      - The Kubernetes release that each API server must report, such as V(1.37) or V(v1.37.2).
      - If a server emulates another release, the emulated one counts. Servers before 1.33 don't report that.
      - V(1.37 emulating 1.36) stands for a server of 1.37 that emulates 1.36, and V(1.36 itself) for a real 1.36, not a newer release that emulates it.
    type: str
  resources:
    description:
      - Limit the comparison and the result to these resources, written as V(plural.group), core ones without a dot.
      - By default all stored resources are compared. Those of aggregated APIs belong to their own servers and are left out.
    type: list
    elements: str
  wait_timeout:
    description: How long to wait for O(state=converged), in seconds.
    type: float
    default: 600
  wait_interval:
    description: Seconds between two polls.
    type: float
    default: 2
  stable_for:
    description: How long all API servers must have agreed before that counts, in seconds.
    type: float
    default: 10
seealso:
  - module: kube_storage.upgrade.storage_migrate
  - module: kube_storage.upgrade.stored_versions_info
"""

EXAMPLES = r"""
- name: Show in which version each resource is stored
  kube_storage.upgrade.storage_version_hashes:
  register: hashes

- name: Save a baseline before an upgrade
  kube_storage.upgrade.storage_version_hashes:
    state: recorded

- name: Wait until all three masters are at 1.37 and agree on every resource
  kube_storage.upgrade.storage_version_hashes:
    state: converged
    expected_servers: 3
    expected_version: "1.37"
    wait_timeout: 900

- name: Ask masters that the cluster itself does not list (it knows only a load balancer)
  kube_storage.upgrade.storage_version_hashes:
    servers:
      - https://10.0.0.11:6443
      - https://10.0.0.12:6443
      - https://10.0.0.13:6443
    tls_server_name: kubernetes.default.svc

- name: Wait in a managed cluster, which has only one address (weaker evidence, labeled as such in the result)
  kube_storage.upgrade.storage_version_hashes:
    state: converged
    expected_version: "1.37"
    sampling:
      connections: 60
"""

RETURN = r"""
msg:
  description: The state in one sentence, or what went wrong and what to do next.
  returned: always
  type: str
servers:
  description: The API servers that were asked.
  returned: always
  type: list
  elements: dict
  contains:
    url:
      description:
        - The server's own address.
        - With O(sampling), the one address and, after V(#), what identifies the server. That is its host name if its Lease contains its address.
      type: str
    name:
      description: The name of its node if that is known, otherwise its address.
      type: str
    version:
      description: The release it runs, null if it did not answer.
      type: str
      sample: v1.37.2
    emulated_version:
      description: The release it emulates, null if none. Servers before 1.33 don't report it, so it is null there, too.
      type: str
      sample: "1.36"
    min_compatibility_version:
      description:
        - The oldest minor release for which it keeps what it stores readable (C(--min-compatibility-version)), null if it doesn't report it.
        - By default that is the release before the one that it runs as.
      type: str
      sample: "1.35"
      version_added: 0.1.0
    ready:
      description: Whether it reports that it is ready.
      type: bool
    error:
      description: Why it could not be asked, null if it could.
      type: str
converged:
  description: Whether all expected servers answered, are ready, are at the expected version and report the same hashes.
  returned: always
  type: bool
proven_by:
  description:
    - How strong the evidence for their agreement is. V(each_server) if each was asked at its own address.
    - V(listed_servers) if each that is listed was asked, but RV(cross_checked) is false, so others may be alive.
    - V(sampling) with O(sampling), which proves less.
  returned: always
  type: str
cross_checked:
  description:
    - Whether the API servers that were asked were compared with the identity Leases of all that are alive.
    - V(false) if the Leases can't be read or not every server renews one. Then another server may be alive unnoticed.
  returned: always
  type: bool
unchecked_reason:
  description: Why RV(cross_checked) is false; null if it is true.
  returned: always
  type: str
unlisted_servers:
  description: API servers that, by their Leases, are alive but were not asked.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its host name.
      type: str
    url:
      description: Where it was looked for, null if its Lease has no address.
      type: str
    version:
      description: The release that it reported there (C(/version)), null if it did not answer.
      type: str
sampling:
  description: The evidence for the agreement with O(sampling); null without it.
  returned: always
  type: dict
  contains:
    connections:
      description: How many fresh connections were made.
      type: int
    told_apart:
      description: How many different API servers answered; null if the answers don't show that.
      type: int
    servers:
      description: How many there must be, by O(expected_servers) or else by their Leases; null if unknown.
      type: int
    chance_missed:
      description:
        - The chance that some server got none of the connections, if the load balancer spreads them evenly.
        - It matters if the servers can't be distinguished. Null if their number is unknown.
      type: float
reasons:
  description: Why the servers have not converged, one sentence each; empty if they have.
  returned: always
  type: list
  elements: str
disagreements:
  description: Resources for which not all servers report the same hash.
  returned: always
  type: list
  elements: dict
  contains:
    resource:
      description: Name of the resource.
      type: str
    by_server:
      description: By the server's URL, its V(hash) and V(storage_version); null if it does not serve the resource.
      type: dict
resources:
  description: By resource, what the first usable server reports.
  returned: always
  type: dict
  contains:
    kind:
      description: The resource's kind.
      type: str
    hash:
      description: The storage version hash.
      type: str
    storage_version:
      description: The version that the hash stands for, null if unknown.
      type: str
      sample: apps/v1
    served_versions:
      description: Group versions in which it is served.
      type: list
      elements: str
changed_resources:
  description:
    - Resources for which etcd may still hold objects in a version other than the current one.
    - Every resource, if there is no baseline.
  returned: always
  type: list
  elements: dict
  contains:
    resource:
      description: Name of the resource.
      type: str
    before:
      description: The versions on record, null if there is no record.
      type: str
    after:
      description: The current storage version.
      type: str
observed_at:
  description: When the servers were asked, in UTC.
  returned: always
  type: str
  sample: "2026-11-24T12:00:00.000Z"
history:
  description:
    - What was seen while waiting, with an entry for each change. If there are more than a hundred, the first and the last are kept.
    - An entry has RV(observed_at), RV(servers), RV(converged), RV(proven_by), RV(cross_checked), RV(unchecked_reason),
      RV(unlisted_servers), RV(sampling), RV(reasons) and RV(disagreements) at that moment.
  returned: for O(state=converged), but not in check mode
  type: list
  elements: dict
baseline_found:
  description: Whether a baseline was on record.
  returned: always
  type: bool
last_migrated_at:
  description: When the last complete migration of a resource ended, in UTC; null if none is on record.
  returned: always
  type: str
  version_added: 0.1.0
  sample: "2026-11-24T12:00:00Z"
error:
  description:
    - The kind of failure, null if there was none. Check it after a task with C(failed_when=false).
    - One of V(already_running), V(api), V(bad_input), V(etcd), V(etcd_full), V(incomplete), V(not_converged), V(state_store), V(unreachable) and V(other).
  returned: always
  type: str
summary:
  description: The essence of the keys that are left out, one line each, for people to read; the wording may change.
  returned: if the result is short (O(details))
  type: list
  elements: str
left_out:
  description: The keys that are left out, and how to get them.
  returned: if the result is short (O(details))
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
    uid:
      description: The uid of its namespace C(kube-system), which no other cluster has; null if the user may not read it. Left out if the task fails.
      type: str
  sample: {name: null, context: production, server: "https://api.example.com:6443", uid: 3e1c4a52-55cf-4c0e-9f0b-3f1b7b1f7a55}
"""

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import CLUSTER_SPEC, SAMPLING_SPEC
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.run_module import run_module
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.version_hashes import (
    VersionHashesOptions,
    version_hashes,
)


def main() -> None:
    spec = {
        **CLUSTER_SPEC,
        **SAMPLING_SPEC,
        "state": {"type": "str", "choices": ["queried", "recorded", "converged"], "default": "queried"},
        "expected_version": {"type": "str"},
        "resources": {"type": "list", "elements": "str"},
        "wait_timeout": {"type": "float", "default": 600},
        "wait_interval": {"type": "float", "default": 2},
        "stable_for": {"type": "float", "default": 10},
    }
    run_module(spec, VersionHashesOptions.from_params, version_hashes)


if __name__ == "__main__":
    main()
