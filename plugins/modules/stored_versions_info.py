#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stored_versions_info
short_description: Read from etcd in which versions objects are actually stored, and which are stale
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Reads etcd itself, at one revision, and counts the objects of each resource by version, encoding and encryption.
  - Compares that with what the API servers would write now. An object is stale for one or more of three reasons. Its C(version) is
    not the storage version, it has another C(encoding) (JSON, protobuf, CBOR), or its C(encryption) uses another provider or key.
  - Reads only the envelope of a value. Values never leave the function that reads them, and are never returned.
  - Without credentials for the API servers, the newest value of each resource stands in for what they would write, and is labeled as such. Then
    nothing shows that this is their etcd, so nothing is proven (RV(cluster_verified)).
  - Encryption is compared if O(encryption_config) is available. Otherwise the newest value only allows a guess, and no object is reported as
    correctly encrypted.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - kube_storage.upgrade.cluster
  - kube_storage.upgrade.cluster.sampling
  - kube_storage.upgrade.cluster.etcd
  - kube_storage.upgrade.attributes
options:
  resources:
    description:
      - Read only these resources, written as V(plural.group), core ones without a dot.
      - By default all of etcd below O(etcd.prefix) is read.
    type: list
    elements: str
  encryption_config:
    description:
      - Path of the API servers' EncryptionConfiguration on the host where the task runs. Its first provider and key are the expected ones.
      - By default the file that the static pod manifest C(/etc/kubernetes/manifests/kube-apiserver.yaml) names, if both can be read.
      - Without it, the newest value of a resource shows its encryption. Only the names of keys are used, never the keys.
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
  max_rate:
    description: The maximum number of objects to read per second, V(0) for no limit. Pages are always read one at a time.
    type: float
    default: 0
  samples:
    description: How many keys to return as samples of each variant; V(0) for none.
    type: int
    default: 5
