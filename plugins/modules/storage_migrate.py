#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_migrate
short_description: Rewrite stored objects in the present storage version
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Makes the API servers write every object again, so that etcd holds it in the storage version that they use now.
  - Refuses to start while API servers disagree about a storage version, watches them during the run, and looks again at its end.
  - Each object is touched by a patch that holds nothing but its resourceVersion. The server writes only if the stored
    bytes are stale, so counts are exact and a second run changes nothing. No field, no managedFields, no generation and no
    annotation changes, and the data of objects never leaves the API server.
  - An interrupted run goes on where it was. Only one run at a time is active; a Lease sees to that.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - kube_storage.upgrade.cluster
  - kube_storage.upgrade.cluster.sampling
  - kube_storage.upgrade.cluster.etcd
  - kube_storage.upgrade.attributes
options:
  select:
    description:
      - V(all) takes every resource that can be listed and patched.
      - V(changed) takes resources whose storage version differs from the baseline, or whose last migration did not finish.
        Of a resource whose last migration left only some failed objects, just those are visited.
      - V(stale) reads etcd (O(etcd)) and takes just the objects that it holds in another version, encoding or encryption than
        the API servers write now, each of which is asked by a patch of one object of each resource. What was written meanwhile
        is read again at the end and redone where it is stale, and RV(proof) says what etcd holds then.
    type: str
    choices: [all, changed, stale]
    default: all
  resources:
    description:
      - Take only these resources, written as V(plural.group), core ones without a dot.
      - Events are left out unless they are named here, because a rewrite starts their life anew.
    type: list
    elements: str
  exclude:
    description: Resources to leave out.
    type: list
    elements: str
  engine:
    description:
      - V(direct) rewrites the objects from here, through all API servers at once.
      - V(storage_version_migration) has kube-controller-manager do it, through StorageVersionMigration objects of
        C(storagemigration.k8s.io) in the newest version that is served (on by default since Kubernetes 1.37).
      - V(kube_storage_version_migrator) has kube-storage-version-migrator do it (OpenShift has it), through
        C(migration.k8s.io/v1alpha1), and keeps its StorageState objects true.
      - V(auto) takes V(direct) if the user may list and patch all that is to be migrated, or asks for O(max_rate) or
        O(prune_managed_fields), which only V(direct) can do. Else it takes V(storage_version_migration) where v1 or v1beta1
        of its API is served and the user may use it, else V(kube_storage_version_migrator) where that is so, else V(direct),
        which says what permission is missing. RV(engine_reason) tells why.
      - A controller rewrites whole resources. What it can't do or fails at is finished by V(direct) with O(on_error=continue),
        if the user may list and patch that resource; RV(resources) tells which engine did what.
      - Objects that a controller rewrote are counted by comparing their metadata before and after, for which the user must be
        allowed to list the resource. Counts are null where that is not so.
    type: str
    choices: [direct, storage_version_migration, kube_storage_version_migrator, auto]
    default: direct
  keep_migrations:
    description:
      - Leave the migration objects of a controller in the cluster when they have ended. Those of an ended run are deleted when
        their resource is migrated anew.
    type: bool
    default: false
  controller_timeout:
    description:
      - For the engines with a controller, how many seconds it may take without any progress. If it never began, nothing is left
        behind and the task fails; else what is unfinished counts as failed.
    type: float
    default: 300
  require_convergence:
    description:
      - Refuse, before any write, to run while API servers disagree; stop if they begin to disagree during the run.
      - With V(false) objects may be stored in the old version, and nothing is recorded as proven that a server contradicts.
    type: bool
    default: true
  workers:
    description:
      - The most requests in flight at once, over all API servers. Within it, concurrency adapts to each server on its own.
    type: int
    default: 64
  max_rate:
    description: The most objects a second, V(0) for no limit.
    type: float
    default: 0
  page_size:
    description: Objects in one page of a list.
    type: int
    default: 500
  retries:
    description: Tries for one object before it counts as failed.
    type: int
    default: 10
  on_error:
    description:
      - V(continue) migrates all that can be migrated and fails at the end, naming each object that could not be.
      - V(stop) stops at the first such object.
    type: str
    choices: [continue, stop]
    default: continue
  trim_stored_versions:
    description:
      - After the complete migration of a custom resource, cut C(status.storedVersions) of its CRD down to the storage version.
      - Left alone if the CRD was edited meanwhile, an object failed, or API servers disagree.
      - The controller of O(engine=storage_version_migration) trims by itself, whatever is said here. What it trims though the
        migration failed is put back.
    type: bool
    default: true
  prune_managed_fields:
    description:
      - Drop entries of C(metadata.managedFields) whose version is served no more.
      - An object that is left without any is, as Kubernetes has it, not tracked again until somebody applies it.
    type: bool
    default: false
  timeout:
    description: Seconds after which the run stops; the next one goes on from there. No limit by default.
    type: float
  failures_file:
    description:
      - Write every failure to this file, one JSON object a line. It is replaced, and empty if there was none.
      - It holds names of objects and reasons, never their content, and is readable by its owner only.
    type: path
  encryption_config:
    description:
      - For O(select=stale) in check mode, the path of the API servers' EncryptionConfiguration on the host where the task runs.
      - By default the one that the static pod manifest of this host's API server names. Outside of check mode the API servers show
        by themselves how they write.
    type: path
  etcd_max_rate:
    description: For O(select=stale), read at most so many objects a second from etcd; V(0) is no limit.
    type: float
    default: 0
