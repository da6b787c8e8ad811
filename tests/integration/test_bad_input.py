# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bad input: one clear sentence, before anything is written; no traceback, no secret."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support.etcd import read_etcd, steady
from .support.modules import Result
from .support.objects import apply

MODULES = ("storage_version_hashes", "storage_migrate")


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"resources": ["deployments"]}, "did you mean deployments.apps"),
        ({"servers": ["10.0.0.1:6443"]}, "is not the URL of an API server"),
        ({"servers": ["https://127.0.0.1:1"]}, "refuses connections"),
        ({"kubeconfig": "/nowhere/kubeconfig"}, "does not exist"),
        ({"kubeconfig": "/etc/hostname"}, "not a valid kubeconfig"),
        ({"expected_servers": 0}, "at least 1"),
        ({"state_store": {"kind": "file"}}, "needs a path"),
    ],
)
def test_one_sentence(
    single_master: Cluster, module: Callable[..., Result], name: str, params: dict[str, Any], says: str
) -> None:
    before = steady(read_etcd(single_master))
    result = module(single_master, name, **params)
    assert result.failed and says in result.message
    assert "Traceback" not in result.output
    assert steady(read_etcd(single_master)) == before


@pytest.mark.parametrize(
    "params", [{"workers": 0}, {"workers": -1}, {"page_size": 0}, {"retries": 0}, {"max_rate": -1}, {"timeout": 0}]
)
def test_numbers(single_master: Cluster, module: Callable[..., Result], params: dict[str, Any]) -> None:
    result = module(single_master, "storage_migrate", **params)
    assert result.failed and next(iter(params)) in result.message


def test_wrong_ca(single_master: Cluster, module: Callable[..., Result]) -> None:
    result = module(single_master, "storage_migrate", ca_cert=str(single_master.certificate("etcd-ca").cert))
    assert result.failed and "can't be verified" in result.message and "ca_cert" in result.message


def test_unreachable(module: Callable[..., Result], single_master: Cluster, tmp_path: Path) -> None:
    text = single_master.kubeconfig.read_text(encoding="utf-8").replace(
        single_master.balancer_url, "https://127.0.0.1:9"
    )
    path = tmp_path / "kubeconfig"
    path.write_text(text, encoding="utf-8")
    result = module(None, "storage_migrate", kubeconfig=str(path))
    assert result.failed and "https://127.0.0.1:9 refuses connections" in result.message


def test_a_missing_permission_is_named_with_its_user(single_master: Cluster, module: Callable[..., Result]) -> None:
    reader = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "only-reads"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "only-reads"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "only-reads"},
        "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    kubeconfig = str(single_master.user_kubeconfig("jane"))
    nothing = module(single_master, "storage_version_hashes", kubeconfig=kubeconfig)
    assert nothing.failed and "user jane cannot list" in nothing.message
    apply(single_master, reader, binding)
    before = steady(read_etcd(single_master))
    result = module(single_master, "storage_migrate", kubeconfig=kubeconfig, resources=["secrets"])
    assert result.failed and "user jane cannot patch secrets" in result.message
    assert steady(read_etcd(single_master)) == before
    assert module(single_master, "storage_version_hashes", kubeconfig=kubeconfig)["converged"] is True


PASSWORD = "s3cret"


@pytest.mark.parametrize(
    "params",
    [
        {"proxy": f"http://me:{PASSWORD}@127.0.0.1:9", "workers": "many"},  # Refused by Ansible itself.
        {"proxy": f"http://me:{PASSWORD}@127.0.0.1:9", "nonsense": 1},
        {"proxy": f"http://me:a/{PASSWORD}@127.0.0.1:9"},
        {"proxy": f"me:{PASSWORD}@127.0.0.1:9"},
        {"proxy": f"http://me:{PASSWORD}@127.0.0.1:9"},
        {"host": f"https://me:{PASSWORD}@127.0.0.1:9"},
        {"servers": [f"https://me:{PASSWORD}/@127.0.0.1:9"]},
        {"etcd": {"endpoints": [f"https://me:{PASSWORD}@127.0.0.1:9"], "password": PASSWORD}, "select": "stale"},
    ],
)
def test_no_password_in_a_url_at_any_verbosity(module: Callable[..., Result], params: dict[str, Any]) -> None:
    """Issue 13, number 14. (Ansible itself quotes an ad hoc command that fails; what the module returns is ours.)"""
    result = module(
        None, "storage_migrate", **{"host": "https://127.0.0.1:9", "api_key": "x", **params}, verbose="-vvv"
    )
    assert result.failed and "invocation" in result.data and "Traceback" not in result.output
    assert PASSWORD not in str(result.data)


def test_no_secret_at_any_verbosity(single_master: Cluster, module: Callable[..., Result]) -> None:
    result = module(
        None,
        "storage_version_hashes",
        host=single_master.balancer_url,
        ca_cert=str(single_master.certificate("ca").cert),
        api_key="s3cr3t-token",
        verbose="-vvvv",
    )
    assert result.failed and "does not accept the credentials" in result.message
    assert "s3cr3t-token" not in result.output
