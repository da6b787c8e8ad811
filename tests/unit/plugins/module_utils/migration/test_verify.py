# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether custom resources are written as discovery says."""

from __future__ import annotations

import asyncio

from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Target
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.verify import stored_as_served
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

THINGS = ServedResource("things.x.y", "x.y", "things", "Thing", True, frozenset({"list", "patch"}), ("v1",), ("h",))


def test_without_a_server_to_ask_nothing_is_verified() -> None:
    """Issue 11: with require_convergence: false, none may be usable at the end of a pass."""
    run = ResourceRun(Target(THINGS, "x.y/v1", "selected"), "direct")
    assert asyncio.run(stored_as_served(run, [])) is False
