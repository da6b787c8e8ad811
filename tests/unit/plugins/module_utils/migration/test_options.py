# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.options import ClusterOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.options import MigrateOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Selection
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import StoreOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.sampling import SamplingSettings

# What AnsibleModule makes of a task without options.
DEFAULTS: dict[str, Any] = {
    "select": "all",
    "engine": "direct",
    "keep_migrations": False,
    "controller_timeout": 300.0,
    "require_convergence": True,
    "workers": 64,
    "impact": "normal",
    "max_rate": 0.0,
    "page_size": 500,
    "retries": 10,
    "on_error": "continue",
    "trim_stored_versions": True,
    "managed_fields": "keep",
    "prune_managed_fields": None,
    "request_timeout": 60.0,
    "etcd_max_rate": 0.0,
    "compaction_timeout": 900.0,
    "resources": None,
    "exclude": None,
    "timeout": None,
}


def test_a_task_without_options_is_the_default() -> None:
    assert MigrateOptions.from_params(DEFAULTS) == MigrateOptions()


def test_the_old_option_for_managers_is_another_name_for_prune() -> None:
    pruning = MigrateOptions.from_params({**DEFAULTS, "managed_fields": "prune"})
    assert pruning == MigrateOptions.from_params({**DEFAULTS, "prune_managed_fields": True})
    assert pruning.managed_fields == pruning.selection.managed_fields == "prune"
    with pytest.raises(BadInputError, match="contradicts managed_fields: rewrite"):
        MigrateOptions.from_params({**DEFAULTS, "managed_fields": "rewrite", "prune_managed_fields": True})


def test_options_are_typed() -> None:
    given = {
        **DEFAULTS,
        "select": "changed",
        "resources": ["secrets"],
        "on_error": "stop",
        "failures_file": "/tmp/failed",
        "state_store": {"kind": "file", "path": "/tmp/state", "namespace": "ops"},
    }
    options = MigrateOptions.from_params(given)
    assert options.selection == Selection("changed", ("secrets",))
    assert options.stop_on_error
    assert options.failures_file == Path("/tmp/failed")
    assert options.store == StoreOptions(Path("/tmp/state"), "ops", "kube-storage-upgrade")


@pytest.mark.parametrize(
    "wrong, text",
    [
        ({"workers": 0}, "workers must be a number greater than 0"),
        ({"max_rate": -1}, "max_rate must be 0 or a greater number"),
        ({"max_rate": float("nan")}, "max_rate must be 0 or a greater number"),
        ({"compaction_timeout": float("nan")}, "compaction_timeout must be a number greater than 0"),
        ({"controller_timeout": float("inf")}, "controller_timeout must be a number greater than 0"),
        ({"page_size": 10001}, "at most 10000"),
        ({"failures_file": "/"}, "is a directory"),
        ({"expected_servers": 0}, "at least 1"),
        ({"state_store": {"kind": "file"}}, "needs a path"),
        ({"state_store": {"name": "Not_a_name"}}, "'Not_a_name' is not a name"),
    ],
)
def test_nonsense_is_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(BadInputError, match=text):
        MigrateOptions.from_params({**DEFAULTS, **wrong})


def test_a_list_of_servers_says_how_many_there_must_be() -> None:
    options = ClusterOptions.from_params({"servers": ["https://10.0.0.11:6443/", "https://10.0.0.12:6443"]})
    assert options.urls == ("https://10.0.0.11:6443", "https://10.0.0.12:6443")
    assert options.expectation.servers == 2
    twice = ClusterOptions.from_params(
        {"servers": ["https://a", "https://A:443/", "https://[fd00::1]", "https://[FD00:0::0:1]"]}
    )
    assert twice.urls == ("https://a", "https://[fd00::1]") and twice.expectation.servers == 2


def test_sampling_and_a_list_of_servers_are_mutually_exclusive() -> None:
    sampling = {"connections": 30, "at_once": 6, "require_identity": True}
    assert ClusterOptions.from_params({"sampling": sampling}).sampling == SamplingSettings(30, 6, True)
    with pytest.raises(BadInputError, match="are mutually exclusive"):
        ClusterOptions.from_params({"sampling": sampling, "servers": ["https://a"]})


def test_credentials_are_not_shown() -> None:
    assert "hunter2" not in repr(ClusterOptions(auth={"password": "hunter2"}))
