#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_migrate
short_description: Rewrite stored objects in the current storage version
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Makes the API servers write every object again, so that etcd holds it in their current storage version.
  - Refuses to start while API servers disagree about a storage version, watches them during the run, and checks them again at the end.
  - Each object gets a patch that contains nothing but its resourceVersion. The server writes only if the stored
    bytes are stale, so counts are exact and a second run changes nothing. Fields, managedFields (see O(managed_fields)), generation and
    annotations stay as they are, and object data never leaves the API server.
  - The next run resumes an interrupted one. If an API server was, or may have been, restarted in between, everything is visited again.
  - If an API server is restarted during the run, objects visited before are visited again, since an older release may have run in between.
  - What it writes itself never fills etcd. Each rewrite adds a revision, and the old one takes space until the API servers compact etcd's history.
    With O(etcd), or if the user may get the path C(/metrics), the module knows etcd's size and quota. It refuses to begin if the rewritten objects
    can't fit, and holds its writes while less than a twentieth of the quota would stay free, until compaction has freed space. See RV(etcd_space).
  - A Lease makes sure that only one run is active at a time. A run that was suspended for longer than its Lease lasts no longer writes or saves anything.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - kube_storage.upgrade.cluster
  - kube_storage.upgrade.cluster.sampling
  - kube_storage.upgrade.cluster.etcd
  - kube_storage.upgrade.attributes
