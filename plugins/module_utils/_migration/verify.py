# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether writes of custom resources really are in the storage version that discovery tells.

After a CRD's storage version changes, its hash can change before writes do (kubernetes/kubernetes#130235).
"""

from __future__ import annotations

import asyncio
import json
import time

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import MERGE_PATCH, METADATA
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engine import ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.lanes import Lanes
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import Verdict, outcome_of

# Both follow from the same watch event in an API server; two seconds are a hundred times what was seen.
_SETTLED_AFTER = 2.0


async def stored_as_served(run: ResourceRun, lanes: Lanes) -> bool:
    """Patches the objects that were visited first again, through every server; a rewrite means that they were stale.

    The question is put no sooner than writes must have followed a hash that was new when the run began.
    """
    if run.sample and run.started is not None:
        await asyncio.sleep(max(0.0, run.started + _SETTLED_AFTER - time.monotonic()))
    good = True
    for key in run.sample:
        path = run.target.path_of(key)
        for server in lanes.servers:
            try:
                metadata = (await server.get(path, accept=METADATA))["metadata"]
                body = json.dumps({"metadata": {"resourceVersion": metadata["resourceVersion"]}}).encode()
                answer = await server.request("PATCH", path, accept=METADATA, content_type=MERGE_PATCH, body=body)
            except StorageUpgradeError:
                continue
            if outcome_of(answer, metadata["resourceVersion"]).verdict is Verdict.REWRITTEN:
                good = False
                run.tally.rewritten += 1
    return good
