#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_check
short_description: Tell whether the next Kubernetes release can read all that is stored, and whether a migration will go through
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Looks for what speaks against an upgrade of the API servers to O(target_version), before the first of them is touched.
  - With O(etcd) every stored version is held against what the target, and each release on the way to it, can decode. That is known from
    the releases' own Go modules. The data ships with the collection, and RV(data) tells which releases it covers.
  - Without O(etcd) the storage version hashes of all API servers, the record of earlier migrations and the CRDs' status.storedVersions are
    all that is known. What can't be told from them is said in RV(unknown).
  - Lists every resource to its end, as metadata in pages. One object that can't be decoded or decrypted makes the LIST of its whole
    resource fail; with O(etcd), or where the API server tells, such objects are named.
  - Patches one object of each resource as a migration would, as a dry run, so that the API server asks its own webhooks and policies.
  - Holds O(crd_manifests) against the CRDs in the cluster and what is stored of them.
  - Reads, and writes nothing.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - kube_storage.upgrade.cluster
  - kube_storage.upgrade.cluster.sampling
  - kube_storage.upgrade.cluster.etcd
  - kube_storage.upgrade.attributes
options:
  target_version:
    description: The release to upgrade to, such as V(1.37) or V(v1.37.2).
    type: str
    required: true
  crd_manifests:
    description:
      - CustomResourceDefinitions that are going to be applied. Each element is a document, the path of a file or folder on the host where the
        module runs, or a text in YAML or JSON. Other kinds in them are passed over.
      - Files need Python's C(yaml), which C(kubernetes) depends on.
    type: list
    elements: raw
    default: []
