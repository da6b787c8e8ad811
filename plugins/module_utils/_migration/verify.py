# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether writes really are in the storage version that discovery tells."""

from __future__ import annotations

import json

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import MERGE_PATCH, METADATA
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engine import ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.lanes import Lanes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import Verdict, outcome_of


async def stored_as_served(run: ResourceRun, lanes: Lanes) -> bool:
    """Patches a few objects again through every server: a rewrite means that the first one was stored stale.

    After a CRD's storage version changes, its hash can change before writes do (kubernetes/kubernetes#130235).
    """
    resource = run.target.resource
    fresh = True
    for key in run.sample:
        namespace = f"/namespaces/{key.namespace}" if key.namespace else ""
        path = f"{resource.path}{namespace}/{resource.plural}/{key.name}"
        for server in lanes.servers:
            try:
                metadata = (await server.get(path, accept=METADATA))["metadata"]
                body = json.dumps({"metadata": {"resourceVersion": metadata["resourceVersion"]}}).encode()
                answer = await server.request("PATCH", path, accept=METADATA, content_type=MERGE_PATCH, body=body)
            except StorageUpgradeError:
                continue
            if outcome_of(answer, metadata["resourceVersion"]).verdict is Verdict.REWRITTEN:
                fresh = False
                run.tally.rewritten += 1
    return fresh
