# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.filter.kubeadm_refusals import kubeadm_refusals

HERE = str(Path(__file__).resolve())
GOOD: dict[str, Any] = {"version": "1.37", "packages": "tasks", "package_tasks_file": HERE, "feature_gates": {}}
PINNED = {**GOOD, "packages": "distribution", "package_tasks_file": ""}


@pytest.mark.parametrize(
    "options",
    [
        GOOD,
        {**GOOD, "version": "v1.37.2", "config_file": HERE, "feature_gates": {"PublicKeysECDSA": True}},
        {**GOOD, "patches": "/etc/kubernetes/patches"},
        {**PINNED, "version": "v1.37.2", "package_version": "1.37.2-*"},
        {**PINNED, "package_version": "1.37.2-1.1"},
        {**GOOD, "version": "v1.31.14", "emulate": "", "rollback": "false"},
        {**GOOD, "version": "1.32", "rollback": True},
    ],
)
def test_options_that_can_work(options: dict[str, Any]) -> None:
    assert kubeadm_refusals(options) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({**GOOD, "version": "2.0"}, "rolling_upgrade_version is '2.0', but must be a release"),
        # kubeadm upgrade apply of 1.31 has no flag --skip-phases; it failed on the first master, when kubeadm-config was already changed.
        ({**GOOD, "version": "v1.31.14", "rollback": "true"}, "supports neither rolling_upgrade_emulate nor"),
        ({**GOOD, "version": "1.31", "emulate": "1.30"}, "for 1.31; use the driver tasks."),
        ({**GOOD, "packages": "snap"}, "packages is 'snap', but must be tasks or distribution."),
        ({**GOOD, "package_tasks_file": ""}, "on a master (or set rolling_upgrade_kubeadm_packages to distribution)."),
        ({**GOOD, "package_tasks_file": "/not/there"}, "to distribution), and there is no file '/not/there'."),
        (PINNED, "To pin the distribution's packages, give a full rolling_upgrade_version"),
        ({**PINNED, "package_version": "1.3.7-1"}, "'1.3.7-1', which is not a package of 1.37."),
        ({**PINNED, "package_version": "1.370.1-1"}, "which is not a package of 1.37."),
        (
            {**GOOD, "config_file": "/not/there"},
            "There is no file '/not/there', which rolling_upgrade_kubeadm_config_file",
        ),
        ({**GOOD, "config_file": HERE, "patches": "/p"}, "kubeadm takes no patches directory beside"),
        ({**GOOD, "patches": "p"}, "rolling_upgrade_kubeadm_patches must be an absolute path on the masters."),
        ({**GOOD, "feature_gates": {"A": "on"}}, "feature_gates must be a dictionary"),
        ({**GOOD, "feature_gates": "A=true"}, "feature_gates must be a dictionary"),
    ],
)
def test_each_option_that_can_not_work_has_one_sentence(options: dict[str, Any], reason: str) -> None:
    found = kubeadm_refusals(options)
    assert len(found) == 1 and reason in found[0]
