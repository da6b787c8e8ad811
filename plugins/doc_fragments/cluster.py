# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options for the API servers and the state store."""

    DOCUMENTATION = r"""
options:
  servers:
    description:
      - URL of every API server, each at its own address, never a load balancer.
      - By default they are taken from the EndpointSlice V(default/kubernetes).
      - Either way they are cross-checked with the identity Leases in V(kube-system). If another API server renews its Lease, the servers
        don't count as converged, because it may store objects in an older version. RV(ignore:reasons) names it.
    type: list
    elements: str
  expected_servers:
    description:
      - How many API servers there must be. Fewer or more don't count as converged.
      - Defaults to the number of O(servers) if they are given.
    type: int
  ignored_servers:
    description:
      - API servers that are alive according to their Leases but need not be asked, such as those of another cluster with Leases in this one. Name
        each by host name, address, URL, or the name or holder of its Lease.
      - V(*) ignores all that are not asked; the result is then about O(servers) alone, and does not count as cross-checked.
    type: list
    elements: str
    version_added: 1.0.0
  accept_unchecked:
    description:
      - Whether agreement counts if the Leases can't be read, or if not every API server renews one. Then it is unknown whether all that are alive
        were asked; set it only if you know that they were. Results are still labeled as not cross-checked.
      - Without it, such agreement is reported with a warning, and M(kube_storage.upgrade.storage_migrate) records nothing as persisted and trims no CRD.
      - A living API server that is known and was not asked is never accepted; name it in O(ignored_servers).
    type: bool
    default: false
    version_added: 1.0.0
  tls_server_name:
    description:
      - The name to verify certificates against, if they don't include the servers' addresses.
      - V(kubernetes.default.svc) is in nearly every API server's certificate. Overrides V(tls-server-name) of the kubeconfig.
    type: str
  cluster_name:
    description:
      - What you call this cluster. RV(ignore:cluster) has it beside the context and the server.
      - Inside a pod, a kubeconfig in E(KUBECONFIG) or at C(~/.kube/config) takes precedence over the pod's service account, as with C(kubectl).
    type: str
    version_added: 1.0.0
  state_store:
    description:
      - Where the baseline and the progress of migrations are kept.
      - What was saved for another cluster is refused. Clusters are distinguished by the uid of their namespace C(kube-system). A file that has a
        uid is also refused if the user may not get that namespace.
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
      - Show the progress of a run that takes longer than three seconds on standard error. On a terminal one line is redrawn every
        second; otherwise a line is printed every ten seconds and whenever something changes. Standard output is never touched.
      - By default V(true), unless the environment variable E(KUBE_STORAGE_UPGRADE_PROGRESS) is V(false) where Ansible runs.
      - Nothing is shown if Ansible itself is quiet, by C(no_log), C(--one-line), the callback setting C(display_ok_hosts=false)
        or one of the callbacks C(oneline), C(null), C(dense) and C(selective).
    type: bool
  details:
    description:
      - Return the complete result. Otherwise its long parts are left out (RV(ignore:left_out) names them), and
        RV(ignore:summary) has their essence in a few lines.
      - By default the result is complete if something can read it, that is, if the task has C(register), C(until), C(failed_when)
        or C(changed_when), or is in a block with C(rescue), if Ansible runs with C(-v), C(--one-line) or C(--tree),
        or if a callback that does more than print (unlike C(default) and C(minimal)) receives the results. So it is short in ad-hoc
        calls, and for a failed task without C(register).
      - Set it to V(true) for other programs that read the results of tasks without C(register) (such as ARA), and to V(false) for a
        task that registers its result but should print little if it fails.
    type: bool
requirements:
  - python >= 3.10
  - kubernetes >= 24.2.0
  - PySocks, only for a proxy that speaks SOCKS
notes:
  - Set these and the auth options once for all modules with C(module_defaults) and the group C(kube_storage.upgrade.k8s).
"""

    SAMPLING = r"""
options:
  sampling:
    description:
      - For a cluster whose API servers can't be asked one by one, such as a managed one with only one address. Can't be combined with O(servers).
      - Each round opens many fresh connections to that one address, and asks over each of them. A single different answer means no
        agreement.
      - B(Agreement by sampling is weaker evidence than asking each server at its own address), and is always labeled as such. The result has
        C(proven_by=sampling), and a warning, the role and its report explain the evidence.
      - Answers are attributed to servers if the user may get C(/flagz) (the address that the server advertises, since Kubernetes 1.36) or
        C(/metrics/slis) or C(/metrics) (when it started). There must be as many servers as renew their identity Leases in V(kube-system), or as
        O(expected_servers) says. Missing ones are named if the Leases have addresses (since 1.36).
      - Writes go through the one address too. What M(kube_storage.upgrade.storage_migrate) records as persisted, and trims, rests on the same
        evidence.
    type: dict
    suboptions:
      connections:
        description:
          - The number of fresh connections in one round.
          - Behind a load balancer that spreads evenly, 30 connections miss one of three servers with a probability of at most 0.002 %.
        type: int
        default: 30
      at_once:
        description: The number of them that are open at the same time.
        type: int
        default: 6
      require_identity:
        description:
          - Whether answers must be attributed to servers. With V(false), if servers can't be identified, the number of connections alone decides, and
            C(sampling.chance_missed) in the result is the probability that a server was missed. That is even weaker, and worthless behind a load
            balancer that always sends a client to the same server.
        type: bool
        default: true
"""

    ETCD = r"""
requirements:
  - h2, only for an etcd without its JSON gateway, and for kine
options:
  etcd:
    description:
      - How to read etcd itself. Nothing is ever written to it.
      - It is trusted only if it is shown to be the one that the API servers write to. Each endpoint must hold the namespace V(kube-system)
        as they return it (uid and resourceVersion), and its revision must match theirs. Otherwise the task fails and says what it looked for,
        and where.
      - It must hold as many objects of each resource as the API servers list. A resource with a different count is unproven; see
        O(ignore:etcd.overrides).
    type: dict
    suboptions:
      endpoints:
        description:
          - URLs of etcd members. Reads are spread over them, and skip one that fails.
          - etcd's JSON gateway is preferred. If etcd serves HTTP on a separate port (C(--listen-client-http-urls), as in RKE2 and k3s,
            V(https://127.0.0.1:2382)), it is there.
          - An etcd without it (C(--enable-grpc-gateway=false)), a port that has none, and kine are read over gRPC, which needs the Python library C(h2).
          - V(unix:///var/lib/rancher/k3s/server/kine.sock) is the socket of kine, which k3s with an SQL database has instead of etcd.
          - Defaults to V(https://127.0.0.1:2379) on a kubeadm master.
        type: list
        elements: str
      ca_cert:
        description: Path of the CA certificate that verifies etcd's certificate. If none of the three files is given, V(/etc/kubernetes/pki/etcd/ca.crt).
        type: path
      client_cert:
        description: Path of the client certificate. If none of the three is given, V(/etc/kubernetes/pki/etcd/healthcheck-client.crt).
        type: path
      client_key:
        description: Path of the client certificate's key. If none of the three is given, V(/etc/kubernetes/pki/etcd/healthcheck-client.key).
        type: path
      username:
        description:
          - The user to log in as if authentication is enabled in etcd. It needs a role that may read the keys below the prefix.
          - With authentication enabled, etcd's JSON gateway takes no user from a client certificate. With C(--client-cert-auth) it refuses
            certificates that have a common name, so O(ignore:etcd.client_cert) must be one without.
        type: str
        version_added: 1.0.0
      password:
        description: The user's password. Needed with O(ignore:etcd.username).
        type: str
        version_added: 1.0.0
      proxy:
        description:
          - URL of a proxy through which etcd is reached, such as V(socks5://127.0.0.1:1080). Credentials in it are sent, and never shown.
          - The option O(ignore:proxy) and the environment don't apply to etcd.
        type: str
        version_added: 1.0.0
      prefix:
        description: The API servers' C(--etcd-prefix).
        type: str
        default: /registry
      overrides:
        description:
          - Other etcd clusters in which the API servers keep some resources, often events (C(--etcd-servers-overrides)).
          - Options that an entry leaves out default to those of the first etcd, as API servers use one client certificate and prefix for all.
        type: list
        elements: dict
        suboptions:
          resources:
            description:
              - Resources that are kept there, written V(plural.group), core ones without a dot, or V(*.group) for a whole group.
              - The format of the flag, V(/events) or V(apps/deployments), works too.
            type: list
            elements: str
            required: true
          endpoints:
            description: URLs of the members of that cluster.
            type: list
            elements: str
            required: true
          ca_cert:
            description: Path of the CA certificate for that cluster. If none of the three is given, those of the first etcd are used.
            type: path
          client_cert:
            description: Path of the client certificate for that cluster.
            type: path
          client_key:
            description: Path of the client certificate's key for that cluster.
            type: path
          username:
            description: The user to log in as there. Defaults to that of the first etcd.
            type: str
            version_added: 1.0.0
          password:
            description: The user's password there.
            type: str
            version_added: 1.0.0
          proxy:
            description: The proxy through which that etcd is reached. Defaults to that of the first etcd.
            type: str
            version_added: 1.0.0
          prefix:
            description: The prefix there. Defaults to that of the first etcd, as API servers have one prefix for all.
            type: str
"""
