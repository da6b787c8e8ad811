#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_check
short_description: Check whether the next Kubernetes release can read everything that is stored, and whether a migration will succeed
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Looks for anything that would break an upgrade of the API servers to O(target_version), before the first of them is touched.
  - With O(etcd), compares every stored version with what the target, and each minor release before it, can decode. That data comes from the
    releases' own Go modules and ships with the collection; RV(data) says which releases it covers.
  - Without O(etcd), only the storage version hashes of all API servers, the record of earlier migrations and the CRDs' C(status.storedVersions) are
    known. RV(unknown) lists what they don't show.
  - Lists every resource completely, but only metadata. One object that can't be decoded or decrypted makes the LIST of its whole
    resource fail; with O(etcd), or if the API server names them, the result names such objects.
  - Asks every API server at its own address for objects of each resource (with O(etcd), of each version and encryption key), and names the servers
    that can't read what others can. If the servers report different encryption configurations, it lists everything on each of them.
  - With O(etcd), on a master of kubeadm, compares the keys in the file of its API server's C(--encryption-provider-config) with those that etcd needs,
    because a restart loads that file, which may have changed since the API server was started. Only names of keys are shown.
  - Patches one object of each resource as a migration would, in a dry run, so that the API server calls its webhooks and policies.
  - Names objects whose namespace no longer exists, which API servers refuse to write; with O(etcd) by their keys.
  - Compares O(crd_manifests) with the CRDs in the cluster, with their stored objects and with the objects' field managers. If the user's permissions
    allow it (C(patch) for a CRD that exists, C(create) for a new one), it also sends each to the API server in a dry run.
  - Compares what the migration will have to rewrite with the room on every etcd member. Without O(etcd) only the size of its database is known,
    from an API server's metrics, if the user may get the path C(/metrics).
  - With O(etcd), asks every member whether it is healthy. All must answer, agree on a leader, have no alarm, and hold the same data at one revision,
    as their hashes show (since etcd 3.6).
  - Compares the feature gates and flags of the control plane with those that O(target_version) knows, as its components don't start with unknown
    ones. They are read from the pods labeled C(tier=control-plane) in C(kube-system) and from kubeadm's configuration; without such pods, feature
    gates from C(/flagz).
  - Names the APIs that clients have used since the API servers started and that O(target_version) doesn't serve, by each API server's metrics.
  - Never shows object data. Messages of API servers, webhooks and policies about an object are left out, unless O(show_server_messages=true).
  - Reads only; nothing is ever written.
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
      - CustomResourceDefinitions that are going to be applied. Each element is a document, the path of a file or folder on the host where the module
        runs, or text in YAML or JSON. Folders are read recursively. Other kinds are ignored.
      - A file, folder or text that contains no CustomResourceDefinition is an error, and so is an unrendered chart template.
      - Files need Python's C(yaml), which C(kubernetes) depends on.
    type: list
    elements: raw
    default: []
  etcd_quota:
    description:
      - etcd's space quota in bytes (C(--quota-backend-bytes)). A quota that etcd itself reports takes precedence; it does so since 3.6, and only if
        O(etcd) is given.
      - By default etcd's own default, V(2147483648). If etcd's database is larger than that, its quota is unknown.
    type: int
    version_added: 1.0.0
  engine:
    description:
      - The engine that M(kube_storage.upgrade.storage_migrate) will use after the upgrade, as its option of the same name. A controller can't be made to
        wait for etcd's compaction, so it blocks the upgrade if O(etcd) shows that the migration would have to wait.
      - V(auto) counts as V(direct), which it uses if it can.
    type: str
    choices: [direct, storage_version_migration, kube_storage_version_migrator, auto]
    default: direct
    version_added: 1.0.0
  etcd_snapshot_path:
    description: The folder of snapshots by M(kube_storage.upgrade.etcd_snapshot), to say how old the newest one is. Only if O(etcd) is given.
    type: path
    version_added: 1.0.0
  show_server_messages:
    description:
      - Show what API servers, webhooks and policies say when they refuse to write an object. They may quote the object, even a Secret's data.
      - By default the result shows only who refuses, and which fields are wrong.
    type: bool
    default: false
    version_added: 1.0.0