seealso:
  - module: kube_storage.upgrade.storage_version_hashes
  - module: kube_storage.upgrade.stored_versions_info
"""

EXAMPLES = r"""
- name: Rewrite everything after an upgrade, once all API servers agree
  kube_storage.upgrade.storage_migrate:

- name: Rewrite only what the upgrade changed
  kube_storage.upgrade.storage_migrate:
    select: changed
    expected_servers: 3

- name: Rewrite Secrets gently, after the encryption key changed
  kube_storage.upgrade.storage_migrate:
    resources:
      - secrets
    max_rate: 50

- name: Rewrite just what etcd holds in an old form, and prove it
  kube_storage.upgrade.storage_migrate:
    select: stale
    etcd:
      endpoints: [https://10.0.0.11:2379]
      ca_cert: /etc/kubernetes/pki/etcd/ca.crt
      client_cert: /etc/kubernetes/pki/etcd/healthcheck-client.crt
      client_key: /etc/kubernetes/pki/etcd/healthcheck-client.key

- name: Have the cluster's own controller rewrite everything
  kube_storage.upgrade.storage_migrate:
    engine: storage_version_migration

- name: Let an operator drop an old version of its CRD
  kube_storage.upgrade.storage_migrate:
    resources:
      - widgets.example.com
"""

RETURN = r"""
msg:
  description: What was done in one sentence, or what went wrong and what to do next.
  returned: always
  type: str
rewritten:
  description:
    - Objects that were stale and were written again.
    - This and the other counts are null where a controller did the work and the user may not list the objects to count them, or
      it was cut off. RV(ignore:changed) is true then, as something may have been rewritten.
  returned: always
  type: int
unchanged:
  description: Objects that were current already; nothing was written for them.
  returned: always
  type: int
conflicts:
  description: Objects that somebody else wrote since they were listed, and which are current therefore.
  returned: always
  type: int
deleted:
  description: Objects that were deleted since they were listed.
  returned: always
  type: int
pruned:
  description: Objects of which managedFields entries were dropped.
  returned: always
  type: int
totals:
  description:
    - All counts together. V(failed) and V(skipped) are here only, since at the top of a result Ansible gives them another meaning.
  returned: always
  type: dict
  contains:
    rewritten:
      description: Objects written again.
      type: int
    unchanged:
      description: Objects that were current.
      type: int
    conflicts:
      description: Objects that somebody else wrote meanwhile.
      type: int
    deleted:
      description: Objects deleted meanwhile.
      type: int
    failed:
      description: Objects or lists that failed.
      type: int
    skipped:
      description: Resources left out.
      type: int
skipped_resources:
  description: The resources left out, each with its V(resource) name and the V(reason).
  returned: always
  type: list
  elements: dict
resources:
  description: By resource, the same counts.
  returned: always
  type: dict
  contains:
    rewritten:
      description: Objects written again.
      type: int
    unchanged:
      description: Objects that were current.
      type: int
    conflicts:
      description: Objects that somebody else wrote meanwhile.
      type: int
    deleted:
      description: Objects deleted meanwhile.
      type: int
    failed:
      description: Objects or lists that failed.
      type: int
    pruned:
      description: Objects of which managedFields entries were dropped.
      type: int
    seconds:
      description: How long it took.
      type: float
    rate:
      description: Objects a second.
      type: float
    storage_version:
      description: The version that its objects are stored in now, null if unknown.
      type: str
    engine:
      description: Which engine did it.
      type: str
    engine_reason:
      description: Why another engine than RV(engine) did it, else null.
      type: str
    persisted:
      description: Whether it is proven and recorded that all objects are stored in this version.
      type: bool
    reason:
      description: Why it was taken.
      type: str
    would_visit:
      description: In check mode only, how many objects would be visited; null where the list fails.
      type: int
would_visit:
  description: How many objects would be visited.
  returned: in check mode
  type: int
failures:
  description: The first hundred failures.
  returned: always
  type: list
  elements: dict
  contains:
    resource:
      description: Name of the resource.
      type: str
    namespace:
      description: Namespace of the object, null if it has none.
      type: str
    name:
      description: Name of the object, null where the list itself failed.
      type: str
    status:
      description: HTTP status, V(0) where no answer came.
      type: int
    reason:
      description: The server's reason.
      type: str
    message:
      description: The server's message, without values of the object.
      type: str
trimmed:
  description: CRDs whose storedVersions were trimmed.
  returned: always
  type: list
  elements: dict
  contains:
    crd:
      description: Name of the CRD.
      type: str
    before:
      description: storedVersions before.
      type: list
      elements: str
    after:
      description: storedVersions after.
      type: list
      elements: str
untrimmed:
  description:
    - CRDs whose storedVersions name more than the storage version still, each with its V(crd) name and the V(reason).
    - With O(select=changed) the next run takes them again.
  returned: always
  type: list
  elements: dict
proof:
  description:
    - What etcd was seen to hold after the run, for O(select=stale), else null.
    - V(revision) of etcd; V(stale) objects left, and V(resources) with their number and V(reasons); V(unprovable) objects
      among those written since the start, whose version is hidden by encryption or can't be told, and V(unprovable_resources) with
      their number.
  returned: always
  type: dict
proven_by:
  description:
    - How strong the agreement is that the migration rests on. V(each server), where each was asked at its own address.
    - V(sampling) with O(sampling), which proves less.
  returned: always
  type: str
sampling:
  description: What the agreement rests on with O(sampling); null without.
  returned: always
  type: dict
  contains:
    connections:
      description: How many fresh connections were asked.
      type: int
    told_apart:
      description: How many API servers they led to; null where the answers don't tell.
      type: int
    servers:
      description: How many there must be, by O(expected_servers), else by their Leases; null if nobody knows.
      type: int
    chance_missed:
      description:
        - The chance that some server got none of the connections, behind a load balancer that spreads evenly.
        - It matters where they can't be told apart. Null if their number is not known.
      type: float
history:
  description: How the run went, in at most 200 samples.
  returned: always
  type: dict
  contains:
    started:
      description: When it started, in UTC.
      type: str
      sample: "2026-11-24T12:00:00.000Z"
    samples:
      description:
        - One entry for each moment, with the V(seconds) since the start and V(resources) that moved since the entry before it,
          each with the objects V(visited) and V(rewritten) since the start.
      type: list
      elements: dict
engine:
  description: The engine that was asked for, or that V(auto) chose.
  returned: always
  type: str
engine_reason:
  description: Why that engine.
  returned: always
  type: str
resumed:
  description: Whether it went on from an earlier run that did not finish.
  returned: always
  type: bool
seconds:
  description: How long the run took.
  returned: always
  type: float
rate:
  description: Objects visited a second, null where they were not counted.
  returned: always
  type: float
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
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.run import storage_migrate
from ansible_collections.kube_storage.upgrade.plugins.module_utils._options import (
    CLUSTER_SPEC,
    ETCD_SPEC,
    SAMPLING_SPEC,
)


def main() -> None:
    options = {
        **CLUSTER_SPEC,
        **SAMPLING_SPEC,
        "select": {"type": "str", "choices": ["all", "changed", "stale"], "default": "all"},
        "resources": {"type": "list", "elements": "str"},
        "exclude": {"type": "list", "elements": "str"},
        "engine": {
            "type": "str",
            "choices": ["direct", "storage_version_migration", "kube_storage_version_migrator", "auto"],
            "default": "direct",
        },
        "keep_migrations": {"type": "bool", "default": False},
        "controller_timeout": {"type": "float", "default": 300},
        "require_convergence": {"type": "bool", "default": True},
        "workers": {"type": "int", "default": 64},
        "max_rate": {"type": "float", "default": 0},
        "page_size": {"type": "int", "default": 500},
        "retries": {"type": "int", "default": 10},
        "on_error": {"type": "str", "choices": ["continue", "stop"], "default": "continue"},
        "trim_stored_versions": {"type": "bool", "default": True},
        "prune_managed_fields": {"type": "bool", "default": False},
        "timeout": {"type": "float"},
        "failures_file": {"type": "path"},
        "etcd": ETCD_SPEC,
        "encryption_config": {"type": "path"},
        "etcd_max_rate": {"type": "float", "default": 0},
    }
    run_module(options, storage_migrate)


if __name__ == "__main__":
    main()
