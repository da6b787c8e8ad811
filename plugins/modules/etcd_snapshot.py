#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_snapshot
short_description: Take a consistent, verified snapshot of etcd without etcdctl
version_added: 1.0.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Has a member of etcd send a snapshot through its JSON gateway, and writes it to a new file in O(path), on the host where the task runs. The file
    is the same as from C(etcdctl snapshot save), and C(etcdutl snapshot restore) restores it.
  - The checksum that etcd sends with it is verified, and so is its revision, which must be at least the one that the cluster had when the task began.
    Only then does the file get its name, so a partial file is never mistaken for a snapshot.
  - Checks first that etcd's database fits on the disk.
  - A member that knows no leader, or is a learner, is not asked. A follower is preferred to the leader. If one member fails, the next one is asked.
  - The file holds every object of the cluster, including Secrets as they are stored. It and the folder are readable by their owner only.
  - A copy of one member's data directory, which C(kubeadm upgrade) makes, is not a consistent snapshot of the cluster.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - kube_storage.upgrade.cluster.etcd
  - kube_storage.upgrade.attributes
attributes:
  diff_mode:
    support: none
    description: Each run makes a new file.
options:
  path:
    description:
      - The folder for the file, an absolute path. It is created if it doesn't exist.
      - The file is named after the etcd cluster's id, the time (UTC) and the revision.
    type: path
    required: true
  keep:
    description:
      - How many snapshots of this etcd cluster to keep in O(path). After a new one is complete, older ones beyond this number are removed.
      - Only files that this module named are ever removed. V(0) keeps all.
      - Give each cluster a folder of its own. The id of an etcd cluster depends on little more than the address of its first member, so a cluster
        that was rebuilt, or one in a separate network, may have the same. If the revisions don't rise with the times, the files may be of more
        than one cluster, or of the time before a restore, or the clock was wrong; then none is removed, and RV(msg) says so.
    type: int
    default: 0
  progress:
    description: Show the progress of a run that takes longer than three seconds on standard error, as the other modules of this collection do.
    type: bool
notes:
  - Only O(etcd) is asked, and trusted to be your cluster's; to prove that, use M(kube_storage.upgrade.stored_versions_info) with the same option.
    The options for the API servers are accepted so that C(module_defaults) for the group can include this module; they are not used.
  - If authentication is enabled in etcd, the user needs the role V(root), because a snapshot contains everything.
  - Without the JSON gateway (C(--enable-grpc-gateway=false)) the snapshot comes over gRPC, which needs the Python library C(h2). kine (SQL databases)
    takes no snapshots; back up its database.
  - O(etcd.overrides) are honored, so one run takes a snapshot of each etcd cluster. These are not from the same moment.
seealso:
  - module: kube_storage.upgrade.upgrade_check
  - module: kube_storage.upgrade.stored_versions_info
"""

EXAMPLES = r"""
- name: Take a snapshot on a kubeadm master, and keep the last three
  kube_storage.upgrade.etcd_snapshot:
    path: /var/backups/etcd
    keep: 3
    etcd:
      endpoints: [https://127.0.0.1:2379]
      ca_cert: /etc/kubernetes/pki/etcd/ca.crt
      client_cert: /etc/kubernetes/pki/etcd/healthcheck-client.crt
      client_key: /etc/kubernetes/pki/etcd/healthcheck-client.key
  become: true
  register: snapshot

- name: Copy it to the controller
  ansible.builtin.fetch:
    src: "{{ snapshot.path }}"
    dest: backups/
    flat: true
  become: true
"""

RETURN = r"""
msg:
  description: What was done, in one sentence.
  returned: always
  type: str
path:
  description: The new file; null in check mode.
  returned: success
  type: str
  sample: /var/backups/etcd/etcd-cdf818194e3a8c32-20261127T114502Z-r81234.db
revision:
  description: etcd's revision in it. In check mode, the current one.
  returned: success
  type: int
sha256:
  description: SHA-256 of the file, in hexadecimal, as C(sha256sum) prints it; null in check mode.
  returned: success
  type: str
bytes:
  description: Size of the file. In check mode, of etcd's database.
  returned: success
  type: int
member:
  description: The address of the member that sent it.
  returned: success
  type: str
version:
  description: The version of etcd that this member runs. Restore with the same minor version, or a newer one that can upgrade it.
  returned: success
  type: str
cluster:
  description: The id of the etcd cluster, in hexadecimal.
  returned: success
  type: str
snapshots:
  description: The same for each etcd, in the order of O(etcd) and its overrides.
  returned: success
  type: list
  elements: dict
removed:
  description: The older snapshots that were removed.
  returned: success
  type: list
  elements: str
error:
  description:
    - The kind of failure, null if there was none. Check it after a task with C(failed_when=false).
    - One of V(bad_input), V(etcd), V(file) and V(other). In each case no partial file remains.
  returned: always
  type: str
"""

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import ETCD_SPEC
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.run_module import run_module
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.snapshot import (
    SnapshotOptions,
    etcd_snapshot,
)


def main() -> None:
    spec = {
        "path": {"type": "path", "required": True},
        "keep": {"type": "int", "default": 0},
        "etcd": ETCD_SPEC,
        "progress": {"type": "bool"},
    }
    run_module(spec, SnapshotOptions.from_params, etcd_snapshot)


if __name__ == "__main__":
    main()