notes:
  - An object that no API server can read anymore can be removed with an unsafe delete. First make sure that none of them can (V(servers_differ) in
    RV(blockers) names those that differ). An unsafe delete skips finalizers and admission, so anything that the object owned stays behind; restore
    the object from a backup if you can. Unsafe deletes are on by default since 1.37, and need the API servers' feature gate
    V(AllowUnsafeMalformedObjectDeletion) from 1.32 to 1.36. API servers before 1.32 have neither, and don't start with that gate. With those, take a
    snapshot, and delete the object's key in etcd.
  - "The request is a DELETE of the object's path with the body
    C({\"apiVersion\": \"v1\", \"kind\": \"DeleteOptions\", \"ignoreStoreReadErrorWithClusterBreakingPotential\": true}),
    for which the user needs the verb C(unsafe-delete-ignore-read-errors). With C(kubectl) it is C(kubectl delete --raw PATH -f FILE)."
seealso:
  - module: kube_storage.upgrade.stored_versions_info
  - module: kube_storage.upgrade.storage_migrate
  - module: kube_storage.upgrade.storage_version_hashes
"""

EXAMPLES = r"""
- name: Check whether 1.37 can read everything
  kube_storage.upgrade.upgrade_check:
    target_version: "1.37"
    kubeconfig: /etc/kubernetes/admin.conf
    etcd:
      endpoints: [https://127.0.0.1:2379]
      ca_cert: /etc/kubernetes/pki/etcd/ca.crt
      client_cert: /etc/kubernetes/pki/etcd/healthcheck-client.crt
      client_key: /etc/kubernetes/pki/etcd/healthcheck-client.key
  become: true
  register: checked

- name: Stop if something blocks the upgrade
  ansible.builtin.assert:
    that: checked.safe
    fail_msg: "{{ checked.blockers | map(attribute='what') | join(' ') }}"

- name: Check new CRDs before they are applied
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
  description: What would break the upgrade, or the migration after it.
  returned: success
  type: list
  elements: dict
  contains: &finding
    id:
      description: RV(blockers[].check) and RV(blockers[].resource), which together identify it.
      type: str
      sample: undecodable/horizontalpodautoscalers.autoscaling
    check:
      description:
        - What was checked. V(undecodable), V(rollback), V(downgrade), V(compatibility), V(list_fails), V(servers_differ), V(encryption_file),
          V(unfinished_migration), V(outstanding_migration),
          V(webhook), V(write_refused), V(missing_namespace), V(dropped_fields), V(managers_of_dropped_version),
          V(managers_of_older_version), V(crd_terminating), V(crd_refused), V(crd_drops_storage_version), V(crd_drops_stored_version),
          V(crd_drops_fields), V(crd_drops_managed_version), V(crd_stops_serving), V(crd_conversion), V(skipped_minors),
          V(impossible_release), V(etcd_space), V(etcd_member_down), V(etcd_no_leader), V(etcd_learner), V(etcd_versions_differ),
          V(etcd_before_3_6), V(etcd_hashes_differ), V(feature_gate), V(component_flag), V(deprecated_api), V(last_applied) or
          V(peer_proxy).
      type: str
    resource:
      description: What it is about, such as a resource, a webhook, a feature gate, a flag, C(etcd) or C(kube-apiserver).
      type: str
    what:
      description: What was found.
      type: str
    why:
      description: Why it matters.
      type: str
    remediation:
      description: How to fix it.
      type: str
    etcd_keys:
      description: Keys in etcd of the affected objects, as far as they are known.
      type: list
      elements: str
warnings:
  description: What you should know although it doesn't block the upgrade, one sentence each. Ansible prints them as warnings.
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
last_snapshot:
  description: The newest snapshot of this etcd in O(etcd_snapshot_path), null if there is none or it isn't known.
  returned: success
  type: dict
  version_added: 0.1.0
  contains:
    path:
      description: The file.
      type: str
    taken_at:
      description: When it was taken.
      type: str
    age:
      description: How long ago that was, in seconds.
      type: int
    revision:
      description: etcd's revision in it.
      type: int
  sample: {path: /var/backups/etcd/etcd-cdf818194e3a8c32-20261127T101500Z-r48213.db, taken_at: "2026-11-27T10:15:00Z", age: 3600, revision: 48213}
cross_checked:
  description:
    - Whether the API servers that were asked were compared with the identity Leases of all that are alive.
    - V(false) if the Leases can't be read or not every server renews one. Then another server may be alive unnoticed.
  returned: success
  type: bool
proven_from_etcd:
  description:
    - Whether etcd was read, so that what is stored is known rather than inferred.
    - V(false) also if etcd doesn't hold everything that the API servers list, if that could not be compared, or if etcd was compacted while it
      was read; RV(unknown) names those resources.
  returned: success
  type: bool
current_version:
  description:
    - The release that the API servers run as. If they differ, it is the oldest, or the newest if that is newer than the target.
    - If a server emulates another release, the emulated one counts. Servers before 1.33 don't report that.
  returned: success
  type: str
running_versions:
  description: The minor releases as which the API servers that are ready run now, oldest first; more than one in a half-upgraded cluster.
  returned: success
  type: list
  elements: str
  version_added: 0.1.0
binary_versions:
  description:
    - The minor releases of these API servers' binaries, oldest first. They differ from RV(running_versions) where API servers emulate an older release.
  returned: success
  type: list
  elements: str
  version_added: 0.1.0
target_version:
  description: The release asked for.
  returned: success
  type: str
upgrade_pending:
  description: Whether some API server does not run as the target yet.
  returned: success
  type: bool
path:
  description:
    - Each minor release from the current one to the target, the target included; empty if the target is not newer.
    - If there are several, upgrade to each in turn, with a migration at each.
  returned: success
  type: list
  elements: dict
  contains:
    release:
      description: The minor release.
      type: str
      sample: "1.36"
    changes:
      description: Resources with objects whose storage version changes there, each with V(from) and V(to).
      type: list
      elements: dict
    migrate_first:
      description: Of the first release, resources with objects that it can't read unless they are migrated before the upgrade.
      type: list
      elements: str
    unreadable:
      description: Resources with objects that this release can't read, even if everything is migrated at the releases before it.
      type: list
      elements: str
    must_migrate:
      description: Resources with objects that a later one of these releases can't read unless they are migrated at this one.
      type: list
      elements: str
safe_up_to:
  description:
    - The last release in the data that is known to read everything that is stored; null if no release can.
    - Objects whose stored version is unknown, because they are encrypted or could not be counted, or because etcd was not read and no complete
      migration is on record, count as stored in the oldest version that the current release reads. RV(unknown) names them.
  returned: success
  type: str
  sample: "1.36"
safe_up_to_limited_by:
  description: The resources with objects that the newest release in the data can't read, or may not be able to.
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
      description: The stored version, null if encryption hides it.
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
      description: The last release in the data that can read it; null if none can, and for custom resources, where the CRD decides.
      type: str
    readable:
      description: Whether the target and the minor releases before it can; null for custom resources and hidden versions.
      type: bool
objects:
  description: Objects of each resource, by LIST or etcd; null if that failed.
  returned: success
  type: dict
plan:
  description: What the migration after the upgrade will have to do. Seconds are null until a migration has measured a rate, bytes without etcd.
  returned: success
  type: dict
  contains:
    changes:
      description: Resources whose storage version changes with the target or a new CRD, each with V(from), V(to), objects, bytes and seconds.
      type: list
      elements: dict
    rate:
      description: Objects per second, as measured by the last migration; null if there was none.
      type: float
    changed:
      description: Objects, bytes and seconds of RV(plan.changes) together.
      type: dict
    all:
      description: The same for a migration of everything.
      type: dict
    trims:
      description: CRDs whose C(status.storedVersions) name more than the storage version, which a migration trims.
      type: list
      elements: str
data:
  description: V(releases) in the data, and which of them represents the target.
  returned: success
  type: dict
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
  sample: {name: null, context: production, server: "https://api.example.com:6443"}
"""

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import (
    CLUSTER_SPEC,
    ETCD_SPEC,
    SAMPLING_SPEC,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.run_module import run_module
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.options import CheckOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.run import upgrade_check


def main() -> None:
    options = {
        **CLUSTER_SPEC,
        **SAMPLING_SPEC,
        "etcd": ETCD_SPEC,
        "etcd_quota": {"type": "int"},
        "engine": {
            "type": "str",
            "choices": ["direct", "storage_version_migration", "kube_storage_version_migrator", "auto"],
            "default": "direct",
        },
        "etcd_snapshot_path": {"type": "path"},
        "target_version": {"type": "str", "required": True},
        "crd_manifests": {"type": "list", "elements": "raw", "default": []},
        "show_server_messages": {"type": "bool", "default": False},
    }
    run_module(options, CheckOptions.from_params, upgrade_check)


if __name__ == "__main__":
    main()