notes:
  - etcd is read through its JSON gateway, which needs neither etcdctl nor a Python library for gRPC, and accepts the same client certificates. It is
    on by default since etcd 3.5, and in 3.4 if etcd is configured by flags and not by a file; C(--enable-grpc-gateway=false) turns it off. Where
    it isn't, etcd is read over gRPC if the Python library C(h2) is installed.
  - If authentication is enabled in etcd, its JSON gateway takes no user from a client certificate. Set O(etcd.username) and O(etcd.password).
  - On a kubeadm master no options are needed; run the task there with C(become=true). Everywhere else give all of O(etcd), preferably
    with the endpoints of all members, as the scan is spread over them and skips one that is down.
  - On RKE2 and k3s with embedded etcd the files are C(server-ca.crt), C(client.crt) and C(client.key) in
    C(/var/lib/rancher/rke2/server/tls/etcd) or C(/var/lib/rancher/k3s/server/tls/etcd), and the endpoint is V(https://127.0.0.1:2382), or port 2379
    in releases before autumn 2023.
  - On OpenShift O(etcd.prefix) is V(/kubernetes.io). On a master the files below C(/etc/kubernetes/static-pod-resources/etcd-certs) are
    C(configmaps/etcd-all-bundles/server-ca-bundle.crt) (C(configmaps/etcd-serving-ca/ca-bundle.crt) before 4.17), and
    C(secrets/etcd-all-certs/etcd-peer-NODE.crt) with its C(.key). What OpenShift's own API servers store is below V(/openshift.io).
  - k3s with SQLite, MySQL or PostgreSQL has kine instead of etcd, which is read over gRPC, with V(unix:///var/lib/rancher/k3s/server/kine.sock) as
    the only endpoint and no certificates. A revision of kine is a row of its table. The rows as of one revision can be read until they are compacted,
    as in etcd.
  - To reduce the load on etcd, set O(max_rate), and read only the O(resources) that matter.
seealso:
  - module: kube_storage.upgrade.storage_migrate
  - module: kube_storage.upgrade.storage_version_hashes
"""

EXAMPLES = r"""
- name: Show what is stored on this kubeadm master, compared with what the API servers would write
  kube_storage.upgrade.stored_versions_info:
    kubeconfig: /etc/kubernetes/admin.conf
  become: true
  register: stored

- name: Make sure that nothing remains in an old version
  ansible.builtin.assert:
    that: stored.totals.stale == 0

- name: Show which keys encrypt the Secrets
  kube_storage.upgrade.stored_versions_info:
    resources: [secrets]
    encryption_config: /etc/kubernetes/enc/config.yaml
    etcd:
      endpoints:
        - https://10.0.0.11:2379
        - https://10.0.0.12:2379
        - https://10.0.0.13:2379
      ca_cert: /etc/kubernetes/pki/etcd/ca.crt
      client_cert: /etc/kubernetes/pki/etcd/healthcheck-client.crt
      client_key: /etc/kubernetes/pki/etcd/healthcheck-client.key
  become: true

- name: Read events from another etcd, where the API servers keep them
  kube_storage.upgrade.stored_versions_info:
    kubeconfig: /etc/kubernetes/admin.conf
    etcd:
      overrides:
        - resources: [events]
          endpoints:
            - https://10.0.0.21:2379
  become: true
"""

RETURN = r"""
msg:
  description: How much is stored, and how much of it is stale, in one sentence.
  returned: always
  type: str
resources:
  description: What is stored, by resource (V(plural.group)).
  returned: success
  type: dict
  contains:
    stored:
      description: Each form in which objects of the resource are stored, the most frequent first.
      type: list
      elements: dict
      contains:
        version:
          description: The stored version, null if encryption hides it or the value is corrupt.
          type: str
          sample: apps/v1
        encoding:
          description: V(protobuf), V(json), V(cbor), V(empty), V(unknown) if corrupt, or null if encryption hides it.
          type: str
        provider:
          description: V(identity) for plain values, otherwise V(aescbc), V(aesgcm), V(secretbox) or V(kms).
          type: str
        provider_version:
          description: V(v1), or V(v2) for KMS v2; null for plain values.
          type: str
        key:
          description: Name of the key, or of the plugin for KMS; null for plain values, and if more than one name is possible.
          type: str
        key_begins_with:
          description: If more than one name is possible, the shortest of them; null otherwise.
          type: str
        key_id_hash:
          description: For KMS v2 the hash of the remote key's ID, as in the API servers' metrics; null for other providers.
          type: str
        objects:
          description: How many objects.
          type: int
        bytes:
          description: Size of their values in bytes.
          type: int
        stale:
          description: Why they are stale, any of V(version), V(encoding) and V(encryption); empty if they aren't.
          type: list
          elements: str
        provable:
          description: Whether their version could be compared with the expected version.
          type: bool
        encryption_unknown:
          description:
            - Why it is unknown whether they are encrypted as the API servers would encrypt them now; null if that is known, or if they are stale.
            - V(guessed) if only the newest value of the resource shows how the API servers encrypt; set O(encryption_config).
            - V(key_name) if more than one name of their key is possible; set O(encryption_config) or O(encryption_keys).
            - V(same_name) if O(encryption_config) has several keys with that name and different secrets, which can't be distinguished in etcd.
            - V(kms_key) if the key that the KMS v2 plugin uses now is unknown. Each API server asks the plugin about once a minute, and then shows
              the key in its metrics; the task waits for that. V(problems) says what was missing.
          type: str
        samples:
          description: Some of their keys.
          type: list
          elements: str
    expected:
      description:
        - What the API servers would write now, each part with its source.
        - The sources are V(servers) (hashes of all API servers), V(configuration) (files of this master), V(rule) (always the case),
          V(newest) (the newest value in etcd, which is no proof), V(disagreement) (servers differ) and V(none) (not served, or nothing seen).
          The source of a KMS v2 plugin's key can be V(servers), too.
      type: dict
      contains:
        version:
          description: The storage version, null if it is unknown.
          type: str
        version_source:
          description: How it is known.
          type: str
        encoding:
          description: The encoding, null if it is unknown.
          type: str
        encoding_source:
          description: How it is known.
          type: str
        provider:
          description: The encryption provider, null if it is unknown.
          type: str
        provider_version:
          description: The version of its format; null for plain values, and if it is unknown.
          type: str
        key:
          description: The name of its key, null if it is unknown.
          type: str
        key_begins_with:
          description: If more than one name is possible, the shortest of them; null otherwise.
          type: str
        key_id_hash:
          description: For KMS v2 the hash of the remote key's ID; null for other providers, and if it is unknown.
          type: str
        key_id_source:
          description: How that is known, V(servers) or V(newest); null if it is not.
          type: str
        encryption_source:
          description: How provider and key are known.
          type: str
    objects:
      description: How many objects.
      type: int
    bytes:
      description: Size of their values in bytes.
      type: int
    stale:
      description: How many are stale.
      type: int
    stale_reasons:
      description: How many for each reason; one object may have several.
      type: dict
    unprovable:
      description:
        - How many don't look stale, but have a version that is unknown or can't be compared.
        - If it isn't certain that this etcd holds all objects of the resource, this counts every object that isn't stale, including those that only
          the API servers list.
      type: int
    unprovable_reasons:
      description:
        - How many for each reason; reasons that don't occur are left out.
        - V(encrypted) values hide their version, V(corrupt) and V(empty) values have none. V(nothing_expected) means that no server serves
          the resource, or that servers disagree about it.
        - V(counts_differ) means that the API servers list objects other than those that this etcd holds, so they keep the resource in another etcd
          (O(etcd.overrides)). V(not_counted) means that the comparison was not possible, for instance because the user may not list the resource;
          RV(problems) says why.
      type: dict
    encryption_unknown:
      description: How many aren't stale, but may not be encrypted as the API servers would encrypt them now.
      type: int
    encryption_unknown_reasons:
      description: How many for each reason (see C(stored)); reasons that don't occur are left out.
      type: dict
    samples:
      description: Keys of some stale objects.
      type: list
      elements: str
totals:
  description: Sums over everything that was read.
  returned: success
  type: dict
  contains:
    objects:
      description: Keys that were read.
      type: int
    bytes:
      description: Size of their values in bytes.
      type: int
    resources:
      description: Resources with stored objects.
      type: int
    stale:
      description: Stale objects.
      type: int
    unprovable:
      description: Objects whose version is unknown or could not be compared.
      type: int
    encryption_unknown:
      description: Objects for which it is unknown whether they are encrypted as the API servers would encrypt them now.
      type: int
    unknown:
      description: Keys that belong to no known resource.
      type: int
    internal:
      description: Keys that API servers keep for themselves.
      type: int
stale_resources:
  description: Names of the resources with stale objects.
  returned: success
  type: list
  elements: str
unprovable_resources:
  description: The resources with objects whose version is unknown or could not be compared, and how many for each reason.
  returned: success
  type: dict
  sample:
    secrets:
      encrypted: 12
encryption_unknown_resources:
  description: The resources with objects for which it is unknown whether they are encrypted as they should be, and how many for each reason.
  returned: success
  type: dict
  sample:
    secrets:
      key_name: 12
cluster_verified:
  description:
    - V(true) if etcd was shown to be the one that the API servers write to. If it is a different one, the task fails.
    - Null if no API server was asked. Then nothing is proven.
  returned: success
  type: bool
unknown:
  description: Keys that can't be assigned to a known resource (deleted CRDs, leftovers of O(etcd.overrides)), by prefix.
  returned: success
  type: list
  elements: dict
  contains: &other
    prefix:
      description: First part of the key after O(etcd.prefix).
      type: str
    objects:
      description: How many keys.
      type: int
    bytes:
      description: Size of their values in bytes.
      type: int
    encryption:
      description:
        - How many V(objects) there are for each V(provider), V(provider_version) and V(key).
        - If more than one name of the key is possible, V(key) is null and V(key_begins_with) the shortest of them.
      type: list
      elements: dict
    samples:
      description: Some of the keys.
      type: list
      elements: str
internal:
  description: Keys that API servers keep for themselves (V(masterleases), V(peerserverleases), V(ranges)), by prefix.
  returned: success
  type: list
  elements: dict
  contains: *other
revision:
  description: The revision of etcd at which everything was read.
  returned: success
  type: int
consistent:
  description: Whether everything was read at that one revision; false if etcd was compacted twice meanwhile.
  returned: success
  type: bool
converged:
  description: Whether all API servers agree, null if they were not asked.
  returned: success
  type: bool
proven_by:
  description:
    - How strong the evidence for their agreement is. V(each_server) if each was asked at its own address; null if they were not asked.
    - V(listed_servers) if each that is listed was asked, but RV(cross_checked) is false, so others may be alive.
    - V(sampling) with O(sampling), which proves less.
  returned: success
  type: str
cross_checked:
  description:
    - Whether the API servers that were asked were compared with the identity Leases of all that are alive; null if none was asked.
    - V(false) if the Leases can't be read or not every server renews one. Then another server may be alive unnoticed.
  returned: success
  type: bool
etcd:
  description:
    - The V(endpoints) and V(prefix) that were read, and the V(version), V(db_size) and V(db_in_use) (bytes) of etcd.
    - V(quota) is its space quota in bytes, as etcd reports it since 3.6, and V(cluster) the id of the etcd cluster; each is null if it is unknown.
    - V(overrides) has the same for each further cluster, with its V(resources) and the V(revision) at which it was read.
  returned: success
  type: dict
problems:
  description: Why the result is incomplete, one sentence each; empty if it is complete.
  returned: success
  type: list
  elements: str
seconds:
  description: How long the scan took.
  returned: success
  type: float
rate:
  description: Objects per second.
  returned: success
  type: int
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
  description: Which cluster this is about; null if no API server is asked.
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
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.stored_versions import (
    StoredVersionsOptions,
    stored_versions,
)


def main() -> None:
    spec = {
        **CLUSTER_SPEC,
        **SAMPLING_SPEC,
        "etcd": ETCD_SPEC,
        "resources": {"type": "list", "elements": "str"},
        "encryption_config": {"type": "path"},
        "encryption_keys": {"type": "list", "elements": "str", "no_log": False},
        "max_rate": {"type": "float", "default": 0},
        "samples": {"type": "int", "default": 5},
    }
    run_module(spec, StoredVersionsOptions.from_params, stored_versions)


if __name__ == "__main__":
    main()