notes:
  - An object that nobody can read any more can be deleted by an unsafe delete. It skips finalizers and admission, so what the object owned stays
    behind; restore the object from a backup if you can. It is on by default from 1.37 on, and needs the API servers' feature gate
    V(AllowUnsafeMalformedObjectDeletion) from 1.32 to 1.36.
  - "The request is a DELETE of the object's path with the body
    C({\"apiVersion\": \"v1\", \"kind\": \"DeleteOptions\", \"ignoreStoreReadErrorWithClusterBreakingPotential\": true}),
    for which the user needs the verb C(unsafe-delete-ignore-read-errors). With C(kubectl) it is C(kubectl delete --raw PATH -f FILE)."
seealso:
  - module: kube_storage.upgrade.stored_versions_info
  - module: kube_storage.upgrade.storage_migrate
  - module: kube_storage.upgrade.storage_version_hashes
"""

EXAMPLES = r"""
- name: Will 1.37 read everything
  kube_storage.upgrade.upgrade_check:
    target_version: "1.37"
    kubeconfig: /etc/kubernetes/admin.conf
    etcd: {} # the defaults of a kubeadm master
  become: true
  register: checked

- name: Go no further otherwise
  ansible.builtin.assert:
    that: checked.safe
    fail_msg: "{{ checked.blockers | map(attribute='what') | join(' ') }}"

- name: May these CRDs be applied
  kube_storage.upgrade.upgrade_check:
    target_version: "1.37"
    crd_manifests:
      - files/crds/
      - "{{ lookup('ansible.builtin.url', crd_url, split_lines=false) }}"
"""

RETURN = r"""
msg:
  description: Whether something blocks the upgrade, in one sentence.
  returned: always
  type: str
safe:
  description: Whether nothing blocks the upgrade.
  returned: success
  type: bool
blockers:
  description: What the upgrade or the migration after it would break on.
  returned: success
  type: list
  elements: dict
  contains: &finding
    id:
      description: RV(blockers[].check) and RV(blockers[].resource), to name it by.
      type: str
      sample: undecodable/horizontalpodautoscalers.autoscaling
    check:
      description:
        - What was checked. V(undecodable), V(rollback), V(list_fails), V(unfinished_migration), V(outstanding_migration), V(webhook),
          V(write_refused), V(crd_drops_stored_version), V(crd_stops_serving), V(crd_conversion) or V(skipped_minors).
      type: str
    resource:
      description: The resource, or the webhook, that it is about.
      type: str
    what:
      description: What was found.
      type: str
    why:
      description: Why it matters.
      type: str
    mend:
      description: How to mend it.
      type: str
    etcd_keys:
      description: Keys in etcd of objects that it is about, as far as they are known.
      type: list
      elements: str
warnings:
  description: What should be known but doesn't block, one sentence each, as Ansible prints warnings.
  returned: success
  type: list
  elements: str
concerns:
  description: The same as RV(warnings), with the same keys as RV(blockers).
  returned: success
  type: list
  elements: dict
  contains: *finding
unknown:
  description: What could not be checked, and why, one sentence each.
  returned: success
  type: list
  elements: str
proven_from_etcd:
  description: Whether etcd was read, so that what is stored is known and not concluded.
  returned: success
  type: bool
current_version:
  description: The release that the API servers run as, the oldest where they differ. An emulated release counts.
  returned: success
  type: str
target_version:
  description: The release asked for.
  returned: success
  type: str
upgrade_pending:
  description: Whether some API server does not run as the target yet.
  returned: success
  type: bool
safe_up_to:
  description: The last release in the data that can read all that is stored; null if no release can.
  returned: success
  type: str
  sample: "1.36"
safe_up_to_limited_by:
  description: The resources with objects that the newest release in the data can't read.
  returned: success
  type: list
  elements: str
stored:
  description: Each version that objects are stored in, and who can read it.
  returned: success
  type: list
  elements: dict
  contains:
    resource:
      description: The resource.
      type: str
    version:
      description: The stored version, null where encryption hides it.
      type: str
    objects:
      description: How many objects; null without etcd.
      type: int
    bytes:
      description: Size of their values; null without etcd.
      type: int
    source:
      description: V(etcd), V(record) (baseline and migrations) or V(hash) (what the API servers write now).
      type: str
    safe_up_to:
      description: The last release in the data that can read it; null for custom resources, where the CRD decides, and if none can.
      type: str
    readable:
      description: Whether the target and the releases on the way to it can; null for custom resources and hidden versions.
      type: bool
objects:
  description: Objects of each resource, by LIST or etcd; null where that failed.
  returned: success
  type: dict
plan:
  description: What the migration after the upgrade will have to do. Seconds are null as long as no migration measured a rate, bytes without etcd.
  returned: success
  type: dict
  contains:
    changes:
      description: Resources whose storage version changes with the target or a new CRD, each with V(from), V(to), objects, bytes and seconds.
      type: list
      elements: dict
    rate:
      description: Objects a second, as the last migration measured it.
      type: float
    changed:
      description: Objects, bytes and seconds of RV(plan.changes) together.
      type: dict
    all:
      description: The same for a migration of everything.
      type: dict
data:
  description: V(releases) in the data, and the one of them that stands for the target.
  returned: success
  type: dict
error:
  description:
    - What kind of failure it was, null where there was none. A task that has C(failed_when=false), so that it prints nothing, tells by it.
    - One of V(already_running), V(api), V(bad_input), V(etcd), V(incomplete), V(not_converged), V(state_store), V(unreachable) and V(other).
  returned: always
  type: str
summary:
  description: What matters of the keys that are left out, one line each, for people; its wording may change.
  returned: where the result is short (O(details))
  type: list
  elements: str
left_out:
  description: The keys that are left out, and how to get them.
  returned: where the result is short (O(details))
  type: str
"""

from ansible_collections.kube_storage.upgrade.plugins.module_utils._ansible import run_module
from ansible_collections.kube_storage.upgrade.plugins.module_utils._options import (
    CLUSTER_SPEC,
    ETCD_SPEC,
    SAMPLING_SPEC,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check import upgrade_check


def main() -> None:
    options = {
        **CLUSTER_SPEC,
        **SAMPLING_SPEC,
        "etcd": ETCD_SPEC,
        "target_version": {"type": "str", "required": True},
        "crd_manifests": {"type": "list", "elements": "raw", "default": []},
    }
    run_module(options, upgrade_check)


if __name__ == "__main__":
    main()
