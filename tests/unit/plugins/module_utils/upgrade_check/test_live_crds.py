# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How an API server's answer to a new CRD is interpreted."""

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.live_crds import replacing


def test_a_merge_patch_that_replaces() -> None:
    before = {"scope": "Namespaced", "names": {"kind": "A", "shortNames": ["a"]}, "conversion": {"strategy": "Webhook"}}
    after = {"scope": "Cluster", "names": {"kind": "A"}, "versions": [1]}
    assert replacing(before, after) == {
        "scope": "Cluster",
        "names": {"kind": "A", "shortNames": None},
        "conversion": None,
        "versions": [1],
    }
