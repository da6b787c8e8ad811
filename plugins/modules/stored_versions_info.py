#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stored_versions_info
short_description: Tell from etcd in which versions objects are really stored, and which are stale
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Reads etcd itself, at one revision, and counts for each resource in which version, encoding and encryption its objects are stored.
  - Compares that with what the API servers would write now. An object is stale for one or more of three reasons. Its C(version) is
    not the storage version, its C(encoding) (JSON, protobuf, CBOR) is another, or its C(encryption) is another provider or key.
  - Only the envelope of a value is looked at. Values never leave the function that does so, and are never returned.
  - Without credentials for the API servers the newest value of each resource stands in for what they would write, and is labelled so.
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
      - Path of the API servers' EncryptionConfiguration on the host where the task runs. Its first provider and key are what is expected.
      - By default the file that the static pod manifest C(/etc/kubernetes/manifests/kube-apiserver.yaml) names, where both can be read.
      - Without it the newest value of a resource shows its encryption. Names of keys are used, never the keys.
    type: path
  max_rate:
    description: Read at most so many objects a second; V(0) is no limit. One page is read at a time in any case.
    type: float
    default: 0
  samples:
    description: How many keys to return as samples of each variant; V(0) for none.
    type: int
    default: 5
notes:
  - etcd is read through its JSON gateway, which needs no etcdctl and no Python library for gRPC, and takes the same client
    certificates. It is on by default since etcd 3.5, and in 3.4 where flags and no file configure it; C(--enable-grpc-gateway=false)
    turns it off.
  - On a kubeadm master nothing has to be given; run the task there with C(become=true). Everywhere else give all of O(etcd).
    The endpoints of all members are best, as the scan is spread over them and goes around one that is down.
  - On RKE2 and k3s with embedded etcd the files are C(server-ca.crt), C(client.crt) and C(client.key) in
    C(/var/lib/rancher/rke2/server/tls/etcd) or C(/var/lib/rancher/k3s/server/tls/etcd), and the endpoint is V(https://127.0.0.1:2379).
  - On OpenShift O(etcd.prefix) is V(/kubernetes.io). On a master the files are, below C(/etc/kubernetes/static-pod-resources/etcd-certs),
    C(configmaps/etcd-all-bundles/server-ca-bundle.crt) (C(configmaps/etcd-serving-ca/ca-bundle.crt) before 4.17), and
    C(secrets/etcd-all-certs/etcd-peer-NODE.crt) with its C(.key). What OpenShift's own API servers store is below V(/openshift.io).
  - k3s with SQLite, MySQL or PostgreSQL (kine) has no JSON gateway, so this module can't read it.
  - To spare etcd, set O(max_rate), and read only the O(resources) that matter.
seealso:
  - module: kube_storage.upgrade.storage_migrate
  - module: kube_storage.upgrade.storage_version_hashes
"""

EXAMPLES = r"""
- name: What is stored on this kubeadm master, compared with what the API servers would write
  kube_storage.upgrade.stored_versions_info:
    kubeconfig: /etc/kubernetes/admin.conf
  become: true
  register: stored

- name: Nothing may be left in an old version
  ansible.builtin.assert:
    that: stored.totals.stale == 0

- name: Under which key is each Secret encrypted
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
      description: Each way in which objects of the resource are stored, the most frequent first.
      type: list
      elements: dict
      contains:
        version:
          description: The stored version, null where encryption hides it or the value is corrupt.
          type: str
          sample: apps/v1
        encoding:
          description: V(protobuf), V(json), V(cbor), V(empty), V(unknown) if corrupt, or null where encryption hides it.
          type: str
        provider:
          description: V(identity) for plain values, else V(aescbc), V(aesgcm), V(secretbox), V(kms).
          type: str
        provider_version:
          description: V(v1), or V(v2) for KMS v2; null for plain values.
          type: str
        key:
          description: Name of the key, for KMS of the plugin; null for plain values.
          type: str
        key_id_hash:
          description: For KMS v2 the hash of the remote key's ID, as in the API servers' metrics.
          type: str
        objects:
          description: How many objects.
          type: int
        bytes:
          description: Size of their values in bytes.
          type: int
        stale:
          description: Why they are stale, of V(version), V(encoding) and V(encryption); empty if they aren't.
          type: list
          elements: str
        provable:
          description: Whether their version could be compared with the expected one.
          type: bool
        samples:
          description: Some of their keys.
          type: list
          elements: str
    expected:
      description:
        - What the API servers would write now, each part with its source.
        - The sources are V(servers) (hashes of all API servers), V(configuration) (files of this master), V(rule) (always so),
          V(newest) (the newest value in etcd, which is no proof), V(disagreement) (servers differ) and V(none) (not served, or nothing seen).
      type: dict
      contains:
        version:
          description: The storage version, null if it can't be told.
          type: str
        version_source:
          description: How it is known.
          type: str
        encoding:
          description: The encoding.
          type: str
        encoding_source:
          description: How it is known.
          type: str
        provider:
          description: The encryption provider.
          type: str
        provider_version:
          description: The version of its format.
          type: str
        key:
          description: The name of its key.
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
      description: How many have no visible fault, but a version that can't be told or compared.
      type: int
    unprovable_reasons:
      description:
        - How many for which reason, only those that occur.
        - V(encrypted) hides the version, V(corrupt) and V(empty) values have none, V(nothing_expected) is where no server serves
          the resource, or servers disagree about it.
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
      description: Resources of which something is stored.
      type: int
    stale:
      description: Stale objects.
      type: int
    unprovable:
      description: Objects whose version could not be told or compared.
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
  description: The resources with objects whose version could not be told or compared, and how many for which reason.
  returned: success
  type: dict
  sample:
    secrets:
      encrypted: 12
unknown:
  description: Keys that belong to no resource that is known for certain (deleted CRDs, aggregated APIs' own data), by prefix.
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
      description: How many V(objects) are under which V(provider), V(provider_version) and V(key).
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
  description: The revision of etcd at which all was read.
  returned: success
  type: int
consistent:
  description: Whether all was read at that one revision; false if etcd was compacted twice meanwhile.
  returned: success
  type: bool
converged:
  description: Whether all API servers agree, null if they were not asked.
  returned: success
  type: bool
proven_by:
  description:
    - How strong their agreement is. V(each server), where each was asked at its own address; null if they were not asked.
    - V(sampling) with O(sampling), which proves less.
  returned: success
  type: str
etcd:
  description: V(endpoints) and V(prefix) that were read, V(version) and V(db_size) (bytes) of etcd.
  returned: success
  type: dict
problems:
  description: What keeps the result from being the whole truth, one sentence each; empty if nothing does.
  returned: success
  type: list
  elements: str
seconds:
  description: How long the scan took.
  returned: success
  type: float
rate:
  description: Objects a second.
  returned: success
  type: int
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
from ansible_collections.kube_storage.upgrade.plugins.module_utils._stored_versions import stored_versions


def main() -> None:
    options = {
        **CLUSTER_SPEC,
        **SAMPLING_SPEC,
        "etcd": ETCD_SPEC,
        "resources": {"type": "list", "elements": "str"},
        "encryption_config": {"type": "path"},
        "max_rate": {"type": "float", "default": 0},
        "samples": {"type": "int", "default": 5},
    }
    run_module(options, stored_versions)


if __name__ == "__main__":
    main()
