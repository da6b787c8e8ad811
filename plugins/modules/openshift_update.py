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
  - Looks whether an update of OpenShift may begin, starts it with openshift-client, and follows it until the release is complete,
    every master runs the latest revision of its API server, and no operator is degraded.
  - An update to the same release that is under way is followed, not started anew, and where the cluster is at the release already, nothing
    is done. So it can be run again after any failure. While another update is under way, it refuses.
  - It refuses, before anything is changed, where the update is not offered, where the cluster says that it is not upgradeable (which counts
    for another minor version only), where an administrator has to acknowledge something, and where an operator is degraded already.
  - The driver V(openshift) of the role P(kube_storage.upgrade.rolling_upgrade#role) uses it, and migrates what is stored afterwards.
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
      - One of O(version) and O(image) is needed.
    type: str
  image:
    description: The release image to update to, by its digest, such as V(registry.example.com/ocp/release@sha256:…).
    type: str
  channel:
    description: The channel to set before, such as V(stable-4.21). By default it is left as it is.
    type: str
  acknowledge:
    description:
      - Names of the gates that you acknowledge as an administrator, as the error lists them with what each asks you to see to. They are
        the keys of the ConfigMap C(admin-gates) in C(openshift-config-managed).
      - Nothing is ever acknowledged that is not listed here.
    type: list
    elements: str
    default: []
  allow_not_recommended:
    description: Take an update whose known risks concern this cluster, or an O(image) that the update service does not know.
    type: bool
    default: false
  force:
    description:
      - Set C(force) in the C(desiredUpdate). OpenShift then checks neither the image's signature nor whether the cluster is upgradeable, and this
        module looks neither at gates nor at operators before. An update that is forced can leave the cluster broken.
    type: bool
    default: false
  oc:
    description:
      - Name or path of openshift-client, with which the update is acknowledged and started. Any program will do that has C(patch) as C(kubectl) has it.
      - It gets the same credentials as the module; no secret is on its command line.
    type: path
    default: oc
  timeout:
    description: How long the update may take, in seconds. When time is out, it goes on in the cluster, and the next run follows it.
    type: float
    default: 10800
  interval:
    description: Pause between two looks, in seconds.
    type: float
    default: 10
  grace:
    description:
      - How long trouble must last before it counts, in seconds. Operators are degraded for a while now and then as they are updated.
      - Also how long to wait until an acknowledgement or a new channel shows.
    type: float
    default: 900
notes:
  - The API servers are also asked, each at its own address, to show how far they are.
seealso:
  - module: kube_storage.upgrade.storage_version_hashes
  - module: kube_storage.upgrade.storage_migrate
"""

EXAMPLES = r"""
- name: See whether the update may begin
  kube_storage.upgrade.openshift_update:
    version: 4.21.3
  check_mode: true

- name: Update, and wait until all masters are done
  kube_storage.upgrade.openshift_update:
    version: 4.21.3
    channel: stable-4.21
    acknowledge:
      - ack-4.20-kube-1.34-api-removals-in-4.21

- name: Update a cluster that has no way to the update service
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
  returned: if the cluster is an OpenShift that could be asked
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
  description: The last release that was complete when the run began.
  returned: as RV(started)
  type: str
version:
  description: The release that the cluster has or goes to.
  returned: as RV(started)
  type: str
image:
  description: The image of that release.
  returned: as RV(started)
  type: str
state:
  description: What the history of the ClusterVersion says of it, V(Completed) or V(Partial).
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
      description: The revision that all go to.
      type: int
migrator:
  description:
    - Whether C(migration.k8s.io/v1alpha1) is served, so that
      O(kube_storage.upgrade.storage_migrate#module:engine=kube_storage_version_migrator) can be used.
  returned: success
  type: bool
servers:
  description: The API servers as they were last, as RV(kube_storage.upgrade.storage_version_hashes#module:servers) has them.
  returned: as RV(started)
  type: list
  elements: dict
converged:
  description: Whether they all agreed then.
  returned: as RV(started)
  type: bool
proven_by:
  description: What that rests on, as RV(kube_storage.upgrade.storage_version_hashes#module:proven_by) has it.
  returned: as RV(started)
  type: str
sampling:
  description: What it rests on with O(sampling), as RV(kube_storage.upgrade.storage_version_hashes#module:sampling) has it; null without.
  returned: as RV(started)
  type: dict
reasons:
  description: Why not, one sentence each.
  returned: as RV(started)
  type: list
  elements: str
disagreements:
  description: Resources for which they reported different hashes, as RV(kube_storage.upgrade.storage_version_hashes#module:disagreements) has them.
  returned: as RV(started)
  type: list
  elements: dict
observed_at:
  description: When the result was put together, in UTC.
  returned: as RV(started)
  type: str
history:
  description: What the API servers reported meanwhile, as RV(kube_storage.upgrade.storage_version_hashes#module:history) has it.
  returned: as RV(started)
  type: list
  elements: dict
seconds:
  description: How long the run took.
  returned: as RV(started)
  type: float
error:
  description:
    - What kind of failure it was, null where there was none. A task that has C(failed_when=false), so that it prints nothing, tells by it.
    - One of V(api), V(bad_input), V(unreachable), V(update) and V(other).
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
from ansible_collections.kube_storage.upgrade.plugins.module_utils._openshift_update import openshift_update
from ansible_collections.kube_storage.upgrade.plugins.module_utils._options import CLUSTER_SPEC, SAMPLING_SPEC


def main() -> None:
    options = {
        **CLUSTER_SPEC,
        **SAMPLING_SPEC,
        "version": {"type": "str"},
        "image": {"type": "str"},
        "channel": {"type": "str"},
        "acknowledge": {"type": "list", "elements": "str", "default": []},
        "allow_not_recommended": {"type": "bool", "default": False},
        "force": {"type": "bool", "default": False},
        "oc": {"type": "path", "default": "oc"},
        "timeout": {"type": "float", "default": 10800},
        "interval": {"type": "float", "default": 10},
        "grace": {"type": "float", "default": 900},
    }
    run_module(options, openshift_update)


if __name__ == "__main__":
    main()
