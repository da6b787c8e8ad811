# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kubeadm is told what the user says, and what two steps and a rollback leave as it is."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.filter.kubeadm_flags import kubeadm_flags

COREDNS = "CoreDNSMigration,CoreDNSUnsupportedPlugins"


def config(**sections: Any) -> dict[str, Any]:
    document = {"kind": "UpgradeConfiguration", **sections}
    return {"config": "/tmp/c.yml", "documents": [{"kind": "KubeletConfiguration"}, None, document]}


@pytest.mark.parametrize(
    ("options", "verb", "how", "flags"),
    [
        ({}, "apply", {}, []),
        (
            {"patches": "/p", "ignore_preflight_errors": ["A", "B"]},
            "node",
            {},
            ["--patches", "/p", "--ignore-preflight-errors", "A,B"],
        ),
        (config(apply={"skipPhases": ["addon/kube-proxy"]}), "apply", {}, ["--config", "/tmp/c.yml"]),
        ({}, "apply", {"emulate": "1.36", "keep_kubelet": True}, ["--skip-phases", "addon,kubelet-config"]),
        # One on which an earlier run has begun is finished, with its configuration.
        ({}, "node", {"emulate": "1.36"}, ["--skip-phases", "addon"]),
        ({}, "node", {"keep_kubelet": True}, []),
        (
            {},
            "apply",
            {"rollback": True},
            ["--ignore-preflight-errors", COREDNS, "--skip-phases", "addon/coredns"],
        ),
        ({}, "node", {"rollback": "yes", "keep_kubelet": True}, ["--skip-phases", "addon/coredns,kubelet-config"]),
        # What the file says still counts, and no check is named beside "all".
        (
            config(
                apply={"skipPhases": ["addon/kube-proxy", "addon/coredns"], "ignorePreflightErrors": ["ALL"]}, node=None
            ),
            "apply",
            {"rollback": True},
            ["--config", "/tmp/c.yml", "--skip-phases", "addon/coredns,addon/kube-proxy"],
        ),
        (
            config(node={"skipPhases": ["preflight"]}),
            "node",
            {"emulate": "1.36"},
            ["--config", "/tmp/c.yml", "--skip-phases", "addon,preflight"],
        ),
        (
            {"ignore_preflight_errors": ["all"]},
            "apply",
            {"rollback": True},
            ["--ignore-preflight-errors", "all", "--skip-phases", "addon/coredns"],
        ),
    ],
)
def test_the_flags(options: dict[str, Any], verb: str, how: dict[str, Any], flags: list[str]) -> None:
    assert kubeadm_flags(options, verb, **how) == flags
