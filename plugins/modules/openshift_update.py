#!/usr/bin/python
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: openshift_update
short_description: Have OpenShift update itself, and follow it until every master is done
version_added: 0.1.0
author:
  - kube_storage.upgrade contributors (@kube-storage)
description:
  - Checks whether an update of OpenShift may begin, starts it with openshift-client, and follows it until the release is complete,
    every master runs the latest revision of its API server, and no operator is degraded.
  - If an update to the same release is already in progress, the module follows it instead of starting it again, and if the cluster is already at
    the release, it does nothing. So it can be run again after any failure. While another update is in progress, it fails.
  - It fails before anything is changed if the update is not offered, if the cluster is not upgradeable (which only matters
    for another minor version), if an administrator has to acknowledge something, or if an operator is already degraded.
  - The driver V(openshift) of the role P(kube_storage.upgrade.rolling_upgrade#role) uses it, and the role migrates what is stored afterwards.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - kube_storage.upgrade.cluster
  - kube_storage.upgrade.cluster.sampling
  - kube_storage.upgrade.attributes
attributes:
  diff_mode:
    support: none
options:
  version:
    description:
      - The release of OpenShift to update to, such as V(4.21.3). It must be among those that the update service offers, unless O(image) is given.
      - O(version) or O(image) is required.
    type: str
  image:
    description: The release image to update to, by its digest, such as V(registry.example.com/ocp/release@sha256:…).
    type: str
  channel:
    description: The channel to set first, such as V(stable-4.21). By default the current one is kept.
    type: str
  acknowledge:
    description:
      - Names of the gates that you acknowledge as an administrator. The error lists them, with what each asks you to do. They are
        the keys of the ConfigMap C(admin-gates) in C(openshift-config-managed).
      - Nothing else is ever acknowledged.
    type: list
    elements: str
    default: []
  allow_not_recommended:
    description: Accept an update whose known risks apply to this cluster, or an O(image) that the update service does not know.
    type: bool
    default: false
  allow_upgrade_with_warnings:
    description:
      - Start the update even if the cluster-version operator is failing or an operator is degraded, as C(oc adm upgrade
        --allow-upgrade-with-warnings) does. OpenShift still makes its own checks.
      - The module then doesn't wait for whatever was already failing or degraded when its run began, either during the update or at its end.
        O(force) does the same.
    type: bool
    default: false
    version_added: 1.0.0
  force:
    description:
      - Set C(force) in the C(desiredUpdate). OpenShift then checks neither the image's signature nor whether the cluster is upgradeable, and this
        module checks neither gates nor operators first. A forced update can leave the cluster broken.
    type: bool
    default: false
  oc:
    description:
      - Name or path of openshift-client, which acknowledges gates and starts the update. Any program with the C(patch) of C(kubectl) works.
      - It gets the same credentials as the module; no secret is on its command line.
    type: path
    default: oc
  timeout:
    description: How long the update may take, in seconds. If it takes longer, it continues in the cluster, and the next run follows it.
    type: float
    default: 10800
  interval:
    description: Seconds between two polls.
    type: float
    default: 10
  grace:
    description:
      - How long a problem must last before it counts, in seconds. Operators may be degraded for a while as they are updated.
      - Also how long to wait for the effect of an acknowledgement or a new channel.
    type: float
    default: 900
notes:
  - Also asks the API servers, each at its own address, to show the progress.
seealso:
  - module: kube_storage.upgrade.storage_version_hashes
  - module: kube_storage.upgrade.storage_migrate
"""

EXAMPLES = r"""
- name: Check whether the update may begin
  kube_storage.upgrade.openshift_update:
    version: 4.21.3
  check_mode: true

- name: Update, and wait until all masters are done
  kube_storage.upgrade.openshift_update:
    version: 4.21.3
    channel: stable-4.21
    acknowledge:
      - ack-4.20-kube-1.34-api-removals-in-4.21

- name: Update a cluster that can't reach the update service
  kube_storage.upgrade.openshift_update:
    image: "registry.example.com/ocp/release@sha256:{{ digest }}"
    allow_not_recommended: true
    timeout: 21600
"""

RETURN = r"""
msg:
  description: What was done in one sentence, or what went wrong and what to do next.
  returned: always
  type: str
started:
  description: Whether this run started the update; in check mode, whether it would.
  returned: if the cluster is OpenShift and could be asked
  type: bool
acknowledged:
  description: The gates that this run acknowledged.
  returned: as RV(started)
  type: list
  elements: str
channel:
  description: The channel that is set.
  returned: as RV(started)
  type: str
version_before:
  description: The last completed release when the run began.
  returned: as RV(started)
  type: str
version:
  description: The release that the cluster is at, or is being updated to.
  returned: as RV(started)
  type: str
image:
  description: The image of that release.
  returned: as RV(started)
  type: str
state:
  description: Its state in the history of the ClusterVersion, V(Completed) or V(Partial).
  returned: as RV(started)
  type: str
kubernetes_version:
  description: The Kubernetes release that the kube-apiserver operator reports, null if it does not.
  returned: as RV(started)
  type: str
  sample: 1.34.2
masters:
  description: The masters as the kube-apiserver operator reports them.
  returned: as RV(started)
  type: list
  elements: dict
  contains:
    node:
      description: Name of the node.
      type: str
    revision:
      description: The revision of the API server that it runs.
      type: int
    latest:
      description: The revision that all should reach.
      type: int
migrator:
  description:
    - Whether C(migration.k8s.io/v1alpha1) is served, as O(kube_storage.upgrade.storage_migrate#module:engine=kube_storage_version_migrator) requires.
  returned: success
  type: bool
servers:
  description: The API servers as last seen, as in RV(kube_storage.upgrade.storage_version_hashes#module:servers).
  returned: as RV(started)
  type: list
  elements: dict
converged:
  description: Whether they all agreed at that time.
  returned: as RV(started)
  type: bool
proven_by:
  description: The kind of evidence for that, as in RV(kube_storage.upgrade.storage_version_hashes#module:proven_by).
  returned: as RV(started)
  type: str
cross_checked:
  description: Whether they were compared with the Leases of all that are alive, as in RV(kube_storage.upgrade.storage_version_hashes#module:cross_checked).
  returned: as RV(started)
  type: bool
unchecked_reason:
  description: Why they were not, null if they were.
  returned: as RV(started)
  type: str
unlisted_servers:
  description: API servers that are alive and were not asked, as in RV(kube_storage.upgrade.storage_version_hashes#module:unlisted_servers).
  returned: as RV(started)
  type: list
  elements: dict
sampling:
  description: The evidence with O(sampling), as in RV(kube_storage.upgrade.storage_version_hashes#module:sampling); null without it.
  returned: as RV(started)
  type: dict
reasons:
  description: Why they did not agree, one sentence each.
  returned: as RV(started)
  type: list
  elements: str
disagreements:
  description: Resources for which they reported different hashes, as in RV(kube_storage.upgrade.storage_version_hashes#module:disagreements).
  returned: as RV(started)
  type: list
  elements: dict
observed_at:
  description: When the result was collected, in UTC.
  returned: as RV(started)
  type: str
history:
  description: What the API servers reported during the update, as in RV(kube_storage.upgrade.storage_version_hashes#module:history).
  returned: as RV(started)
  type: list
  elements: dict
seconds:
  description: How long the run took.
  returned: as RV(started)
  type: float
error:
  description:
    - The kind of failure, null if there was none. Check it after a task with C(failed_when=false).
    - One of V(api), V(bad_input), V(unreachable), V(update) and V(other).
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

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import CLUSTER_SPEC, SAMPLING_SPEC
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.run_module import run_module
from ansible_collections.kube_storage.upgrade.plugins.module_utils._openshift.update import (
    OpenshiftUpdateOptions,
    openshift_update,
)


def main() -> None:
    spec = {
        **CLUSTER_SPEC,
        **SAMPLING_SPEC,
        "version": {"type": "str"},
        "image": {"type": "str"},
        "channel": {"type": "str"},
        "acknowledge": {"type": "list", "elements": "str", "default": []},
        "allow_not_recommended": {"type": "bool", "default": False},
        "allow_upgrade_with_warnings": {"type": "bool", "default": False},
        "force": {"type": "bool", "default": False},
        "oc": {"type": "path", "default": "oc"},
        "timeout": {"type": "float", "default": 10800},
        "interval": {"type": "float", "default": 10},
        "grace": {"type": "float", "default": 900},
    }
    run_module(spec, OpenshiftUpdateOptions.from_params, openshift_update)


if __name__ == "__main__":
    main()
