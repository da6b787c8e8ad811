# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An ad-hoc call over many clusters: each host's own variables name its cluster."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils import _kubeconfig

OWN = {
    "rolling_upgrade_kubeconfig": "/fleet/{{ x }}",
    "rolling_upgrade_context": "",
    "rolling_upgrade_cluster_name": "shop",
}


def found(monkeypatch: pytest.MonkeyPatch, args: dict[str, Any], adhoc: bool = True) -> dict[str, Any]:
    monkeypatch.setattr(_kubeconfig.context, "CLIARGS", {"module_name": "m"} if adhoc else {})
    templar = SimpleNamespace(template=lambda value: value.replace("{{ x }}", "a"))
    action = SimpleNamespace(_task=SimpleNamespace(args=args), _templar=templar)
    _kubeconfig.find_cluster(action, OWN)
    return dict(action._task.args)


def test_without_options_the_inventory_names_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {"kubeconfig": "/fleet/a", "cluster_name": "shop", "select": "changed"}
    assert found(monkeypatch, {"select": "changed"}) == expected
    assert found(monkeypatch, {"cluster_name": "mine"})["cluster_name"] == "mine"


def test_options_count_more_and_playbooks_name_the_cluster_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    for args in ({"kubeconfig": "/mine"}, {"context": "mine"}, {"host": "https://a"}, {"servers": ["https://a"]}):
        assert found(monkeypatch, args) == args
    assert found(monkeypatch, {}, adhoc=False) == {}