options:
  select:
    description:
      - V(all) selects every resource that can be listed and patched.
      - V(changed) selects resources whose storage version differs from the baseline, resources whose last migration did not finish, and
        custom resources whose CRD lists versions other than the storage version in C(status.storedVersions).
        If the last migration of a resource left only some failed objects, only those are visited.
      - V(stale) reads etcd (O(etcd)) and selects only the objects whose version, encoding or encryption differs from what
        the API servers write now. To find out what they write, the module has each of them patch one object of each resource. At the end it asks
        all of them again about Secrets and what is encrypted, or about everything if one may have been restarted, reads from etcd what was written
        meanwhile, rewrites what is stale, and RV(proof) says what etcd then holds.
    type: str
    choices: [all, changed, stale]
    default: all
  resources:
    description:
      - Migrate only these resources, written as V(plural.group), core ones without a dot.
      - Events are left out unless they are named here, because a rewrite makes them live longer.
    type: list
    elements: str
  exclude:
    description: Resources to leave out.
    type: list
    elements: str
  engine:
    description:
      - With V(direct) the module rewrites the objects itself, through all API servers at once.
      - V(storage_version_migration) has kube-controller-manager do it, through StorageVersionMigration objects of
        C(storagemigration.k8s.io) in the newest version that is served (on by default since Kubernetes 1.37).
      - V(kube_storage_version_migrator) has kube-storage-version-migrator do it (OpenShift has it), through
        C(migration.k8s.io/v1alpha1), and keeps its StorageState objects up to date.
      - V(auto) uses V(direct) if the user may list and patch everything to be migrated, or sets O(max_rate) or
        O(managed_fields), which only V(direct) supports. Otherwise it uses V(storage_version_migration) if v1 or v1beta1
        of its API is served and the user may use it, otherwise V(kube_storage_version_migrator) under the same conditions. If none
        of them fits, it uses V(direct), which reports the missing permission. RV(engine_reason) says why.
      - A controller can't be made to wait for etcd's compaction, so it is refused if O(select=stale) shows that a migration would have to
        (RV(etcd_space)); otherwise a notice says that it may fill etcd. A migration that has to be
        withdrawn in the middle doesn't end at once, as the controller may still write the rest of a resource that it has begun.
      - A controller rewrites whole resources. With O(on_error=continue), V(direct) finishes what the controller can't do,
        if the user may list and patch that resource; RV(resources) says which engine did what.
      - To count the objects that a controller rewrote, the module compares their metadata before and after. If the user may not
        list a resource, its counts are null.
    type: str
    choices: [direct, storage_version_migration, kube_storage_version_migrator, auto]
    default: direct
  keep_migrations:
    description:
      - Leave a controller's migration objects in the cluster after they have finished. They are deleted when their resource is migrated again.
    type: bool
    default: false
  controller_timeout:
    description:
      - How many seconds a controller may go without progress, for the engines that use one. If it never started, the task fails and
        leaves nothing behind; otherwise unfinished resources count as failed.
    type: float
    default: 300
  require_convergence:
    description:
      - Refuse to write anything while API servers disagree, and stop if they begin to disagree during the run.
      - With V(false), objects may be stored in the old version. What any server contradicts is not recorded as proven.
    type: bool
    default: true
  workers:
    description:
      - The maximum number of requests in flight, over all API servers. Below that limit, concurrency adapts to each server, see O(impact).
    type: int
    default: 64
  impact:
    description:
      - How much of the API servers' time the run may take from their other clients.
      - V(normal) has only as many requests in flight to each API server as it can work on. It estimates that number from latency throughout the run,
        so a server stays busy but its other clients hardly have to wait.
      - V(low) sends one request at a time, and then nothing for three times as long as it took, however slow that is. Use it on a cluster that is
        short of resources.
      - V(high) goes as fast as possible. Other clients of an API server then wait several times as long.
      - With V(normal) and V(low) the module also gives way to other processes of the host where it runs (niceness 5 and 10), which may be a master.
      - RV(pace) shows the result. O(workers) and O(max_rate) remain upper bounds.
      - With a controller as O(engine), it applies only to what V(direct) does. kube-controller-manager sends one request at a time, and
        kube-storage-version-migrator has its own limit (OpenShift's allows 40 requests per second); neither can be set for one migration.
      - An API server that answers with 429 and C(Retry-After) gets no requests until that time has passed, whatever this option says.
    type: str
    choices: [low, normal, high]
    default: normal
    version_added: 1.0.0
  max_rate:
    description: The maximum number of objects per second, V(0) for no limit.
    type: float
    default: 0
  page_size:
    description:
      - The maximum number of objects in one page of a list. API servers read whole objects to list their metadata, so pages shrink if they take long.
    type: int
    default: 500
  retries:
    description: Attempts for one object before it counts as failed.
    type: int
    default: 10
  on_error:
    description:
      - V(continue) migrates everything that can be migrated, then fails and names each object that could not be.
      - V(stop) stops at the first such object.
    type: str
    choices: [continue, stop]
    default: continue
  trim_stored_versions:
    description:
      - After the complete migration of a custom resource, reduce C(status.storedVersions) of its CRD to the storage version.
      - It is left alone if the CRD was edited or recreated meanwhile, an object failed, or API servers disagree. O(request_timeout) determines how
        long the module waits after an edit.
      - With O(engine=storage_version_migration), since Kubernetes 1.36 the controller trims regardless of this option. If the migration failed, that
        is undone. Before 1.36 the controller trims nothing, so the module does.
    type: bool
    default: true
  managed_fields:
    description:
      - What happens to entries of C(metadata.managedFields) at versions other than the storage version. Once a version is gone from a CRD, every
        server-side apply to an object with an entry at that version fails (C(request to convert CR to an invalid group/version)).
      - V(keep) leaves them unchanged. After a CRD was trimmed, RV(managers_left) says how many objects have entries at the trimmed versions.
      - V(rewrite) moves entries at other versions of the resource's own group to the storage version, in the same patch that rewrites the object.
        Manager, operation, subresource, fields and time stay. Entries that become duplicates are merged. Run it before a CRD drops the version; it
        also repairs objects with entries at a version that is already gone.
      - V(rewrite) moves nothing in a CRD with a conversion webhook, because only the webhook knows which field of one version is
        which of another. RV(managers_left) says how many objects still have such entries. Have their owners apply them at the storage version, which
        moves the entries of server-side apply, and drop the others with V(prune) once the version is no longer served.
      - For built-in resources V(rewrite) moves entries whose version is no longer served. An API server that doesn't know that version drops
        them with the next write. Entries at versions that are served stay, since the API server converts them.
      - V(prune) drops entries whose version is no longer served. If no entry is left, Kubernetes doesn't track the object's fields again until
        somebody applies it. Server-side apply then first assigns all fields to the manager C(before-first-apply).
      - With V(rewrite) and V(prune), O(select=stale) also lists the metadata of all resources, and selects objects with such entries. With
        O(select=changed) only resources that are selected anyway are considered, so name them in O(resources) with O(select=all).
      - API servers before 1.37 drop all managers of an object on any write if they can't convert one of them, for instance because its version
        was removed from the CRD (kubernetes/kubernetes#136919). On those, a dry run tests each object at risk. An object that would lose
        managers is left unchanged and counts as failed, unless V(rewrite) moves or V(prune) drops just the entries in the way.
    type: str
    choices: [keep, rewrite, prune]
    default: keep
    version_added: 1.0.0
  prune_managed_fields:
    description:
      - Deprecated, and removed in 2.0.0. V(true) is the same as O(managed_fields=prune).
    type: bool
  timeout:
    description: Seconds after which the run stops; the next one resumes from there. No limit by default.
    type: float
  request_timeout:
    description:
      - The API servers' C(--request-timeout), in seconds.
      - A write that began before the last edit of a CRD may still be stored in the old version, and takes at most this long. So a custom resource
        counts as migrated, and its CRD is trimmed, only if its objects were listed after every API server had used the current CRD for longer than
        that. The run does everything else first, and then waits.
      - There is no wait if an earlier run or a baseline saw the CRD as it is now, or if its managedFields show that nobody has edited it for at least
        ten minutes and at least five times this long.
    type: float
    default: 60
    version_added: 1.0.0
  drop_unknown_fields:
    description:
      - Custom resources, as C(plural.group), whose objects may lose the fields that their CRD no longer knows; V(*) for all.
      - A rewrite drops such fields permanently. With O(select=stale), which reads etcd, objects with such fields are left unchanged and reported as
        failures, unless their resource is named here.
      - Without etcd the module can't find such fields, since an API server never shows them. M(kube_storage.upgrade.upgrade_check) with etcd finds them.
    type: list
    version_added: 1.0.0
    elements: str
  failures_file:
    description:
      - Write every failure to this file, one JSON object per line. An existing file is replaced; without failures the file is empty.
      - It contains names of objects and reasons, but no object content unless O(show_server_messages=true), and is readable by its owner only.
    type: path
  show_server_messages:
    description:
      - Show what API servers, webhooks and policies say when they refuse to write an object, in RV(failures), messages and O(failures_file).
        They may quote the object, even a Secret's data.
      - By default the messages of webhooks and policies are left out, and so are the values in other messages.
    type: bool
    default: false
    version_added: 1.0.0
  encryption_config:
    description:
      - For O(select=stale) in check mode, the path of the API servers' EncryptionConfiguration on the host where the task runs.
      - By default the one that the static pod manifest of this host's API server names. Outside check mode, the module sees how the API servers
        write, and doesn't need it.
    type: path
  encryption_keys:
    description:
      - Keys that may encrypt objects in etcd, each as V(provider:name), such as V(aescbc:aescbckey-2026-01-10T22:54:38Z).
        Give names only, never the keys themselves. They are added to those of O(encryption_config).
      - A key's name may contain colons, as with RKE2 and k3s, and etcd doesn't mark where it ends. Give the names of
        all keys; otherwise the key of some objects remains unknown, and the result claims nothing about them.
    type: list
    elements: str
    version_added: 1.0.0
  etcd_max_rate:
    description: For O(select=stale), the maximum number of objects to read from etcd per second, V(0) for no limit.
    type: float
    default: 0
  etcd_quota:
    description:
      - etcd's space quota in bytes (C(--quota-backend-bytes)). A quota that etcd itself reports takes precedence; it does so since 3.6, and only if
        O(etcd) is given.
      - By default etcd's own default, V(2147483648). If etcd's database is larger than that, its quota is unknown, and writes are never held.
    type: int
    version_added: 1.0.0
  compaction_timeout:
    description:
      - For how many seconds at a time writes may be held until compaction has freed space in etcd. After that the run stops, before etcd is full.
      - API servers compact every 5 minutes by default (C(--etcd-compaction-interval)), and keep what was written since the previous compaction.
      - Without O(etcd) the module can't see whether space was freed. It then tries to write after two thirds of this time, and holds its writes again
        if the database grows. It doesn't try if the quota is so small that trying could fill etcd.
    type: float
    default: 900
    version_added: 1.0.0
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

- name: Rewrite Secrets at a limited rate, after the encryption key changed
  kube_storage.upgrade.storage_migrate:
    resources:
      - secrets
    max_rate: 50

- name: Rewrite only what etcd holds in an old form, and prove it
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

- name: Let an operator drop an old version of its CRD, and keep field managers working
  kube_storage.upgrade.storage_migrate:
    resources:
      - widgets.example.com
    managed_fields: rewrite
"""

RETURN = r"""
msg:
  description: What was done in one sentence, or what went wrong and what to do next.
  returned: always
  type: str
rewritten:
  description:
    - Objects that were stale and were written again.
    - This and the other counts are null if a controller did the work and was interrupted, or if the user may not list the objects to count
      them. RV(ignore:changed) is true then, since something may have been rewritten.
  returned: always
  type: int
unchanged:
  description: Objects that were already current; nothing was written for them.
  returned: always
  type: int
conflicts:
  description: Objects that somebody else wrote after they were listed, and that are therefore current.
  returned: always
  type: int
deleted:
  description: Objects that were deleted after they were listed, as the API server confirmed for each of them.
  returned: always
  type: int
uncertain:
  description:
    - Objects that this run or another client may have written, because the answer to a request got lost, for instance when an API server stopped.
    - If only the object's resourceVersion changed, and any other write would have left a trace in its managedFields, it counts as RV(rewritten)
      instead.
    - RV(ignore:changed) is true if there are any, or if the answer got lost for an object that was then deleted or failed.
  returned: always
  type: int
moved:
  description: Objects whose managedFields entries were moved to the storage version; they are among the rewritten ones.
  returned: always
  type: int
pruned:
  description:
    - Objects whose managedFields lost entries; they are among the rewritten ones.
    - Without O(managed_fields) these are built-in objects, as any write drops their entries at versions that the API server doesn't know.
  returned: always
  type: int
totals:
  description:
    - All counts together. V(failed) and V(skipped) are only here, because Ansible gives them another meaning at the top of a result.
  returned: always
  type: dict
  contains:
    <<: &counts
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
      uncertain:
        description: Objects that this run or another client may have written.
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
    <<: *counts
    moved:
      description: Objects whose managedFields entries were moved.
      type: int
    pruned:
      description: Objects whose managedFields lost entries.
      type: int
    seconds:
      description: How long it took.
      type: float
    rate:
      description: Objects per second.
      type: float
    storage_version:
      description: The version that its objects are stored in now, null if unknown.
      type: str
    engine:
      description: Which engine did it.
      type: str
    engine_reason:
      description: Why an engine other than RV(engine) did it; null if none did.
      type: str
    persisted:
      description: Whether it is proven and recorded that all objects are stored in this version.
      type: bool
    unproven:
      description: Why it does not count as migrated although a controller reported it as done; null otherwise.
      type: str
    reason:
      description: Why it was selected.
      type: str
    would_visit:
      description: In check mode only, how many objects would be visited; null if the list fails.
      type: int
would_visit:
  description: How many objects would be visited; null if the list of a resource fails.
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
      description: Name of the object, null if the list itself failed.
      type: str
    status:
      description: HTTP status, V(0) if there was no answer.
      type: int
    reason:
      description: The server's reason.
      type: str
    message:
      description: The server's message, without values of the object unless O(show_server_messages=true).
      type: str
trimmed:
  description: CRDs whose C(status.storedVersions) was trimmed.
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
    - CRDs whose storedVersions were left alone although all objects were visited, each with its V(crd) name and the V(reason).
    - With O(select=changed) the next run migrates them again.
  returned: always
  type: list
  elements: dict
managers_left:
  description:
    - Custom resources with objects whose managedFields still have entries at versions that may be dropped, listed after everything else.
    - These are versions that were just trimmed, and with O(managed_fields=rewrite) those whose entries could not be moved.
  returned: always
  type: list
  elements: dict
  contains:
    resource:
      description: Name of the resource.
      type: str
    objects:
      description: How many objects have such entries; null if they could not be listed.
      type: int
    versions:
      description: How many objects have entries at each of these versions.
      type: dict
    remediation:
      description: What to do before a CRD drops the version, in one sentence.
      type: str
proof:
  description:
    - What etcd held after the run, for O(select=stale); null otherwise.
    - V(revision) is that of etcd. V(stale) is the number of stale objects that remain, and V(resources) their number by resource, with V(reasons).
      V(unprovable) is the number of objects, written or not, whose version is hidden by encryption or unknown, and
      V(unprovable_resources) their number by resource.
    - V(encryption_unknown) is the number of visited objects for which etcd doesn't show whether they use the current
      encryption key, and V(encryption_unknown_resources) their number by resource. That includes the objects of a resource of which some
      API server could write none to show how it encrypts.
    - If etcd doesn't hold as many objects of a resource as the API servers list, or if that is unknown, all of them are V(unprovable),
      and the whole resource was visited. V(problems) says which resources, and why, one sentence each.
    - Before the module reads which key of a KMS v2 plugin objects use, it waits up to a minute until the metrics of each API server show that
      it has asked the plugin for its current key. If that remains unknown, everything under the plugin is visited, and
      counts as V(encryption_unknown).
  returned: always
  type: dict
proven_by:
  description:
    - How strong the evidence is that the API servers agreed. V(each_server) if each was asked at its own address.
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
etcd_space:
  description: etcd's space quota and the size of its database; null if there was nothing to do.
  returned: always
  type: dict
  contains:
    source:
      description:
        - How it is known. V(etcd) if O(etcd) was given, whatever O(select) is, or V(metrics) if it is from an API server's metrics, which don't show
          what is in use. Null if neither could be read; then no writes were held.
      type: str
    unknown:
      description: What is unknown, and why, in one sentence; null if nothing is.
      type: str
    outlook:
      description:
        - Whether what was to be rewritten fits. V(fits), V(needs pacing) (the run had to wait for compaction, or may have had to), V(can't fit) (nothing
          was written) or V(unknown).
      type: str
    before:
      description: Each member before the run; of each etcd with O(etcd.overrides).
      type: list
      elements: dict
      contains: &member
        member:
          description: Its address, or the API server's name for the etcd.
          type: str
        size:
          description: Size of the database file in bytes.
          type: int
        in_use:
          description: How much of that is in use; null if unknown.
          type: int
        quota:
          description: Its quota in bytes; null if it has none or if that is unknown.
          type: int
        quota_from:
          description: V(etcd), V(option) (O(etcd_quota)) or V(default) (etcd's default is assumed); null if it has none, as kine.
          type: str
        defragmentation_frees:
          description: How many bytes a defragmentation would free; null if unknown.
          type: int
        alarms:
          description: The alarms that etcd has raised.
          type: list
          elements: str
    after:
      description: The same after the run; empty if the run wrote nothing.
      type: list
      elements: dict
      contains: *member
    held_seconds:
      description: For how long writes were held.
      type: float
pace:
  description: How much of the API servers' time the run took; null if there was nothing to do.
  returned: always
  type: dict
  contains:
    impact:
      description: The option O(impact).
      type: str
    latency_ms:
      description:
        - How long the run's own writes took in milliseconds, as the quantiles V(p50), V(p90) and V(p99). Null if there were none. Other clients'
          requests to the same API servers wait in the same queue.
      type: dict
    servers:
      description: The same for each API server.
      type: list
      elements: dict
      contains:
        url:
          description: Its URL.
          type: str
        writes:
          description: How many writes it answered.
          type: int
        latency_ms:
          description: How long they took, as above; null if there were none.
          type: dict
        alone_ms:
          description: The latency of a write while no other write of the run was in flight; null if it was not measured.
          type: float
        in_flight:
          description: How many writes were in flight, on average; null if there were none.
          type: float
        most_in_flight:
          description: How many there were at most.
          type: int
    held_back:
      description:
        - For how many seconds there was something to write but nothing more was sent, by reason.
        - V(concurrency) (as many as the API servers can work on were in flight), V(workers), V(max_rate), V(rest) (O(impact=low)), V(retry_after) (API servers
          asked to wait), and V(not_writable) (a doubt about the API servers or the Lease, too little space in etcd, or no server that could be used).
      type: dict
    flow_schema:
      description: The FlowSchema of API Priority and Fairness that matched the writes; null if unknown, for instance because the user may not list them.
      type: str
    priority_level:
      description: The PriorityLevelConfiguration that it assigns; null if unknown.
      type: str
    exempt:
      description: Whether that level is exempt, in which case the writes never waited for other clients' requests; null if unknown.
      type: bool
    note:
      description: Where O(impact) had no effect, in one sentence; null if it applied to everything.
      type: str
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
        - Each entry has the V(seconds) since the start, and the V(resources) that made progress since the previous entry,
          each with the objects V(visited) and V(rewritten) since the start.
      type: list
      elements: dict
engine:
  description: The engine that was requested, or that V(auto) chose.
  returned: always
  type: str
engine_reason:
  description: Why that engine.
  returned: always
  type: str
resumed:
  description: Whether it resumed an earlier run that did not finish.
  returned: always
  type: bool
seconds:
  description: How long the run took.
  returned: always
  type: float
rate:
  description: Objects visited per second, null if they were not counted.
  returned: always
  type: float
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
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.options import MigrateOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.run import storage_migrate


def main() -> None:
    spec = {
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
        "impact": {"type": "str", "choices": ["low", "normal", "high"], "default": "normal"},
        "max_rate": {"type": "float", "default": 0},
        "page_size": {"type": "int", "default": 500},
        "retries": {"type": "int", "default": 10},
        "on_error": {"type": "str", "choices": ["continue", "stop"], "default": "continue"},
        "trim_stored_versions": {"type": "bool", "default": True},
        "managed_fields": {"type": "str", "choices": ["keep", "rewrite", "prune"], "default": "keep"},
        "prune_managed_fields": {
            "type": "bool",
            "removed_in_version": "2.0.0",
            "removed_from_collection": "kube_storage.upgrade",
        },
        "timeout": {"type": "float"},
        "request_timeout": {"type": "float", "default": 60},
        "drop_unknown_fields": {"type": "list", "elements": "str"},
        "failures_file": {"type": "path"},
        "show_server_messages": {"type": "bool", "default": False},
        "etcd": ETCD_SPEC,
        "encryption_config": {"type": "path"},
        "encryption_keys": {"type": "list", "elements": "str", "no_log": False},
        "etcd_max_rate": {"type": "float", "default": 0},
        "etcd_quota": {"type": "int"},
        "compaction_timeout": {"type": "float", "default": 900},
    }
    run_module(spec, MigrateOptions.from_params, storage_migrate)


if __name__ == "__main__":
    main()
