# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Which API servers there are, and where the state is kept."""

    DOCUMENTATION = r"""
options:
  servers:
    description:
      - URLs of every API server, each its own address and never a load balancer.
      - By default they are taken from the EndpointSlice V(default/kubernetes) and cross-checked with the identity Leases
        in V(kube-system). What is odd there is reported and means that convergence can't be claimed.
    type: list
    elements: str
  expected_servers:
    description:
      - How many API servers there must be. Fewer or more is not converged.
      - Defaults to the number of O(servers) where those are given.
    type: int
  tls_server_name:
    description:
      - The name to verify certificates against, where they don't hold the address that is asked.
      - V(kubernetes.default.svc) is in nearly every API server's certificate. Overrides V(tls-server-name) of the kubeconfig.
    type: str
  state_store:
    description:
      - Where the baseline and the progress of migrations are kept.
    type: dict
    suboptions:
      kind:
        description: V(configmap) keeps it in the cluster, V(file) in a file where the module runs.
        type: str
        choices: [configmap, file]
        default: configmap
      namespace:
        description: Namespace of the ConfigMap. It must exist.
        type: str
        default: kube-system
      name:
        description: Name of the ConfigMap.
        type: str
        default: kube-storage-upgrade
      path:
        description: Path of the file, for V(file).
        type: path
  progress:
    description:
      - Show on standard error what a run that lasts longer than three seconds is doing. On a terminal one line is drawn anew every
        second, else a line is printed every ten seconds and whenever something changes; standard output is never touched.
      - By default V(true), unless the environment variable E(KUBE_STORAGE_UPGRADE_PROGRESS) is V(false) where Ansible runs.
      - Nothing is shown where Ansible is told to be quiet either, by C(no_log), C(--one-line), the callback setting C(display_ok_hosts=false)
        or one of the callbacks C(oneline), C(null), C(dense) and C(selective).
    type: bool
  details:
    description:
      - Return the whole result. Else the long parts of it are left out (RV(ignore:left_out) names them), and
        RV(ignore:summary) says in a few lines what matters of them.
      - By default the result is whole wherever something can read it, that is where the task has C(register), C(until), C(failed_when)
        or C(changed_when), or stands in a block with C(rescue), where Ansible runs with C(-v) or C(--one-line) or C(--tree),
        and where another callback than those that just print (such as C(default) and C(minimal)) takes the results. So it is short ad hoc,
        and where a task fails that registers nothing.
      - Set it to V(true) for other programs that take the results of tasks that register nothing (such as ARA), and to V(false) for a
        task that registers its result and shall print little if it fails.
    type: bool
requirements:
  - python >= 3.10
  - kubernetes >= 24.2.0
notes:
  - Set these and the auth options once for all modules with C(module_defaults) and the group C(kube_storage.upgrade.k8s).
"""

    SAMPLING = r"""
options:
  sampling:
    description:
      - For a cluster whose API servers can't be asked one by one, as a managed one that has only one address. Excludes O(servers).
      - Each look then makes many fresh connections to that one address and asks over each of them. What differs in a single answer is
        no agreement.
      - B(Agreement found so is weaker than if each server is asked at its own address), and is never taken for that. The result has C(proven_by=sampling),
        a warning says what it rests on, and so do the role and its report.
      - Answers are told apart by server where the user may get C(/flagz) (the address it advertises, since Kubernetes 1.36) or
        C(/metrics/slis) or C(/metrics) (when it started). There must be as many as renew their identity Leases in V(kube-system), or as
        O(expected_servers) says. Which are missing is named where the Leases tell addresses (since 1.36).
      - Writes go through the one address too. What M(kube_storage.upgrade.storage_migrate) records as persisted, and trims, rests on no more
        than that.
    type: dict
    suboptions:
      connections:
        description:
          - How many fresh connections make up one look.
          - Behind a load balancer that spreads evenly, 30 miss one of three servers with a chance of at most 0.002 %.
        type: int
        default: 30
      at_once:
        description: How many of them are open at the same time.
        type: int
        default: 6
      require_identity:
        description:
          - Whether answers must be told apart by server. With V(false), and where servers don't give themselves away, the number of connections
            alone decides, and C(sampling.chance_missed) in the result says how likely one of them was missed. That is weaker still, and worthless behind
            a load balancer that always sends a client to the same server.
        type: bool
        default: true
"""

    ETCD = r"""
options:
  etcd:
    description:
      - How to read etcd itself. Nothing is ever written to it.
    type: dict
    suboptions:
      endpoints:
        description:
          - URLs of etcd members. Reads are spread over them, and go around one that fails.
          - Where etcd serves HTTP on a port of its own (C(--listen-client-http-urls), as in RKE2 and k3s, V(https://127.0.0.1:2382)), that port.
          - Defaults to V(https://127.0.0.1:2379) on a kubeadm master.
        type: list
        elements: str
      ca_cert:
        description: Path of the CA certificate that etcd's certificate is verified with. Where none of the three is given, V(/etc/kubernetes/pki/etcd/ca.crt).
        type: path
      client_cert:
        description: Path of the client certificate. Where none of the three is given, V(/etc/kubernetes/pki/etcd/healthcheck-client.crt).
        type: path
      client_key:
        description: Path of the client certificate's key. Where none of the three is given, V(/etc/kubernetes/pki/etcd/healthcheck-client.key).
        type: path
      prefix:
        description: The API servers' C(--etcd-prefix).
        type: str
        default: /registry
"""
