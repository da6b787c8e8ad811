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

from .conftest import Result, apply, read_etcd, steady

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
    one: Cluster, module: Callable[..., Result], name: str, params: dict[str, Any], says: str
) -> None:
    before = steady(read_etcd(one))
    result = module(one, name, **params)
    assert result.failed and says in result.message
    assert "Traceback" not in result.output
    assert steady(read_etcd(one)) == before


@pytest.mark.parametrize(
    "params", [{"workers": 0}, {"workers": -1}, {"page_size": 0}, {"retries": 0}, {"max_rate": -1}, {"timeout": 0}]
)
def test_numbers(one: Cluster, module: Callable[..., Result], params: dict[str, Any]) -> None:
    result = module(one, "storage_migrate", **params)
    assert result.failed and next(iter(params)) in result.message


def test_wrong_ca(one: Cluster, module: Callable[..., Result]) -> None:
    result = module(one, "storage_migrate", ca_cert=str(one.certificate("etcd-ca").cert))
    assert result.failed and "can't be verified" in result.message and "ca_cert" in result.message


def test_unreachable(module: Callable[..., Result], one: Cluster, tmp_path: Path) -> None:
    text = one.kubeconfig.read_text(encoding="utf-8").replace(one.balancer_url, "https://127.0.0.1:9")
    path = tmp_path / "kubeconfig"
    path.write_text(text, encoding="utf-8")
    result = module(None, "storage_migrate", kubeconfig=str(path))
    assert result.failed and "https://127.0.0.1:9 refuses connections" in result.message


def test_a_missing_permission_is_named_with_its_user(one: Cluster, module: Callable[..., Result]) -> None:
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
    kubeconfig = str(one.user_kubeconfig("jane"))
    nothing = module(one, "storage_version_hashes", kubeconfig=kubeconfig)
    assert nothing.failed and "user jane may not list" in nothing.message
    apply(one, reader, binding)
    before = steady(read_etcd(one))
    result = module(one, "storage_migrate", kubeconfig=kubeconfig, resources=["secrets"])
    assert result.failed and "user jane may not patch secrets" in result.message
    assert steady(read_etcd(one)) == before
    assert module(one, "storage_version_hashes", kubeconfig=kubeconfig)["converged"] is True


def test_no_secret_at_any_verbosity(one: Cluster, module: Callable[..., Result]) -> None:
    result = module(
        None,
        "storage_version_hashes",
        host=one.balancer_url,
        ca_cert=str(one.certificate("ca").cert),
        api_key="s3cr3t-token",
        verbose="-vvvv",
    )
    assert result.failed and "does not accept the credentials" in result.message
    assert "s3cr3t-token" not in result.output
