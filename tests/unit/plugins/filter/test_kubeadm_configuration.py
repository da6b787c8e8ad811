# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What kubeadm is told about the release to emulate."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.plugins.filter.core import FilterModule
from ansible_collections.kube_storage.upgrade.plugins.filter.kubeadm_configuration import kubeadm_configuration
from jinja2 import Environment

SECTIONS = ("apiServer", "controllerManager", "scheduler")
FLAG = {"name": "emulated-version", "value": "1.36"}
OTHER = {"name": "profiling", "value": "false"}
NEWER: dict[str, Any] = {"kubernetesVersion": "v1.36.5", "apiServer": {"extraArgs": [OTHER]}, "scheduler": {}}
OLDER: dict[str, Any] = {
    "apiVersion": "kubeadm.k8s.io/v1beta3",
    "apiServer": {"extraArgs": {"profiling": "false"}, "certSANs": ["a"]},
}


@pytest.mark.parametrize("configuration", [NEWER, {}])
def test_all_three_emulate_a_release_and_then_none(configuration: dict[str, Any]) -> None:
    emulating = kubeadm_configuration(configuration, "1.36")
    assert [emulating[section]["extraArgs"][-1] for section in SECTIONS] == [FLAG] * 3
    assert kubeadm_configuration(emulating, "1.36") == emulating
    assert kubeadm_configuration(configuration) == configuration
    for later in ("1.37", ""):
        changed = kubeadm_configuration(emulating, later)
        assert changed != emulating and FLAG not in changed["apiServer"]["extraArgs"]
    assert (
        kubeadm_configuration(emulating)["apiServer"]["extraArgs"]
        == (configuration.get("apiServer") or {"extraArgs": []})["extraArgs"]
    )


def test_the_mapping_of_older_releases_stays_one() -> None:
    emulating = kubeadm_configuration(OLDER, "1.31")
    assert emulating["apiServer"] == {
        "extraArgs": {"profiling": "false", "emulated-version": "1.31"},
        "certSANs": ["a"],
    }
    assert emulating["scheduler"] == {"extraArgs": {"emulated-version": "1.31"}}
    assert kubeadm_configuration(OLDER) == OLDER
    assert kubeadm_configuration(emulating)["apiServer"] == OLDER["apiServer"]


def test_feature_gates_of_kubeadm_are_added() -> None:
    given = {"featureGates": {"A": True}}
    assert kubeadm_configuration(given, feature_gates={"B": False}) == {"featureGates": {"A": True, "B": False}}
    assert kubeadm_configuration(given, feature_gates={"A": True}) == given


def test_texts_stay_texts_for_kubeadm() -> None:
    """In YAML the texts y, n, 1e3 and 0o17 lost their quotes, and kubeadm 1.37 then refuses the ConfigMap: "cannot unmarshal bool"."""
    tasks = (
        Path(__file__).parents[4] / "roles" / "rolling_upgrade" / "tasks" / "drivers" / "kubeadm" / "control_plane.yml"
    )
    (template,) = re.findall(r'ClusterConfiguration: "(.*)"', tasks.read_text(encoding="utf-8"))
    environment = Environment(autoescape=False)  # noqa: S701  # not a page
    environment.filters.update(FilterModule().filters())
    wanted = {
        "clusterName": "y",
        "apiServer": {"extraArgs": [{"name": "a", "value": "1e3"}, {"name": "b", "value": "0o17"}]},
    }
    text = environment.from_string(template).render(rolling_upgrade_kubeadm_wanted=wanted)
    assert json.loads(text) == yaml.safe_load(text) == wanted
